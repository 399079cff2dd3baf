//! Acts of a launcher that becomes another process, or two, or none.

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use arch_i386::addr::PAGE_SIZE;

use crate::Failure;
use crate::frames::is_errno;
use crate::guest::{Device, FRAMES, Kind, Memory, beginning, each_its_own, parameter};
use crate::process::{Child, copy, until};
use crate::program::{COUNTER, Step};

/// How often the launcher is copied.
const FORKS: u32 = 200;
/// How long each copy watches.
const WATCH: Duration = Duration::from_millis(3);

/// What a child ends with: its copy of the word has moved,
const MOVED: i32 = 1;
/// or it could run the guest.
const RAN: i32 = 2;

/// The word that the guest counts in. A fork comes to its page late, after all that are before it in the guest's memory.
const WORD: u32 = FRAMES + 1023 * PAGE_SIZE;

fn counted(memory: &Memory) -> u32 {
    memory.word(WORD).load(Ordering::Relaxed)
}

/// Watches the counter in this process's own copy of the guest's memory.
fn watch(memory: &Memory, device: i32) -> i32 {
    let (begun, first) = (Instant::now(), counted(memory));
    let mut text = [0_u8; 64];
    // SAFETY: valid for so many bytes.
    if unsafe { libc::read(device, text.as_mut_ptr().cast(), text.len()) } != -1 {
        return RAN;
    }
    while begun.elapsed() < WATCH {
        if counted(memory) != first {
            return MOVED;
        }
    }
    0
}

/// A guest counts in one word; its launcher forks; the child watches its copy of the word, which must stand still. It has
/// no right to run the guest either.
pub fn snapshots() -> Result<(), Failure> {
    let memory = Memory::of(Kind::Private)?;
    let [first, second] = beginning();
    memory.load(&[first, second, Step::CountOn(WORD), Step::OFF], 1, each_its_own);
    for at in (FRAMES..WORD).step_by(PAGE_SIZE as usize) {
        memory.set_word(at, 1);
    }
    let device = Device::open()?;
    device.initialize(&memory)?;
    let (memory, fd) = (&memory, device.0.as_raw_fd());
    let forks = || {
        let (mut moved, mut ran) = (0, 0);
        for _ in 0..FORKS {
            let before = counted(memory);
            match copy(|| watch(memory, fd))?.wait() >> 8 {
                0 => {}
                MOVED => moved += 1,
                RAN => return Err("a child could run the guest".into()),
                status => return Err(format!("a child: status {status}").into()),
            }
            ran += u32::from(counted(memory) != before);
        }
        Ok((moved, ran))
    };
    let (end, forked) = device.run_beside(|_| {
        let result = forks();
        memory.set_word(WORD + 4, 1);
        result
    });
    let (moved, ran) = forked?;
    println!(
        "{moved} of {FORKS} children saw the word move; during {ran} the guest counted; its end: {}",
        end?
    );
    if moved != 0 || ran < FORKS / 2 { Err("a copy of the guest's memory is none".into()) } else { Ok(()) }
}

/// While its guest runs, a launcher becomes another program, which has the device still open.
pub fn exec() -> Result<(), Failure> {
    let memory = Memory::new()?;
    let [first, second] = beginning();
    memory.load(&[first, second, Step::CountOn(COUNTER), Step::OFF], 1, each_its_own);
    let launcher = Child::run(|| {
        let device = Device::open()?;
        // SAFETY: no memory is concerned.
        unsafe { libc::fcntl(device.0.as_raw_fd(), libc::F_SETFD, 0) };
        device.initialize(&memory)?;
        scope(|scope| {
            scope.spawn(|| {
                let _ = until("the guest runs", || memory.count() > 10_000);
                let error = Command::new("/bin/busybox").args(["sleep", "1000"]).exec();
                println!("exec: {error}");
                std::process::exit(1)
            });
            Err(format!("the guest has ended: {}", device.run()?).into())
        })
    })?;
    let name = format!("/proc/{}/comm", launcher.pid());
    until("the launcher is another program", || {
        std::fs::read_to_string(&name).is_ok_and(|name| !name.starts_with("hostile"))
    })?;
    let count = memory.count();
    let [guests, frames] = [parameter("guests")?, parameter("frames")?];
    println!("after exec there are {guests} guests and {frames} frames");
    if guests != 1 || frames != 0 {
        return Err("the memory has gone, and the file has not".into());
    }
    std::thread::sleep(Duration::from_millis(50));
    if memory.count() != count {
        return Err("the guest still runs".into());
    }
    launcher.kill();
    Ok(())
}

