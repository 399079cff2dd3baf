//! The kernel of the mini guest: ring 1 of an lguest virtual machine.
//!
//! It does what an i386 Linux guest does of the 3.x line, in the same order and by the same hypercalls, only
//! less of it: one processor, no files, no devices but the console and the clock. All that works
//! without a processor is in the library beside it (`lib.rs`); what follows is the rest.
//!
//! | module | what it does |
//! | --- | --- |
//! | `boot` | from the launcher's jump to the first Rust function, under the first page tables |
//! | `host` | hypercalls, their ring, the memory shared with the host, the interrupt flag |
//! | `bare` | the bare machine in the host's place |
//! | `console` | text for people; the guest's last words |
//! | `ram` | physical memory, and what is reported to the host of changed page tables |
//! | `descriptors` | segments and gates |
//! | `traps` | every way into the kernel and the one way out; the clock's interrupt |
//! | `faults` | page faults: demand-zero, copy-on-write, death |
//! | `state` | all state of the kernel |
//! | `tasks` | processes with their memory: fork, exec, exit, the switch from one to the next |
//! | `image` | the programs' ELF file |
//! | `fpu` | the FPU's registers, which change hands only when somebody uses them |
//! | `syscalls` | what programs request |
//! | `scratch` | kernel pages above RAM that every process verifies |
//! | `attempt` | doing what may trap, and living on |
//! | `selftest` | tests that have to run in ring 1 |
//! | `hostile` | misbehaviour in ring 1 |
//! | `pci` | the console as a guest of Linux 4.1 to 4.13 finds it |
//! | `forged` | the same, for what the Switcher reads when it reflects page faults |
//!
//! Interrupts are let in only while a program runs, while the kernel idles, and where a test enables them.
//! So the kernel's state has one user at a time; [`state::kernel`] panics when it has not.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod attempt;
#[cfg(target_os = "none")]
mod bare;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod descriptors;
#[cfg(target_os = "none")]
mod faults;
#[cfg(target_os = "none")]
mod forged;
#[cfg(target_os = "none")]
mod fpu;
#[cfg(target_os = "none")]
mod host;
#[cfg(target_os = "none")]
mod hostile;
#[cfg(target_os = "none")]
mod image;
#[cfg(target_os = "none")]
mod pci;
#[cfg(target_os = "none")]
mod ram;
#[cfg(target_os = "none")]
mod scratch;
#[cfg(target_os = "none")]
mod selftest;
#[cfg(target_os = "none")]
mod state;
#[cfg(target_os = "none")]
mod syscalls;
#[cfg(target_os = "none")]
mod tasks;
#[cfg(target_os = "none")]
mod traps;

/// Prints why there is nothing to run on the developer's machine.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("mini-guest is a kernel for the lguest launcher; README.md says how to build it for bare i386");
    std::process::exit(2);
}
