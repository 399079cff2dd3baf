//! Tests that have to run in ring 1. Each prints what was wrong and returns `false` when it failed.

use crate::attempt::{self, Trap};
use crate::ram::Ram;
use crate::scratch::{self, SPARE};
use crate::state::kernel;
use crate::{console, descriptors, host, pci, tasks, traps};
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::hypercall::Hypercall;
use arch_i386::lguest_data::RING_SIZE;
use arch_i386::paging::{Entry, Flags};
use arch_i386::segment::{Descriptor, GUEST_CS, GUEST_DS, GUEST_PL};
use arch_i386::trap;
use core::arch::asm;
use core::arch::x86::__cpuid;
use core::sync::atomic::Ordering;
use mini_guest::frames::Frames;
use mini_guest::page_tables::{AnyPageTables, KERNEL_PAGE, Machine};
use mini_programs::abi::{HANDLED_FAULTS, KernelTest};

/// Returns `false` from a test with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            console::print(format_args!("mini: {}", format_args!($($message)*)));
            return false;
        }
    };
}

/// Runs a test; whether it passed.
pub fn run(test: KernelTest) -> bool {
    match test {
        KernelTest::PortIo => port_io(),
        KernelTest::PciConsole => pci::check(),
        KernelTest::PrivilegedInstructions => privileged_instructions(),
        KernelTest::RingOverflow => ring_overflow(),
        KernelTest::AccessedDirty => accessed_dirty(),
        KernelTest::ReadOnlyKernel => read_only_kernel(),
        KernelTest::UnmappedKernel => unmapped_kernel(),
        KernelTest::InterruptFlag => interrupt_flag(),
        KernelTest::MovedTables => moved_tables(),
        KernelTest::UserEntries => user_entries(),
        KernelTest::SwitchTo => switch_to(),
        KernelTest::FlushUserOf => flush_user_of(),
        KernelTest::HaltWakes => halt_wakes(),
        KernelTest::OtherFaultHandler => other_fault_handler(),
        KernelTest::UsualFaultHandler => usual_fault_handler(),
        KernelTest::StackAcrossPages => stack_across_pages(),
        KernelTest::UsualStack => usual_stack(),
        KernelTest::NoOtherStack => no_other_stack(),
    }
}

fn other_fault_handler() -> bool {
    traps::OTHER_FAULTS.store(0, Ordering::Relaxed);
    let gate = Descriptor::interrupt_gate(GUEST_CS, traps::other_stub(), GUEST_PL);
    descriptors::load_gate(trap::PAGE_FAULT.into(), gate);
    true
}

fn usual_fault_handler() -> bool {
    let vector = trap::PAGE_FAULT.into();
    descriptors::load_gate(vector, descriptors::interrupt_gate(vector as usize, GUEST_PL));
    let had = traps::OTHER_FAULTS.load(Ordering::Relaxed);
    ensure!(had >= HANDLED_FAULTS, "the other page-fault handler has had {had} faults");
    true
}

/// Pages of the other stack; the last one is hardly used.
const OTHER_STACK: usize = 9;

fn stack_across_pages() -> bool {
    for index in SPARE..SPARE + OTHER_STACK {
        let frame =
            kernel().memory().frames.allocate().unwrap_or_else(|error| panic!("a stack's page: {error}"));
        // Reported by a flush, the host has none of them yet.
        scratch::set_spare(index, Entry::new(frame.0.into(), KERNEL_PAGE), true);
    }
    // Two words of a frame lie in the last page.
    let end = scratch::address(SPARE + OTHER_STACK - 1) + 8;
    host::call(Hypercall::SetStack, [GUEST_DS, end, 0]);
    true
}

fn usual_stack() -> bool {
    let (root, current) = {
        let kernel = kernel();
        (kernel.root(), kernel.processes.current())
    };
    host::call(Hypercall::SwitchTo, [root.0, tasks::stack_end(current), 1]);
    true
}

