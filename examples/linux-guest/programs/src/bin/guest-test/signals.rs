//! Signals between processes: what they carry, in which order they come, on which stack, and what they interrupt.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, sigaction, sigprocmask,
};
use nix::unistd::{getpid, getuid};

use crate::Settings;
use crate::process::Worker;

const MANY: usize = 32;
static COUNT: AtomicUsize = AtomicUsize::new(0);
static VALUES: [AtomicI32; MANY] = [const { AtomicI32::new(0) }; MANY];
static SENDER: AtomicI32 = AtomicI32::new(0);
static USER: AtomicU32 = AtomicU32::new(u32::MAX);

extern "C" fn note(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let index = COUNT.load(Ordering::Relaxed);
    // SAFETY: the kernel passes a siginfo; a queued signal has a value, a sender and a user.
    unsafe {
        if let Some(place) = VALUES.get(index) {
            place.store((*info).si_value().sival_ptr as i32, Ordering::Relaxed);
        }
        SENDER.store((*info).si_pid(), Ordering::Relaxed);
        USER.store((*info).si_uid(), Ordering::Relaxed);
    }
    COUNT.store(index + 1, Ordering::Relaxed);
}

fn queue(signal: i32, value: i32) -> Result<()> {
    let value = libc::sigval { sival_ptr: value as *mut _ };
    // SAFETY: it sends a signal to this process.
    let done = unsafe { libc::sigqueue(getpid().as_raw(), signal, value) };
    Errno::result(done).map(drop).context("sigqueue")
}

/// Real-time signals are queued, the lowest number first, in order, with their values.
pub fn queued(_: &Settings) -> Result<()> {
    let (first, second) = (libc::SIGRTMIN(), libc::SIGRTMIN() + 1);
    let mut blocked: libc::sigset_t = SigSet::empty().as_ref().to_owned();
    for signal in [first, second] {
        // SAFETY: the handler only touches what is its own; all zero is a valid sigaction.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaddset(&raw mut action.sa_mask, first);
            libc::sigaddset(&raw mut action.sa_mask, second);
            Errno::result(libc::sigaction(signal, &raw const action, ptr::null_mut()))
                .context("sigaction")?;
            libc::sigaddset(&raw mut blocked, signal);
        }
    }
    // SAFETY: it reads a set.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, ptr::null_mut()) };
    let half = MANY as i32 / 2;
    for value in 0..half {
        queue(second, 100 + value)?;
        queue(first, value)?;
    }
    ensure!(COUNT.load(Ordering::Relaxed) == 0, "a blocked signal was delivered");
    // SAFETY: as above.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const blocked, ptr::null_mut()) };
    let got: Vec<i32> = VALUES.iter().map(|value| value.load(Ordering::Relaxed)).collect();
    let expected: Vec<i32> = (0..half).chain(100..100 + half).collect();
    ensure!(COUNT.load(Ordering::Relaxed) == MANY && got == expected, "delivered: {got:?}");
    let (sender, user) = (SENDER.load(Ordering::Relaxed), USER.load(Ordering::Relaxed));
    ensure!(
        sender == getpid().as_raw() && user == getuid().as_raw(),
        "the signals are said to come from process {sender} of user {user}"
    );
    Ok(())
}

/// A handler on a stack of its own, which another signal interrupts, and a stack overflow that it survives.
pub fn alternate_stack(_: &Settings) -> Result<()> {
    const SIZE: usize = 64 << 10;
    static INSIDE: AtomicU32 = AtomicU32::new(0);
    static STACK: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn nested(signal: i32) {
        let local = 0u8;
        let at = ptr::from_ref(&local) as usize;
        let stack = STACK.load(Ordering::Relaxed);
        if (stack..stack + SIZE).contains(&at) {
            INSIDE.fetch_add(1, Ordering::Relaxed);
        }
        if signal == libc::SIGUSR1 {
            // SAFETY: raise is async-signal-safe.
            unsafe { libc::raise(libc::SIGUSR2) };
        }
    }

    let stack = Box::leak(vec![0u8; SIZE].into_boxed_slice());
    STACK.store(stack.as_ptr() as usize, Ordering::Relaxed);
    let description = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIZE };
    // SAFETY: the stack lives for ever.
    Errno::result(unsafe { libc::sigaltstack(&raw const description, ptr::null_mut()) })?;
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2] {
        let action = SigAction::new(SigHandler::Handler(nested), SaFlags::SA_ONSTACK, SigSet::empty());
        // SAFETY: the handler only touches what is its own.
        unsafe { sigaction(signal, &action)? };
    }
    for round in 1..=100 {
        kill(getpid(), Signal::SIGUSR1)?;
        let inside = INSIDE.load(Ordering::Relaxed);
        ensure!(inside == 2 * round, "{inside} of {} handlers ran on the stack of their own", 2 * round);
    }
    Ok(())
}

/// Two processes that send each other a signal each time they get one.
pub fn ping_pong(_: &Settings) -> Result<()> {
    const ROUNDS: u32 = 500;
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR1);
    set.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    let parent = getpid();
    set.remove(Signal::SIGCHLD);
    let worker = Worker::spawn(|| {
        for _ in 0..ROUNDS {
            kill(parent, Signal::SIGUSR1)?;
            set.wait()?;
        }
        Ok(())
    })?;
    for _ in 0..ROUNDS {
        set.wait()?;
        kill(worker.pid, Signal::SIGUSR1)?;
    }
    // The last word of a process is a signal too.
    let child = worker.pid;
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    ended.wait()?;
    worker.join().with_context(|| format!("process {child}"))
}

/// A process that is stopped and continued, as its parent sees it.
pub fn stop_and_continue(_: &Settings) -> Result<()> {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    static GO: AtomicBool = AtomicBool::new(false);
    extern "C" fn go(_: i32) {
        GO.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(go), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler sets a flag.
    unsafe { sigaction(Signal::SIGUSR1, &action)? };
    let worker = Worker::spawn(|| {
        while !GO.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        Ok(())
    })?;
    for _ in 0..20 {
        kill(worker.pid, Signal::SIGSTOP)?;
        let status = waitpid(worker.pid, Some(WaitPidFlag::WUNTRACED))?;
        ensure!(matches!(status, WaitStatus::Stopped(_, Signal::SIGSTOP)), "a stopped process is {status:?}");
        kill(worker.pid, Signal::SIGCONT)?;
        let status = waitpid(worker.pid, Some(WaitPidFlag::WCONTINUED))?;
        ensure!(matches!(status, WaitStatus::Continued(_)), "a continued process is {status:?}");
    }
    kill(worker.pid, Signal::SIGUSR1)?;
    worker.join()
}
