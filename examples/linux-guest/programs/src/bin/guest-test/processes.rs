//! Processes and how they communicate: pipes, sockets, futexes, shared memory, programs started with
//! arguments, deep stacks, threads.

use std::env;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::pipe2;

use crate::Settings;
use crate::attempt;
use crate::process::{self, Worker};
use crate::random::Random;

/// Bytes that go through a pipe or socket in all.
const STREAM: usize = 2 << 20;

fn stream(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; STREAM];
    Random::new(seed).fill(&mut bytes);
    bytes
}

/// Writes the bytes of `seed` in pieces of random lengths.
fn send(mut to: impl Write, seed: u64) -> Result<()> {
    let mut lengths = Random::new(!seed);
    let bytes = stream(seed);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = (1 + lengths.below(70_000)).min(rest.len());
        to.write_all(&rest[..length]).context("writing")?;
        rest = &rest[length..];
    }
    Ok(())
}

/// Reads as many bytes and compares them with those of `seed`.
fn receive(mut from: impl Read, seed: u64) -> Result<()> {
    let mut got = vec![0; STREAM];
    from.read_exact(&mut got).context("reading")?;
    let wrong = stream(seed).iter().zip(&got).position(|(a, b)| a != b);
    ensure!(wrong.is_none(), "byte {} came as another one", wrong.unwrap_or_default());
    Ok(())
}

/// Streams through pipes, several at once.
pub fn pipes(settings: &Settings) -> Result<()> {
    process::in_parallel(3, |number| {
        let seed = settings.seed ^ u64::from(number);
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let (reader, writer) = (File::from(reader), File::from(writer));
        let worker = Worker::spawn(|| receive(&reader, seed))?;
        send(&writer, seed)?;
        worker.join()?;
        // Nobody else has the other end any more.
        drop(writer);
        let left = (&reader).read(&mut [0])?;
        ensure!(left == 0, "a pipe without writers has another byte");
        Ok(())
    })
}

/// Streams through a pair of sockets, both ways at once.
pub fn sockets(settings: &Settings) -> Result<()> {
    let seed = settings.seed;
    let (one, other) = UnixStream::pair()?;
    let workers = [
        Worker::spawn(|| send(&one, seed))?,
        Worker::spawn(|| send(&other, !seed))?,
        Worker::spawn(|| receive(&other, seed))?,
    ];
    receive(&one, !seed)?;
    workers.into_iter().try_for_each(Worker::join)
}

/// Memory that processes share.
struct Shared<T: 'static>(&'static T);

impl<T> Shared<T> {
    /// `T` must be all right when all zero, and may be changed by several processes at once.
    fn new() -> Result<Shared<T>>
    where
        T: SharedZero,
    {
        let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel chooses.
        let memory = unsafe { libc::mmap(ptr::null_mut(), size_of::<T>(), rights, kind, -1, 0) };
        ensure!(memory != libc::MAP_FAILED, "no shared memory: {}", Errno::last());
        // SAFETY: as many zero bytes as it takes, for ever.
        Ok(Shared(unsafe { &*memory.cast() }))
    }
}

/// What can be in shared memory.
trait SharedZero: Sync {}
impl<const N: usize> SharedZero for [AtomicU32; N] {}

/// Waits while the word holds `value`.
fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: it waits for the word, which outlives the call. Why it comes back is looked at by the caller.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, ptr::null::<()>()) };
}

