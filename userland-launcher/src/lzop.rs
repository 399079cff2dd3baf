//! Reads files of `lzop`: blocks of LZO1X with a header (as Linux does in `lib/decompress_unlzo.c`).

use std::io::{self, BufRead, Cursor, Read};

/// Bytes of the magic number.
const MAGIC: u64 = 9;
/// The first version whose header has a compression level and a longer time.
const WITH_LEVEL: u16 = 0x940;
/// Flags: a filter was used; which checksums there are, of what is unpacked and of what is packed.
const FILTER: u32 = 0x800;
const CHECKSUMS: [u32; 2] = [0x001, 0x100];
const PACKED_CHECKSUMS: [u32; 2] = [0x002, 0x200];
/// The largest block that `lzop` makes.
const BLOCK_MAX: u32 = 64 << 20;

/// Unpacks all blocks, or as many as come to `limit` bytes. Checksums are not looked at.
///
/// # Errors
/// What is no such file.
pub fn unpack(mut packed: impl BufRead, limit: u64) -> io::Result<Vec<u8>> {
    let flags = skip_header(&mut packed)?;
    let count = |kinds: [u32; 2]| kinds.iter().filter(|&&kind| flags & kind != 0).count() as u64;
    let mut unpacked = Vec::new();
    while (unpacked.len() as u64) < limit {
        let len = word(&mut packed)?;
        if len == 0 {
            break;
        }
        let packed_len = word(&mut packed)?;
        if len > BLOCK_MAX || packed_len > len {
            return Err(io::Error::other("a block is too long"));
        }
        let is_packed = packed_len < len;
        let checksums = count(CHECKSUMS) + if is_packed { count(PACKED_CHECKSUMS) } else { 0 };
        skip(&mut packed, 4 * checksums)?;
        let mut block = vec![0; packed_len as usize];
        packed.read_exact(&mut block)?;
        if is_packed {
            block = lzokay_native::decompress(&mut Cursor::new(block), Some(len as usize))
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        if block.len() != len as usize {
            return Err(io::Error::other("a block has another length than it says"));
        }
        unpacked.append(&mut block);
    }
    Ok(unpacked)
}

/// Skips the header; returns its flags.
fn skip_header(packed: &mut impl Read) -> io::Result<u32> {
    skip(packed, MAGIC)?;
    let version = u16::from_be_bytes(array(packed)?);
    let with_level = u64::from(version >= WITH_LEVEL);
    // The library's version, the version needed, the method, the level.
    skip(packed, 5 + with_level)?;
    let flags = word(packed)?;
    // The filter; mode and time.
    skip(packed, if flags & FILTER != 0 { 4 } else { 0 } + 8 + 4 * with_level)?;
    let [name_len] = array(packed)?;
    // The name and the header's checksum.
    skip(packed, u64::from(name_len) + 4)?;
    Ok(flags)
}

fn array<const N: usize>(packed: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    packed.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn word(packed: &mut impl Read) -> io::Result<u32> {
    array(packed).map(u32::from_be_bytes)
}

fn skip(packed: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut packed.take(bytes), &mut io::sink())?;
    if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
