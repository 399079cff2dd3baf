//! Clocks: they never go back, sleeps take what they should, and a minute is a minute.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use crate::Settings;
use crate::peer::Peer;
use crate::process;

fn read(clock: ClockId) -> Result<Duration> {
    clock_gettime(clock).map(Duration::from).with_context(|| format!("clock {clock}"))
}

/// The same clock by the system call, past the vDSO.
fn read_by_call(clock: ClockId) -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes the structure; this is the call with 32-bit seconds.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock.as_raw(), &raw mut time) };
    nix::errno::Errno::result(done).context("clock_gettime")?;
    Ok(Duration::from(TimeSpec::from_timespec(time)))
}

/// No reading of a clock is before an earlier one, in several processes, by either way.
pub fn never_back(_: &Settings) -> Result<()> {
    process::in_parallel(4, |_| {
        for clock in [ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_REALTIME, ClockId::CLOCK_BOOTTIME] {
            let mut last = Duration::ZERO;
            for round in 0..20_000u32 {
                let now = if round % 3 == 0 { read_by_call(clock)? } else { read(clock)? };
                ensure!(now >= last, "clock {clock} went back by {:?} in round {round}", last - now);
                last = now;
                if round % 500 == 0 {
                    std::thread::yield_now();
                }
            }
        }
        Ok(())
    })
}

/// Sleeps are not shorter than requested, and usually not much longer.
pub fn sleeps(_: &Settings) -> Result<()> {
    // A late wake-up may be the host's: only the best of some counts.
    const TRIES: usize = 5;
    for asked in [1, 10, 100, 500].map(Duration::from_millis) {
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            let begun = Instant::now();
            std::thread::sleep(asked);
            let slept = begun.elapsed();
            ensure!(slept >= asked, "a sleep of {asked:?} took {slept:?}");
            best = best.min(slept);
        }
        // Two ticks of a clock of 100 Hz, and some for work.
        let most = asked + asked / 20 + Duration::from_millis(25);
        ensure!(best <= most, "of {TRIES} sleeps of {asked:?} the best took {best:?}");
    }
    Ok(())
}

/// This machine's clocks against the peer's, at both ends of a while.
pub fn drift(settings: &Settings) -> Result<()> {
    /// The most that a clock may be off, as a part of the time.
    const PART: u32 = 100;
    let mut peer = Peer::connect(settings.peer)?;
    let clocks = [ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_REALTIME];
    let mut first = Vec::new();
    for clock in clocks {
        first.push(compare(&mut peer, clock)?);
    }
    std::thread::sleep(settings.drift);
    for (clock, first) in clocks.into_iter().zip(first) {
        let last = compare(&mut peer, clock)?;
        let (here, there) = (last.here - first.here, last.there - first.there);
        let off = here.abs_diff(there);
        // The answers' ways took some of it.
        let most = there / PART + first.way + last.way;
        ensure!(off <= most, "clock {clock}: {here:?} here are {there:?} there; at most {most:?} is right");
    }
    Ok(())
}

/// Two clocks at about the same time.
struct Comparison {
    here: Duration,
    there: Duration,
    /// How long the question and its answer were on their way.
    way: Duration,
}

/// Requests the time several times; the quickest answer is the most exact one.
fn compare(peer: &mut Peer, clock: ClockId) -> Result<Comparison> {
    let mut best: Option<Comparison> = None;
    for _ in 0..8 {
        let before = read(clock)?;
        let there = peer.time()?;
        let after = read(clock)?;
        let way = after.saturating_sub(before);
        if best.as_ref().is_none_or(|best| way < best.way) {
            best = Some(Comparison { here: before + way / 2, there, way });
        }
    }
    best.context("no comparison was made")
}
