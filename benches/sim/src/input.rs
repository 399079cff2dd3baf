//! What a program is given to replay: a paging trace or a sequence of keys, read as operations either way.

use crate::keys::{KeyError, KeyReader, Loads, ReadForm};
use crate::trace::{Header, Operation, Reader, TraceError};
use std::io::Read;

/// An input's operations.
pub enum Input<R: Read> {
    /// A paging trace.
    Trace(Box<Reader<R>>),
    /// Keys.
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
        Ok(match keys {
            Some(form) => Self::Keys(Loads::new(KeyReader::new(input, form)?)),
            None => Self::Trace(Box::new(Reader::new(input)?)),
        })
    }

    /// Goes on where a paging trace has lost operations, or its end, which are errors otherwise.
    #[must_use]
    pub fn accept_loss(self, accept: bool) -> Self {
        match self {
            Self::Trace(reader) => Self::Trace(Box::new(reader.accept_loss(accept).accept_cut(accept))),
            keys => keys,
        }
    }

    /// Goes on where a paging trace has lost operations and has a mark that says so, for who passes the mark on.
    #[must_use]
    pub fn mark_loss(self) -> Self {
        match self {
            Self::Trace(reader) => Self::Trace(Box::new(reader.accept_loss(true))),
            keys => keys,
        }
    }

    /// The guest.
    #[must_use]
    pub fn header(&self) -> Header {
        match self {
            Self::Trace(reader) => reader.header(),
            Self::Keys(loads) => loads.header(),
        }
    }
}

impl<R: Read> Iterator for Input<R> {
    type Item = Result<Operation, InputError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Trace(reader) => reader.next().map(|operation| Ok(operation?)),
            Self::Keys(loads) => loads.next().map(|operation| Ok(operation?)),
        }
    }
}
