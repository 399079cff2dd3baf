//! A guest's memory and tables, and `/dev/lguest`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::scope;

use arch_i386::hypercall::Hypercall;
use arch_i386::launcher::Request;
use arch_i386::lguest_data::{RING_DONE, RING_PENDING, RING_SIZE, offset};

use crate::Failure;
use crate::program::{self, CODE, COUNTER, PROGRAM, Step};

/// One of the module's numbers in `/sys/module/lg/parameters`.
pub fn parameter(name: &str) -> Result<u32, Failure> {
    Ok(std::fs::read_to_string(format!("/sys/module/lg/parameters/{name}"))?.trim().parse()?)
}

/// `struct lguest_data`.
pub const DATA: u32 = 0x20_0000;
/// The table that maps the first 4 MiB as they are.
pub const LOW_TABLE: u32 = 0x30_0000;
/// The table that every other entry of the page directories leads to.
pub const TABLE: u32 = 0x30_1000;
/// The first page directory; each has a page.
const DIRECTORIES: u32 = 0x30_2000;
/// The pages that [`TABLE`] maps begin here.
pub const FRAMES: u32 = 0x40_0000;
/// Bytes of guest memory.
pub const MEMORY: u32 = 16 << 20;
/// Where the kernel's half begins, as the guests declare it. They map nothing there, unless an act does.
pub const KERNEL: u32 = 0xc000_0000;

const PRESENT_AND_USED: u32 = 0x67;

/// What a guest's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The launcher's own; a child has a copy.
    Private,
    /// The same, shared with child processes.
    Shared,
    /// A file in memory.
    Memfd,
    /// A file in memory, with a copy of each page that is written to.
    PrivateFile,
    /// A disk, [`DISK`].
    Block,
    /// Huge pages that were set aside (hugetlb).
    Huge,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Private, Self::Shared, Self::Memfd, Self::PrivateFile, Self::Block, Self::Huge];
}

/// A disk that nobody else uses.
const DISK: &str = "/dev/zram1";

/// A guest's memory.
pub struct Memory {
    base: NonNull<u8>,
    /// What it is of.
    file: Option<File>,
}

// SAFETY: what it refers to is read and written by atomic operations and by the kernel only.
unsafe impl Sync for Memory {}

impl Memory {
    /// All zero, shared with child processes.
    pub fn new() -> Result<Self, Failure> {
        Self::of(Kind::Shared)
    }

    /// All zero.
    pub fn of(kind: Kind) -> Result<Self, Failure> {
        let file = match kind {
            Kind::Private | Kind::Shared => None,
            Kind::Block => Some(OpenOptions::new().read(true).write(true).open(DISK)?),
            Kind::Memfd | Kind::PrivateFile => Some(memfd(0)?),
            Kind::Huge => {
                // Of 2 or 4 MiB: there may be more than enough.
                std::fs::write("/proc/sys/vm/nr_hugepages", "9")?;
                Some(memfd(libc::MFD_HUGETLB)?)
            }
        };
        let sharing = match kind {
            Kind::Private | Kind::PrivateFile => libc::MAP_PRIVATE,
            _ => libc::MAP_SHARED,
        };
        let (flags, fd) = match &file {
            Some(file) => (sharing, file.as_raw_fd()),
            None => (sharing | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: a new mapping, where the kernel likes.
        let at = unsafe {
            libc::mmap(ptr::null_mut(), MEMORY as usize, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0)
        };
        if at == libc::MAP_FAILED {
            return Err(format!("memory of kind {kind:?}: {}", io::Error::last_os_error()).into());
        }
        Ok(Self { base: NonNull::new(at.cast()).ok_or("memory at 0")?, file })
    }

    /// The file that it is of, if it is of one.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// The launcher's address of a guest-physical one.
    pub fn address(&self, at: u32) -> *mut u8 {
        assert!(at < MEMORY);
        // SAFETY: within the mapping.
        unsafe { self.base.as_ptr().add(at as usize) }
    }

    /// A word of it, which the guest and other processes change as they like.
    pub fn word(&self, at: u32) -> &AtomicU32 {
        // SAFETY: within the mapping, which is never unmapped as a whole, and aligned.
        unsafe { AtomicU32::from_ptr(self.address(at & !3).cast()) }
    }

    pub fn set_word(&self, at: u32, value: u32) {
        self.word(at).store(value, Ordering::Relaxed);
    }

    /// The counter of the guest's program.
    pub fn count(&self) -> u32 {
        self.word(COUNTER).load(Ordering::Relaxed)
    }

    /// Makes all entries of the ring pending again.
    pub fn refill_ring(&self) {
        for i in (0..RING_SIZE as u32).step_by(4) {
            self.set_word(DATA + offset::HCALL_STATUS + i, u32::from_ne_bytes([RING_PENDING; 4]));
        }
    }

    /// Puts a call into the ring, not pending yet.
    pub fn set_ring_entry(&self, n: u32, call: Hypercall, args: [u32; 4]) {
        let [a, b, c, d] = args;
        for (i, word) in (0..).zip([call as u32, a, b, c, d]) {
            self.set_word(DATA + offset::HCALLS + 20 * n + 4 * i, word);
        }
    }

    /// What a request for a guest with this memory names: its address, its pages, and where it begins.
    pub fn arguments(&self) -> [u32; 3] {
        [self.base.as_ptr() as usize as u32, MEMORY >> 12, CODE]
    }

    /// Puts a step into the program, also of a guest that runs.
    pub fn set_step(&self, index: u32, step: Step) {
        for (i, word) in (0..).zip(step.words()) {
            self.set_word(PROGRAM + 20 * index + 4 * i, word);
        }
    }

    /// Puts the interpreter, its program and the tables in place: `directories` page directories (2-level) that map
    /// the first 4 MiB as they are and all else by [`TABLE`], whose entries `frame` chooses.
    pub fn load(&self, program: &[Step], directories: u32, frame: impl Fn(u32) -> u32) {
        let code = program::code();
        // SAFETY: the code is shorter than a page, and nothing else is there.
        unsafe { self.address(CODE).copy_from_nonoverlapping(code.as_ptr(), code.len()) };
        for (i, step) in (0..).zip(program) {
            self.set_step(i, *step);
        }
        for i in (0..RING_SIZE as u32).step_by(4) {
            self.set_word(DATA + offset::HCALL_STATUS + i, u32::from_ne_bytes([RING_DONE; 4]));
        }
        self.set_word(DATA + offset::BLOCKED_INTERRUPTS, u32::MAX);
        self.set_word(DATA + offset::KERNEL_ADDRESS, KERNEL);
        self.set_word(DATA + offset::SYSCALL_VEC, 0x80);
        for i in 0..1024 {
            self.set_word(LOW_TABLE + 4 * i, i << 12 | PRESENT_AND_USED);
            self.set_word(TABLE + 4 * i, frame(i) | PRESENT_AND_USED);
        }
        for n in 0..directories {
            let directory = directory(n);
            self.set_word(directory, LOW_TABLE | PRESENT_AND_USED);
            for i in 1..KERNEL >> 22 {
                self.set_word(directory + 4 * i, TABLE | PRESENT_AND_USED);
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nothing has references to it any more; a guest that still ran would end.
        unsafe { libc::munmap(self.base.as_ptr().cast(), MEMORY as usize) };
    }
}

/// A file in memory, as long as a guest's.
fn memfd(flags: libc::c_uint) -> Result<File, Failure> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), flags) };
    if fd < 0 {
        return Err(format!("no file in memory: {}", io::Error::last_os_error()).into());
    }
    // SAFETY: a new descriptor, which is ours alone.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(MEMORY.into())?;
    Ok(file)
}

