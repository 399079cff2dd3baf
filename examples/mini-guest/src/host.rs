//! The host: hypercalls, their ring, the memory shared with it, and the interrupt flag that lives there. Where there
//! is none, [`bare`] is called instead.

use arch_i386::addr::GuestPhys;
use arch_i386::hypercall::{Hypercall, HypercallArgs};
use arch_i386::lguest_data::{IRQ_ENABLED, LguestData, RING_DONE, RING_PENDING, RING_SIZE, Timespec};
use arch_i386::paging::Entry;
use arch_i386::trap;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence};
use mini_guest::layout::{self, KERNEL_BASE};

use crate::bare;

/// Nanoseconds between clock interrupts: Linux's with HZ=250.
const TICK: u32 = 4_000_000;

/// The clock's bit in `blocked_interrupts`.
const CLOCK: u32 = 1;

/// Memory that the host reads and writes too, so each access is volatile and to one field.
#[repr(transparent)]
pub struct Shared(UnsafeCell<LguestData>);

// SAFETY: the guest has one processor, and the host changes the memory only while it does not run.
unsafe impl Sync for Shared {}

/// The structure that `LGUEST_INIT` introduces. The clock is masked until it is started.
pub static LGUEST_DATA: Shared = Shared(UnsafeCell::new(LguestData {
    irq_enabled: 0,
    blocked_interrupts: CLOCK,
    cr2: 0,
    time: Timespec { seconds: 0, nanoseconds: 0 },
    irq_pending: 0,
    hcall_status: [RING_DONE; RING_SIZE],
    hcalls: [HypercallArgs { number: 0, args: [0; 4] }; RING_SIZE],
    reserve_mem: 0,
    tsc_khz: 0,
    // Addresses, which only the linker knows: `boot` fills them in.
    noirq_start: 0,
    noirq_end: 0,
    kernel_address: KERNEL_BASE,
    syscall_vec: trap::SYSCALL as u32,
}));

/// Reads a field of the shared memory.
macro_rules! read {
    ($($field:tt)+) => {
        // SAFETY: inside the static; see `Shared`.
        unsafe { (&raw const (*LGUEST_DATA.0.get()).$($field)+).read_volatile() }
    };
}

/// Writes a field of the shared memory.
macro_rules! write {
    ($value:expr => $($field:tt)+) => {
        // SAFETY: inside the static; see `Shared`.
        unsafe { (&raw mut (*LGUEST_DATA.0.get()).$($field)+).write_volatile($value) }
    };
}

/// Makes a hypercall. The host does what the ring holds before.
pub fn call(number: Hypercall, args: [u32; 3]) {
    let [a, b, c] = args;
    call_with_four(number, [a, b, c, 0]);
}

/// The same with all four arguments.
fn call_with_four(number: Hypercall, args: [u32; 4]) {
    if bare::running() {
        bare::call(number, args);
    } else {
        call_raw(number as u32, args);
    }
}

/// Makes a hypercall of any number.
pub fn call_raw(number: u32, [a, b, c, d]: [u32; 4]) {
    // SAFETY: the host keeps every register but eax. It changes what the call is about, which is why the
    // compiler must assume that memory changes. esi cannot be named as an operand, hence the exchange.
    unsafe {
        asm!(
            "xchg {d}, esi",
            "int {trap}",
            "xchg {d}, esi",
            trap = const trap::HYPERCALL,
            d = inout(reg) d => _,
            inlateout("eax") number => _,
            in("ebx") a,
            in("ecx") b,
            in("edx") c,
        );
    }
}

/// The next entry of the ring to use.
static NEXT_ENTRY: AtomicUsize = AtomicUsize::new(0);

/// Queues a hypercall for the next time the host is called; calls it right away when the ring is full, by
/// which the ring is emptied first.
pub fn queue(number: Hypercall, args: [u32; 4]) {
    if bare::running() {
        bare::call(number, args);
        return;
    }
    let next = NEXT_ENTRY.load(Ordering::Relaxed);
    if read!(hcall_status[next]) != RING_DONE {
        call_raw(number as u32, args);
        return;
    }
    write!(HypercallArgs { number: number as u32, args } => hcalls[next]);
    // The host may look at any time: the entry is complete before it is marked so.
    compiler_fence(Ordering::Release);
    write!(RING_PENDING => hcall_status[next]);
    NEXT_ENTRY.store((next + 1) % RING_SIZE, Ordering::Relaxed);
}

