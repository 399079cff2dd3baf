//! Why a sequence of keys cannot be read or written.

use super::key::Key;
use std::io;

/// A sequence of keys that cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeyError {
    #[error("the first bytes cannot be read: {0}")]
    Begin(io::Error),
    #[error("after line {line}: {source}")]
    Line { line: u64, source: io::Error },
    #[error("line {line}: {reason}")]
    Malformed { line: u64, reason: MalformedKey },
    #[error("the file has no first line with the names of its columns, where one named `{0}` is looked for")]
    NoHeader(String),
    #[error("line {line}: no column is named `{wanted}`; there are {}; --key-column chooses one by its name or number, and --delimiter what is between them", quoted(.columns))]
    NoColumn { line: u64, wanted: String, columns: Vec<String> },
    #[error("line {line}: {count} columns are named `{name}`; choose one by its number")]
    ManyColumns { line: u64, name: String, count: usize },
    /// The crate's text has record and line.
    #[error("{0}")]
    Csv(#[from] csv::Error),
    #[error("record {record}: {source}")]
    Record { record: u64, source: io::Error },
    #[error(
        "record {record}, at byte {at}: {length} bytes, where a record has {whole}: the file was cut, or it is no oracleGeneral trace"
    )]
    CutRecord { record: u64, at: u64, length: usize, whole: usize },
    #[error(
        "load {load}: `{key}` is one key too many; a simulated guest has {most} page directories at most"
    )]
    TooMany { load: u64, key: Key, most: u32 },
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum MalformedKey {
    #[error("`{0}` is one word too many: a list has one key a line (a paging trace needs --input trace)")]
    TooMany(String),
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    #[error("there is no column {0}; the line has {1}")]
    NoColumn(usize, usize),
    #[error("column {0} is empty, where the key should be")]
    NoKey(usize),
}

/// A sequence of keys that cannot be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeyWriteError {
    #[error("{0}")]
    Output(#[from] io::Error),
    #[error("{0}")]
    Csv(#[from] csv::Error),
    #[error(
        "load {load}: `{key}` is no number from 0 to {max}, and oracleGeneral names keys by numbers; --number-keys numbers them in the order of their first loads",
        max = u64::MAX
    )]
    NoNumber { load: u64, key: Key },
    #[error("load {load}: `{key}` has blanks, begins with # or is empty; a list has one word a line")]
    NoWord { load: u64, key: Key },
    #[error("load {0}: oracleGeneral has 32 bits for the time, which is the load's number")]
    TooLong(u64),
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
