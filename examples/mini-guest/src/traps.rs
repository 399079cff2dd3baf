//! Every way into the kernel, and the one way out.
//!
//! All 256 vectors have a stub that completes what the processor or the host has pushed to a
//! [`TrapFrame`]; [`handle`] takes it from there. The way out is lguest's: `iret` cannot change the
//! interrupt flag of a ring-1 kernel, so the flag in `lguest_data` is set just before. From that moment to
//! the `iret` an interrupt would find the frame half gone, so the host is instructed, by `noirq_start` and
//! `noirq_end`, to keep interrupts back in between.

use crate::descriptors::USER_PL;
use crate::host::{self, LGUEST_DATA};
use crate::state::kernel;
use crate::{attempt, faults, syscalls, tasks};
use arch_i386::segment::GUEST_DS;
use arch_i386::trap;
use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use mini_programs::abi::WaitStatus;

/// The registers of whom the kernel interrupted, as they lie on its stack.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct TrapFrame {
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    pub ebp: u32,
    pub eax: u32,
    pub ds: u32,
    pub es: u32,
    pub vector: u32,
    pub error: u32,
    pub eip: u32,
    pub cs: u32,
    pub eflags: u32,
    /// Only there when the trap came from ring 3, like [`TrapFrame::ss`].
    pub esp: u32,
    pub ss: u32,
}

impl TrapFrame {
    /// Whether a program was interrupted.
    pub fn is_user(&self) -> bool {
        self.cs & 3 == USER_PL
    }

    /// Whether interrupts were let in there.
    fn interrupts_on(&self) -> bool {
        self.eflags & arch_i386::lguest_data::IRQ_ENABLED != 0
    }
}

/// Bytes between the stubs of two vectors.
const STUB_SIZE: u32 = 16;

global_asm!(
    r#"
    .balign 16
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign {stub_size}
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
    .else
    pushl   $0
    .endif
    pushl   $vector
    jmp     trap_common
    .set vector, vector + 1
    .endr

    // Another handler of page faults, which counts them.
    .globl other_page_fault
other_page_fault:
    incl    %ss:{other_faults}
    pushl   ${page_fault}

trap_common:
    pushl   %es
    pushl   %ds
    pushl   %eax
    pushl   %ebp
    pushl   %edi
    pushl   %esi
    pushl   %edx
    pushl   %ecx
    pushl   %ebx
    movl    ${guest_ds}, %eax
    movl    %eax, %ds
    movl    %eax, %es
    cld
    // A trap gate has left interrupts on. One that came since was handled on this stack, and is over.
    movl    $0, {irq_enabled}
    pushl   %esp
    call    {handle}
    addl    $4, %esp

    .globl trap_return
trap_return:
    popl    %ebx
    popl    %ecx
    popl    %edx
    popl    %esi
    popl    %edi
    popl    %ebp
    popl    %eax
    popl    %ds
    popl    %es
    addl    $8, %esp
    pushl   %eax
    movl    12(%esp), %eax
    andl    ${irq_flag}, %eax
    .globl irq_window_start
irq_window_start:
    // %ds is the program's by now.
    movl    %eax, %ss:{irq_enabled}
    popl    %eax
    iret
    .globl irq_window_end
irq_window_end:
    "#,
    stub_size = const STUB_SIZE,
    guest_ds = const GUEST_DS,
    irq_enabled = sym LGUEST_DATA,
    irq_flag = const arch_i386::lguest_data::IRQ_ENABLED,
    handle = sym handle,
    other_faults = sym OTHER_FAULTS,
    page_fault = const trap::PAGE_FAULT,
    options(att_syntax),
);

// The assembly uses the structure's address for its first field's.
const _: () = assert!(arch_i386::lguest_data::offset::IRQ_ENABLED == 0);

unsafe extern "C" {
    static trap_stubs: u8;
    static other_page_fault: u8;
}

/// Page faults that [`other_stub`] has had.
pub static OTHER_FAULTS: AtomicU32 = AtomicU32::new(0);

/// The address of the other handler of page faults.
pub fn other_stub() -> u32 {
    (&raw const other_page_fault).addr() as u32
}

/// The address of a vector's stub.
pub fn stub(vector: usize) -> u32 {
    (&raw const trap_stubs).addr() as u32 + vector as u32 * STUB_SIZE
}

/// Set when it is somebody else's turn.
static TURN_IS_OVER: AtomicBool = AtomicBool::new(false);

extern "C" fn handle(frame: &mut TrapFrame) {
    match frame.vector as u8 {
        trap::SYSCALL if frame.is_user() => syscalls::handle(frame),
        trap::PAGE_FAULT => faults::page_fault(frame),
        trap::DEVICE_NOT_AVAILABLE if frame.is_user() => {
            let mut kernel = kernel();
            let current = kernel.processes.current();
            kernel.fpu_wanted(current);
        }
        CLOCK => clock_interrupt(),
        _ => unexpected(frame, frame.eip),
    }
    if frame.is_user() && TURN_IS_OVER.swap(false, Ordering::Relaxed) {
        tasks::schedule();
    }
    // The interrupt flag goes up with the iret, which does not check whether an interrupt waits.
    while frame.interrupts_on() && host::interrupt_pending() {
        host::enable_interrupts();
        host::disable_interrupts();
    }
}

/// The vector of the clock, virtual interrupt 0.
const CLOCK: u8 = trap::FIRST_EXTERNAL;

fn clock_interrupt() {
    kernel().processes.tick();
    TURN_IS_OVER.store(true, Ordering::Relaxed);
    host::arm_clock();
}

/// A trap that nothing provides for: it ends a program, or the attempt that the kernel made, or the guest.
pub fn unexpected(frame: &mut TrapFrame, address: u32) {
    if frame.is_user() {
        tasks::exit(WaitStatus { killed: 1, code: frame.vector, error: frame.error, address });
    }
    if !attempt::resume(frame, address) {
        panic!(
            "trap {} in the kernel at {:#x}, error code {:#x}, address {address:#x}",
            frame.vector, frame.eip, frame.error
        );
    }
}
