//! What attacks: the module in QEMU, and all that parses bytes.
//!
//! Everything that means harm to the product in order to find its faults belongs here, with the faults that are planted to
//! see that they are found. The attackers that run in the host VM are `examples/fuzz-launcher` and
//! `examples/hostile-launcher`, the targets for libFuzzer `benches/fuzz`. What sets up, builds and boots is in `xtask`, on
//! which this crate depends; what measures is in `benches/lab`.
//!
//! | command of `cargo xtask` | what it does | module |
//! | --- | --- | --- |
//! | `fuzz` | random attacks on the module in QEMU, coverage-guided ones on all that parses bytes | [`fuzz`] |
//! | `inject` | every instruction of the Switcher with every event that can come there | [`inject`] |
//!
//! `section NAME` makes the checks of a section of `cargo xtask test`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::project::Project;

mod fuzz;
mod inject;

/// Attacks the module, and all that parses bytes.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Attack the module at random in the host VM, and all that parses bytes on this machine
    Fuzz(fuzz::Args),
    /// Stop at every instruction of the Switcher and inject there every event that can come
    Inject(inject::Args),
    /// Make the checks of one section of `cargo xtask test`
    #[command(subcommand, hide = true)]
    Section(Section),
}

#[derive(Subcommand)]
enum Section {
    /// Every event at every instruction of the Switcher, on one way each, on both kernels
    Inject,
}

fn main() -> ExitCode {
    xtask::exit_code(run(Command::parse()))
}

fn run(command: Command) -> Result<()> {
    let project = Project::locate()?;
    match command {
        Command::Fuzz(args) => fuzz::run(&project, &args),
        Command::Inject(args) => inject::run(&project, &args),
        Command::Section(Section::Inject) => inject::checks(&project),
    }
}
