//! An act of a thread that the kernel makes for a process: a worker of io_uring's.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use arch_i386::launcher::Request;

use crate::Failure;
use crate::guest::{Device, Memory, beginning, each_its_own};
use crate::program::Step;

// Numbers and layouts of <linux/io_uring.h>.
const OP_WRITE: u8 = 23;
const ALWAYS_BY_A_WORKER: u8 = 1 << 4;
const WAIT_FOR_COMPLETION: u32 = 1;
const SUBMISSION_RING: i64 = 0;
const COMPLETION_RING: i64 = 0x0800_0000;
const SUBMISSION_ENTRIES: i64 = 0x1000_0000;

/// Where the parts of a ring are, in bytes from its beginning; the names of the submission ring's.
#[derive(Default)]
#[repr(C)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    /// Of the completion ring: `overflow`.
    flags: u32,
    /// Of the completion ring: its entries.
    dropped: u32,
    array: u32,
    rest: [u32; 3],
}

#[derive(Default)]
#[repr(C)]
struct Parameters {
    own: [u32; 10],
    submission: Offsets,
    completion: Offsets,
}

#[derive(Default)]
#[repr(C)]
struct Submission {
    operation: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    rest: [u32; 9],
}

const _: () = assert!(size_of::<Parameters>() == 120 && size_of::<Submission>() == 64);

/// A page of a ring, at `offset` of its file.
fn map(ring: &OwnedFd, offset: i64) -> Result<*mut u8, Failure> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, which stays until the process ends.
    let page =
        unsafe { libc::mmap64(ptr::null_mut(), 4096, rights, libc::MAP_SHARED, ring.as_raw_fd(), offset) };
    if page == libc::MAP_FAILED {
        return Err(format!("no ring of io_uring: {}", io::Error::last_os_error()).into());
    }
    Ok(page.cast())
}

/// Has a worker of io_uring's write to the device. Returns what its `write` has; none where the kernel has no io_uring.
fn write_by_a_worker(device: &Device, bytes: &[u8]) -> Result<Option<i32>, Failure> {
    let mut parameters = Parameters::default();
    // SAFETY: the kernel fills the parameters.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ENOSYS) { Ok(None) } else { Err(error.into()) };
    }
    // SAFETY: a new descriptor, which is ours alone.
    let ring = unsafe { OwnedFd::from_raw_fd(fd) };
    let (submissions, completions) = (map(&ring, SUBMISSION_RING)?, map(&ring, COMPLETION_RING)?);
    let entry: *mut Submission = map(&ring, SUBMISSION_ENTRIES)?.cast();
    let submission = Submission {
        operation: OP_WRITE,
        flags: ALWAYS_BY_A_WORKER,
        fd: device.0.as_raw_fd(),
        address: bytes.as_ptr() as usize as u64,
        length: bytes.len() as u32,
        ..Submission::default()
    };
    // SAFETY: the offsets are the kernel's, in the page that was mapped for them, and nobody else uses the ring: the kernel
    // reads it in the call below, and has written the one completion when that returns.
    unsafe {
        entry.write(submission);
        submissions.add(parameters.submission.array as usize).cast::<u32>().write_volatile(0);
        submissions.add(parameters.submission.tail as usize).cast::<u32>().write_volatile(1);
        let nothing = ptr::null::<u8>();
        if libc::syscall(libc::SYS_io_uring_enter, ring.as_raw_fd(), 1, 1, WAIT_FOR_COMPLETION, nothing, 0)
            != 1
        {
            return Err(format!("io_uring took nothing: {}", io::Error::last_os_error()).into());
        }
        // After 8 bytes of the submitter's.
        let result = completions.add(parameters.completion.dropped as usize + 8);
        Ok(Some(result.cast::<i32>().read_volatile()))
    }
}

/// A worker of io_uring's requests a guest, which it would have to run as well: the kernel keeps no FPU state of such a thread, so
/// that the guest would find that of others. It gets none; the process itself gets one from the same file.
pub fn worker() -> Result<(), Failure> {
    let memory = Memory::new()?;
    let [first, second] = beginning();
    memory.load(&[first, second, Step::OFF], 1, each_its_own);
    let device = Device::open()?;
    device.request(Request::Paging, &[2])?;
    let words = [Request::Initialize as u32].into_iter().chain(memory.arguments());
    match write_by_a_worker(&device, &words.flat_map(u32::to_ne_bytes).collect::<Vec<u8>>())? {
        None => println!("this kernel has no io_uring"),
        Some(result) if result == -libc::EPERM => println!("a worker of io_uring's gets no guest"),
        Some(result) => return Err(format!("a worker's request has returned {result}").into()),
    }
    device.request_guest(&memory)?;
    println!("the guest: {}", device.run()?);
    Ok(())
}
