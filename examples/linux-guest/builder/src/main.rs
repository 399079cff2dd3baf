//! The program behind `cargo xtask linux-guest`, and the section `linux` of `cargo xtask test`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use linux_guest_builder::{checks, guest};
use xtask::project::Project;

/// Builds Linux as a guest.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Build a Linux guest of Debian's kernel source: its kernel and its initial file system
    LinuxGuest(guest::Args),
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
        Command::Section(Section::Linux(args)) => checks::run(&project, &args),
    }
}
