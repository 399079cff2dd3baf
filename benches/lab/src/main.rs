//! The laboratory: what measures the product.
//!
//! Measurements of guests in the host VM, of the pager's hot paths, and recordings of guests belong here. What sets up,
//! builds and boots is in `xtask`, on which this crate depends; what attacks is in `benches/attack`. No test of another
//! crate may depend on this one: what tests need is in `benches/sim`.
//!
//! | command of `cargo xtask` | what it does | module |
//! | --- | --- | --- |
//! | `bench` | runs workloads under several strategies, makes tables and plots of what they cost | [`bench`](mod@bench) |
//! | `profile` | instructions by function of the host and the guest, for one workload | [`profile`] |
//! | `instructions` | counts what the pager's hot paths take, and compares with a baseline | [`instructions`] |
//! | `record` | a guest's paging trace, recorded in QEMU, brought out and replayed; of a [load](loads), if one is named | [`record`] |
//!
//! [`workloads`] has the names of what the first two run in a guest. `section NAME` makes the checks of a section of `cargo xtask test`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::project::Project;
use xtask::tally;

mod bench;
mod instructions;
mod loads;
mod profile;
mod record;
mod workloads;

/// Measures guests, strategies and hot paths.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Measure workloads in a guest under several strategies, beside the same guest on the bare machine
    Bench(bench::command::Args),
    /// Count the instructions of one workload by function: of the guest, the Switcher, the module, the host
    Profile(profile::Args),
    /// Count the instructions of the pager's hot paths, and compare them with the committed ones
    Instructions(instructions::Args),
    /// Record a guest's paging requests, as a trace for `replay`
    Record(record::Args),
    /// Make the checks of one section of `cargo xtask test`
    #[command(subcommand, hide = true)]
    Section(Section),
}

#[derive(Subcommand)]
enum Section {
    /// Short benchmarks, a profile and recordings come to what they must
    Bench,
    /// The pager's hot paths take as many instructions as before
    Instructions,
}

fn main() -> ExitCode {
    xtask::exit_code(run(Command::parse()))
}

fn run(command: Command) -> Result<()> {
    let project = Project::locate()?;
    match command {
        Command::Bench(args) => bench::command::run(&project, &args)?,
        Command::Profile(args) => profile::run(&project, &args)?,
        Command::Instructions(args) => instructions::run(&project, &args)?,
        Command::Record(args) => record::run(&project, &args)?,
        Command::Section(Section::Bench) => tally::section(|tally| {
            bench::command::check(&project, tally);
            profile::check(&project, tally);
            record::check(&project, tally);
        }),
        Command::Section(Section::Instructions) => {
            tally::section(|tally| instructions::check(&project, tally));
        }
    }
    Ok(())
}
