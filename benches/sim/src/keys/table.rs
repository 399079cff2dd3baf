//! A table: CSV (RFC 4180) with the key in one of its columns. `#` begins a comment line.

use super::error::{KeyError, MalformedKey};
use super::key::Key;
use csv::{ReaderBuilder, StringRecord, Trim};
use std::io::Read;

/// Which column has the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// The one that the first line names so.
    Name(String),
    /// By its number, from 1.
    Number {
        /// The number.
        number: usize,
        /// Whether the first line has names, and no key.
        header: bool,
    },
}

/// Reads a table.
pub(super) struct TableReader<R> {
    reader: csv::Reader<R>,
    record: StringRecord,
    /// The key's column, from 0.
    column: usize,
}

impl<R: Read> TableReader<R> {
    /// Finds the column.
    pub(super) fn new(input: R, column: &Column, delimiter: u8) -> Result<Self, KeyError> {
        let header = !matches!(column, Column::Number { header: false, .. });
        let mut builder = ReaderBuilder::new();
        builder.has_headers(header).delimiter(delimiter).comment(Some(b'#')).trim(Trim::All);
        let mut reader = builder.from_reader(input);
        let column = match column {
            Column::Name(name) => find(reader.headers()?, name)?,
            Column::Number { number, .. } => number.saturating_sub(1),
        };
        Ok(Self { reader, record: StringRecord::new(), column })
    }

    /// The next key; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Key>, KeyError> {
        if !self.reader.read_record(&mut self.record)? {
            return Ok(None);
        }
        let number = self.column + 1;
        let key = match self.record.get(self.column) {
            Some("") => Err(MalformedKey::NoKey(number)),
            Some(key) => Ok(Some(Key::of(key))),
            None => Err(MalformedKey::NoColumn(number, self.record.len())),
        };
        key.map_err(|reason| KeyError::Malformed { line: line_of(&self.record), reason })
    }
}

fn line_of(record: &StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

fn find(header: &StringRecord, wanted: &str) -> Result<usize, KeyError> {
    if header.is_empty() {
        return Err(KeyError::NoHeader(wanted.to_owned()));
    }
    let line = line_of(header);
    let mut columns = header.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(column, _)| column);
    match (columns.next(), columns.count()) {
        (Some(column), 0) => Ok(column),
        (Some(_), more) => Err(KeyError::ManyColumns { line, name: wanted.to_owned(), count: 1 + more }),
        (None, _) => {
            let columns = header.iter().map(str::to_owned).collect();
            Err(KeyError::NoColumn { line, wanted: wanted.to_owned(), columns })
        }
    }
}
