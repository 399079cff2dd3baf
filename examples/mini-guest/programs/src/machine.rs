//! The rest of what a processor keeps for a process: FPU registers, thread-local storage, its time.

use crate::ensure;
use crate::start::{fail, reap, spawn};
use core::arch::asm;
use mini_programs::abi::{Effort, RunOptions};
use mini_programs::user;

/// Fills three FPU registers with numbers made from `seed`. The programs are compiled without
/// floating point, so nothing but the code here touches them.
fn fpu_load(seed: u32) {
    for value in [seed, seed * 3, seed * 7] {
        // SAFETY: loads from a local; the FPU registers are used by this file only.
        unsafe { asm!("fild dword ptr [{}]", in(reg) &raw const value, options(nostack)) };
    }
}

fn fpu_check(seed: u32) {
    for expected in [seed * 7, seed * 3, seed] {
        let mut found = 0u32;
        // SAFETY: stores to a local, and turns the FPU's register stack by one.
        unsafe {
            asm!("fist dword ptr [{}]", "fincstp", in(reg) &raw mut found, options(nostack));
        }
        ensure!(found == expected, "an FPU register holds {found}, not {expected}");
    }
    for _ in 0..3 {
        // SAFETY: turns the FPU's register stack back.
        unsafe { asm!("fdecstp", options(nomem, nostack)) };
    }
}

fn fpu_reset() {
    // SAFETY: see `fpu_load`.
    unsafe { asm!("fninit", options(nomem, nostack)) };
}

/// FPU registers survive switches to other processes that use them, and those that do not; a child
/// inherits them.
pub fn fpu(options: &RunOptions) {
    let rounds = if options.effort == Effort::Full { 200 } else { 20 };
    fpu_reset();
    fpu_load(1000);
    for child in 0..4 {
        spawn(|| {
            fpu_check(1000);
            if child == 3 {
                // This one stays away from the FPU.
                (0..rounds).for_each(|_| user::yield_now());
                return 0;
            }
            fpu_reset();
            let seed = 10 + user::getpid();
            fpu_load(seed);
            for _ in 0..rounds {
                fpu_check(seed);
                user::yield_now();
            }
            0
        });
    }
    for _ in 0..rounds {
        fpu_check(1000);
        user::yield_now();
    }
    reap(4);
    fpu_check(1000);
}

/// Each process has its own thread-local storage behind %gs.
pub fn thread_local_storage(options: &RunOptions) {
    let rounds = if options.effort == Effort::Full { 200 } else { 20 };
    for _ in 0..4 {
        spawn(|| {
            let Some(base) = user::mmap(4096) else { fail(format_args!("mmap failed")) };
            let own = user::getpid();
            // SAFETY: the mapping's first words.
            unsafe { base.add(own as usize).write_volatile(own) };
            let selector = user::set_tls(base.expose_provenance() as u32 + 4 * own);
            // SAFETY: the programs use %gs nowhere else.
            unsafe { asm!("mov gs, {:x}", in(reg) selector, options(nomem, nostack)) };
            for _ in 0..rounds {
                let found: u32;
                // SAFETY: the segment's first word is the one written above.
                unsafe { asm!("mov {}, gs:[0]", out(reg) found, options(nostack)) };
                ensure!(found == own, "%gs leads to the storage of process {found}");
                user::yield_now();
            }
            0
        });
    }
    reap(4);
}

/// No token is lost on its way round a ring of processes.
pub fn semaphores(options: &RunOptions) {
    const RING: u32 = 5;
    let rounds = if options.effort == Effort::Full { 200 } else { 20 };
    let before = user::switches();
    for station in 0..RING {
        spawn(|| {
            for _ in 0..rounds {
                user::sem_wait(station);
                user::sem_post(station + 1);
            }
            0
        });
    }
    for _ in 0..rounds {
        user::sem_post(0);
        user::sem_wait(RING);
    }
    reap(RING);
    let switches = user::switches().wrapping_sub(before);
    ensure!(switches > rounds * RING, "{rounds} tokens went round in {switches} switches");
}

/// Processes that never give the processor away take turns all the same.
pub fn preemption(_: &RunOptions) {
    let (switches, ticks) = (user::switches(), user::ticks());
    for _ in 0..2 {
        spawn(|| {
            // By clock interrupts that the guest has had: a host that is busy itself delivers fewer.
            let start = user::ticks();
            while user::ticks().wrapping_sub(start) < 8 {
                for _ in 0..100_000 {
                    core::hint::spin_loop();
                }
            }
            0
        });
    }
    reap(2);
    let (switches, ticks) = (user::switches().wrapping_sub(switches), user::ticks().wrapping_sub(ticks));
    // Two switches start the children and two leave them for good; the others were the clock's.
    ensure!(switches >= 6, "two busy processes were switched {switches} times in {ticks} clock interrupts");
}

/// The clock interrupts, the wall clock and the time-stamp counter all move forward.
pub fn clock(_: &RunOptions) {
    let (ticks, wall, mut stamp) = (user::ticks(), user::wall_clock(), user::rdtsc());
    for _ in 0..1000 {
        let now = user::rdtsc();
        ensure!(now >= stamp, "the time-stamp counter went from {stamp} back to {now}");
        stamp = now;
    }
    user::sleep(8);
    let (ticks, wall) = (user::ticks().wrapping_sub(ticks), user::wall_clock().wrapping_sub(wall));
    ensure!(ticks >= 8, "a sleep of 8 clock interrupts took {ticks}");
    ensure!((1..60_000).contains(&wall), "8 clock interrupts took {wall} ms of the wall clock");
}
