//! What a hostile process does to a guest's memory and to the device, at random.

use std::os::fd::RawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arch_i386::debug::Operation;
use arch_i386::launcher::Request;
use arch_i386::lguest_data::{RING_SIZE, offset};

use crate::dice::Dice;
use crate::guest;
use crate::memory::Memory;
use crate::shared::Shared;

/// What attackers know.
#[derive(Debug, Clone)]
pub struct World {
    /// The guest's memory.
    pub memory: Memory,
    /// The open device.
    pub device: RawFd,
    /// Addresses that the guest notifies.
    pub notified: Vec<u32>,
    /// The thread that runs the guest.
    pub runner: i32,
    /// The figures.
    pub shared: &'static Shared,
    /// Whether the guest's memory has been given other pages under the guest's feet.
    pub remapping: Arc<AtomicBool>,
}

/// This thread's number.
pub fn thread_id() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// Lets some of this thread's allocations in the kernel fail, where the kernel can.
pub fn let_allocations_fail() {
    // Only a kernel with fault injection has the file.
    let _ = std::fs::write("/proc/thread-self/make-it-fail", "1");
}

impl World {
    /// Writes a request; what the module answers.
    pub fn request(&self, words: &[u32]) -> i32 {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the words are as long as that.
        unsafe { libc::write(self.device, words.as_ptr().cast(), size_of_val(words)) as i32 }
    }

    /// Writes a random request.
    pub fn random_request(&self, dice: &mut Dice) {
        let request = dice.pick(&[
            Request::Initialize as u32,
            Request::Irq as u32,
            Request::Irq as u32,
            Request::Irq as u32,
            Request::Eventfd as u32,
            Request::GetRegister as u32,
            Request::SetRegister as u32,
            Request::Trap as u32,
            Request::Strategy as u32,
            Request::Counters as u32,
            Request::Paging as u32,
            Request::View as u32,
            Request::Debug as u32,
            dice.clone().wild(),
        ]);
        let mut words = [request, dice.wild(), dice.wild(), dice.wild(), dice.wild()];
        match dice.below(4) {
            0 => words[1] = dice.below(33),
            1 => words[1] = self.somewhere(dice) as u32,
            2 => (words[1], words[2]) = (dice.pick(&self.notified), dice.below(16)),
            _ => {}
        }
        if request == Request::Counters as u32 && words[1] as usize != 0 {
            // Text goes to the address in the request. Not over this process's own memory and the figures.
            words[1] = if dice.one_in(2) { self.somewhere(dice) as u32 } else { words[1] | 0xc000_0000 };
        }
        // So do the text of a view, and registers.
        let (view, debug) = (request == Request::View as u32, request == Request::Debug as u32);
        if view || debug {
            words[1] = if view { 1 + dice.below(2) } else { dice.below(5) };
            let intercepted = debug && words[1] == Operation::Intercept as u32;
            words[2] = if intercepted { dice.below(16) } else { self.somewhere(dice) as u32 };
            // No more than there may be room for behind it.
            words[3] = dice.below(4096);
        }
        let length = if dice.one_in(4) { dice.below(6) as usize } else { words.len() };
        self.request(&words[..length.min(words.len())]);
    }

    /// Whether the guest's memory has been given other pages.
    pub fn remapped(&self) -> bool {
        self.remapping.load(Ordering::Relaxed)
    }

    fn somewhere(&self, dice: &mut Dice) -> usize {
        self.memory.base + dice.below(self.memory.len as u32) as usize
    }

    /// Some whole pages of the guest's memory: often one, sometimes all.
    fn pages(&self, dice: &mut Dice) -> (*mut libc::c_void, usize) {
        let all = (self.memory.len / 4096) as u32;
        let first = match dice.below(4) {
            0 => 0,
            // Rather not the guest's program, without which it comes to an end at once.
            1 => dice.below(all),
            _ => 0x40 + dice.below(all - 0x40),
        };
        let most = if dice.one_in(8) { all - first } else { (all - first).min(16) };
        let count = 1 + dice.below(most);
        ((self.memory.base + first as usize * 4096) as *mut libc::c_void, count as usize * 4096)
    }