fn no_other_stack() -> bool {
    for index in SPARE..SPARE + OTHER_STACK {
        let frame = GuestFrame(scratch::spare_entry(index).frame() as u32);
        scratch::set_spare(index, Entry::EMPTY, false);
        kernel().memory().frames.release(frame);
    }
    true
}

fn port_io() -> bool {
    let (byte, word, long, immediate): (u32, u32, u32, u32);
    // SAFETY: the host skips port instructions of a guest; they reach no device.
    unsafe {
        asm!("in al, dx", inout("eax") 0x1234_5600 => byte, in("edx") 0x3f8);
        asm!("in ax, dx", inout("eax") 0x1234_0000 => word, in("edx") 0x3f8);
        asm!("in eax, dx", inout("eax") 0 => long, in("edx") 0x3fc);
        asm!("in al, 0x71", inout("eax") 0x1234_5600 => immediate);
        asm!("out dx, eax", "out dx, ax", "out dx, al", "out 0x80, al", in("eax") 0, in("edx") 0x3f8);
    }
    ensure!(byte == 0x1234_56ff, "in %dx,%al left {byte:#x}");
    ensure!(word == 0x1234_ffff, "in %dx,%ax left {word:#x}");
    ensure!(long == 0xffff_ffff, "in %dx,%eax left {long:#x}");
    ensure!(immediate == 0x1234_56ff, "in $0x71,%al left {immediate:#x}");
    true
}

fn privileged_instructions() -> bool {
    let (address, status, control, cr0): (u32, u32, u32, u32);
    let text = [0_u8; 3];
    let behind: *const u8;
    // SAFETY: the host emulates all of these, and none changes anything that the guest is made of.
    unsafe {
        asm!("mov {}, db0", out(reg) address, options(nomem, nostack));
        // What stepped last, and nobody has reset, is not shown any more.
        asm!("xor {0}, {0}", "mov db6, {0}", "mov {0}, db6", out(reg) status, options(nomem, nostack));
        asm!("mov {0}, db7", "mov db7, {0}", out(reg) control, options(nomem, nostack));
        asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack));
        asm!("wbinvd", "sti", options(nostack));
        asm!("xchg esi, {0}", "rep outsb", "xchg esi, {0}", inout(reg) text.as_ptr() => behind,
            in("edx") 0x80, inout("ecx") text.len() => _);
    }
    ensure!(address == 0, "DR0 is {address:#x}");
    ensure!(status == 0xffff_0ff0, "DR6 is {status:#x}");
    ensure!(control == 0x400, "DR7 is {control:#x}");
    // Paging, write protection in the kernel, protection.
    ensure!(cr0 & 0x8001_0001 == 0x8001_0001, "CR0 is {cr0:#x}");
    ensure!(behind == text.as_ptr_range().end, "outsb has come to {behind:?}");
    let halted = attempt::attempt(|| {
        // SAFETY: sleeps until an interrupt, which the host sees to.
        unsafe { asm!("hlt", options(nomem, nostack)) }
        // It has let them in, and the kernel's state is used from here on.
        host::disable_interrupts();
    });
    ensure!(halted.is_ok(), "hlt trapped: {halted:x?}");
    true
}

/// Puts an entry into the current process's tables, without a word to the host.
fn set_current(va: GuestVirt, entry: Entry) {
    with_current_tables(|tables, frames| {
        tables.set(&mut Ram, frames, va, entry).unwrap_or_else(|error| panic!("a table: {error}"));
    });
}

/// Two pages of memory, each holding its own number in the first word.
fn two_frames() -> [GuestFrame; 2] {
    [0, 1].map(|number| {
        let frame =
            kernel().memory().frames.allocate().unwrap_or_else(|error| panic!("a test page: {error}"));
        Ram.zero(frame);
        Ram.write(frame.start(), number);
        frame
    })
}

fn free(frames: [GuestFrame; 2]) {
    for frame in frames {
        kernel().memory().frames.release(frame);
    }
}