/// Has the host do what the ring holds.
pub fn flush_queue() {
    call(Hypercall::FlushAsync, [0; 3]);
}

/// How many entries of the ring wait for the host.
pub fn queued() -> usize {
    (0..RING_SIZE).filter(|&i| read!(hcall_status[i]) != RING_DONE).count()
}

/// Writes any entry of the ring and marks it as waiting, for the misbehaved.
pub fn write_ring_entry(i: usize, call: HypercallArgs, status: u8) {
    write!(call => hcalls[i]);
    write!(status => hcall_status[i]);
}

/// Whether page-table changes are queued rather than reported at once.
static BATCHING: AtomicBool = AtomicBool::new(false);

/// Runs `changes` with page-table changes queued, as Linux does in its lazy MMU mode, and has the host do
/// them at the end.
pub fn batch<T>(changes: impl FnOnce() -> T) -> T {
    let result = queued_changes(changes);
    flush_queue();
    result
}

/// Runs `changes` with page-table changes queued, and leaves them in the ring.
pub fn queued_changes<T>(changes: impl FnOnce() -> T) -> T {
    BATCHING.store(true, Ordering::Relaxed);
    let result = changes();
    BATCHING.store(false, Ordering::Relaxed);
    result
}

/// Notifies the host of a page-table change, now or at the end of the batch.
pub fn page_table_call(number: Hypercall, args: [u32; 4]) {
    if BATCHING.load(Ordering::Relaxed) {
        queue(number, args);
    } else {
        call_with_four(number, args);
    }
}

/// The arguments of [`Hypercall::SetPte`].
pub fn set_pte_args(root: GuestPhys, va: u32, entry: Entry) -> [u32; 4] {
    [root.0, va, entry.0 as u32, (entry.0 >> 32) as u32]
}

/// Keeps interrupts out.
pub fn disable_interrupts() {
    if bare::running() {
        return bare::set_interrupts(false);
    }
    write!(0 => irq_enabled);
    compiler_fence(Ordering::SeqCst);
}

/// Lets interrupts in. One that waits already has set `irq_pending`, and is requested.
pub fn enable_interrupts() {
    if bare::running() {
        return bare::set_interrupts(true);
    }
    compiler_fence(Ordering::SeqCst);
    write!(IRQ_ENABLED => irq_enabled);
    if interrupt_pending() {
        call(Hypercall::SendInterrupts, [0; 3]);
    }
}

/// Whether an interrupt waits for being let in.
pub fn interrupt_pending() -> bool {
    read!(irq_pending) != 0
}

/// Masks the clock's interrupt, or not.
pub fn mask_clock(masked: bool) {
    write!(if masked { CLOCK } else { 0 } => blocked_interrupts);
}

/// The clock's interrupt comes once after each call.
pub fn arm_clock() {
    call(Hypercall::SetClockevent, [TICK, 0, 0]);
}

/// The clock's interrupt comes no more, until it is armed again. To be called with interrupts off.
pub fn stop_clock() {
    let stop = || call(Hypercall::SetClockevent, [0; 3]);
    stop();
    // Its handler arms the clock again.
    if interrupt_pending() {
        enable_interrupts();
        disable_interrupts();
        stop();
    }
}

/// The first clock interrupt is on its way.
pub fn start_clock() {
    mask_clock(false);
    arm_clock();
}

/// The address of the last page fault.
pub fn fault_address() -> u32 {
    if bare::running() { bare::fault_address() } else { read!(cr2) }
}

/// The wall clock as the host last wrote it, in milliseconds modulo 2^32.
pub fn wall_clock() -> u32 {
    let time = read!(time);
    time.seconds.wrapping_mul(1000).wrapping_add(time.nanoseconds / 1_000_000)
}

/// Speed of the time-stamp counter in kHz, 0 when the host does not trust it.
pub fn tsc_khz() -> u32 {
    if bare::running() { bare::tsc_khz() } else { read!(tsc_khz) }
}

/// The first address that is the host's.
pub fn reserved_from() -> u32 {
    if bare::running() { bare::RESERVED_FROM } else { read!(reserve_mem).wrapping_neg() }
}

/// The physical address of something in the kernel's image.
pub fn physical<T: ?Sized>(thing: *const T) -> GuestPhys {
    let address = thing.cast::<u8>().expose_provenance() as u32;
    layout::virt_to_phys(arch_i386::addr::GuestVirt(address))
}

/// The time-stamp counter.
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter, touches nothing.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}