/// Where a page directory is.
pub const fn directory(n: u32) -> u32 {
    DIRECTORIES + 4096 * n
}

/// Frames for [`TABLE`]: a page of its own for every entry.
pub const fn each_its_own(i: u32) -> u32 {
    FRAMES + 4096 * i
}

/// The steps that every program begins with: the guest introduces itself and loads its first page directory.
pub const fn beginning() -> [Step; 2] {
    [
        Step::Call(Hypercall::LguestInit, [DATA, 0, 0, 0]),
        Step::Call(Hypercall::NewPgtable, [directory(0), 0, 0, 0]),
    ]
}

/// An open `/dev/lguest`.
pub struct Device(pub File);

impl Device {
    /// Opens it.
    pub fn open() -> Result<Self, Failure> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/lguest");
        Ok(Self(file.map_err(|error| format!("no /dev/lguest: {error}"))?))
    }

    /// A request of words.
    pub fn request(&self, request: Request, arguments: &[u32]) -> io::Result<usize> {
        let words = [request as u32].into_iter().chain(arguments.iter().copied());
        let bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        (&self.0).write(&bytes)
    }

    /// Chooses a strategy.
    pub fn strategy(&self, strategy: &str) -> io::Result<usize> {
        let words = [Request::Strategy as u32, strategy.len() as u32];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend(strategy.as_bytes());
        (&self.0).write(&bytes)
    }

    /// Makes a guest with 2-level tables of the current process.
    pub fn initialize(&self, memory: &Memory) -> Result<(), Failure> {
        self.request(Request::Paging, &[2])?;
        Ok(self.request_guest(memory)?)
    }

    /// Makes a guest with the host's tables of the current process.
    pub fn request_guest(&self, memory: &Memory) -> io::Result<()> {
        self.request(Request::Initialize, &memory.arguments()).map(drop)
    }

    /// Runs the guest to its end, which is returned.
    pub fn run(&self) -> Result<String, Failure> {
        let mut text = [0; 512];
        loop {
            match (&self.0).read(&mut text) {
                // A notification.
                Ok(4) => {}
                Ok(length) => {
                    return Ok(String::from_utf8_lossy(&text[..length]).trim_end_matches('\0').to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Runs the guest to its end while another thread does `act`, which can see when the guest has ended. Returns the end, and
    /// what has come of the act.
    pub fn run_beside<R: Send>(
        &self,
        act: impl FnOnce(&AtomicBool) -> Result<R, Failure> + Send,
    ) -> (Result<String, Failure>, Result<R, Failure>) {
        let ended = AtomicBool::new(false);
        scope(|scope| {
            // A failure stays in its thread; its words need not.
            let act = scope.spawn(|| act(&ended).map_err(|failure| failure.to_string()));
            let end = self.run();
            ended.store(true, Ordering::Relaxed);
            let done =
                act.join().unwrap_or_else(|_| Err("the thread beside the guest has panicked".to_owned()));
            (end, done.map_err(Failure::from))
        })
    }
}
