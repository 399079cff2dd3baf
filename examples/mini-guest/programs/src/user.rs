//! The programs' side of the system calls.

use crate::abi::{FAILED, HostileAct, KernelMapping, KernelTest, Ring, RunOptions, Syscall, WaitStatus};
use core::arch::asm;
use core::fmt::{self, Write};
use core::mem::MaybeUninit;

/// One system call with whatever arguments it takes.
fn call(number: Syscall, a: u32, b: u32, c: u32) -> u32 {
    let answer;
    // SAFETY: the kernel keeps every register but eax. It writes only to the memory that the caller names
    // in its arguments, which the wrappers below own.
    unsafe {
        asm!("int 0x80", inlateout("eax") number as u32 => answer, in("ebx") a, in("ecx") b, in("edx") c);
    }
    answer
}

/// Turns the ABI's [`FAILED`] into `None`.
fn checked(answer: u32) -> Option<u32> {
    (answer != FAILED).then_some(answer)
}

/// The caller's process id.
#[must_use]
pub fn getpid() -> u32 {
    call(Syscall::GetPid, 0, 0, 0)
}

/// Lets the next process run.
pub fn yield_now() {
    call(Syscall::Yield, 0, 0, 0);
}

/// Prints text.
pub fn write(text: &str) {
    call(Syscall::Write, text.as_ptr().expose_provenance() as u32, text.len() as u32, 0);
}

/// Ends the process.
pub fn exit(code: u32) -> ! {
    call(Syscall::Exit, code, 0, 0);
    unreachable!("the kernel let a process go on after exit");
}

/// Who one is after a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one; the child's id.
    Parent(u32),
}

/// Makes a copy of the process; `None` when there is no memory or no process left.
#[must_use]
pub fn fork() -> Option<Forked> {
    Some(match checked(call(Syscall::Fork, 0, 0, 0))? {
        0 => Forked::Child,
        pid => Forked::Parent(pid),
    })
}

/// Sleeps until a child has ended; its id and how; `None` when there are no children.
#[must_use]
pub fn wait() -> Option<(u32, WaitStatus)> {
    let mut status = WaitStatus::default();
    // SAFETY: `status` is ours.
    let pid = unsafe { wait_into(&raw mut status) }?;
    // SAFETY: as above; the volatile read sees what the kernel stored behind the compiler's back.
    Some((pid, unsafe { (&raw const status).read_volatile() }))
}

/// [`wait`] with the status stored where the caller specifies.
///
/// # Safety
/// `status` has to be valid for writes.
pub unsafe fn wait_into(status: *mut WaitStatus) -> Option<u32> {
    checked(call(Syscall::Wait, status.expose_provenance() as u32, 0, 0))
}

/// Fresh zeroed memory of `length` bytes; `None` when there is no room.
#[must_use]
pub fn mmap(length: u32) -> Option<*mut u32> {
    checked(call(Syscall::Mmap, length, 0, 0))
        .map(|address| core::ptr::with_exposed_provenance_mut(address as usize))
}

/// Gives `length` bytes back.
///
/// # Panics
/// When the kernel refuses, which it does for addresses that are not whole pages of the process.
pub fn munmap(address: *mut u32, length: u32) {
    let answer = call(Syscall::Munmap, address.addr() as u32, length, 0);
    assert!(answer != FAILED, "munmap({address:p}, {length:#x}) was refused");
}

/// Becomes another program. Returns only when there is none with this number.
pub fn exec(program: u32, argument: u32) {
    call(Syscall::Exec, program, argument, 0);
}

/// Takes one from a semaphore.
pub fn sem_wait(semaphore: u32) {
    call(Syscall::SemWait, semaphore, 0, 0);
}

/// Gives one to a semaphore.
pub fn sem_post(semaphore: u32) {
    call(Syscall::SemPost, semaphore, 0, 0);
}

/// Makes the first thread-local-storage segment start at `base`; its selector.
#[must_use]
pub fn set_tls(base: u32) -> u32 {
    call(Syscall::SetTls, base, 0, 0)
}

