//! Unpacks compressed kernels: a Linux bzImage, whose payload is an ELF file, and an ELF file that was compressed whole.
//!
//! Linux packs its payload by one of seven compressors (kernel documentation, `arch/x86/boot.rst`: `payload_offset`); the
//! first bytes tell which. Libraries read the formats of six; that of `lzop` is read by [`lzop`], with a
//! library for its blocks. What is unpacked is kept in memory, as a file, so that the rest of the launcher sees no difference.
//! All this happens once the launcher is confined.

use crate::lzop::{self, LzopReader};
use flate2::bufread::GzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use thiserror::Error;

/// Bytes of a kernel's file by which all that can be started is recognised: up to `payload_length`.
pub const PROBE: usize = PAYLOAD_LENGTH + 4;

/// Byte offsets in a bzImage's header.
const SETUP_SECTS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// Bytes of a sector of the setup code, and how many sectors 0 stands for.
const SECTOR: u64 = 512;
const SETUP_SECTS_DEFAULT: u64 = 4;
/// Boot protocol 2.08, the first with a payload that is described.
const PAYLOAD_VERSION: u16 = 0x208;

/// The longest kernel that is unpacked: with that, it fits no guest that can be.
const KERNEL_MAX: u64 = 1 << 30;
/// What a decoder of xz or lzma may take: the largest dictionary of `xz -9` twice.
const DECODER_KIB: u32 = 128 << 10;

/// Why a kernel cannot be unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// Reading it, or keeping it, failed.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// An image from before the payload was an ELF file.
    #[error(
        "it is a bzImage of Linux 2.6.25 or older, which contains no ELF file; take the vmlinux that its build left"
    )]
    TooOld,
    /// A compressor that is not known.
    #[error(
        "it is a Linux bzImage, but its payload, which begins with {0:x?}, is packed neither by gzip, bzip2, xz, lzma, lz4, \
         zstd nor lzop; take the vmlinux that its build left"
    )]
    Unknown([u8; MAGIC_LEN]),
    /// The decoder gives up.
    #[error("it is packed by {how} and cannot be unpacked: is it damaged?")]
    Damaged {
        /// The compressor's name.
        how: &'static str,
        /// What the decoder found.
        #[source]
        source: io::Error,
    },
    /// More than fits any guest.
    #[error("it unpacks to more than {max} MiB, which is no kernel", max = KERNEL_MAX >> 20)]
    TooLarge,
}

/// The longest of the compressors' magic numbers.
const MAGIC_LEN: usize = 6;

/// A compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packer {
    Gzip,
    Bzip2,
    Xz,
    Lzma,
    Lz4,
    Zstd,
    Lzop,
}

/// What each one's files begin with. `lz4` has a legacy format, which is Linux's, and a newer one.
const PACKERS: [(&[u8], Packer, &str); 8] = [
    (b"\x1f\x8b", Packer::Gzip, "gzip"),
    (b"BZh", Packer::Bzip2, "bzip2"),
    (b"\xfd7zXZ\0", Packer::Xz, "xz"),
    (b"\x5d\0\0", Packer::Lzma, "lzma"),
    (b"\x02\x21\x4c\x18", Packer::Lz4, "lz4"),
    (b"\x04\x22\x4d\x18", Packer::Lz4, "lz4"),
    (b"\x28\xb5\x2f\xfd", Packer::Zstd, "zstd"),
    // The rest of it is checked later.
    (lzop::MAGIC.first_chunk::<MAGIC_LEN>().unwrap(), Packer::Lzop, "lzop"),
];

/// The compressor of what begins like this, and its name.
fn packer(start: &[u8]) -> Option<(Packer, &'static str)> {
    let (.., packer, name) = PACKERS.iter().find(|(magic, ..)| start.starts_with(magic))?;
    Some((*packer, name))
}

impl Packer {
    fn decoder<'a>(self, packed: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(GzDecoder::new(packed)),
            Self::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(packed)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(packed, false, DECODER_KIB)),
            Self::Lzma => Box::new(lzma_rust2::LzmaReader::new_mem_limit(packed, DECODER_KIB, None)?),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(packed)),
            Self::Lzop => Box::new(LzopReader::new(packed)?),
            Self::Zstd => {
                Box::new(ruzstd::decoding::StreamingDecoder::new(packed).map_err(io::Error::other)?)
            }
        })
    }
}

/// The kernel inside `file`, which begins with `start`; `None` if it is not packed.
///
/// # Errors
/// See [`UnpackError`].
pub fn unpack(file: &File, start: &[u8; PROBE]) -> Result<Option<File>, UnpackError> {
    if let Some((packer, how)) = packer(start) {
        return unpack_part(file, (0, u64::MAX), None, packer, how).map(Some);
    }
    if start[BOOT_FLAG..MAGIC - 2] != [0x55, 0xaa] || start[MAGIC..VERSION] != *b"HdrS" {
        return Ok(None);
    }
    if u16::from_le_bytes([start[VERSION], start[VERSION + 1]]) < PAYLOAD_VERSION {
        return Err(UnpackError::TooOld);
    }
    let word = |at| u64::from(start[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)));
    let setup = match u64::from(start[SETUP_SECTS]) {
        0 => SETUP_SECTS_DEFAULT,
        sectors => sectors,
    };
    let (begin, len) = ((setup + 1) * SECTOR + word(PAYLOAD_OFFSET), word(PAYLOAD_LENGTH));
    let mut magic = [0; MAGIC_LEN];
    file.read_exact_at(&mut magic, begin).map_err(UnpackError::Read)?;
    let Some((packer, how)) = packer(&magic) else { return Err(UnpackError::Unknown(magic)) };
    // Linux puts the unpacked length behind the payload; gzip's own format ends with it.
    let mut unpacked_len = [0; 4];
    let end = (begin + len).saturating_sub(unpacked_len.len() as u64);
    file.read_exact_at(&mut unpacked_len, end).map_err(UnpackError::Read)?;
    let unpacked_len = u64::from(u32::from_le_bytes(unpacked_len));
    unpack_part(file, (begin, len), Some(unpacked_len), packer, how).map(Some)
}

/// Unpacks `len` bytes from `begin`. If the unpacked length is known, what follows that is not looked at.
fn unpack_part(
    file: &File,
    (begin, len): (u64, u64),
    unpacked_len: Option<u64>,
    packer: Packer,
    how: &'static str,
) -> Result<File, UnpackError> {
    let damaged = |source| UnpackError::Damaged { how, source };
    let mut packed = file.try_clone().map_err(UnpackError::Read)?;
    packed.seek(SeekFrom::Start(begin)).map_err(UnpackError::Read)?;
    let decoder = packer.decoder(BufReader::new(packed).take(len)).map_err(damaged)?;
    let mut kept = memory_file().map_err(UnpackError::Read)?;
    let limit = unpacked_len.unwrap_or(u64::MAX).min(KERNEL_MAX + 1);
    let written = io::copy(&mut decoder.take(limit), &mut kept).map_err(damaged)?;
    if written > KERNEL_MAX {
        return Err(UnpackError::TooLarge);
    }
    if unpacked_len.is_some_and(|expected| written < expected) {
        return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(kept)
}

/// A file without a name, in memory.
///
/// # Errors
/// No more file descriptors.
pub fn memory_file() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("lguest", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}
