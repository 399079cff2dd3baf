//! A buffer over a trace's bytes: what is looked at is there in one piece, and little is copied.

use std::io::{self, Read};

/// Bytes that are requested at once.
const CHUNK: usize = 1 << 16;

/// The bytes of an input from some point on.
pub struct Source<R> {
    input: R,
    buffer: Vec<u8>,
    /// What is left of `buffer`: from here to `end`.
    start: usize,
    end: usize,
    consumed: u64,
    at_end: bool,
}

impl<R: Read> Source<R> {
    pub fn new(input: R) -> Self {
        Self { input, buffer: vec![0; CHUNK], start: 0, end: 0, consumed: 0, at_end: false }
    }

    /// What has been read and not been consumed.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// How many bytes have been consumed.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Goes on behind that many bytes, which must have been there.
    #[inline]
    pub fn consume(&mut self, length: usize) {
        debug_assert!(length <= self.end - self.start);
        self.start += length;
        self.consumed += length as u64;
    }

    /// Reads until there are that many bytes, or all that the input has.
    #[inline]
    pub fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while self.end - self.start < wanted && self.more()? {}
        Ok(())
    }

    /// Reads some bytes more; `false` at the end.
    #[cold]
    pub fn more(&mut self) -> io::Result<bool> {
        if self.at_end {
            return Ok(false);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() < self.end + CHUNK / 2 {
            self.buffer.resize(self.end + CHUNK, 0);
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A compressed input that was cut: what came before is there, and an end mark is not.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break 0,
                result => break result?,
            }
        };
        self.end += read;
        self.at_end = read == 0;
        Ok(read != 0)
    }
}
