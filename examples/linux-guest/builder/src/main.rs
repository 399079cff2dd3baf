//! The program behind `cargo xtask linux-guest`, the section `linux` of `cargo xtask test`, and the kernels that `--host` there
//! builds.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use linux_guest_builder::{checks, guest, host};
use xtask::project::Project;

/// Builds Linux as a guest.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Build a Linux guest of Debian's kernel source: its kernel and its initial file system
    LinuxGuest(guest::Args),
    /// Build the kernel of a host
    #[command(hide = true)]
    HostKernel(host::Args),
    /// Make the checks of one section of `cargo xtask test`
    #[command(subcommand, hide = true)]
    Section(Section),
}

#[derive(Subcommand)]
enum Section {
    /// The Linux guest in the host VM
    Linux(checks::Args),
}

fn main() -> ExitCode {
    xtask::exit_code(run(Command::parse()))
}

fn run(command: Command) -> Result<()> {
    let project = Project::locate()?;
    match command {
        Command::LinuxGuest(args) => guest::run(&project, &args),
        Command::HostKernel(args) => host::run(&project, &args),
        Command::Section(Section::Linux(args)) => checks::run(&project, &args),
    }
}
