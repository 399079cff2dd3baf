//! Why the program fails.

use super::numbers::TooManySlots;
use crate::chart::ChartError;
use crate::comparison::{self, CompareError, Row};
use crate::shards::SmallSample;
use arch_i386::paging::Paging;
use framework::registry::{ConfigError, RegistrationError};
use sim::input::InputError;
use sim::keys::KeyWriteError;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot open {}: {source}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", .path.display())]
    WriteKeys { path: PathBuf, source: KeyWriteError },
    #[error("{} would be compressed by Zstandard, which is only read; `.lz4` is written", .0.display())]
    NoZstd(PathBuf),
    #[error("{} is a paging trace, whose page directories are numbered anyway; --number-keys is for keys", .0.display())]
    NoKeys(PathBuf),
    #[error("{}: {source}", .path.display())]
    Input { path: PathBuf, source: InputError },
    #[error("{} is no CSV, so that it has no {option}; --input csv reads it as such", .path.display())]
    NoCsv { path: PathBuf, option: &'static str },
    #[error("--key-column counts from 1")]
    ColumnZero,
    #[error("without a header no column is named `{0}`; give its number to --key-column")]
    NamedColumn(String),
    #[error(
        "{} is a pipe, which can be read once, and this comparison reads the trace {readings} times (the optimum looks ahead, slots as shares take the number of page directories, and {} strategies share a reading); put the trace into a file",
        .path.display(), comparison::AT_ONCE
    )]
    ReadOnce { path: PathBuf, readings: u64 },
    #[error(
        "{} has {loads} loads of page directories, and the warm-up {warmup}: nothing is left to be counted",
        .path.display()
    )]
    WarmUp { path: PathBuf, warmup: u64, loads: u64 },
    #[error("the name {} is not UTF-8, as a list of jobs has to be", .0.display())]
    NotUtf8(PathBuf),
    #[error("{} is no file, and each job has to read it anew", .0.display())]
    NoFile(PathBuf),
    #[error("none of the strategies has a parameter `{0}`")]
    NoParameter(String),
    #[error("{}: there is no job {number}; the list has {jobs}", .path.display())]
    NoJob { path: PathBuf, number: u64, jobs: usize },
    #[error("{}, line {line}, is not {what}: {reason}", .path.display())]
    Line { path: PathBuf, line: usize, what: &'static str, reason: String },
    #[error(
        "{} is another file than the list was made with: its SHA-256 is {found}, not {expected}", .path.display()
    )]
    OtherFile { path: PathBuf, found: String, expected: String },
    #[error("nothing is merged:\n    {}", .0.join("\n    "))]
    Results(Vec<String>),
    #[error("{0}")]
    Sample(#[from] SmallSample),
    #[error("--slots: {0}")]
    Slots(#[from] TooManySlots),
    #[error("{0} (`replay --list` shows what there is)")]
    Config(ConfigError),
    #[error(
        "strategy `{strategy}` cannot serve {paging} page tables, which the trace's guest has (the guest of a list of keys has PAE)"
    )]
    Paging { strategy: &'static str, paging: Paging },
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
    #[error("the plot is SVG, and {} is not named so: write --plot {}", .0.display(), .0.with_extension("svg").display())]
    NotSvg(PathBuf),
    #[error(
        "nothing to draw: --plot draws misses over numbers of slots; give --slots 1..64, and a strategy that runs with them"
    )]
    NothingToDraw,
    #[error("{0}")]
    Chart(#[from] ChartError),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    #[error("cannot print: {0}")]
    PrintTable(#[from] csv::Error),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error {
            // A replay has no host of its own: the simulated one has the format of the trace.
            ConfigError::Format { strategy, paging } => Self::Paging { strategy, paging },
            error => Self::Config(error),
        }
    }
}

impl Failure {
    pub fn of_comparison(path: &Path, error: CompareError<Self>) -> Self {
        match error {
            CompareError::Config(error) => error.into(),
            CompareError::Input(source) => Self::Input { path: path.to_owned(), source },
            CompareError::WarmUp { warmup, loads } => Self::WarmUp { path: path.to_owned(), warmup, loads },
            CompareError::Open(failure) => failure,
        }
    }

    /// That of a strategy that panicked, or left something behind.
    pub fn of_row(row: &Row) -> Result<(), Self> {
        match &row.outcome {
            Err(words) => Err(Self::Panic { strategy: row.competitor.to_string(), words: words.clone() }),
            Ok(report) => match report.after_free {
                (0, 0) => Ok(()),
                (pins, tables) => Err(Self::Leak(pins, tables)),
            },
        }
    }
}
