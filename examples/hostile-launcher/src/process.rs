//! Child processes, how long they take to die, and how long others wait for the processor.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Failure;

/// A child process, which is killed with its parent's handle.
pub struct Child(libc::pid_t);

impl Child {
    /// Runs `work` in a new process, which shares guest memory and open files; its failure ends it with status 1.
    pub fn run(work: impl FnOnce() -> Result<(), Failure>) -> Result<Self, Failure> {
        // SAFETY: this process has one thread whenever it makes children, so that the child may do as it likes.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error().into()),
            0 => {
                let status = match work() {
                    Ok(()) => 0,
                    Err(failure) => {
                        println!("a child process: {failure}");
                        1
                    }
                };
                std::process::exit(status)
            }
            pid => Ok(Self(pid)),
        }
    }

    /// Its number.
    pub fn pid(&self) -> libc::pid_t {
        self.0
    }

    /// Sends it SIGKILL and waits for its end; how long that took.
    pub fn kill(self) -> Duration {
        let begun = Instant::now();
        // SAFETY: a signal to our own child, which we have not waited for.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        self.wait();
        begun.elapsed()
    }

    /// Waits for its end; its status as `wait` returns it.
    pub fn wait(self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is valid for writes; our own child, which we have not waited for.
        while unsafe { libc::waitpid(self.0, &mut status, 0) } == -1 {}
        std::mem::forget(self);
        status
    }
}

/// A copy of the current process, which may have several threads: it calls `work`, which neither allocates nor locks, and
/// ends with the status that `work` returns.
pub fn copy(work: impl FnOnce() -> i32) -> Result<Child, Failure> {
    // SAFETY: by its contract `work` needs nothing that another thread may have been about to change.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error().into()),
        0 => {
            let status = work();
            // SAFETY: the process ends here, and nothing of it is cleaned up.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(Child(pid)),
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: a signal to our own child, which we have not waited for.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: no status is wanted.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

/// Waits until something is so; an error after a minute.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(format!("{what}: not within a minute").into());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// How long a killed process may take to die: 0.1 s, which is for one processor whose time is that of the instructions
/// that it executes; 10 s where the machine below has other things to do.
pub fn check_death(took: Duration) -> Result<(), Failure> {
    println!("dead {} ms after kill -9", took.as_millis());
    let limit = Duration::from_millis(if processors() == 1 { 100 } else { 10_000 });
    if took > limit { Err(format!("dead after {took:?} only").into()) } else { Ok(()) }
}

/// How many processors there are.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The longest that a process which sleeps for 1 ms at a time has slept while `going_on`.
pub fn longest_wait(mut going_on: impl FnMut() -> bool) -> Duration {
    let mut longest = Duration::ZERO;
    while going_on() {
        let begun = Instant::now();
        sleep(Duration::from_millis(1));
        longest = longest.max(begun.elapsed());
    }
    longest
}

/// Whether a counter moves.
pub fn moves(counter: &AtomicU32) -> bool {
    let before = counter.load(Ordering::Relaxed);
    sleep(Duration::from_millis(100));
    counter.load(Ordering::Relaxed) != before
}

/// Puts the current process on the first processor.
pub fn pin_to_first_processor() {
    // SAFETY: all zero is the empty set, which is valid for writes; 0 stands for the current process.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