/// Sleeps for that many timer interrupts.
pub fn sleep(ticks: u32) {
    call(Syscall::Sleep, ticks, 0, 0);
}

/// How many timer interrupts there have been.
#[must_use]
pub fn ticks() -> u32 {
    call(Syscall::Ticks, 0, 0, 0)
}

/// How many context switches there have been.
#[must_use]
pub fn switches() -> u32 {
    call(Syscall::Switches, 0, 0, 0)
}

/// What the command line requested.
#[must_use]
pub fn options() -> RunOptions {
    let mut options = MaybeUninit::<RunOptions>::zeroed();
    call(Syscall::Options, options.as_mut_ptr().expose_provenance() as u32, 0, 0);
    // SAFETY: the kernel has stored a whole value there.
    unsafe { options.as_ptr().read_volatile() }
}

/// Verifies the kernel's scratch pages from this process; whether they were all right.
#[must_use]
pub fn kernel_pages() -> bool {
    call(Syscall::KernelPages, 0, 0, 0) == 0
}

/// Runs one of the kernel's own tests; whether it passed.
#[must_use]
pub fn kernel_test(test: KernelTest) -> bool {
    call(Syscall::KernelTest, test as u32, 0, 0) == 0
}

/// The time-stamp ticks of `count` empty hypercalls.
#[must_use]
pub fn null_hypercalls(count: u32) -> u32 {
    call(Syscall::NullHypercalls, count, 0, 0)
}

/// The speed of the time-stamp counter in kHz; 0 when the kernel does not know.
#[must_use]
pub fn tsc_khz() -> u32 {
    call(Syscall::TscKhz, 0, 0, 0)
}

/// Has the kernel map pages for itself, write to them, and take them away; whether it could.
#[must_use]
pub fn map_kernel_pages(how: KernelMapping) -> bool {
    call(Syscall::MapKernelPages, how as u32, 0, 0) == 0
}

/// Has the kernel commit a ring-1 act.
pub fn hostile(act: HostileAct) {
    debug_assert!(act.ring() == Ring::Kernel);
    call(Syscall::Hostile, act as u32, 0, 0);
}

/// Ends the guest with this result.
pub fn shutdown(code: u32) -> ! {
    call(Syscall::Shutdown, code, 0, 0);
    unreachable!("the kernel let a process go on after shutdown");
}

/// Makes the kernel panic.
pub fn crash() -> ! {
    call(Syscall::Panic, 0, 0, 0);
    unreachable!("the kernel survived its panic");
}

/// Milliseconds of the wall clock, as the host last wrote it.
#[must_use]
pub fn wall_clock() -> u32 {
    call(Syscall::WallClock, 0, 0, 0)
}

/// Where a count of instructions begins, for whoever counts them from outside (`benches/lab/qemu-counter`).
pub fn begin_count() {
    // SAFETY: exchanges a register with itself.
    unsafe { asm!("xchg cx, cx", options(nomem, nostack, preserves_flags)) };
}

/// Where that count ends.
pub fn end_count() {
    // SAFETY: as above.
    unsafe { asm!("xchg dx, dx", options(nomem, nostack, preserves_flags)) };
}

/// The time-stamp counter.
#[must_use]
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter, touches nothing.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Collects formatted text, so that a line costs one system call.
struct Line {
    text: [u8; 160],
    length: usize,
}

impl Line {
    fn flush(&mut self) {
        if let Ok(text) = core::str::from_utf8(&self.text[..self.length]) {
            write(text);
        }
        self.length = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for &byte in s.as_bytes() {
            if self.length == self.text.len() {
                self.flush();
            }
            self.text[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Prints a formatted line; use [`println!`](crate::println).
pub fn print(arguments: fmt::Arguments<'_>) {
    let mut line = Line { text: [0; 160], length: 0 };
    // A Line never refuses text.
    let _ = writeln!(line, "{arguments}");
    line.flush();
}

/// Prints a formatted line on the guest's console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::user::print(format_args!($($argument)*)) };
}
