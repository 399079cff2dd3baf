//! Timers that send signals: how many come, when, and what they report.

use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::Settings;

/// A running interval timer (`setitimer`).
pub struct Interval(libc::c_int);

impl Interval {
    /// Starts `timer` with `period` to the first and to every other signal.
    pub fn start(timer: libc::c_int, period: Duration) -> Result<Interval> {
        set(timer, period)?;
        Ok(Interval(timer))
    }

    /// Stops it.
    pub fn stop(self) -> Result<()> {
        set(self.0, Duration::ZERO)
    }
}

fn set(timer: libc::c_int, period: Duration) -> Result<()> {
    let period = libc::timeval {
        tv_sec: period.as_secs() as libc::time_t,
        tv_usec: period.subsec_micros() as libc::suseconds_t,
    };
    let both = libc::itimerval { it_interval: period, it_value: period };
    // SAFETY: it reads the structure.
    let done = unsafe { libc::setitimer(timer as _, &raw const both, ptr::null_mut()) };
    Errno::result(done).map(drop).context("setitimer")
}

static DELIVERED: AtomicU32 = AtomicU32::new(0);
static OVERRUNS: AtomicU32 = AtomicU32::new(0);
static WRONG: AtomicU32 = AtomicU32::new(0);
/// What a timer's signals must carry.
static VALUE: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_: i32) {
    DELIVERED.fetch_add(1, Ordering::Relaxed);
}

fn handle(signal: Signal) -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler only counts.
    unsafe { sigaction(signal, &action) }.with_context(|| format!("no handler for {signal}"))?;
    Ok(())
}

/// Computes something for a while.
fn burn() {
    for number in 0..20_000u32 {
        black_box(number);
    }
}

/// `setitimer` by the wall clock and by the process's own time.
pub fn interval_timers(_: &Settings) -> Result<()> {
    const PERIOD: Duration = Duration::from_millis(10);
    const SIGNALS: u32 = 50;
    for (name, timer, signal) in [
        ("ITIMER_REAL", libc::ITIMER_REAL, Signal::SIGALRM),
        ("ITIMER_VIRTUAL", libc::ITIMER_VIRTUAL, Signal::SIGVTALRM),
        ("ITIMER_PROF", libc::ITIMER_PROF, Signal::SIGPROF),
    ] {
        handle(signal)?;
        DELIVERED.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        let interval = Interval::start(timer, PERIOD)?;
        while DELIVERED.load(Ordering::Relaxed) < SIGNALS {
            burn();
        }
        let (elapsed, delivered) = (begun.elapsed(), DELIVERED.load(Ordering::Relaxed));
        interval.stop()?;
        // One more than whole periods, as the clock may be coarser than the period by a tick.
        let most = elapsed.as_millis() / PERIOD.as_millis() + 1;
        ensure!(
            u128::from(delivered) <= most,
            "{name} sent {delivered} signals in {elapsed:?}, of which there is one in {PERIOD:?}"
        );
        // None comes once it is stopped.
        let before = DELIVERED.load(Ordering::Relaxed);
        std::thread::sleep(3 * PERIOD);
        let after = DELIVERED.load(Ordering::Relaxed);
        ensure!(after <= before + 1, "{name} sent {} signals after it was stopped", after - before);
    }
    Ok(())
}

/// `timer_create`: signals that carry a value, and count those that could not be queued.
pub fn posix_timers(_: &Settings) -> Result<()> {
    const PERIOD: Duration = Duration::from_millis(5);
    const EXPIRATIONS: u32 = 60;
    const MARK: i32 = 0x5eed;

    extern "C" fn expired(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel passes a siginfo; for SI_TIMER it has a value and an overrun count.
        let (code, value, overrun) =
            unsafe { ((*info).si_code, (*info).si_value().sival_ptr as i32, (*info).si_overrun()) };
        if code != libc::SI_TIMER || value != VALUE.load(Ordering::Relaxed) {
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
        DELIVERED.fetch_add(1, Ordering::Relaxed);
        OVERRUNS.fetch_add(overrun as u32, Ordering::Relaxed);
    }

    VALUE.store(MARK, Ordering::Relaxed);
    let action = SigAction::new(SigHandler::SigAction(expired), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler only counts.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.context("no handler")?;
    // SAFETY: all zero is a valid sigevent.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGUSR1;
    event.sigev_value = libc::sigval { sival_ptr: MARK as *mut _ };
    let mut timer: libc::timer_t = ptr::null_mut();
    // SAFETY: it reads the event and writes the timer's number.
    let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    Errno::result(made).context("timer_create")?;
    let period = libc::timespec { tv_sec: 0, tv_nsec: PERIOD.as_nanos() as libc::c_long };
    let both = libc::itimerspec { it_interval: period, it_value: period };
    let begun = Instant::now();
    // SAFETY: the timer is ours; it reads the structure.
    let started = unsafe { libc::timer_settime(timer, 0, &raw const both, ptr::null_mut()) };
    Errno::result(started).context("timer_settime")?;
    let total = || DELIVERED.load(Ordering::Relaxed) + OVERRUNS.load(Ordering::Relaxed);
    while total() < EXPIRATIONS {
        burn();
    }
    let (elapsed, total) = (begun.elapsed(), total());
    // SAFETY: the timer is ours.
    unsafe { libc::timer_delete(timer) };
    let due = (elapsed.as_micros() / PERIOD.as_micros()) as u32;
    ensure!(total <= due + 1, "{total} expirations in {elapsed:?}, of which there is one in {PERIOD:?}");
    // With overruns none is lost; one may be on its way.
    ensure!(total + 2 >= due, "only {total} expirations of {due} were delivered or counted as overrun");
    let wrong = WRONG.load(Ordering::Relaxed);
    ensure!(wrong == 0, "{wrong} signals did not carry what the timer was given");
    Ok(())
}

/// A sleep that a signal interrupts reports how much of it is left.
pub fn interrupted_sleep(_: &Settings) -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only counts.
    unsafe { sigaction(Signal::SIGALRM, &action) }.context("no handler")?;
    for _ in 0..10 {
        let interval = Interval::start(libc::ITIMER_REAL, Duration::from_millis(20))?;
        let asked = libc::timespec { tv_sec: 5, tv_nsec: 0 };
        let mut left = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let begun = Instant::now();
        // SAFETY: it reads the one structure and writes the other.
        let done = unsafe { libc::nanosleep(&raw const asked, &raw mut left) };
        let result = Errno::result(done);
        let slept = begun.elapsed();
        interval.stop()?;
        ensure!(result == Err(Errno::EINTR), "a sleep of 5 s came to {result:?} with a signal after 20 ms");
        let left = Duration::new(left.tv_sec as u64, left.tv_nsec as u32);
        let sum = slept + left;
        ensure!(
            sum + Duration::from_millis(50) >= Duration::from_secs(5) && left < Duration::from_secs(5),
            "after {slept:?} of a sleep of 5 s {left:?} are left"
        );
    }
    Ok(())
}
