//! The program `replay`: runs a paging trace on strategies and reports the result.
//!
//! It is in the library so that a plug-in can have it with itself in the registry, by a program of a few lines
//! (`examples/policy-plugin/examples/replay.rs`).
//!
//! | called as | what it does | module |
//! | --- | --- | --- |
//! | `replay TRACE` | one strategy, in full | `single` |
//! | `replay TRACE --strategies … --slots …` | many at once, a line each, or a picture | `compare` |
//! | `replay convert`, `replay generate` | traces from traces, and from nothing | `files` |
//! | `replay bound` | what no policy could cost less than | `bound` |
//! | `replay --list` | what strategies there are | |

mod bound;
mod compare;
mod files;
mod json;
mod single;

use crate::chart::ChartError;
use crate::comparison::{self, CompareError};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use framework::registry::{self, ConfigError, RegistrationError};
use sim::trace::TraceError;
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
    single: single::SingleOptions,
    #[command(flatten)]
    compare: compare::CompareOptions,
    /// Seed of the strategies' random choices, instead of the trace's
    #[arg(long)]
    seed: Option<u64>,
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
    /// Write a trace in another form: by the name of OUT, `.lgt` is binary, `.lz4` behind it compressed
    Convert(files::Convert),
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

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot open {}: {source}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: {source}", .path.display())]
    Trace { path: PathBuf, source: TraceError },
    #[error(
        "{} is a pipe, which can be read once, and this comparison reads the trace {readings} times (the optimum looks ahead, and {} strategies share a reading); put the trace into a file",
        .path.display(), comparison::AT_ONCE
    )]
    ReadOnce { path: PathBuf, readings: u64 },
    #[error("{0} (`replay --list` shows what there is)")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Registration(#[from] RegistrationError),
    #[error("{0} references and {1} table pages are left after the guest is gone")]
    Leak(u64, usize),
    #[error("the guest has had more page directories at a time than a bound can be computed for")]
    Bound,
    #[error("strategy {strategy} panicked: {words}")]
    Panic { strategy: String, words: String },
    #[error("`--format {0}` is for {1}")]
    Format(&'static str, &'static str),
    #[error("{0}")]
    Chart(#[from] ChartError),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl Failure {
    fn of_comparison(path: &std::path::Path, error: CompareError<Self>) -> Self {
        match error {
            CompareError::Config(error) => error.into(),
            CompareError::Trace(source) => Self::Trace { path: path.to_owned(), source },
            CompareError::Open(failure) => failure,
        }
    }
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
