//! The system calls that the workloads are made of, by `int 0x80`: the one entry that every i386 Linux has.
//!
//! Numbers: `arch/x86/entry/syscalls/syscall_32.tbl` of Linux.

use core::arch::asm;
use core::ffi::{CStr, c_char};
use core::ptr;

/// The number of `exit`, for the program's start.
pub const EXIT: u32 = 1;
const FORK: u32 = 2;
const READ: u32 = 3;
const WRITE: u32 = 4;
const CLOSE: u32 = 6;
const WAITPID: u32 = 7;
const EXECVE: u32 = 11;
const PIPE: u32 = 42;
const GETPPID: u32 = 64;
const MUNMAP: u32 = 91;
const MMAP2: u32 = 192;
const CLOCK_GETTIME: u32 = 265;
const CLOCK_GETTIME64: u32 = 403;

const CLOCK_MONOTONIC: u32 = 1;
const ENOSYS: u32 = 38;
const PROT_READ_WRITE: u32 = 3;
const MAP_PRIVATE_ANONYMOUS: u32 = 0x22;

/// A page of memory.
pub const PAGE_SIZE: usize = 4096;

/// The number of the error that a system call ended with.
#[derive(Clone, Copy)]
pub struct Errno(pub u32);

/// A system call with up to five arguments.
///
/// # Safety
/// As the call named by `number` with these arguments.
unsafe fn call(number: u32, a: [u32; 5]) -> Result<u32, Errno> {
    let result: i32;
    // SAFETY: the caller vouches for the call. LLVM keeps esi for itself, hence the exchange.
    unsafe {
        asm!(
            "xchg esi, {d}",
            "int 0x80",
            "xchg esi, {d}",
            d = inout(reg) a[3] => _,
            inout("eax") number => result,
            in("ebx") a[0],
            in("ecx") a[1],
            in("edx") a[2],
            in("edi") a[4],
        );
    }
    // Linux's errors are -4095 to -1.
    if (-4095..0).contains(&result) { Err(Errno(result.unsigned_abs())) } else { Ok(result as u32) }
}

/// Ends the process.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: it does not come back.
        let _ = unsafe { call(EXIT, [status as u32, 0, 0, 0, 0]) };
    }
}

/// The cheapest call of all: the parent's process number.
pub fn getppid() {
    // SAFETY: it changes nothing.
    let _ = unsafe { call(GETPPID, [0; 5]) };
}

/// Nanoseconds of the clock that is never set.
pub fn now() -> Result<u64, Errno> {
    let mut time = [0u64; 2];
    // SAFETY: the kernel writes two 64-bit words: seconds, nanoseconds.
    match unsafe { call(CLOCK_GETTIME64, [CLOCK_MONOTONIC, time.as_mut_ptr() as u32, 0, 0, 0]) } {
        // Before Linux 5.1 there is the older call only.
        Err(Errno(ENOSYS)) => {
            let mut time = [0u32; 2];
            // SAFETY: the same with words of 32 bits.
            unsafe { call(CLOCK_GETTIME, [CLOCK_MONOTONIC, time.as_mut_ptr() as u32, 0, 0, 0]) }?;
            Ok(u64::from(time[0]) * 1_000_000_000 + u64::from(time[1]))
        }
        done => done.map(|_| time[0] * 1_000_000_000 + time[1]),
    }
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

/// What `fork` made of the process that called it.
pub enum Forked {
    /// The old one, which has the new one's number.
    Parent(Child),
    /// The new one.
    Child,
}

/// A process that must be waited for.
pub struct Child(u32);

/// Makes a copy of the process.
pub fn fork() -> Result<Forked, Errno> {
    // SAFETY: there is one thread, and no state of a library that a copy could spoil.
    let pid = unsafe { call(FORK, [0; 5]) }?;
    Ok(if pid == 0 { Forked::Child } else { Forked::Parent(Child(pid)) })
}

impl Child {
    /// Waits for its end. Returns its wait status: 0 for an orderly one.
    pub fn wait(self) -> Result<i32, Errno> {
        let mut status = 0i32;
        // SAFETY: the kernel writes one int.
        unsafe { call(WAITPID, [self.0, &raw mut status as u32, 0, 0, 0]) }?;
        Ok(status)
    }
}

/// Starts the program at `path` in place of this one, with an empty environment. Returns only on failure.
pub fn exec(path: &CStr, argument: &CStr) -> Errno {
    let arguments: [*const c_char; 3] = [path.as_ptr(), argument.as_ptr(), ptr::null()];
    let environment: [*const c_char; 1] = [ptr::null()];
    // SAFETY: strings and lists end as they must.
    let failed = unsafe {
        call(EXECVE, [path.as_ptr() as u32, arguments.as_ptr() as u32, environment.as_ptr() as u32, 0, 0])
    };
    failed.err().unwrap_or(Errno(0))
}

/// One end of a pipe.
#[derive(Clone, Copy)]
pub struct End(i32);

/// A new pipe's ends, for reading and for writing.
pub fn pipe() -> Result<[End; 2], Errno> {
    let mut ends = [0i32; 2];
    // SAFETY: the kernel writes two ints.
    unsafe { call(PIPE, [ends.as_mut_ptr() as u32, 0, 0, 0, 0]) }?;
    Ok(ends.map(End))
}

impl End {
    /// Takes one byte; whether there was one.
    pub fn take(self) -> bool {
        let mut byte = 0u8;
        // SAFETY: the kernel writes at most one byte.
        matches!(unsafe { call(READ, [self.0 as u32, &raw mut byte as u32, 1, 0, 0]) }, Ok(1))
    }

    /// Puts one byte in; whether it was taken.
    pub fn put(self) -> bool {
        matches!(write(self.0, b"x"), Ok(1))
    }

    /// Closes it.
    pub fn close(self) {
        // SAFETY: ends are closed once by each process, when its ring is over.
        let _ = unsafe { call(CLOSE, [self.0 as u32, 0, 0, 0, 0]) };
    }
}

/// Writes `bytes`; returns how many were taken.
pub fn write(file: i32, bytes: &[u8]) -> Result<u32, Errno> {
    // SAFETY: the kernel reads as many bytes as the slice has.
    unsafe { call(WRITE, [file as u32, bytes.as_ptr() as u32, bytes.len() as u32, 0, 0]) }
}

/// Private memory of whole pages, unmapped when dropped.
pub struct Memory {
    start: *mut u8,
    pages: usize,
}

impl Memory {
    /// Maps `pages` pages that read as zero.
    pub fn map(pages: usize) -> Result<Memory, Errno> {
        // SAFETY: a new mapping where the kernel chooses. The file and the offset (edi and ebp; `call` leaves
        // the latter alone) are not looked at for anonymous memory.
        let start = unsafe {
            call(MMAP2, [0, (pages * PAGE_SIZE) as u32, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, u32::MAX])
        }?;
        Ok(Memory { start: start as *mut u8, pages })
    }

    /// Writes `value` into the first byte of each page.
    pub fn touch(&self, value: u8) {
        for page in 0..self.pages {
            // SAFETY: inside the mapping. Volatile, as nobody reads it.
            unsafe { self.start.add(page * PAGE_SIZE).write_volatile(value) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        let _ = unsafe { call(MUNMAP, [self.start as u32, (self.pages * PAGE_SIZE) as u32, 0, 0, 0]) };
    }
}
