//! What a program is given to replay: a paging trace or a sequence of keys, read as operations either way.

use crate::keys::{KeyError, KeyReader, Loads, ReadForm};
use crate::trace::{Header, Operation, Reader, TraceError};
use std::io::Read;

/// An input's operations.
pub struct Input<R: Read> {
    source: Source<R>,
    /// Loads of page directories that are still to come at most.
    loads: u64,
}

enum Source<R: Read> {
    Trace(Box<Reader<R>>),
    Keys(Loads<R>),
}

/// An input that cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum InputError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Keys(#[from] KeyError),
}

impl<R: Read> Input<R> {
    /// Begins to read: keys in such a form, or a paging trace in any.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn new(input: R, keys: Option<&ReadForm>) -> Result<Self, InputError> {
        let source = match keys {
            Some(form) => Source::Keys(Loads::new(KeyReader::new(input, form)?)),
            None => Source::Trace(Box::new(Reader::new(input)?)),
        };
        Ok(Self { source, loads: u64::MAX })
    }

    /// Ends before the load of a page directory that would be one more than so many. What follows is not read.
    #[must_use]
    pub fn of_loads(self, loads: u64) -> Self {
        Self { loads, ..self }
    }

    /// Goes on where a paging trace has lost operations, or its end, which are errors otherwise.
    #[must_use]
    pub fn accept_loss(self, accept: bool) -> Self {
        self.of_trace(|reader| reader.accept_loss(accept).accept_cut(accept))
    }

    /// Goes on where a paging trace has lost operations and has a mark that says so, for who passes the mark on.
    #[must_use]
    pub fn mark_loss(self) -> Self {
        self.of_trace(|reader| reader.accept_loss(true))
    }

    /// Changes how a paging trace is read.
    fn of_trace(self, change: impl FnOnce(Reader<R>) -> Reader<R>) -> Self {
        let source = match self.source {
            Source::Trace(reader) => Source::Trace(Box::new(change(*reader))),
            keys => keys,
        };
        Self { source, ..self }
    }

    /// The guest.
    #[must_use]
    pub fn header(&self) -> Header {
        match &self.source {
            Source::Trace(reader) => reader.header(),
            Source::Keys(loads) => loads.header(),
        }
    }
}

impl<R: Read> Iterator for Input<R> {
    type Item = Result<Operation, InputError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let operation = match &mut self.source {
            Source::Trace(reader) => reader.next().map(|operation| Ok(operation?)),
            Source::Keys(loads) => loads.next().map(|operation| Ok(operation?)),
        };
        if let Some(Ok(Operation::LoadPageDirectory(_))) = operation {
            self.loads = self.loads.checked_sub(1)?;
        }
        operation
    }
}