fn ring_overflow() -> bool {
    let frames = two_frames();
    let at = scratch::address(SPARE);
    host::flush_queue();
    ensure!(host::queued() == 0, "{} ring entries are left after a flush", host::queued());
    // Once round the ring and a bit more, twice, so that it starts from different places.
    for turn in 0..2 {
        for step in 0..=RING_SIZE {
            let before = host::queued();
            ensure!(before == step, "{before} ring entries wait after {step} calls");
            let frame = frames[(step + turn) % 2];
            let entry = Entry::new(frame.0.into(), KERNEL_PAGE);
            host::queued_changes(|| scratch::set_spare(SPARE, entry, false));
        }
        // The last did not fit, so it was a call like any other: after all that wait.
        ensure!(host::queued() == 0, "a full ring was not emptied: {} entries wait", host::queued());
        let expected = (RING_SIZE + turn) as u32 % 2;
        let found = attempt::load(at);
        ensure!(found == Ok(expected), "after a full ring the page is {found:x?}, not number {expected}");
        for step in 0..5 {
            host::queue(Hypercall::FlushAsync, [0; 4]);
            ensure!(host::queued() == step + 1, "{} ring entries wait", host::queued());
        }
        host::flush_queue();
        ensure!(host::queued() == 0, "{} ring entries are left after a flush", host::queued());
    }
    scratch::set_spare(SPARE, Entry::EMPTY, false);
    free(frames);
    true
}

fn accessed_dirty() -> bool {
    let frames = two_frames();
    let at = scratch::address(SPARE);
    for flush in [false, true] {
        let entry = Entry::new(frames[1].0.into(), Flags::PRESENT | Flags::WRITABLE);
        scratch::set_spare(SPARE, entry, flush);
        let loaded = attempt::load(at);
        ensure!(loaded == Ok(1), "a fresh page reads as {loaded:x?}");
        let after_load = scratch::spare_entry(SPARE);
        ensure!(after_load == entry.with(Flags::ACCESSED), "a load made {entry:?} into {after_load:?}");
        let stored = attempt::store(at, 1);
        ensure!(stored == Ok(()), "a store to a writable page ended in {stored:x?}");
        let after_store = scratch::spare_entry(SPARE);
        let expected = entry.with(Flags::ACCESSED | Flags::DIRTY);
        ensure!(after_store == expected, "a store made {after_load:?} into {after_store:?}");
    }
    scratch::set_spare(SPARE, Entry::EMPTY, false);
    free(frames);
    true
}

/// Whether this is the page fault of a kernel access at `at`. The present bit is the shadow's business.
fn is_fault(trap: Result<u32, Trap>, at: u32, error: u32) -> bool {
    const PRESENT: u32 = 1;
    matches!(trap, Err(Trap { vector, error: e, address })
        if vector == trap::PAGE_FAULT.into() && e & !PRESENT == error && address == at)
}

const WRITE: u32 = 2;

fn read_only_kernel() -> bool {
    let frames = two_frames();
    let at = scratch::address(SPARE);
    for flags in [Flags::PRESENT, Flags::PRESENT | Flags::ACCESSED, KERNEL_PAGE - Flags::WRITABLE] {
        scratch::set_spare(SPARE, Entry::new(frames[0].0.into(), flags), false);
        for round in 0..2 {
            let stored = attempt::store(at + 8, 1).map(|()| 0);
            ensure!(
                is_fault(stored, at + 8, WRITE),
                "store {round} to a read-only kernel page ended in {stored:x?}"
            );
            let loaded = attempt::load(at + 8);
            ensure!(loaded == Ok(0), "a load from a read-only kernel page ended in {loaded:x?}");
        }
    }
    scratch::set_spare(SPARE, Entry::EMPTY, false);
    free(frames);
    true
}

