//! Reads files of `lzop`, the compressor of Linux kernels with `CONFIG_KERNEL_LZO`: a header, and blocks that the crate `lzokay`
//! unpacks.
//!
//! Source: Linux's `lib/decompress_unlzo.c`; what a file has beyond what that needs is known from `lzop` itself.

use std::io::{self, BufRead, Read};

/// What a file begins with.
pub const MAGIC: &[u8] = b"\x89LZO\0\r\n\x1a\n";
/// From this version on the header has more fields.
const LEVELS: u16 = 0x0940;
/// Flags of the header: what a block has before its data.
const ADLER32_OF_DATA: u32 = 1;
const ADLER32_OF_PACKED: u32 = 1 << 1;
const CRC32_OF_DATA: u32 = 1 << 8;
const CRC32_OF_PACKED: u32 = 1 << 9;
/// What the header has.
const EXTRA_FIELD: u32 = 1 << 6;
const FILTER: u32 = 1 << 11;
/// The longest block, packed or not; `lzop` takes 256 KiB.
const BLOCK_MAX: u32 = 64 << 20;

/// Unpacks what it reads.
pub struct LzopReader<R> {
    packed: R,
    flags: u32,
    block: Vec<u8>,
    /// How much of the block has been taken.
    taken: usize,
    at_end: bool,
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The next bytes, which must be there.
fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn word(from: &mut impl Read) -> io::Result<u32> {
    bytes(from).map(u32::from_be_bytes)
}

fn skip(from: &mut impl Read, len: u64) -> io::Result<()> {
    match io::copy(&mut from.take(len), &mut io::sink())? {
        skipped if skipped == len => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl<R: BufRead> LzopReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn new(mut packed: R) -> io::Result<Self> {
        let from = &mut packed;
        if bytes::<9>(from)? != *MAGIC {
            return Err(wrong("it does not begin as lzop's files do"));
        }
        let version = u16::from_be_bytes(bytes(from)?);
        let has_levels = version >= LEVELS;
        // The library's version, the version needed; the method, the level.
        skip(from, if has_levels { 2 + 2 + 2 } else { 2 + 1 })?;
        let flags = word(from)?;
        if flags & FILTER != 0 {
            return Err(wrong("it has a filter, which no kernel has"));
        }
        // The mode, the time; the name; the header's checksum.
        skip(from, if has_levels { 4 + 8 } else { 4 + 4 })?;
        let [name_len] = bytes(from)?;
        skip(from, u64::from(name_len) + 4)?;
        if flags & EXTRA_FIELD != 0 {
            let len = word(from)?;
            skip(from, u64::from(len) + 4)?;
        }
        Ok(Self { packed, flags, block: Vec::new(), taken: 0, at_end: false })
    }

    /// Reads the next block.
    fn next_block(&mut self) -> io::Result<()> {
        let (from, flags) = (&mut self.packed, self.flags);
        let len = word(from)?;
        if len == 0 {
            self.at_end = true;
            return Ok(());
        }
        let packed_len = word(from)?;
        if len > BLOCK_MAX || packed_len > len {
            return Err(wrong("it has a block of an impossible length"));
        }
        let mut checksum = |flag| if flags & flag != 0 { word(from).map(Some) } else { Ok(None) };
        let (adler32, crc32) = (checksum(ADLER32_OF_DATA)?, checksum(CRC32_OF_DATA)?);
        if packed_len < len {
            checksum(ADLER32_OF_PACKED)?;
            checksum(CRC32_OF_PACKED)?;
        }
        let mut packed = Vec::new();
        if from.take(packed_len.into()).read_to_end(&mut packed)? < packed_len as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // One that does not become shorter is stored.
        self.block = if packed_len == len {
            packed
        } else {
            let mut block = vec![0; len as usize];
            match lzokay::decompress::decompress(&packed, &mut block) {
                Ok(unpacked) if unpacked == block.len() => block,
                _ => return Err(wrong("a block cannot be unpacked")),
            }
        };
        self.taken = 0;
        let is_other = |expected: Option<u32>, found: fn(&[u8]) -> u32| {
            expected.is_some_and(|expected| expected != found(&self.block))
        };
        if is_other(adler32, adler2::adler32_slice) || is_other(crc32, crc32fast::hash) {
            return Err(wrong("a block has another checksum than it says"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for LzopReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.block.len() && !self.at_end {
            self.next_block()?;
        }
        let n = (&self.block[self.taken..]).read(into)?;
        self.taken += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `lzop 1.04 -9`, of a file of this text.
    const TEXT: &[u8] =
        b"The quick brown fox jumps over the lazy dog, the lazy dog, the lazy dog, the lazy dog.";
    const FILE: &[u8] = b"\
        \x89LZO\0\r\n\x1a\n\x10\x40\x20\xa0\x09\x40\x03\x09\x03\0\0\x01\0\0\x81\xa4\x6b\x0c\x4b\x82\0\0\0\0\x05t.txt\
        \x4d\x4a\x05\xda\0\0\0\x56\0\0\0\x35\x40\x78\x1e\x5d\x31The quick brown fox jumps over tX\x03\x06lazy dog, \
        \x08\x35\0\x2e\x11\0\0\0\0\0\0";

    fn unpacked(file: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        LzopReader::new(file)?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_file_of_lzop_is_unpacked() {
        assert_eq!(FILE.len(), 112);
        assert_eq!(unpacked(FILE).unwrap(), TEXT);
    }

    #[test]
    fn what_is_damaged_is_noticed() {
        for at in 0..FILE.len() {
            assert!(unpacked(&FILE[..at]).is_err(), "{at}");
            let mut damaged = FILE.to_vec();
            damaged[at] ^= 0x20;
            // In the header there are times and names, which do not matter.
            if at >= 47 || at < MAGIC.len() {
                assert!(unpacked(&damaged).is_err(), "{at}");
            }
        }
    }
}