/// Wakes one that waits.
fn futex_wake(word: &AtomicU32) {
    // SAFETY: it looks up who waits for the word.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// A lock of a futex (Drepper, "Futexes Are Tricky", mutex 2) that several processes fight for.
pub fn futexes(_: &Settings) -> Result<()> {
    const PROCESSES: u32 = 5;
    const ROUNDS: u32 = 2000;
    let Shared([lock, first, second]) = Shared::<[AtomicU32; 3]>::new()?;
    process::in_parallel(PROCESSES, |_| {
        for _ in 0..ROUNDS {
            // 0: free; 1: taken; 2: taken and waited for.
            let taken = lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_err() {
                while lock.swap(2, Ordering::Acquire) != 0 {
                    futex_wait(lock, 2);
                }
            }
            // Not one step: only the lock makes it one.
            let value = first.load(Ordering::Relaxed);
            thread::yield_now();
            first.store(value + 1, Ordering::Relaxed);
            second.store(second.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            if lock.swap(0, Ordering::Release) == 2 {
                futex_wake(lock);
            }
        }
        Ok(())
    })?;
    let counts = (first.load(Ordering::Relaxed), second.load(Ordering::Relaxed));
    let expected = PROCESSES * ROUNDS;
    ensure!(counts == (expected, expected), "counted to {counts:?} instead of {expected} under a lock");
    Ok(())
}

/// Threads of one process: their own stacks and variables, and a lock that they share.
pub fn threads(_: &Settings) -> Result<()> {
    thread_local! {
        static OWN: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    const THREADS: u32 = 8;
    const ROUNDS: u32 = 2000;
    let total = Mutex::new(0u32);
    let own: Vec<u32> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let total = &total;
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        OWN.set(OWN.get() + number);
                        if let Ok(mut total) = total.lock() {
                            *total += 1;
                        }
                        thread::yield_now();
                    }
                    OWN.get()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let expected: Vec<u32> = (0..THREADS).map(|number| number * ROUNDS).collect();
    ensure!(own == expected, "the threads' own variables are {own:?} instead of {expected:?}");
    let total = total.into_inner().unwrap_or_default();
    ensure!(total == THREADS * ROUNDS, "counted to {total} instead of {}", THREADS * ROUNDS);
    Ok(())
}

/// The environment variable that instructs a started program to [`repeat_arguments`].
const REPEAT: &str = "GUEST_TEST_REPEAT";

/// What [`programs`] starts: prints the arguments it got, each with its length. Whether it was to do so.
pub fn repeat_arguments() -> bool {
    if env::var_os(REPEAT).is_none_or(|value| value != "arguments") {
        return false;
    }
    for argument in env::args().skip(1) {
        println!("{} {argument}", argument.len());
    }
    true
}

/// Programs started with few and many arguments, and what cannot be started.
pub fn programs(settings: &Settings) -> Result<()> {
    let myself = env::current_exe().context("which program is this? (is /proc mounted?)")?;
    let mut random = Random::new(settings.seed);
    for count in [0, 1, 2, 3, 10, 100, 500] {
        let arguments: Vec<String> = (0..count)
            .map(|_| (0..random.below(200)).map(|_| char::from(b'!' + random.below(90) as u8)).collect())
            .collect();
        let output = Command::new(&myself).args(&arguments).env(REPEAT, "arguments").output()?;
        let expected: String =
            arguments.iter().map(|argument| format!("{} {argument}\n", argument.len())).collect();
        ensure!(
            output.status.success() && output.stdout == expected.as_bytes(),
            "a program with {count} arguments ended with {} and said {} bytes instead of {}",
            output.status,
            output.stdout.len(),
            expected.len()
        );
    }
    let nothing = Command::new("/nosuch/program").output();
    let errno = nothing.err().and_then(|error| error.raw_os_error());
    ensure!(errno == Some(libc::ENOENT), "starting what is not there came to errno {errno:?}");
    // The one argument that is too long for the stack's limit.
    let huge = Command::new(&myself).arg("x".repeat(200_000)).output();
    let errno = huge.err().and_then(|error| error.raw_os_error());
    ensure!(errno == Some(libc::E2BIG), "an argument of 200000 bytes came to errno {errno:?}");
    Ok(())
}

/// A stack that grows to 6 MiB, is what it was on the way back, and ends in SIGSEGV at its limit.
pub fn deep_stack(_: &Settings) -> Result<()> {
    const FRAME: usize = 4000;
    const DEPTH: usize = 6 << 20;

    /// Recurses to `depth` bytes; the sum of what the frames held on the way back.
    fn descend(depth: usize) -> usize {
        let frame = black_box([depth as u8; FRAME]);
        let below = if depth > FRAME { descend(depth - FRAME) } else { 0 };
        below + usize::from(black_box(&frame).iter().all(|&byte| byte == depth as u8))
    }

    attempt::prepare()?;
    setrlimit(Resource::RLIMIT_STACK, 8 << 20, libc::RLIM_INFINITY as _).context("setting the limit")?;
    // Processes, as a stack that has grown stays so.
    process::in_parallel(2, |_| {
        let whole = descend(DEPTH);
        ensure!(
            whole == DEPTH.div_ceil(FRAME),
            "{whole} frames of {} are as they were",
            DEPTH.div_ceil(FRAME)
        );
        Ok(())
    })?;
    let worker = Worker::spawn(|| {
        black_box(descend(black_box(64 << 20)));
        bail!("a stack of 64 MiB grew beyond its limit of 8 MiB")
    })?;
    let pid = worker.pid;
    match waitpid(pid, None)? {
        WaitStatus::Signaled(_, Signal::SIGSEGV, _) => Ok(()),
        status => bail!("a stack that is too deep ended with {status:?} instead of SIGSEGV"),
    }
}

/// Many processes made and gone, several of them at a time, and all of them waited for.
pub fn many_processes(_: &Settings) -> Result<()> {
    for round in 0..20u32 {
        let Shared([sum]) = Shared::<[AtomicU32; 1]>::new()?;
        process::in_parallel(25, |number| {
            sum.fetch_add(number + round, Ordering::Relaxed);
            Ok(())
        })?;
        let (got, expected) = (sum.load(Ordering::Relaxed), 300 + 25 * round);
        ensure!(got == expected, "25 processes added up to {got} instead of {expected}");
    }
    Ok(())
}
