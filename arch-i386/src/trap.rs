//! Exception vectors and the page-fault error code (Intel SDM vol. 3A, 6.3 and 4.7).

pub use x86_64::structures::idt::PageFaultErrorCode;

/// #DE, divide error.
pub const DIVIDE: u8 = 0;
/// #DB, debug exception.
pub const DEBUG: u8 = 1;
/// Non-maskable interrupt: always the host's.
pub const NMI: u8 = 2;
/// #BP, breakpoint: `int3`.
pub const BREAKPOINT: u8 = 3;
/// #UD, invalid opcode.
pub const INVALID_OPCODE: u8 = 6;
/// #NM, device (FPU) not available.
pub const DEVICE_NOT_AVAILABLE: u8 = 7;
/// #DF, double fault: a guest that causes one is killed.
pub const DOUBLE_FAULT: u8 = 8;
/// #GP, general protection.
pub const GENERAL_PROTECTION: u8 = 13;
/// #PF, page fault.
pub const PAGE_FAULT: u8 = 14;
/// Vector 15, which the processor uses for spurious interrupts only.
pub const SPURIOUS: u8 = 15;
/// #MC, machine check: always the host's.
pub const MACHINE_CHECK: u8 = 18;
/// `int $0x1f`: the hypercall.
pub const HYPERCALL: u8 = 0x1f;
/// The first vector that hardware interrupts use.
pub const FIRST_EXTERNAL: u8 = 0x20;
/// `int $0x80`: Linux's system call.
pub const SYSCALL: u8 = 0x80;

/// Added by the Switcher to the vector of a fault that hit the Switcher itself (stacked CS of ring 0):
/// the guest had left something in its registers that cannot be loaded.
pub const IN_SWITCHER: u32 = 0x100;

/// Returned by the Switcher in the place of a vector when a hypercall was done by the Switcher itself and the guest was left only
/// since NMIs or machine checks had come meanwhile. Its low byte is no vector that means anything to the host.
pub const EVENTS_ONLY: u32 = 0x200;

/// What ended a run when the guest made a hypercall and the Switcher, which looked at it, missed a page of the guest's kernel on the
/// way: the vector with a bit.
pub const HYPERCALL_MISSED: u32 = 0x400 | HYPERCALL as u32;

/// Whether the processor pushes an error code for this vector (SDM vol. 3A, table 6-1).
#[must_use]
pub const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}
