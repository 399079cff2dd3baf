//! `cargo xtask`: the project's one front door for people and CI.
//!
//! A hypervisor that runs inside Debian's i386 kernel needs three compilers' worth of set-up: a Rust
//! compiler with matching `core` sources, the headers of two kernel flavours, and an emulator to boot them
//! in. This program does all of it, on an ordinary Debian 12 amd64 machine with cargo and apt:
//!
//! | command | what it does | modules |
//! | --- | --- | --- |
//! | `setup` | installs what is missing, fetches kernels and headers into a cache | [`setup`], [`system_packages`], [`apt`], [`apt_sources`], [`kernels`], [`toolchain`] |
//! | `build` | the module for both flavours, the launcher, the example guests | [`module`], [`prelink`], [`shim`], [`plugin`], [`programs`] |
//! | `linux-guest` | Debian's kernel source with our port, built as a guest | [`linux`] |
//! | `linux-bench` | what it costs to be a guest, beside the same kernel on the bare machine | [`linux`] |
//! | `bench` | runs workloads under several strategies, makes tables and plots of what they cost | [`bench`](mod@bench) |
//! | `instructions` | counts what the pager's hot paths take, and compares with a baseline | [`instructions`] |
//! | `demo` | boots Debian's kernel in QEMU, runs a guest under several strategies | [`demo`], [`counters`], [`transcript`] |
//! | `record` | a guest's paging trace, recorded in QEMU, brought out and replayed | [`record`] |
//! | `profile` | instructions by function of the host and the guest, for one workload | [`profile`] |
//! | `fuzz` | random attacks on the module in QEMU, coverage-guided ones on all that parses bytes | [`fuzz`] |
//! | `inject` | every instruction of the Switcher with every event that can come there | [`inject`] |
//! | `test` | everything that CI checks, with one closing count | [`test`](mod@test), [`scenarios`], [`boots`], [`tally`] |
//! | `shell` | a shell in the host VM, with module and launcher at hand | [`demo`] |
//! | `clean` | throws away what the above have made | [`clean`] |
//!
//! The virtual machine is made of [`initrd`] (what is in it), [`steps`] (what it is told to do and how it
//! answers), [`qemu`] (the process and its three serial lines), [`kernel_log`] (what the kernel complained
//! about) and [`vm`] (all of them together).
//!
//! Three notions are shared by all: where things are ([`project`]), which kernel is meant ([`flavour`]) and
//! how an external program is run and its failure told ([`process`]).

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod apt;
mod apt_sources;
mod bench;
mod boots;
mod clean;
mod counters;
mod demo;
mod flavour;
mod fuzz;
mod initrd;
mod inject;
mod instructions;
mod kernel_log;
mod kernels;
mod linux;
mod module;
mod plugin;
mod prelink;
mod process;
mod processors;
mod profile;
mod programs;
mod project;
mod qemu;
mod record;
mod scenarios;
mod setup;
mod shim;
mod steps;
mod system_packages;
mod tally;
mod test;
mod toolchain;
mod transcript;
mod vm;

use project::Project;

/// The project's one front door: set up, build, show, test.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing and fetch Debian's i386 kernels and headers into the cache
    Setup(setup::Args),
    /// Build the kernel module (both flavours), the launcher and the example guests
    Build(programs::BuildArgs),
    /// Build a Linux guest of Debian's kernel source: its kernel and its initial file system
    LinuxGuest(linux::command::Args),
    /// Measure the Linux guest under several strategies, beside the same kernel on the bare machine
    LinuxBench(linux::bench::Args),
    /// Measure workloads in a guest under several strategies
    Bench(bench::command::Args),
    /// Boot Debian's kernel in QEMU, run a guest under several strategies, compare them
    Demo(demo::Args),
    /// Record what a guest asks of its page tables, as a trace for `replay`
    Record(record::Args),
    /// Count the instructions of the pager's hot paths, and compare them with the committed ones
    Instructions(instructions::Args),
    /// Count the instructions of one workload by function: of the guest, the Switcher, the module, the host
    Profile(profile::Args),
    /// Attack the module at random in the host VM, and all that parses bytes on this machine
    Fuzz(fuzz::Args),
    /// Stop at every instruction of the Switcher and inject there every event that can come
    Inject(inject::Args),
    /// Run everything that CI checks
    Test(test::Args),
    /// A shell in the host VM, with module and launcher at hand
    Shell(demo::HostArgs),
    /// Throw away what the other commands have made
    Clean(clean::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of reasons is for people; a backtrace into this program would bury it.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let project = Project::locate()?;
    match command {
        Command::Setup(args) => setup::run(&project, &args).map(drop),
        Command::Build(args) => programs::build_command(&project, &args),
        Command::LinuxGuest(args) => linux::command::run(&project, &args),
        Command::LinuxBench(args) => linux::bench::run(&project, &args),
        Command::Bench(args) => bench::command::run(&project, &args),
        Command::Demo(args) => demo::run(&project, &args),
        Command::Record(args) => record::run(&project, &args),
        Command::Profile(args) => profile::run(&project, &args),
        Command::Instructions(args) => instructions::run(&project, &args),
        Command::Fuzz(args) => fuzz::run(&project, &args),
        Command::Inject(args) => inject::run(&project, &args),
        Command::Test(args) => test::run(&project, &args),
        Command::Shell(args) => demo::shell(&project, &args),
        Command::Clean(args) => clean::run(&project, &args),
    }
}
