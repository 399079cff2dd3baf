//! Compressed files: decompressed as they are read, compressed as they are written, whatever they hold.
//!
//! When a file is read, the first bytes tell LZ4 and Zstandard frames from everything else, which passes unchanged.
//! Several frames, one behind the other, are read as one. Only LZ4 is written.

use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use ruzstd::decoding::StreamingDecoder;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};

/// The first bytes of an LZ4 frame (LZ4 frame format 1.6, "Magic number").
const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

/// The first bytes of a Zstandard frame (RFC 8878, 3.1.1).
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// The first bytes of what gzip writes (RFC 1952, 2.3): deflate, and no flags or a file's name.
const GZIP_MAGICS: [[u8; 4]; 2] = [[0x1f, 0x8b, 8, 0], [0x1f, 0x8b, 8, 8]];

/// Bytes that were looked at, and the rest.
type Whole<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// An input's bytes, decompressed.
pub struct Decompressed<R: Read>(Form<R>);

enum Form<R: Read> {
    Plain(Whole<R>),
    Lz4(Box<FrameDecoder<BufReader<Whole<R>>>>),
    Zstd(ZstdFrames<BufReader<Whole<R>>>),
}

/// Zstandard frames, each of which has a decoder of its own.
enum ZstdFrames<R: Read> {
    Between(R),
    Within(Box<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>),
    /// All frames were read, or one could not be.
    Over,
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Self::Over) {
                Self::Over => return Ok(0),
                Self::Between(mut input) => {
                    if !input.fill_buf()?.is_empty() {
                        let decoder = StreamingDecoder::new(input).map_err(io::Error::other)?;
                        *self = Self::Within(Box::new(decoder));
                    }
                }
                Self::Within(mut decoder) => {
                    let length = decoder.read(into)?;
                    if length > 0 {
                        *self = Self::Within(decoder);
                        return Ok(length);
                    }
                    *self = Self::Between(decoder.into_inner());
                }
            }
        }
    }
}

impl<R: Read> Decompressed<R> {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// The input's, and that it is compressed by gzip.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut first = Vec::new();
        input.by_ref().take(LZ4_MAGIC.len() as u64).read_to_end(&mut first)?;
        let (is_lz4, is_zstd) = (first == LZ4_MAGIC, first == ZSTD_MAGIC);
        if GZIP_MAGICS.iter().any(|magic| first == magic) {
            let why = "they are gzip's, which is not read: use LZ4 or Zstandard, or pipe from `gzip -dc`";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let whole = Cursor::new(first).chain(input);
        Ok(Self(if is_lz4 {
            Form::Lz4(Box::new(FrameDecoder::new(BufReader::new(whole))))
        } else if is_zstd {
            Form::Zstd(ZstdFrames::Between(BufReader::new(whole)))
        } else {
            Form::Plain(whole)
        }))
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        match &mut self.0 {
            Form::Plain(input) => input.read(into),
            Form::Zstd(frames) => frames.read(into),
            Form::Lz4(frames) => loop {
                // The decoder returns 0 at the end of each frame, an empty one too.
                let length = frames.read(into)?;
                if length > 0 || frames.get_mut().fill_buf()?.is_empty() {
                    return Ok(length);
                }
            },
        }
    }
}

/// An output, compressed or as it is. [`Compressed::finish`] must be called, or what is held back is lost.
pub enum Compressed<W: Write> {
    /// As it is.
    Plain(W),
    /// An LZ4 frame.
    Lz4(Box<FrameEncoder<W>>),
}

impl<W: Write> Compressed<W> {
    /// An output, in an LZ4 frame if it is to be compressed.
    pub fn new(output: W, compressed: bool) -> Self {
        if compressed { Self::Lz4(Box::new(FrameEncoder::new(output))) } else { Self::Plain(output) }
    }

    /// Writes what is held back, and the frame's end.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut output) => output.flush(),
            Self::Lz4(output) => output.finish()?.flush(),
        }
    }
}

impl<W: Write> Write for Compressed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(bytes),
            Self::Lz4(output) => output.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.flush(),
            Self::Lz4(output) => output.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Decompressed::new(bytes)?.read_to_end(&mut all)?;
        Ok(all)
    }

    fn lz4(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut output = Compressed::new(&mut bytes, true);
        output.write_all(text).unwrap();
        output.finish().unwrap();
        bytes
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    #[test]
    fn frames_are_read_as_one_and_what_is_no_frame_as_it_is() {
        for plain in [&b"abc"[..], b"", b"a longer text, of more bytes than a magic number"] {
            assert_eq!(read(plain).unwrap(), plain);
        }
        for compress in [lz4, zstd] {
            let frames = [compress(b"one,"), compress(b""), compress(b"two")].concat();
            assert_eq!(read(&frames).unwrap(), b"one,two");
        }
    }

    #[test]
    fn a_frame_that_was_cut_is_an_error() {
        for compress in [lz4, zstd] {
            let text: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
            let whole = compress(&text);
            assert!(read(&whole[..whole.len() / 2]).is_err());
        }
    }
}