    /// Stores a byte where the guest may be storing too.
    fn store(&self, offset: u32, byte: u8) {
        // SAFETY: the kernel does the store, and refuses it where nothing is mapped, so that this process neither
        // faults nor has its own memory changed: the range is the guest's.
        unsafe {
            let local = libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
            let at = (self.memory.base + offset as usize) as *mut libc::c_void;
            let remote = libc::iovec { iov_base: at, iov_len: 1 };
            libc::process_vm_writev(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0);
        }
    }

    /// Lets all of the ring be done again, many times over.
    fn refill(&self, times: u32) {
        let statuses = (self.memory.base + (guest::DATA + offset::HCALL_STATUS) as usize) as *mut u8;
        for _ in 0..times {
            for entry in 0..RING_SIZE {
                // SAFETY: within the guest's memory, which is mapped here unless an attacker has taken it away: then
                // this process dies, which is one of the things to be tried.
                unsafe { statuses.add(entry).write_volatile(0) };
            }
        }
    }
}

/// Attacks from a thread of the launcher, until the launcher is dead.
pub fn from_thread(world: &World, dice: &mut Dice) {
    if dice.one_in(4) {
        let_allocations_fail();
    }
    let gentle = dice.one_in(2);
    loop {
        world.shared.attacks.fetch_add(1, Ordering::Relaxed);
        match dice.below(24) {
            0..7 => memory(world, dice),
            7..11 => world.random_request(dice),
            11 => descriptor_table(dice),
            12 => world.store(guest::DATA + dice.below(1392), dice.word() as u8),
            13 => world.store(guest::DIRECTORIES + dice.below(0x3_0000), dice.word() as u8),
            14 => world.store(dice.below(world.memory.len as u32), dice.word() as u8),
            15 => world.refill(1 + dice.below(1000)),
            16 => processor(world, dice),
            17 => signal(world, dice),
            18 if dice.one_in(8) => faults_by_a_program(world, dice),
            19 if dice.one_in(8) => child(world, dice),
            20 => look_about(dice),
            // SAFETY: no pointers.
            21 if dice.one_in(64) => drop(unsafe { libc::close(world.device) }),
            _ => std::thread::sleep(Duration::from_micros(u64::from(dice.below(2000)))),
        }
        if gentle {
            std::thread::sleep(Duration::from_micros(u64::from(dice.below(5000))));
        }
    }
}

/// How many listen to an eventfd of a ring that is refilled.
const LISTENERS: u32 = 500;

/// Makes each notification of an eventfd take long, since the kernel calls every listener: so a ring of notifications
/// is not at its end before it is refilled, even if the processor that refills it is away for some milliseconds.
pub fn listen(eventfd: RawFd) {
    let limit = libc::rlimit { rlim_cur: 8192, rlim_max: 8192 };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: limit and event are read from variables of their types; the descriptors stay open as long as the process.
    unsafe {
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        for _ in 0..LISTENERS {
            libc::epoll_ctl(libc::epoll_create1(0), libc::EPOLL_CTL_ADD, eventfd, &raw mut event);
        }
    }
}

/// Does nothing else, from another process on another processor than the guest's, than to give the guest's ring more
/// to do.
pub fn refill_for_ever(world: &World) -> ! {
    run_on(0, !GUESTS_PROCESSOR);
    loop {
        world.shared.attacks.fetch_add(1, Ordering::Relaxed);
        world.refill(1000);
    }
}

