//! The program behind `cargo xtask package` and `image`, and the section `package` of `cargo xtask test`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use packages::{checks, debs, image};
use xtask::project::Project;

/// Packages the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Make Debian packages for i386: the module for DKMS, the programs, the Linux guest
    Package(debs::Args),
    /// Make a disk image of Debian 12 for i386 with the packages and a C compiler
    Image,
    /// Make the checks of one section of `cargo xtask test`
    #[command(subcommand, hide = true)]
    Section(Section),
}

#[derive(Subcommand)]
enum Section {
    /// The packages, installed in a Debian system
    Package,
}

fn main() -> ExitCode {
    xtask::exit_code(run(Command::parse()))
}

fn run(command: Command) -> Result<()> {
    let project = Project::locate()?;
    match command {
        Command::Package(args) => debs::run(&project, &args),
        Command::Image => image::run(&project),
        Command::Section(Section::Package) => checks::run(&project),
    }
}