fn unmapped_kernel() -> bool {
    let frames = two_frames();
    let at = scratch::address(SPARE);
    for flush in [false, true, true, false] {
        for number in [0, 1, 0] {
            let frame = frames[number as usize];
            scratch::set_spare(SPARE, Entry::new(frame.0.into(), KERNEL_PAGE), flush);
            let loaded = attempt::load(at);
            ensure!(loaded == Ok(number), "page number {number} reads as {loaded:x?}");
        }
        scratch::set_spare(SPARE, Entry::EMPTY, flush);
        let loaded = attempt::load(at);
        ensure!(is_fault(loaded, at, 0), "a load from an unmapped kernel page ended in {loaded:x?}");
        let stored = attempt::store(at, 1).map(|()| 0);
        ensure!(is_fault(stored, at, WRITE), "a store to an unmapped kernel page ended in {stored:x?}");
    }
    free(frames);
    true
}

fn moved_tables() -> bool {
    const HERE: GuestVirt = GuestVirt(0x3000_0000);
    let frames = two_frames();
    // An address under another table of level 1, and one under another directory of level 2.
    for (level, there) in [(2, GuestVirt(0x3040_0000)), (3, GuestVirt(0x7000_0000))] {
        let exchange = || with_current_tables(|tables, _| tables.exchange(&mut Ram, HERE, there, level));
        let map = |entries: [Entry; 2]| {
            [HERE, there].into_iter().zip(entries).for_each(|(va, entry)| set_current(va, entry));
        };
        map(frames.map(|frame| Entry::new(frame.0.into(), KERNEL_PAGE)));
        for round in 0..4 {
            let expected = [round % 2, 1 - round % 2];
            for (va, number) in [HERE, there].into_iter().zip(expected) {
                let loaded = attempt::load(va.0);
                ensure!(
                    loaded == Ok(number),
                    "after {round} exchanges at level {level} {va} reads as {loaded:x?}"
                );
            }
            if !exchange() {
                ensure!(level == 3, "the tables cannot be exchanged");
                break;
            }
            if level == 3 {
                // A processor looks at a PAE root when it is loaded.
                let root = kernel().root();
                host::call(Hypercall::NewPgtable, [root.0, 0, 0]);
            }
        }
        map([Entry::EMPTY; 2]);
    }
    free(frames);
    true
}

fn switch_to() -> bool {
    const HERE: GuestVirt = GuestVirt(0x3000_0000);
    let frames = two_frames();
    let map = |entry| set_current(HERE, entry);
    map(Entry::new(frames[1].0.into(), KERNEL_PAGE));
    let (end, tls, kernel_root, own_root) = {
        let mut kernel = kernel();
        let end = tasks::stack_end(kernel.processes.current());
        (end, kernel.tls(), kernel.memory().tables.root(), kernel.root())
    };
    for round in 0..8 {
        // The kernel's own tables map nothing of a process.
        for (root, expected) in [(kernel_root, Err(trap::PAGE_FAULT.into())), (own_root, Ok(1))] {
            // In some rounds it comes behind another call.
            if round % 4 == 3 {
                host::queue(Hypercall::LoadTls, [tls.0, 0, 0, 0]);
            }
            host::call(Hypercall::SwitchTo, [root.0, end, 1 + round % 2]);
            let loaded = attempt::load(HERE.0).map_err(|trap| trap.vector);
            ensure!(loaded == expected, "in round {round} on {root} {HERE} reads as {loaded:x?}");
        }
    }
    map(Entry::EMPTY);
    free(frames);
    true
}

fn flush_user_of() -> bool {
    const HERE: GuestVirt = GuestVirt(0x3000_0000);
    let frames = two_frames();
    let map = |entry| set_current(HERE, entry);
    let (kernel_root, own_root) = {
        let mut kernel = kernel();
        (kernel.memory().tables.root(), kernel.root())
    };
    for number in [1, 0, 1] {
        // The host does not learn of the new entry, which is made while another page directory is loaded. The first that is named
        // is none.
        host::call(Hypercall::NewPgtable, [kernel_root.0, 0, 0]);
        map(Entry::new(frames[number].0.into(), KERNEL_PAGE));
        host::call(Hypercall::FlushUserOf, [frames[0].0 * PAGE_SIZE, 0, own_root.0]);
        host::call(Hypercall::NewPgtable, [own_root.0, 0, 0]);
        let loaded = attempt::load(HERE.0);
        ensure!(loaded == Ok(number as u32), "{HERE} reads as {loaded:x?}, and {number} is there");
    }
    map(Entry::EMPTY);
    host::call(Hypercall::FlushTlb, [0, 0, 0]);
    free(frames);
    true
}