/// Attacks from another process, which shares the open device, and the guest's memory if that can be shared.
pub fn from_process(world: &World, dice: &mut Dice) {
    let refills = world.memory.shared && dice.one_in(2);
    loop {
        world.shared.attacks.fetch_add(1, Ordering::Relaxed);
        if refills {
            world.refill(10_000);
            continue;
        }
        match dice.below(16) {
            0..4 => world.random_request(dice),
            4 => memory(world, dice),
            5 => world.refill(1 + dice.below(1000)),
            6 => world.store(dice.below(world.memory.len as u32), dice.word() as u8),
            7 => {
                let mut text = [0_u8; 64];
                // SAFETY: the buffer is as long as that.
                unsafe { libc::read(world.device, text.as_mut_ptr().cast(), text.len()) };
            }
            8 => signal(world, dice),
            9 => processor(world, dice),
            10 => look_about(dice),
            11 if dice.one_in(8) => child(world, dice),
            // SAFETY: no pointers.
            12 if dice.one_in(64) => drop(unsafe { libc::close(libc::dup(world.device)) }),
            _ => std::thread::sleep(Duration::from_micros(u64::from(dice.below(3000)))),
        }
    }
}

/// Takes pages away from under the guest, or does to them what else the kernel offers.
fn memory(world: &World, dice: &mut Dice) {
    let (at, len) = world.pages(dice);
    let choice = dice.below(24);
    if !matches!(choice, 1..=6) {
        world.remapping.store(true, Ordering::Relaxed);
    }
    // SAFETY: all of it concerns the guest's memory only, of which this process keeps no references; what is read or
    // written there later may fault, which ends the life.
    unsafe {
        match choice {
            0 => {
                libc::madvise(at, len, libc::MADV_DONTNEED);
            }
            1 | 2 => {
                libc::madvise(at, len, libc::MADV_MERGEABLE);
            }
            3 => {
                libc::madvise(at, len, libc::MADV_UNMERGEABLE);
            }
            4 | 5 => {
                libc::madvise(at, len, dice.pick(&[libc::MADV_PAGEOUT, libc::MADV_COLD]));
            }
            6 => {
                libc::mprotect(at, len, dice.pick(&[libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE]));
            }
            7 => {
                libc::mprotect(at, len, dice.pick(&[libc::PROT_NONE, 3, 3]));
            }
            8 => {
                libc::madvise(at, len, dice.pick(&[libc::MADV_REMOVE, libc::MADV_FREE, libc::MADV_HUGEPAGE]));
            }
            9 => {
                libc::munmap(at, len);
            }
            10..13 => {
                // Other pages in their place.
                let flags =
                    libc::MAP_FIXED | libc::MAP_ANONYMOUS | dice.pick(&[libc::MAP_PRIVATE, libc::MAP_SHARED]);
                libc::mmap(at, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            }
            13 => {
                let file = libc::open(c"/proc/self/exe".as_ptr(), libc::O_RDONLY);
                libc::mmap(at, len, libc::PROT_READ, libc::MAP_FIXED | libc::MAP_PRIVATE, file, 0);
                libc::close(file);
            }
            14 => {
                // The device itself as memory.
                libc::mmap(at, len, libc::PROT_READ, libc::MAP_FIXED | libc::MAP_SHARED, world.device, 0);
            }
            15 => {
                let to = libc::mremap(at, len, len, libc::MREMAP_MAYMOVE, 0);
                if to != libc::MAP_FAILED && to != at {
                    libc::munmap(to, len);
                }
            }
            16..19 => {
                if let Some(file) = world.memory.file {
                    let length = if dice.one_in(2) {
                        dice.below(world.memory.len as u32) as usize
                    } else {
                        world.memory.len
                    };
                    libc::ftruncate(file, length as libc::off_t);
                }
            }
            19 | 20 => {
                if let Some(file) = world.memory.file {
                    let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                    let offset = at as usize - world.memory.base;
                    libc::fallocate(file, hole, offset as libc::off_t, len as libc::off_t);
                }
            }
            21 => {
                libc::mlock(at, len);
            }
            22 => {
                libc::munlock(at, len);
            }
            _ => {
                libc::msync(at, len, libc::MS_SYNC);
            }
        }
    }
}

/// What `modify_ldt` writes: number, base, limit, flags.
type UserDescriptor = [u32; 4];

/// A data segment of all memory.
const FLAT: [u32; 3] = [0, 0xf_ffff, 1 | 1 << 4 | 1 << 6];
/// No segment any more.
const EMPTY: [u32; 3] = [0, 0, 1 << 3 | 1 << 5];

fn random_descriptor(dice: &mut Dice) -> UserDescriptor {
    let number = dice.below(8);
    let [base, limit, flags] = match dice.below(4) {
        0 => FLAT,
        1 | 2 => EMPTY,
        _ => [dice.wild(), dice.wild() & 0xf_ffff, dice.word() & 0x7f],
    };
    [number, base, limit, flags]
}

/// Changes the local descriptor table, which all threads of the process share.
fn descriptor_table(dice: &mut Dice) {
    let descriptor = random_descriptor(dice);
    // SAFETY: the descriptor is read from a variable of its size; no thread of this process relies on its LDT.
    unsafe { libc::syscall(libc::SYS_modify_ldt, dice.pick(&[1, 0x11]), descriptor.as_ptr(), 16) };
}

#[cfg(target_arch = "x86")]
std::arch::global_asm!(
    // int fuzz_read_with_segment(device, buffer, length, descriptor, selector): loads %gs, changes the LDT, reads.
    ".globl fuzz_read_with_segment",
    "fuzz_read_with_segment:",
    "push %ebp",
    "push %ebx",
    "push %esi",
    "push %edi",
    "push %gs",
    "movl 40(%esp), %eax",
    "movl %eax, %gs",
    "movl $123, %eax",
    "movl $0x11, %ebx",
    "movl 36(%esp), %ecx",
    "movl $16, %edx",
    "int $0x80",
    "movl $3, %eax",
    "movl 24(%esp), %ebx",
    "movl 28(%esp), %ecx",
    "movl 32(%esp), %edx",
    "int $0x80",
    "pop %gs",
    "pop %edi",
    "pop %esi",
    "pop %ebx",
    "pop %ebp",
    "ret",
    options(att_syntax)
);

/// Reads the device with a selector in `%gs` whose descriptor has changed since it was loaded. The answer as of the
/// system call, errors as -1 with `errno` set.
#[cfg(target_arch = "x86")]
pub fn read_with_segment(dice: &mut Dice, device: RawFd, buffer: &mut [u8]) -> isize {
    unsafe extern "C" {
        fn fuzz_read_with_segment(
            device: RawFd,
            buffer: *mut u8,
            length: usize,
            descriptor: *const UserDescriptor,
            selector: u32,
        ) -> i32;
    }
    let number = dice.below(4);
    let [base, limit, flags] = FLAT;
    let before: UserDescriptor = [number, base, limit, flags];
    let after = if dice.one_in(4) { random_descriptor(dice) } else { [number, EMPTY[0], EMPTY[1], EMPTY[2]] };
    // SAFETY: the descriptors and the buffer are as long as their types declare. The function keeps the selector of this
    // thread's storage on the stack, uses none of that storage meanwhile, and restores all registers that a C function
    // must.
    let answer = unsafe {
        libc::syscall(libc::SYS_modify_ldt, 0x11, before.as_ptr(), 16);
        fuzz_read_with_segment(device, buffer.as_mut_ptr(), buffer.len(), &raw const after, number << 3 | 7)
    };
    if answer < 0 {
        // SAFETY: errno is this thread's.
        unsafe { *libc::__errno_location() = -answer };
        return -1;
    }
    answer as isize
}

/// The processor of the developer's machine has other system calls.
#[cfg(not(target_arch = "x86"))]
pub fn read_with_segment(_: &mut Dice, device: RawFd, buffer: &mut [u8]) -> isize {
    // SAFETY: the buffer is as long as that.
    unsafe { libc::read(device, buffer.as_mut_ptr().cast(), buffer.len()) }
}

/// Moves the runner to another processor, or this thread.
fn processor(world: &World, dice: &mut Dice) {
    let thread = if dice.one_in(2) { world.runner } else { 0 };
    run_on(thread, 1 + dice.below(3));
}

/// The processor, as a bit, of a guest whose ring is refilled from another one, and of whoever watches the life: if it
/// ran where the ring is refilled, the ring would be empty for once.
pub const GUESTS_PROCESSOR: u32 = 1;

/// Allows a thread, 0 for this one, those processors. A machine that has none of them leaves it where it is.
pub fn run_on(thread: i32, processors: u32) {
    // SAFETY: the mask is read from a variable that is as long as that.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, thread, 4, &raw const processors) };
}

/// Interrupts the runner, or stops its process for a while.
fn signal(world: &World, dice: &mut Dice) {
    // SAFETY: no pointers. The handler of SIGUSR1 does nothing.
    unsafe {
        if dice.one_in(8) && world.runner != libc::getpid() {
            libc::kill(world.runner, libc::SIGSTOP);
            libc::usleep(dice.below(3000));
            libc::kill(world.runner, libc::SIGCONT);
        } else {
            libc::syscall(libc::SYS_tkill, world.runner, libc::SIGUSR1);
        }
    }
}

/// Another process for a moment: private pages of the guest become copies.
fn child(world: &World, dice: &mut Dice) {
    let (at, wait) = (world.somewhere(dice), dice.below(5000));
    // SAFETY: the child calls nothing but system calls; its store is into a copy of the guest's memory, or the guest's
    // memory itself, or ends it.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            (at as *mut u8).write_volatile(1);
            libc::usleep(wait);
            libc::_exit(0);
        }
        if child > 0 {
            libc::waitpid(child, ptr::null_mut(), libc::__WALL);
        }
    }
}

