//! Begins lives, ends them, and looks at what they leave behind.

use std::fs;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::attack;
use crate::dice::Dice;
use crate::guest::Kind;
use crate::life;
use crate::shared::Shared;

/// How long a killed process may take to end. It is to take 100 ms, and longer only where millions of pages are to be
/// given back; the rest is for an emulated machine whose processors wait for those of the machine below.
const DEATH: Duration = Duration::from_secs(90);

/// A killed process that has had so much of a processor since then, and lives on, goes round in the kernel: where few
/// pages are to be given back, and where there are millions. In clock ticks of 10 ms; an emulated processor counts as
/// its own the time in which the machine below runs something else. A guest whose ring is refilled holds little, and
/// its attackers may be late once in so many rounds of the ring.
const DEATH_TICKS: u64 = 300;
const DEATH_TICKS_OF_REFILLED: u64 = 30;
const DEATH_TICKS_OF_MILLIONS: u64 = 4000;

/// The module audits a guest's shadow tables after so many operations.
const AUDITED: u32 = 128;

/// How long a life may take to make its guest.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two lines of progress.
const TOLD: Duration = Duration::from_secs(5);

/// Begins one life after the other until a number or a time is reached.
///
/// # Errors
/// The first fault of the module's.
pub fn run(seed: u64, first: u64, lives: u64, limit: Duration) -> Result<()> {
    let shared = Shared::new();
    // Orphans of a life come to this process, so that it can wait for them.
    // SAFETY: an option of this process with no pointers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    attack::run_on(0, attack::GUESTS_PROCESSOR);
    let (begun, mut told) = (Instant::now(), Instant::now());
    for life in first..first.saturating_add(lives) {
        if begun.elapsed() > limit {
            break;
        }
        println!("life {life}");
        one(seed, life, shared).with_context(|| {
            tell(life - first + 1, shared);
            format!("seed={seed} life={life}")
        })?;
        if told.elapsed() > TOLD {
            told = Instant::now();
            tell(life - first + 1, shared);
        }
        if life + 1 == first.saturating_add(lives) || begun.elapsed() > limit {
            tell(life - first + 1, shared);
        }
    }
    Ok(())
}

fn tell(lives: u64, shared: &Shared) {
    let figure = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
    println!(
        "figures lives={lives} operations={} entries={} hypercalls={} faults={} attacks={} requests={} ends={} refused={}",
        shared.operations(),
        figure(&shared.entries),
        figure(&shared.hypercalls),
        figure(&shared.faults),
        figure(&shared.attacks),
        figure(&shared.requests),
        figure(&shared.ends),
        figure(&shared.refused),
    );
}

/// One life.
fn one(seed: u64, life: u64, shared: &'static Shared) -> Result<()> {
    let mut dice = Dice::of(seed, life);
    let kind = match dice.below(16) {
        0 => Kind::Aliases,
        1 => Kind::Refilled,
        _ => Kind::Mixed,
    };
    let limit = match kind {
        Kind::Aliases => Duration::from_secs(240),
        Kind::Refilled | Kind::Mixed => Duration::from_millis(u64::from(200 + dice.below(1500))),
    };
    // An audit looks at all that is mapped: too much for a guest that maps millions.
    let every = if kind == Kind::Aliases { 0 } else { AUDITED };
    fs::write("/sys/module/lg/parameters/audit", every.to_string()).context("the module is gone")?;
    shared.begun.store(0, Ordering::Relaxed);
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    ensure!(child >= 0, "no process for a life: {}", std::io::Error::last_os_error());
    if child == 0 {
        if kind != Kind::Refilled {
            attack::run_on(0, !0);
        }
        life::live(dice, kind, shared);
    }
    // An emulated machine may be slow to come to the point.
    let mut begun = Instant::now();
    let mut time = PATIENCE;
    while begun.elapsed() < time && !ended(child) {
        if time == PATIENCE && shared.begun.load(Ordering::Relaxed) != 0 {
            (begun, time) = (Instant::now(), limit);
        }
        sleep(Duration::from_millis(2));
    }
    let most = match kind {
        Kind::Aliases => DEATH_TICKS_OF_MILLIONS,
        Kind::Refilled => DEATH_TICKS_OF_REFILLED,
        Kind::Mixed => DEATH_TICKS,
    };
    let outcome = end(child, most);
    // Whatever came of it, those that the life has left go first.
    end_group(child);
    outcome?;
    ensure!(shared.blamed.load(Ordering::Relaxed) == 0, "the audit found the module's shadow tables wrong");
    nothing_left()
}

fn ended(child: i32) -> bool {
    let mut status = 0;
    // SAFETY: the status is written to a variable of its type.
    let pid = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
    pid == child || pid < 0
}

/// Kills the process that runs the guest, and waits for its end.
fn end(child: i32, most: u64) -> Result<()> {
    // SAFETY: no pointers.
    unsafe { libc::kill(child, libc::SIGKILL) };
    let (begun, ticks) = (Instant::now(), ticks(child));
    while !ended(child) {
        let used = self::ticks(child).saturating_sub(ticks);
        // One that has begun to exit has left the guest; to close hundreds of files takes a kernel that checks itself long.
        let most = if is_exiting(child) { most.max(DEATH_TICKS) } else { most };
        if used > most {
            let stack = fs::read_to_string(format!("/proc/{child}/stack")).unwrap_or_default();
            bail!(
                "the launcher is not dead {} ms after kill -9, and goes round in the kernel:\n{stack}",
                begun.elapsed().as_millis()
            );
        }
        if begun.elapsed() > DEATH {
            let wchan = fs::read_to_string(format!("/proc/{child}/wchan")).unwrap_or_default();
            bail!(
                "the launcher is not dead {} s after kill -9; it waits in {wchan}",
                begun.elapsed().as_secs()
            );
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The processor time of a process, in clock ticks of 10 ms.
fn ticks(pid: i32) -> u64 {
    // Utime and stime.
    [11, 12].iter().filter_map(|&place| stat(pid, place)).sum()
}

/// Whether a process has begun to exit: `PF_EXITING` of its flags (<linux/sched.h>).
fn is_exiting(pid: i32) -> bool {
    stat(pid, 6).is_some_and(|flags| flags & 4 != 0)
}

/// A number of /proc/PID/stat, counted from 0 at the first word behind the name (proc(5)), which is in parentheses and may hold
/// spaces.
fn stat(pid: i32, place: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(place)?.parse().ok()
}

/// Kills the other processes of a life, and waits for them.
fn end_group(child: i32) {
    let begun = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: no pointers but to a variable of the right type.
        let left = unsafe {
            libc::kill(-child, libc::SIGKILL);
            libc::waitpid(-1, &raw mut status, libc::WNOHANG)
        };
        // Errors mean that there is none.
        if left < 0 || begun.elapsed() > DEATH {
            return;
        }
        if left == 0 {
            sleep(Duration::from_millis(1));
        }
    }
}

/// Whether the module has everything back that the life had of it.
fn nothing_left() -> Result<()> {
    let begun = Instant::now();
    for holding in ["guests", "frames", "tables"] {
        loop {
            let held = fs::read_to_string(format!("/sys/module/lg/parameters/{holding}"))
                .context("the module is gone")?;
            if held.trim() == "0" {
                break;
            }
            if begun.elapsed() > DEATH {
                bail!("{} {holding} are left after all processes have ended", held.trim());
            }
            sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}