fn user_entries() -> bool {
    const HERE: GuestVirt = GuestVirt(0x3000_0000);
    let frames = two_frames();
    let pae = with_current_tables(|tables, _| matches!(tables, AnyPageTables::Pae(_)));
    let mut user = Flags::PRESENT | Flags::WRITABLE | Flags::USER_ACCESSIBLE;
    user.set(Flags::NO_EXECUTE, pae && has_no_execute());
    let used = user | Flags::ACCESSED | Flags::DIRTY;
    let entry = |number: usize, flags| Entry::new(frames[number].0.into(), flags);
    let set = |entry| set_current(HERE, entry);
    let now = || with_current_tables(|tables, _| tables.entry(&Ram, HERE));
    let flush = || host::call(Hypercall::FlushTlb, [0, 0, 0]);
    for round in 0..3 {
        // Twice, so that the second one changes nothing.
        for _ in 0..2 {
            set(entry(0, used));
            let loaded = attempt::load(HERE.0);
            ensure!(loaded == Ok(0), "in round {round} the page of SET_PTE reads as {loaded:x?}");
        }
        // Each access shows in the entry, after a flush as before.
        with_current_tables(|tables, _| tables.replace(&mut Ram, HERE, entry(1, user)));
        flush();
        let loaded = attempt::load(HERE.0);
        ensure!(loaded == Ok(1), "in round {round} the page after a flush reads as {loaded:x?}");
        ensure!(now() == entry(1, user | Flags::ACCESSED), "a load left {:?}", now());
        let stored = attempt::store(HERE.0, 1);
        ensure!(
            stored == Ok(()) && now() == entry(1, used),
            "a store ended in {stored:x?} and left {:?}",
            now()
        );
        // A directory entry that gives less for a while.
        let at = with_current_tables(|tables, _| match tables {
            AnyPageTables::TwoLevel(tables) => GuestPhys(tables.root().0 + (HERE.0 >> 22) * 4),
            AnyPageTables::Pae(tables) => {
                let middle = Ram.read(GuestPhys(tables.root().0 + (HERE.0 >> 30) * 8)) & !(PAGE_SIZE - 1);
                GuestPhys(middle + (HERE.0 >> 21 & 511) * 8)
            }
        });
        for take in [true, false] {
            let flags = Flags::WRITABLE.bits() as u32;
            let old = Ram.read(at);
            Ram.write(at, if take { old & !flags } else { old | flags });
            flush();
            let loaded = attempt::load(HERE.0);
            ensure!(
                loaded == Ok(1),
                "in round {round} the page of another directory entry reads as {loaded:x?}"
            );
        }
        let stored = attempt::store(HERE.0, 1);
        ensure!(stored == Ok(()), "in round {round} a store ended in {stored:x?} when it was allowed again");
        // Named where a flush has left nothing.
        flush();
        set(entry(0, used));
        let loaded = attempt::load(HERE.0);
        ensure!(loaded == Ok(0), "in round {round} the page of SET_PTE after a flush reads as {loaded:x?}");
        // Gone, twice as well.
        for _ in 0..2 {
            set(Entry::EMPTY);
            let loaded = attempt::load(HERE.0);
            ensure!(is_fault(loaded, HERE.0, 0), "in round {round} a page that is gone reads as {loaded:x?}");
        }
    }
    free(frames);
    true
}

