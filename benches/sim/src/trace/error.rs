//! What reading a trace comes to, and why one cannot be read.

use framework::trace::binary::BinaryError;
use framework::trace::{HeaderError, Operation};
use std::io;

/// A trace that cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TraceError {
    #[error("after line {line}: {source}")]
    Line { line: u64, source: io::Error },
    #[error("line {line}: {reason}")]
    Malformed { line: u64, reason: Malformed },
    #[error("the trace ends after line {line}, where `{expected}` should follow")]
    MissingHeader { line: u64, expected: &'static str },
    #[error("at byte {at} of the binary trace: {source}")]
    Byte { at: u64, source: io::Error },
    #[error("at byte {at} of the binary trace: {reason}")]
    Binary { at: u64, reason: BinaryError },
    #[error(
        "there is no end mark after operation {after}: the trace was cut; --accept-loss replays what there is (a text that is whole all the same wants a last line `end`)"
    )]
    Cut { after: u64 },
    #[error("the trace goes on behind its end mark, which follows operation {after}")]
    BehindEnd { after: u64 },
    #[error("the first bytes cannot be read: {0}")]
    Begin(io::Error),
    #[error(
        "after operation {after}: the recording lost {operations} operations here; record it again with a larger buffer, or replay it with --accept-loss"
    )]
    Lost { after: u64, operations: u64 },
}

impl TraceError {
    /// Whether the input ends within a line or a record.
    pub(super) const fn is_cut(&self) -> bool {
        matches!(
            self,
            Self::Malformed { reason: Malformed::Cut, .. }
                | Self::Binary { reason: BinaryError::Truncated, .. }
        )
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Malformed {
    #[error("`{0}` where the header wants `{1}`{hint}", hint = other_forms(.1))]
    Header(String, &'static str),
    #[error("version {0}; this reader knows version 1")]
    Version(u64),
    #[error("{0}")]
    Impossible(#[from] HeaderError),
    #[error("`{0}` is no operation")]
    UnknownOperation(String),
    #[error("`{0}` is an operation of traces with `paging 3`")]
    NeedsPae(&'static str),
    #[error("a word is missing: {0}")]
    Missing(&'static str),
    #[error("`{0}` is one word too many")]
    TooMany(String),
    #[error("`{0}` is no number (decimal, or hexadecimal with 0x)")]
    Number(String),
    #[error("{what} {value:#x} is wider than {bits} bits")]
    TooWide { what: &'static str, value: u64, bits: u32 },
    #[error("`{0}` where {1} is wanted")]
    Word(String, &'static str),
    #[error("the line is longer than {0} bytes")]
    TooLong(usize),
    #[error(
        "the line has no line break at its end: the trace was cut here; --accept-loss replays what is before it"
    )]
    Cut,
}

/// What comes next in a trace.
pub(super) enum Next {
    Operation(Operation),
    EndMark,
    /// Nothing: the input ends without an end mark.
    Cut,
}

/// What a file may be whose first line is not a trace's.
fn other_forms(wanted: &str) -> &'static str {
    match wanted {
        "lgtrace" => ": it is no paging trace; --input reads it as keys, csv or oracle-general",
        _ => "",
    }
}
