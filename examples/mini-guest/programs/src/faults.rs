//! Faults and exceptions of ring 3, each in a child that has to die of exactly that.

use crate::ensure;
use crate::start::{fail, spawn};
use core::arch::{asm, global_asm};
use mini_programs::abi::{HANDLED_FAULTS, IMAGE_BASE, KernelTest, RunOptions, WaitStatus};
use mini_programs::user;

/// Where the kernel's half begins.
const KERNEL_BASE: u32 = 0xc000_0000;

/// Page-fault error code bits (Intel SDM vol. 3A, figure 4-12). Bit 0 is not tested here: a shadow pager
/// reports what the shadow had, so a page that is there but not allowed may look absent.
const WRITE: u32 = 2;
const USER: u32 = 4;
const PRESENT: u32 = 1;

const PAGE: u32 = 4096;

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

// touch(address, flags, out): stores to the address with known registers and those flags; `out` gets the registers as
// `pushad` pushes them, and the flags.
global_asm!(
    ".globl touch",
    "touch:",
    "push ebp",
    "push ebx",
    "push esi",
    "push edi",
    "mov edx, [esp + 20]",
    "push dword ptr [esp + 24]",
    "mov eax, 0x1111",
    "mov ecx, 0x2222",
    "mov ebx, 0x3333",
    "mov ebp, 0x4444",
    "mov esi, 0x5555",
    "mov edi, 0x6666",
    "popfd",
    "mov [edx], eax",
    "pushfd",
    "pushad",
    "cld",
    "mov esi, esp",
    "mov edi, [esp + 64]",
    "mov ecx, 9",
    "rep movsd",
    "add esp, 36",
    "push 0x202",
    "popfd",
    "pop edi",
    "pop esi",
    "pop ebx",
    "pop ebp",
    "ret",
);

unsafe extern "C" {
    fn touch(address: *mut u32, flags: u32, out: *mut [u32; 9]);
}

/// What a program has in its registers and flags when it comes to a page that must be found first, it has after that.
pub fn registers(_: &RunOptions) {
    // IF and the bit that is always set. Of the others: CF, PF, AF, ZF, SF; DF, OF; AC; ID.
    const USUAL: u32 = 0x202;
    let flags = [0, 0x001, 0x0d5, 0x400, 0xcd5, 0x4_0000, 0x20_0000, 0x24_0cd5];
    let Some(fresh) = user::mmap(flags.len() as u32 * PAGE) else { fail(format_args!("mmap failed")) };
    for (page, flags) in flags.into_iter().enumerate() {
        let flags = flags | USUAL;
        let mut found = [0; 9];
        let address = fresh.wrapping_add(page * PAGE as usize / 4);
        // SAFETY: it stores a word of the mapping and nine of `found`.
        unsafe { touch(address, flags, &raw mut found) };
        // SAFETY: as above.
        let [edi, esi, ebp, _, ebx, edx, ecx, eax, seen] = unsafe { (&raw const found).read_volatile() };
        let expected = [0x6666, 0x5555, 0x4444, 0x3333, address.addr() as u32, 0x2222, 0x1111, flags];
        let found = [edi, esi, ebp, ebx, edx, ecx, eax, seen];
        ensure!(
            found == expected,
            "a fault with flags {flags:#x} made {expected:x?} of the registers {found:x?}"
        );
        // SAFETY: a word of the mapping.
        ensure!(unsafe { address.read_volatile() } == 0x1111, "what was stored at {address:p} is not there");
    }
    user::munmap(fresh, flags.len() as u32 * PAGE);
}

/// Stores to so many fresh pages, each by a page fault.
fn touch_fresh(pages: u32) {
    let Some(fresh) = user::mmap(pages * PAGE) else { fail(format_args!("mmap failed")) };
    store_to_each(fresh, pages);
    user::munmap(fresh, pages * PAGE);
}

fn store_to_each(fresh: *mut u32, pages: u32) {
    for page in 0..pages {
        let word = fresh.wrapping_add((page * PAGE / 4 + page) as usize);
        // SAFETY: a word of the mapping.
        let before = unsafe { word.read_volatile() };
        // SAFETY: as above.
        unsafe { word.write_volatile(!page) };
        // SAFETY: as above.
        let after = unsafe { word.read_volatile() };
        ensure!((before, after) == (0, !page), "page {page} read {before:#x} and then {after:#x}");
    }
}

/// The handler that the kernel has loaded last is the one that is called.
pub fn handlers(_: &RunOptions) {
    for _ in 0..2 {
        touch_fresh(HANDLED_FAULTS);
        ensure!(user::kernel_test(KernelTest::OtherFaultHandler), "another handler");
        touch_fresh(HANDLED_FAULTS);
        ensure!(user::kernel_test(KernelTest::UsualFaultHandler), "the usual handler");
    }
}

/// A kernel's stack may lie across pages that the host has yet to map.
pub fn stacks(_: &RunOptions) {
    for _ in 0..2 {
        let Some(fresh) = user::mmap(HANDLED_FAULTS * PAGE) else { fail(format_args!("mmap failed")) };
        ensure!(user::kernel_test(KernelTest::StackAcrossPages), "a stack across pages");
        store_to_each(fresh, HANDLED_FAULTS);
        ensure!(user::kernel_test(KernelTest::UsualStack), "the usual stack");
        ensure!(user::kernel_test(KernelTest::NoOtherStack), "no other stack");
        user::munmap(fresh, HANDLED_FAULTS * PAGE);
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