/// Reads what the module shows of itself.
fn look_about(dice: &mut Dice) {
    if dice.one_in(2) {
        let name = dice.pick(&["guests", "frames", "tables", "strategies", "strategy", "seed"]);
        // The module may be on its way out.
        let _ = std::fs::read(format!("/sys/module/lg/parameters/{name}"));
        return;
    }
    let files = |folder: &std::path::Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = files(std::path::Path::new("/sys/kernel/debug/lguest"));
    // The recordings of guests, and what there is to be seen of each.
    for file in folders.flat_map(|folder| files(&folder.path())) {
        let Ok(path) = std::ffi::CString::new(file.path().into_os_string().into_encoded_bytes()) else {
            continue;
        };
        let mut bytes = [0_u8; 4096];
        // SAFETY: path and buffer live as long as the calls.
        unsafe {
            let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK);
            if file >= 0 {
                libc::read(file, bytes.as_mut_ptr().cast(), bytes.len());
                libc::close(file);
            }
        }
    }
}

/// Numbers of userfaultfd (linux/userfaultfd.h, asm/unistd_32.h).
mod userfaultfd {
    pub const SYS: libc::c_long = if cfg!(target_arch = "x86") { 374 } else { 323 };
    pub const API: u32 = 0xc018_aa3f;
    pub const REGISTER: u32 = 0xc020_aa00;
    pub const ZEROPAGE: u32 = 0xc020_aa04;
}