/// Signals come while the guest is made: that fails with EINTR at times, and never for lack of memory.
pub fn interrupted() -> Result<(), Failure> {
    extern "C" fn nothing(_: libc::c_int) {}
    let memory = Memory::new()?;
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t) };
    // SAFETY: no memory is concerned.
    let (process, thread) = unsafe { (libc::getpid(), libc::syscall(libc::SYS_gettid)) };
    let over = &AtomicBool::new(false);
    let (made, broken) = scope(|scope| {
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // SAFETY: a signal to a thread of ours, which waits for this one.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
            }
        });
        let (mut made, mut broken, begun) = (0, 0, Instant::now());
        let result = loop {
            let attempt = Device::open().and_then(|device| Ok(device.request_guest(&memory)?));
            match attempt {
                Ok(()) => made += 1,
                Err(failure) => match failure.downcast_ref::<std::io::Error>() {
                    Some(error) if error.kind() == std::io::ErrorKind::Interrupted => broken += 1,
                    _ => break Err(failure),
                },
            }
            if made > 10 && broken > 10 || begun.elapsed() > Duration::from_secs(60) {
                break Ok((made, broken));
            }
        };
        over.store(true, Ordering::Relaxed);
        result
    })?;
    println!("{made} guests were made, {broken} were interrupted");
    if made == 0 || broken == 0 { Err("both were expected".into()) } else { Ok(()) }
}

/// A guest that writes to more memory than there is for its launcher, which is therefore killed.
pub fn hog() -> Result<(), Failure> {
    let memory = Memory::of(Kind::Private)?;
    let [first, second] = beginning();
    // Pages of 4 MiB.
    let fill = Step::Fill { start: FRAMES, end: 2 * FRAMES, key: 0 };
    memory.load(&[first, second, fill, Step::OFF], 1, each_its_own);
    let device = Device::open()?;
    device.initialize(&memory)?;
    Err(format!("there is memory for all: {}", device.run()?).into())
}

/// The memory of a launcher that is dying is taken from it by another process, as the kernel's OOM reaper does it.
pub fn reaped() -> Result<(), Failure> {
    const TIMES: u32 = 30;
    let shared = Memory::new()?;
    let (mut reaped, mut can_be_asked) = (0, true);
    for n in 0..TIMES {
        let launcher = Child::run(|| {
            let memory = Memory::of(Kind::Private)?;
            let [first, second] = beginning();
            let fill = Step::Fill { start: FRAMES, end: 2 * FRAMES, key: 0 };
            memory.load(&[first, second, fill, Step::Count, Step::Jump(2)], 1, each_its_own);
            let device = Device::open()?;
            device.initialize(&memory)?;
            scope(|scope| {
                scope.spawn(|| {
                    let _ = until("the guest runs", || memory.count() > 2);
                    shared.set_word(COUNTER, n + 1);
                });
                Err(format!("the guest has ended: {}", device.run()?).into())
            })
        })?;
        until("a guest has filled its pages", || shared.count() == n + 1)?;
        // SAFETY: no memory is concerned; the descriptor is closed below.
        reaped += unsafe {
            let process = libc::syscall(libc::SYS_pidfd_open, launcher.pid(), 0);
            libc::kill(launcher.pid(), libc::SIGKILL);
            let done = libc::syscall(libc::SYS_process_mrelease, process, 0);
            can_be_asked &= done == 0 || !is_errno(libc::ENOSYS);
            libc::close(process as i32);
            u32::from(done == 0)
        };
        launcher.kill();
    }
    println!("the memory of {reaped} of {TIMES} launchers was taken before they were dead");
    if !can_be_asked {
        println!("Linux before 5.15 cannot be asked for that");
    }
    if reaped == 0 && can_be_asked { Err("that is none".into()) } else { Ok(()) }
}
