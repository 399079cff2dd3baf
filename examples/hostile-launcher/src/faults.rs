//! Pages whose faults a program handles (userfaultfd(2)): never, or by a thread of the launcher.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use arch_i386::addr::PAGE_SIZE;

use crate::Failure;
use crate::frames::{PAGES, advise, compare, mismatches};
use crate::guest::{Device, FRAMES, Kind, Memory, beginning, each_its_own};
use crate::program::Step;

// include/uapi/linux/userfaultfd.h: _IOWR(0xaa, 0x3f, 24 bytes), _IOWR(0xaa, 0, 32 bytes), _IOWR(0xaa, 3, 40 bytes).
const UFFDIO_API: u32 = 0xc018_aa3f;
const UFFDIO_REGISTER: u32 = 0xc020_aa00;
const UFFDIO_COPY: u32 = 0xc028_aa03;
/// A message: `struct uffd_msg`, whose first byte is its kind, and in which the address of a page fault is at this byte.
const MESSAGE: usize = 32;
const PAGEFAULT: u8 = 0x12;
const ADDRESS: usize = 16;

/// From now on each of these pages that is not there is a message.
fn register(start: usize, len: usize) -> Result<OwnedFd, Failure> {
    let fail = |what: &str| Failure::from(format!("{what}: {}", std::io::Error::last_os_error()));
    // SAFETY: a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) } as i32;
    if fd < 0 {
        return Err(fail("userfaultfd"));
    }
    // SAFETY: it is ours alone.
    let userfaultfd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut api = [0xaa_u64, 0, 0];
    // SAFETY: the structure is valid for reads and writes.
    if unsafe { libc::ioctl(fd, UFFDIO_API as _, &mut api) } != 0 {
        return Err(fail("UFFDIO_API"));
    }
    // Start, length, the mode for missing pages, and what can be done about them.
    let mut register = [start as u64, len as u64, 1, 0];
    // SAFETY: as above.
    if unsafe { libc::ioctl(fd, UFFDIO_REGISTER as _, &mut register) } != 0 {
        return Err(fail("UFFDIO_REGISTER"));
    }
    Ok(userfaultfd)
}

/// A page of the current process that is never there: whoever touches it waits for somebody who never comes.
pub struct Missing {
    address: u32,
    _userfaultfd: OwnedFd,
}

impl Missing {
    pub fn new() -> Result<Self, Failure> {
        // SAFETY: a new mapping, where the kernel likes.
        let at = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        Ok(Self { address: at as usize as u32, _userfaultfd: register(at as usize, 4096)? })
    }

    /// Where it is.
    pub fn address(&self) -> u32 {
        self.address
    }
}

/// So many pages are served at least, unless that takes too long.
const ENOUGH: u32 = 3 * PAGES;
const LONGEST: Duration = Duration::from_secs(60);

/// A thread of the launcher brings in each page of the guest's when it is missing, and takes pages away meanwhile. The guest
/// finds in each what that thread has put there.
pub fn served_pages() -> Result<(), Failure> {
    let memory = Memory::of(Kind::Private)?;
    let [first, second] = beginning();
    memory.load(&[first, second, compare(0), Step::Count, Step::Jump(2)], 1, each_its_own);
    let start = memory.address(FRAMES) as usize;
    let userfaultfd = register(start, (PAGES * PAGE_SIZE) as usize)?;
    let device = Device::open()?;
    device.initialize(&memory)?;
    let (memory, begun) = (&memory, Instant::now());
    let (end, served) = device.run_beside(|ended| {
        let mut turn = 0;
        let between = |pages| {
            turn += 1;
            // Once the guest has had all of them, for there to be enough.
            if turn % 16 == 0 && memory.count() > 0 {
                advise(memory, FRAMES + turn % (PAGES - 8) * PAGE_SIZE, 8, libc::MADV_DONTNEED)?;
            }
            if pages > ENOUGH && memory.count() > 2 || begun.elapsed() > LONGEST {
                memory.set_step(4, Step::OFF);
            }
            Ok(())
        };
        serve(memory, &userfaultfd, || ended.load(Ordering::Relaxed), between)
    });
    let (served, [count, at, value]) = (served?, mismatches(memory));
    println!("{served} pages were served in {} rounds, the guest: {}", memory.count(), end?);
    if count != 0 {
        return Err(format!("{count} words were others, {value:#x} at {at:#x}").into());
    }
    if served < ENOUGH { Err("that is not enough".into()) } else { Ok(()) }
}

/// Brings in pages until `ended`; returns how many. Each has its guest-physical address in it. After each, and when there is none to bring in,
/// `between` is called with their number.
fn serve(
    memory: &Memory,
    userfaultfd: &OwnedFd,
    ended: impl Fn() -> bool,
    mut between: impl FnMut(u32) -> Result<(), Failure>,
) -> Result<u32, Failure> {
    let mut page = [0_u32; PAGE_SIZE as usize / 4];
    let mut message = [0_u8; MESSAGE];
    let (mut served, start) = (0, memory.address(FRAMES) as usize as u32);
    while !ended() {
        // SAFETY: valid for so many bytes.
        let read = unsafe { libc::read(userfaultfd.as_raw_fd(), message.as_mut_ptr().cast(), MESSAGE) };
        if read == MESSAGE as isize && message[0] == PAGEFAULT {
            let address = u32::from_ne_bytes([0, 1, 2, 3].map(|i| message[ADDRESS + i])) & !(PAGE_SIZE - 1);
            page[0] = FRAMES + (address - start);
            // To, from, length, mode, and how many bytes were copied.
            let (to, from) = (u64::from(address), page.as_ptr() as usize as u64);
            let mut copy = [to, from, PAGE_SIZE.into(), 0, 0];
            // SAFETY: the page and the structure are valid, and the pages are the guest's.
            unsafe { libc::ioctl(userfaultfd.as_raw_fd(), UFFDIO_COPY as _, &mut copy) };
            served += 1;
        } else {
            sleep(Duration::from_millis(1));
        }
        between(served)?;
    }
    Ok(served)
}
