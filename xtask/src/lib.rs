//! Set-up, build, boot, test: what `cargo xtask` does, and what the laboratory takes from it.
//!
//! A hypervisor that runs inside Debian's i386 kernel needs three compilers' worth of set-up: a Rust
//! compiler with matching `core` sources, the headers of two kernel flavours, and an emulator to boot them
//! in. This library does all of it, on an ordinary Debian 12 amd64 machine with cargo and apt; the program `xtask` is
//! its command line. What measures (`benches/lab`), what attacks (`benches/attack`) and what builds Linux as a guest
//! (`examples/linux-guest/builder`) are crates on top of this one. None of that belongs here, and this one depends on none
//! of them: their commands are passed on to their programs ([`passed_on`]).
//!
//! | command | what it does | modules |
//! | --- | --- | --- |
//! | `setup` | installs what is missing, fetches kernels and headers into a cache | [`setup`], [`system_packages`], [`apt`], [`apt_sources`], [`line`](mod@line), [`kernels`], [`toolchain`] |
//! | `build` | the module for both flavours, the launcher, the example guest | [`module`], [`plugin`], [`programs`] |
//! | `demo`, `shell` | boots Debian's kernel in QEMU, runs a guest under several strategies | [`demo`], [`counters`], [`transcript`] |
//! | `test` | everything that CI checks, with one closing count | [`test`](mod@test), [`scenarios`], [`hosts`], [`processors`], [`boots`], [`tally`] |
//! | `clean` | throws away what the above have made | [`clean`] |
//!
//! The virtual machine is made of [`initrd`] (what is in it), [`steps`] (what it has to do and how it
//! answers), [`qemu`] (the process and its three serial lines), [`accelerator`] and [`kvm`] (whether it runs, and may run, on the machine's own processor), [`kernel_log`] (what the kernel complained
//! about) and [`vm`] (all of them together).
//!
//! Three notions are shared by all: where things are ([`project`]), which kernel is meant ([`flavour`]) and
//! how an external program is run and its failure reported ([`process`]). [`table`] is how every table looks.

use std::process::ExitCode;

use anyhow::Result;

pub mod accelerator;
pub mod apt;
pub mod apt_sources;
pub mod boots;
pub mod clean;
pub mod counters;
pub mod demo;
pub mod flavour;
pub mod hosts;
pub mod initrd;
pub mod kernel_log;
pub mod kernels;
pub mod kvm;
pub mod line;
pub mod module;
pub mod passed_on;
pub mod plugin;
pub mod process;
pub mod processors;
pub mod programs;
pub mod project;
pub mod qemu;
pub mod scenarios;
pub mod setup;
pub mod steps;
pub mod system_packages;
pub mod table;
pub mod tally;
pub mod test;
pub mod toolchain;
pub mod transcript;
pub mod vm;

/// How a program ends: a failure is printed first.
pub fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of reasons is for people; a backtrace into this program would bury it.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