/// Whether the processor can tell pages that may not be executed (Intel SDM vol. 2A, `CPUID`).
fn has_no_execute() -> bool {
    const EXTENDED: u32 = 0x8000_0000;
    __cpuid(EXTENDED).eax > EXTENDED && __cpuid(EXTENDED + 1).edx & 1 << 20 != 0
}

/// Calls `action` with the current process's page tables.
fn with_current_tables<T>(action: impl FnOnce(&mut AnyPageTables, &mut Frames<'_>) -> T) -> T {
    let mut kernel = kernel();
    let kernel = &mut *kernel;
    let memory = kernel.memory.as_mut().expect("memory is there before the first process");
    let current = kernel.processes.current();
    let tables = kernel.tasks[current].tables.as_mut().expect("tests run for a process");
    action(tables, &mut memory.frames)
}

/// How many empty hypercalls to make before giving up waiting for the clock.
const PATIENCE: u32 = 10_000_000;

/// Calls the host, which may look for interrupts each time, until `done`; `false` when that never came.
fn call_until(mut done: impl FnMut() -> bool) -> bool {
    (0..PATIENCE).any(|_| {
        host::flush_queue();
        done()
    })
}

fn ticks() -> u32 {
    kernel().processes.ticks()
}

fn interrupt_flag() -> bool {
    let mut retracted = 0;
    for _ in 0..4 {
        let before = ticks();
        ensure!(call_until(host::interrupt_pending), "no clock interrupt was announced while they are out");
        ensure!(ticks() == before, "a clock interrupt came although interrupts are out");
        host::enable_interrupts();
        host::disable_interrupts();
        ensure!(ticks() > before, "the clock interrupt that waited did not come when it was let in");
        retracted += u32::from(!host::interrupt_pending());
    }
    // On a slow machine the next one may be there already, but not every time.
    ensure!(retracted > 0, "a clock interrupt is announced still when it has come");
    // Masked in the host's memory rather than by the flag.
    let long = 4 * tick_length();
    host::mask_clock(true);
    let before = ticks();
    host::enable_interrupts();
    let start = host::rdtsc();
    let waited = call_until(|| host::rdtsc() - start > long);
    host::disable_interrupts();
    let masked = ticks();
    host::mask_clock(false);
    ensure!(waited, "the time-stamp counter does not move");
    ensure!(masked == before, "{} clock interrupts came although they are masked", masked - before);
    // Let in between two looks, since the handler wants the kernel's state as well.
    let came = call_until(|| {
        host::enable_interrupts();
        host::disable_interrupts();
        ticks() > before
    });
    ensure!(came, "the clock interrupt that was masked never came");
    // Stopped, it has nothing to report.
    host::stop_clock();
    let (before, start) = (ticks(), host::rdtsc());
    let waited = call_until(|| host::rdtsc() - start > long);
    ensure!(waited, "the time-stamp counter does not move");
    ensure!(
        !host::interrupt_pending() && ticks() == before,
        "the clock's interrupt came although the clock is stopped"
    );
    host::arm_clock();
    ensure!(call_until(host::interrupt_pending), "the clock that was stopped does not start again");
    host::enable_interrupts();
    host::disable_interrupts();
    true
}

/// Time-stamp ticks between two clock interrupts.
fn tick_length() -> u64 {
    halt();
    let start = host::rdtsc();
    halt();
    host::rdtsc() - start
}

/// Sleeps until an interrupt has come and was handled.
fn halt() {
    host::call(Hypercall::Halt, [0; 3]);
    host::disable_interrupts();
}

fn halt_wakes() -> bool {
    const HALTS: u32 = 16;
    let (wall, before) = (host::wall_clock(), ticks());
    for halts in 1..=HALTS {
        halt();
        let came = ticks().wrapping_sub(before);
        ensure!(came >= halts, "{halts} halts ended after {came} clock interrupts");
    }
    let passed = host::wall_clock().wrapping_sub(wall);
    ensure!((1..60_000).contains(&passed), "{HALTS} clock interrupts took {passed} ms of the wall clock");
    true
}
