//! The program `replay`: runs a paging trace on strategies and reports the result.
//!
//! It is in the library so that a plug-in can have it with itself in the registry, by a program of a few lines
//! (`examples/policy-plugin/examples/replay.rs`).
//!
//! | called as | what it does | module |
//! | --- | --- | --- |
//! | `replay TRACE` | one strategy, in full | `single` |
//! | `replay TRACE --strategies … --slots …` | many at once, a line each, or a picture | `compare` |
//! | `replay analyze TRACE` | what its loads are like, without a strategy | `analyze` |
//! | `replay sweep list`, `run`, `merge` | a matrix of jobs for any number of machines | `sweep` |
//! | `replay convert`, `replay generate` | traces from traces, and from nothing | `files` |
//! | `replay bound` | what no policy could cost less than | `bound` |
//! | `replay --list` | what strategies there are | |

mod analyze;
mod bound;
mod compare;
mod failure;
mod files;
mod input;
mod job;
mod json;
mod notices;
mod numbers;
mod output;
mod plots;
mod rows;
mod single;
mod sweep;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use failure::Failure;
use framework::registry;
use input::InputOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs a paging trace on a strategy, or on many at once, and reports the result.
#[derive(Debug, Parser)]
#[command(version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The trace, in any form; `-` for the standard input
    #[arg(required_unless_present = "list")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    input: InputOptions,
    #[command(flatten)]
    single: single::SingleOptions,
    #[command(flatten)]
    compare: compare::CompareOptions,
    /// Seed of the strategies' random choices, instead of the trace's
    #[arg(long)]
    seed: Option<u64>,
    /// Leave the first N page-directory loads, and all until the next one, out of the counts
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "bench")]
    warmup: u64,
    /// Go on where the recording has lost operations, or its end; this is no longer what the guest did
    #[arg(long)]
    accept_loss: bool,
    /// Form of the report [default: text for one strategy, table for many]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print the strategies and their parameters
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a trace in another form, by the name of OUT: paging trace, key list, CSV, oracleGeneral
    Convert(files::Convert),
    /// Report reuse distances, the working set over time and LRU's misses for every number of slots
    Analyze(analyze::Analyze),
    /// A matrix of traces, strategies, parameters and slots as independent jobs, for any number of machines
    #[command(subcommand)]
    Sweep(sweep::Sweep),
    /// Write a generated load as a trace
    Generate(files::Generate),
    /// Print what no eviction policy could cost less than, as CSV
    Bound(bound::BoundOptions),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The exact form of docs/trace-format.md, for one strategy
    Text,
    /// Aligned columns, for many
    Table,
    /// A heading and a line for each strategy
    Csv,
    /// One object, or an array of them
    Json,
}

/// The definition of the program's command line, for its manual.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command().name("replay")
}

/// The program, on the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(Failure::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("replay: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    registry::check()?;
    match (&arguments.command, &arguments.trace) {
        (Some(Command::Convert(convert)), _) => files::convert(convert),
        (Some(Command::Analyze(options)), _) => analyze::run(options),
        (Some(Command::Sweep(command)), _) => sweep::run(command),
        (Some(Command::Generate(generate)), _) => files::generate(generate),
        (Some(Command::Bound(options)), _) => bound::run(options),
        (None, Some(trace)) if arguments.compare.wanted() => compare::run(trace, arguments),
        (None, Some(trace)) => single::run(trace, arguments),
        (None, None) => {
            let mut out = io::stdout().lock();
            write!(out, "{}", registry::catalogue())?;
            writeln!(
                out,
                "\nIn comparisons also `opt`, the offline optimum, and `all`: every policy and `opt`. No policy has fewer\n\
                 misses than `opt`; its cost may be higher, as one miss costs more than another."
            )?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn one_strategy_or_many() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert!(parse("replay t --strategy lru --dump").is_ok());
        assert!(parse("replay t --strategies lru,arc --slots 1..4").unwrap().compare.wanted());
        assert!(parse("replay --list").is_ok());
        assert!(parse("replay convert a b").is_ok());
        assert!(parse("replay").is_err());
        assert!(parse("replay t --strategies lru --dump").is_err());
    }
}
