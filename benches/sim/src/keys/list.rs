//! A plain list: a key a line. `#` begins a comment line, and empty lines are skipped.

use super::error::{KeyError, MalformedKey};
use super::key::Key;
use std::io::{BufRead, Read};

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 1 << 20;

/// Reads a list.
pub(super) struct ListReader<R> {
    input: R,
    /// Lines that have been read.
    line: u64,
    bytes: Vec<u8>,
}

impl<R: BufRead> ListReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: 0, bytes: Vec::new() }
    }

    /// The next key; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Key>, KeyError> {
        loop {
            self.bytes.clear();
            let limited = self.input.by_ref().take(MAX_LINE as u64 + 1);
            let read = { limited }.read_until(b'\n', &mut self.bytes);
            if read.map_err(|source| KeyError::Line { line: self.line, source })? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let key =
                key_of(&self.bytes).map_err(|reason| KeyError::Malformed { line: self.line, reason })?;
            if key.is_some() {
                return Ok(key);
            }
        }
    }
}

/// The key of a line, if it has one.
fn key_of(line: &[u8]) -> Result<Option<Key>, MalformedKey> {
    if line.len() > MAX_LINE {
        return Err(MalformedKey::TooLong(MAX_LINE));
    }
    let text = std::str::from_utf8(line).map_err(|_| MalformedKey::NotUtf8)?.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    match text.split_once(char::is_whitespace) {
        Some((_, rest)) => Err(MalformedKey::TooMany(rest.trim_start().to_owned())),
        None => Ok(Some(Key::of(text))),
    }
}
