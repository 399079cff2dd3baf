//! `hostile-launcher ACT`: what a launcher, its guest and other processes may try against their host.
//!
//! Each act prints on standard output what it has measured, and ends with status 0 if the host has stood it: with 1 if
//! not. The scenarios `border-…` (`xtask/src/scenarios/border.rs`) run them in the host VM.
//!
//! | module | what is there |
//! | --- | --- |
//! | `guest` | a guest's memory and tables, and `/dev/lguest` |
//! | `program` | what the guests execute: an interpreter in machine code, and its programs |
//! | `process` | child processes, how long they take to die, and how long others wait for the processor |
//! | `run_loop` | acts that keep the host at work: a ring without end, a request that sleeps, a guest that spins |
//! | `pages` | acts with many pages, one page many times, and pages that change under the guest |
//! | `frames` | acts on the pages of the guest's memory: moved, swapped out, taken away |
//! | `race` | an act of a thread that changes what the Switcher looks at |
//! | `faults` | pages whose faults a program handles |
//! | `snapshots` | acts of a launcher that becomes another process, or two, or none |
//! | `device` | acts with many requests |
//! | `uring` | an act of a thread that the kernel makes |
//! | `users` | an act as another user |
//! | `processor` | acts that leave something in the processor's registers |
//! | `worlds` | acts that look for something of one world in the other's registers |

#[cfg(target_arch = "x86")]
mod device;
#[cfg(target_arch = "x86")]
mod faults;
#[cfg(target_arch = "x86")]
mod frames;
#[cfg(target_arch = "x86")]
mod guest;
#[cfg(target_arch = "x86")]
mod pages;
#[cfg(target_arch = "x86")]
mod process;
#[cfg(target_arch = "x86")]
mod processor;
#[cfg(target_arch = "x86")]
mod program;
#[cfg(target_arch = "x86")]
mod race;
#[cfg(target_arch = "x86")]
mod run_loop;
#[cfg(target_arch = "x86")]
mod snapshots;
#[cfg(target_arch = "x86")]
mod uring;
#[cfg(target_arch = "x86")]
mod users;
#[cfg(target_arch = "x86")]
mod worlds;

/// Why the host has not stood an act, or why the act could not be played.
type Failure = Box<dyn std::error::Error>;

/// What plays an act: an error if the host has not stood it.
#[cfg(target_arch = "x86")]
type Play = fn() -> Result<(), Failure>;

#[cfg(target_arch = "x86")]
const ACTS: [(&str, Play); 29] = [
    ("ring-refill", run_loop::ring_refill),
    ("counters-hold", run_loop::counters_hold),
    ("spin", run_loop::spin),
    ("spin-natively", run_loop::spin_natively),
    ("eventfd-flood", device::eventfd_flood),
    ("log-flood", device::log_flood),
    ("worker", uring::worker),
    ("user-namespace", users::user_namespace),
    ("giant-flush", pages::giant_flush),
    ("giant-kill", pages::giant_kill),
    ("one-frame", pages::one_frame),
    ("limit-of-tables", pages::limit_of_tables),
    ("remap", pages::remap),
    ("race", race::race),
    ("kept-pages", frames::kept_pages),
    ("taken-pages", frames::taken_pages),
    ("freed-pages", frames::freed_pages),
    ("served-pages", faults::served_pages),
    ("snapshots", snapshots::snapshots),
    ("exec", snapshots::exec),
    ("interrupted", snapshots::interrupted),
    ("hog", snapshots::hog),
    ("reaped", snapshots::reaped),
    ("ldt", processor::ldt),
    ("single-step", processor::single_step),
    ("debug-registers", processor::debug_registers),
    ("fpu-registers", worlds::fpu_registers),
    ("breakpoint", worlds::breakpoint),
    ("nothing", || Ok(())),
];

#[cfg(target_arch = "x86")]
fn main() -> std::process::ExitCode {
    let act = std::env::args().nth(1).unwrap_or_default();
    let Some((_, play)) = ACTS.iter().find(|(name, _)| *name == act) else {
        let names = ACTS.map(|(name, _)| name).join(", ");
        eprintln!("hostile-launcher: there is no act `{act}`; there are: {names}");
        return 2.into();
    };
    match play() {
        Ok(()) => {
            println!("{act}: the host has stood it");
            0.into()
        }
        Err(failure) => {
            println!("{act}: {failure}");
            1.into()
        }
    }
}

#[cfg(not(target_arch = "x86"))]
fn main() {
    let _: Option<Failure> = None;
    eprintln!("hostile-launcher: for 32-bit x86 only");
}
