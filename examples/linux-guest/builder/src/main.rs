//! The program behind `cargo xtask linux-guest`, the section `linux` of `cargo xtask test`, and the kernels that `--host` there
//! builds.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use linux_guest_builder::{checks, guest, host};
use xtask::project::Project;
use xtask::setup;

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
        Command::LinuxGuest(args) => linux_guest(&project, &args),
        Command::HostKernel(args) => host::run(&project, &args),
        Command::Section(Section::Linux(args)) => checks::run(&project, &args),
    }
}

fn linux_guest(project: &Project, args: &guest::Args) -> Result<()> {
    let wanted = args.test.as_deref().map(checks::chosen).transpose()?;
    let machine = setup::ensure(project, false)?;
    let guest = guest::run(project, &machine, args)?;
    if let Some(wanted) = wanted {
        checks::run_on(project, &machine, &guest, args.pae, wanted);
    }
    Ok(())
}
