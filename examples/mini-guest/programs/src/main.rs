//! The user programs: what runs in ring 3 of the mini guest.
//!
//! One ELF file holds them all; the kernel starts it with a program's number and an argument. Program 0 is
//! `init`: it runs the tests, measures the workloads, and ends the guest. Failing means printing what was
//! wrong and ending the whole guest with result 1, from whichever process noticed.
//!
//! | file | what it tries |
//! | --- | --- |
//! | `memory.rs` | that no page is ever mixed up: patterns, fork, copy-on-write, mmap, exec |
//! | `faults.rs` | that faults and exceptions arrive as on a bare machine |
//! | `machine.rs` | the rest of a processor's state: FPU, TLS, preemption, clocks |
//! | `hostile.rs` | misbehaviour in ring 3 |
//! | `workloads.rs` | what is measured |
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod faults;
#[cfg(target_os = "none")]
mod hostile;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
mod workloads;

/// Prints why there is nothing to run on the developer's machine.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("mini-programs only run inside the mini guest; build that as its README.md says");
    std::process::exit(2);
}
