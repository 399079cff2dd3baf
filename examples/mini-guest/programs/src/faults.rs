//! Faults and exceptions of ring 3, each in a child that has to die of exactly that.

use crate::ensure;
use crate::start::{fail, spawn};
use core::arch::asm;
use mini_programs::abi::{IMAGE_BASE, RunOptions, WaitStatus};
use mini_programs::user;

/// Where the kernel's half begins.
const KERNEL_BASE: u32 = 0xc000_0000;

/// Page-fault error code bits (Intel SDM vol. 3A, figure 4-12). Bit 0 is not tested here: a shadow pager
/// reports what the shadow had, so a page that is there but not allowed may look absent.
const WRITE: u32 = 2;
const USER: u32 = 4;
const PRESENT: u32 = 1;

/// How a child ends that runs `misdeed`.
fn death(misdeed: impl FnOnce()) -> WaitStatus {
    let child = spawn(|| {
        misdeed();
        0
    });
    match user::wait() {
        Some((pid, status)) if pid == child => status,
        other => fail(format_args!("waiting for process {child} gave {other:?}")),
    }
}

fn load(address: u32) {
    // SAFETY: the load is meant to fault.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack)) };
}

fn store(address: u32) {
    // SAFETY: the store is meant to fault.
    unsafe { asm!("mov dword ptr [{0}], 0", in(reg) address, options(nostack)) };
}

/// What it is called, how it is made, where, and the error code of its fault.
type Access = (&'static str, fn(u32), u32, u32);

/// What it is called, the instructions, their trap's vector and error code.
type Misdeed = (&'static str, fn(), u32, u32);

/// Accesses that no region allows, with the error code and the address that the kernel received.
pub fn page_faults(_: &RunOptions) {
    let unmapped = 0x3000_0004;
    let cases: [Access; 7] = [
        ("a load through a null pointer", load, 0, USER),
        ("a store through a null pointer", store, 8, USER | WRITE),
        ("a load from unmapped memory", load, unmapped, USER),
        ("a store to unmapped memory", store, unmapped, USER | WRITE),
        ("a load from the kernel", load, KERNEL_BASE + 0x10_0000, USER),
        ("a store to the kernel", store, KERNEL_BASE + 0x10_0000, USER | WRITE),
        ("a store to program text", store, IMAGE_BASE + 16, USER | WRITE),
    ];
    for (what, access, address, error) in cases {
        // The second time the shadow tables may hold the page already.
        for _ in 0..2 {
            let status = death(|| access(address));
            let seen = WaitStatus { error: status.error & !PRESENT, ..status };
            let expected = WaitStatus { killed: 1, code: 14, error, address };
            ensure!(seen == expected, "{what} ended in {status:x?}, not {expected:x?}");
        }
    }
}

macro_rules! instruction {
    ($($line:literal),*) => {
        // SAFETY: the instructions are meant to trap; what they clobber belongs to a process about to end.
        || unsafe { asm!($($line),*, out("eax") _, out("ecx") _, out("edx") _) }
    };
}

/// Exceptions that go straight to the kernel, and those that take the way through the host.
pub fn exceptions(_: &RunOptions) {
    let cases: [Misdeed; 12] = [
        ("a division by zero", instruction!("xor edx, edx", "xor ecx, ecx", "div ecx"), 0, 0),
        ("a single step", instruction!("pushfd", "or dword ptr [esp], 0x100", "popfd", "nop", "nop"), 1, 0),
        ("a breakpoint", instruction!("int3"), 3, 0),
        ("an overflow", instruction!("mov al, 127", "add al, 1", "into"), 4, 0),
        ("an invalid opcode", instruction!("ud2"), 6, 0),
        ("hlt", instruction!("hlt"), 13, 0),
        ("cli", instruction!("cli"), 13, 0),
        ("in", instruction!("in al, 0x71"), 13, 0),
        ("out", instruction!("out 0x70, al"), 13, 0),
        ("int $0x20", instruction!("int 0x20"), 13, 0x20 << 3 | 2),
        ("int $0x1f", instruction!("int 0x1f"), 13, 0x1f << 3 | 2),
        ("a selector beyond the GDT", instruction!("mov eax, 0x23b", "mov ds, ax"), 13, 0x238),
    ];
    for (what, misdeed, code, error) in cases {
        let status = death(misdeed);
        ensure!(
            status.killed == 1 && status.code == code && status.error == error,
            "{what} ended in {status:x?}, not in trap {code} with error code {error:#x}"
        );
    }
}
