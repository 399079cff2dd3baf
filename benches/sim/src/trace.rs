//! Traces in files: read in any form, written in any form.
//!
//! `docs/trace-format.md` has the forms: lines of [`text`], or the binary form of
//! [`framework::trace::binary`], either of them as it is or compressed by LZ4. A [`Reader`] finds out by
//! the first bytes. It streams: whatever the length of a trace, it holds a buffer of it. A trace that lacks
//! its end mark was cut, and reading it ends with an error that states so.

use crate::trace::source::Source;
use error::Next;
pub use error::{Malformed, TraceError};
use framework::trace::TEXT_END;
use framework::trace::binary::{Decoder, Encoder, MAGIC, MAX_RECORD};
pub use framework::trace::{Header, Operation};
use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use std::io::{self, Cursor, Read, Write};
use text::TextReader;

mod error;
mod source;
pub mod text;

/// The first bytes of an LZ4 frame (LZ4 frame format 1.6, "Magic number").
const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

/// Bytes that were looked at, and the rest.
type Whole<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// A trace's bytes, decompressed.
enum Input<R: Read> {
    Plain(Whole<R>),
    /// One frame or several, one behind the other.
    Lz4(Box<FrameDecoder<WithEnd<Whole<R>>>>),
}

/// An input that records whether its end was reached.
struct WithEnd<R> {
    input: R,
    at_end: bool,
}

impl<R: Read> Read for WithEnd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(into)?;
        self.at_end |= length == 0 && !into.is_empty();
        Ok(length)
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(into),
            Self::Lz4(frames) => loop {
                // The decoder returns 0 at the end of each frame, an empty one too.
                let length = frames.read(into)?;
                if length > 0 || frames.get_ref().at_end {
                    return Ok(length);
                }
            },
        }
    }
}

/// Reads a trace, an operation at a time.
pub struct Reader<R: Read> {
    source: Source<Input<R>>,
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
    pub fn new(mut input: R) -> Result<Self, TraceError> {
        let mut first = Vec::new();
        input.by_ref().take(LZ4_MAGIC.len() as u64).read_to_end(&mut first).map_err(TraceError::Begin)?;
        let compressed = first == LZ4_MAGIC;
        let whole = Cursor::new(first).chain(input);
        let input = match compressed {
            true => Input::Lz4(Box::new(FrameDecoder::new(WithEnd { input: whole, at_end: false }))),
            false => Input::Plain(whole),
        };
        let mut source = Source::new(input);
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

    /// Takes a trace without an end mark for whole, which is an error otherwise.
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
        match next? {
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
    output: Output<W>,
    /// Of the binary form.
    encoder: Option<Encoder>,
}

enum Output<W: Write> {
    Plain(W),
    Lz4(Box<FrameEncoder<W>>),
}

impl<W: Write> Writer<W> {
    /// Writes the header. The output should be buffered.
    ///
    /// # Errors
    /// The output's.
    pub fn new(output: W, form: WrittenForm, header: &Header) -> io::Result<Self> {
        let mut output = match form.compressed {
            true => Output::Lz4(Box::new(FrameEncoder::new(output))),
            false => Output::Plain(output),
        };
        let encoder = if form.binary {
            let (encoder, record) = Encoder::new(header);
            output.writer().write_all(&record)?;
            Some(encoder)
        } else {
            write!(output.writer(), "{header}")?;
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
            Some(encoder) => self.output.writer().write_all(&encoder.encode(operation)),
            None => write!(self.output.writer(), "{operation}"),
        }
    }

    /// Writes the end mark, and all that is held back.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> io::Result<()> {
        match &self.encoder {
            Some(_) => self.output.writer().write_all(&Encoder::end())?,
            None => self.output.writer().write_all(TEXT_END.as_bytes())?,
        }
        self.close()
    }

    /// Writes what is held back and no end mark, for a trace of which the rest cannot be had.
    ///
    /// # Errors
    /// The output's.
    pub fn finish_cut(self) -> io::Result<()> {
        self.close()
    }

    fn close(self) -> io::Result<()> {
        match self.output {
            Output::Plain(mut output) => output.flush(),
            Output::Lz4(output) => output.finish()?.flush(),
        }
    }
}

impl<W: Write> Output<W> {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(output) => output,
            Self::Lz4(output) => output,
        }
    }
}