/// Lets page faults of the guest's memory wait for this process, which may never answer.
fn faults_by_a_program(world: &World, dice: &mut Dice) {
    let (at, len) = world.pages(dice);
    let (at, len) = (at as u64, len as u64);
    world.remapping.store(true, Ordering::Relaxed);
    // SAFETY: the structures are as long as the kernel's: api, features, ioctls; start, length, mode, ioctls; start,
    // length, mode, answer.
    unsafe {
        let file = libc::syscall(userfaultfd::SYS, libc::O_CLOEXEC | libc::O_NONBLOCK) as RawFd;
        if file < 0 {
            return;
        }
        let mut api = [0xaa_u64, 0, 0];
        libc::ioctl(file, userfaultfd::API as _, api.as_mut_ptr());
        let mut range = [at, len, 1, 0];
        libc::ioctl(file, userfaultfd::REGISTER as _, range.as_mut_ptr());
        libc::madvise(at as *mut libc::c_void, len as usize, libc::MADV_DONTNEED);
        if dice.one_in(4) {
            // Never answered: the file stays open as long as the process lives.
            return;
        }
        libc::usleep(dice.below(20_000));
        let mut zero = [at, len, 0, 0];
        libc::ioctl(file, userfaultfd::ZEROPAGE as _, zero.as_mut_ptr());
        libc::close(file);
    }
}
