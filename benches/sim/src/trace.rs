//! Traces in files: read in any form, written in any form.
//!
//! `docs/trace-format.md` has the forms: lines of [`text`], or the binary form of
//! [`framework::trace::binary`], either of them as it is or compressed by LZ4 or Zstandard (written only by LZ4). A [`Reader`] finds out by
//! the first bytes. It streams: whatever the length of a trace, it holds a buffer of it. A trace that lacks
//! its end mark was cut, and reading it ends with an error that states so.

use crate::compression::{Compressed, Decompressed};
use crate::trace::source::Source;
use error::Next;
pub use error::{Malformed, TraceError};
use framework::trace::TEXT_END;
use framework::trace::binary::{Decoder, Encoder, MAGIC, MAX_RECORD};
pub use framework::trace::{Header, Operation};
use std::io::{self, Read, Write};
use text::TextReader;

mod error;
mod source;
pub mod text;

/// Reads a trace, an operation at a time.
pub struct Reader<R: Read> {
    source: Source<Decompressed<R>>,
    header: Header,
    form: Form,
    /// Operations that have been read.
    operations: u64,
    accept_loss: bool,
    accept_cut: bool,
    /// Its end was reached, or an error.
    over: bool,
}

enum Form {
    Text(TextReader),
    Binary(Decoder),
}

impl<R: Read> Reader<R> {
    /// Finds out the form and reads the header.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn new(input: R) -> Result<Self, TraceError> {
        let mut source = Source::new(Decompressed::new(input).map_err(TraceError::Begin)?);
        source.fill(MAX_RECORD).map_err(TraceError::Begin)?;
        let (form, header) = if source.bytes().starts_with(&MAGIC[..1]) {
            let (decoder, header, length) =
                Decoder::new(source.bytes()).map_err(|reason| TraceError::Binary { at: 0, reason })?;
            source.consume(length);
            (Form::Binary(decoder), header)
        } else {
            let (reader, header) = TextReader::new(&mut source)?;
            (Form::Text(reader), header)
        };
        Ok(Self { source, header, form, operations: 0, accept_loss: false, accept_cut: false, over: false })
    }

    /// What the header contains.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// Goes on where a recording has lost operations, which is an error otherwise.
    #[must_use]
    pub fn accept_loss(mut self, accept: bool) -> Self {
        self.accept_loss = accept;
        self
    }

    /// Takes a trace without an end mark for whole, up to its last whole operation, which is an error otherwise.
    #[must_use]
    pub fn accept_cut(mut self, accept: bool) -> Self {
        self.accept_cut = accept;
        self
    }
}

fn decode<R: Read>(decoder: &mut Decoder, source: &mut Source<R>) -> Result<Next, TraceError> {
    let at = source.consumed();
    source.fill(MAX_RECORD).map_err(|source| TraceError::Byte { at, source })?;
    if source.bytes().is_empty() {
        return Ok(Next::Cut);
    }
    let (operation, length) =
        decoder.decode(source.bytes()).map_err(|reason| TraceError::Binary { at, reason })?;
    source.consume(length);
    Ok(operation.map_or(Next::EndMark, Next::Operation))
}

impl<R: Read> Reader<R> {
    fn read_next(&mut self) -> Result<Option<Operation>, TraceError> {
        let after = self.operations;
        let next = match &mut self.form {
            Form::Text(reader) => reader.next(&mut self.source),
            Form::Binary(decoder) => decode(decoder, &mut self.source),
        };
        let next = match next {
            Err(error) if self.accept_cut && error.is_cut() => Next::Cut,
            next => next?,
        };
        match next {
            Next::Operation(Operation::Lost(operations)) if !self.accept_loss => {
                Err(TraceError::Lost { after, operations })
            }
            Next::Operation(operation) => {
                self.operations += 1;
                Ok(Some(operation))
            }
            Next::EndMark => {
                let goes_on = match &mut self.form {
                    Form::Text(reader) => reader.goes_on(&mut self.source)?,
                    Form::Binary(_) => {
                        let at = self.source.consumed();
                        self.source.fill(1).map_err(|source| TraceError::Byte { at, source })?;
                        !self.source.bytes().is_empty()
                    }
                };
                if goes_on { Err(TraceError::BehindEnd { after }) } else { Ok(None) }
            }
            Next::Cut if self.accept_cut => Ok(None),
            Next::Cut => Err(TraceError::Cut { after }),
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Operation, TraceError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let operation = self.read_next();
        self.over = !matches!(operation, Ok(Some(_)));
        operation.transpose()
    }
}

/// What a trace is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenForm {
    /// Records instead of lines.
    pub binary: bool,
    /// In an LZ4 frame.
    pub compressed: bool,
}

/// Writes a trace. [`Writer::finish`] must be called, or it counts as cut.
pub struct Writer<W: Write> {
    output: Compressed<W>,
    /// Of the binary form.
    encoder: Option<Encoder>,
}

impl<W: Write> Writer<W> {
    /// Writes the header. The output should be buffered.
    ///
    /// # Errors
    /// The output's.
    pub fn new(output: W, form: WrittenForm, header: &Header) -> io::Result<Self> {
        let mut output = Compressed::new(output, form.compressed);
        let encoder = if form.binary {
            let (encoder, record) = Encoder::new(header);
            output.write_all(&record)?;
            Some(encoder)
        } else {
            write!(output, "{header}")?;
            None
        };
        Ok(Self { output, encoder })
    }

    /// Writes an operation.
    ///
    /// # Errors
    /// The output's.
    pub fn write(&mut self, operation: &Operation) -> io::Result<()> {
        match &mut self.encoder {
            Some(encoder) => self.output.write_all(&encoder.encode(operation)),
            None => write!(self.output, "{operation}"),
        }
    }

    /// Writes the end mark, and all that is held back.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> io::Result<()> {
        match &self.encoder {
            Some(_) => self.output.write_all(&Encoder::end())?,
            None => self.output.write_all(TEXT_END.as_bytes())?,
        }
        self.output.finish()
    }

    /// Writes what is held back and no end mark, for a trace of which the rest cannot be had.
    ///
    /// # Errors
    /// The output's.
    pub fn finish_cut(self) -> io::Result<()> {
        self.output.finish()
    }
}
