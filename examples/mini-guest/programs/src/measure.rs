//! Measurements, as lines `mini: measure NAME COUNT TICKS`: COUNT operations took TICKS of the time-stamp
//! counter together.

use crate::ensure;
use crate::memory::EXEC_TARGET;
use crate::start::{fail, reap, spawn};
use mini_programs::println;
use mini_programs::user::{self, Forked, rdtsc};

const PAGE: u32 = 4096;
const PAGES: u32 = 256;

fn report(name: core::fmt::Arguments<'_>, count: u32, ticks: u64) {
    println!("mini: measure {name} {count} {ticks}");
}

/// Times `operation`.
fn timed(operation: impl FnOnce()) -> u64 {
    let start = rdtsc();
    operation();
    rdtsc() - start
}

/// All of them.
pub fn all() {
    let count = 10_000;
    // In portions, so that each one's ticks fit the system call's answer.
    let hypercalls = (0..10).map(|_| u64::from(user::null_hypercalls(count / 10))).sum();
    report(format_args!("null-hypercall"), count, hypercalls);
    let ticks = timed(|| {
        for _ in 0..count {
            let _ = user::getpid();
        }
    });
    report(format_args!("null-syscall"), count, ticks);
    for ring in [2, 4, 16] {
        context_switch(ring);
    }
    fork_exit();
    fork_exec();
    demand_zero();
    copy_on_write();
    mmap_munmap();
}

/// A token goes round a ring of processes; each step is one switch.
fn context_switch(ring: u32) {
    const WARM_UP: u32 = 16;
    let rounds = 2048 / ring;
    for station in 0..ring {
        spawn(|| {
            let mut start = 0;
            for round in 0..WARM_UP + rounds {
                user::sem_wait(station);
                if round == WARM_UP {
                    start = rdtsc();
                }
                user::sem_post((station + 1) % ring);
            }
            if station == 0 {
                // The last token ends here and starts the next measurement's ring from zero.
                user::sem_wait(0);
                report(format_args!("context-switch-{ring}"), ring * rounds, rdtsc() - start);
            }
            0
        });
    }
    user::sem_post(0);
    reap(ring);
}

fn fork_exit() {
    let count = 64;
    let ticks = timed(|| {
        for _ in 0..count {
            spawn(|| 0);
            reap(1);
        }
    });
    report(format_args!("fork-exit"), count, ticks);
}

fn fork_exec() {
    let count = 32;
    let ticks = timed(|| {
        for _ in 0..count {
            match user::fork() {
                Some(Forked::Child) => {
                    user::exec(EXEC_TARGET, 0);
                    fail(format_args!("exec returned"));
                }
                Some(Forked::Parent(_)) => reap(1),
                None => fail(format_args!("fork failed")),
            }
        }
    });
    report(format_args!("fork-exec"), count, ticks);
}

/// Maps [`PAGES`] pages.
fn map() -> *mut u32 {
    user::mmap(PAGES * PAGE).unwrap_or_else(|| fail(format_args!("mmap of {PAGES} pages failed")))
}

/// Stores to each of the pages at `base`.
fn touch(base: *mut u32) {
    for page in 0..PAGES {
        // SAFETY: inside the mapping that `map` made.
        unsafe { base.add((page * PAGE / 4) as usize).write_volatile(page) };
    }
}

fn demand_zero() {
    let base = map();
    let ticks = timed(|| touch(base));
    report(format_args!("demand-zero"), PAGES, ticks);
    user::munmap(base, PAGES * PAGE);
}

fn copy_on_write() {
    let base = map();
    touch(base);
    spawn(|| {
        let ticks = timed(|| touch(base));
        report(format_args!("copy-on-write"), PAGES, ticks);
        0
    });
    reap(1);
    // SAFETY: inside the mapping.
    let last = unsafe { base.add(((PAGES - 1) * PAGE / 4) as usize).read_volatile() };
    ensure!(last == PAGES - 1, "the last page holds {last}");
    user::munmap(base, PAGES * PAGE);
}

fn mmap_munmap() {
    let rounds = 8;
    let ticks = timed(|| {
        for _ in 0..rounds {
            let base = map();
            touch(base);
            user::munmap(base, PAGES * PAGE);
        }
    });
    report(format_args!("mmap-touch-munmap"), rounds * PAGES, ticks);
}
