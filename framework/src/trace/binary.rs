//! The binary form of a trace: a few bytes an operation.
//!
//! A file is [`MAGIC`], a version, the header's numbers, records and an end mark. A record is a tag
//! byte, which holds the kind of operation and up to four bits of it, and numbers. A number is a varint
//! (seven bits a byte, least significant first, the high bit set in all but the last); one that may be
//! negative is zigzag-coded before. Addresses and entries are written as differences to the last of their
//! kind, which is what makes them short: tables are filled in order, and programs touch what is near.
//! Behind a [`Operation::Lost`] they start anew from zero, so that what could not be kept does no harm to
//! what follows.
//!
//! Nothing here allocates; an [`Encoder`] keeps a few words, so that it can run beside a guest.

use super::{Header, HeaderError, Operation, physical_bits};
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::Paging;
use core::ops::Deref;

/// The first bytes of a binary trace. The first of all is no text.
pub const MAGIC: [u8; 8] = *b"\x89lgtrace";

/// The version of the form that is written and read here.
pub const VERSION: u64 = 1;

/// No header and no record is longer, in bytes.
pub const MAX_RECORD: usize = 40;

/// Kinds of operation, in the low four bits of a tag.
mod kind {
    pub const WRITE: u8 = 0;
    pub const INIT: u8 = 1;
    pub const LOAD_PAGE_DIRECTORY: u8 = 2;
    pub const ACCESS: u8 = 3;
    pub const PAGE_FAULT: u8 = 4;
    pub const SET_PTE: u8 = 5;
    pub const SET_PGD: u8 = 6;
    pub const SET_PMD: u8 = 7;
    pub const FLUSH_USER: u8 = 8;
    pub const FLUSH_ALL: u8 = 9;
    pub const SET_STACK: u8 = 10;
    pub const RUN: u8 = 11;
    pub const TRANSLATE: u8 = 12;
    pub const LOST: u8 = 13;
    /// No operation: the end mark, which distinguishes a whole trace from one that was cut between two records.
    pub const END: u8 = 14;
    pub const MASK: u8 = 15;
}

/// The difference of virtual addresses is in bytes, not in pages.
const IN_BYTES: u8 = 1 << 4;
/// Of [`kind::WRITE`]: the address is the one after the last.
const NEXT: u8 = 1 << 5;
/// Of [`kind::ACCESS`]: from ring 3.
const USER: u8 = 1 << 5;
/// Of [`kind::SET_PTE`]: the page directory is the last one.
const SAME_DIRECTORY: u8 = 1 << 5;
/// Of [`kind::FLUSH_USER`]: of that page directory, not of the current one.
const OF_DIRECTORY: u8 = 1 << 5;
/// Of [`kind::ACCESS`]: a write.
const WRITE: u8 = 1 << 6;
/// Of records with an entry: its flags are those of the last entry.
const SAME_FLAGS: u8 = 1 << 6;

/// A binary trace that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BinaryError {
    #[error("the bytes end within a record")]
    Truncated,
    #[error("it does not begin as a binary trace does")]
    Magic,
    #[error("version {0}; this reader knows version {VERSION}")]
    Version(u64),
    #[error("{0}")]
    Header(#[from] HeaderError),
    #[error("{0:#04x} is the tag of no operation")]
    Tag(u8),
    #[error("a number has more than {0} bits")]
    TooWide(u32),
    #[error("a `pmd` operation needs paging of 3 levels")]
    NeedsPae,
}

/// The bytes of a header or of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    bytes: [u8; MAX_RECORD],
    length: usize,
}

impl Record {
    fn new(write: impl FnOnce(&mut Cursor<'_>)) -> Self {
        let mut bytes = [0; MAX_RECORD];
        let mut cursor = Cursor { bytes: &mut bytes, length: 0 };
        write(&mut cursor);
        let length = cursor.length;
        Self { bytes, length }
    }
}

impl Deref for Record {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Where a record is being written.
struct Cursor<'a> {
    bytes: &'a mut [u8; MAX_RECORD],
    length: usize,
}

impl Cursor<'_> {
    const fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    #[inline]
    fn number(&mut self, mut number: u64) {
        while number > u64::from(u32::MAX) {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.word(number as u32);
    }

    /// As [`Cursor::number`]: the module records on 32-bit processors, for which 64 bits are work.
    #[inline(always)]
    fn word(&mut self, mut word: u32) {
        while word >= 0x80 {
            self.byte(word as u8 | 0x80);
            word >>= 7;
        }
        self.byte(word as u8);
    }

    #[inline(always)]
    fn signed(&mut self, number: i64) {
        match i32::try_from(number) {
            Ok(word) => self.signed_word(word),
            Err(_) => self.number((number << 1 ^ number >> 63).cast_unsigned()),
        }
    }

    /// As [`Cursor::signed`].
    #[inline(always)]
    fn signed_word(&mut self, number: i32) {
        self.word((number << 1 ^ number >> 31).cast_unsigned());
    }
}

/// An entry with the no-execute bit beside the other flags: its frame above [`FLAG_BITS`].
const fn flags_together(entry: u64) -> u64 {
    entry.rotate_left(1)
}

const FLAG_BITS: u32 = 13;

/// The last of each kind, from which differences are taken. Both sides keep the same.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    /// Address and entry of a write.
    at: u64,
    /// The entry of a write or SET_PTE, its flags together.
    entry: u64,
    directory: u32,
    /// The address that was touched.
    touched: u32,
    /// The address in a request.
    named: u32,
}

/// Writes a binary trace.
#[derive(Clone, Debug)]
pub struct Encoder {
    last: Last,
    entry_size: u64,
}

impl Encoder {
    /// An encoder, and what its trace begins with.
    #[must_use]
    pub fn new(header: &Header) -> (Self, Record) {
        let Header { paging, pages, seed, cpus, switcher } = *header;
        let record = Record::new(|cursor| {
            MAGIC.into_iter().for_each(|byte| cursor.byte(byte));
            for number in
                [VERSION, paging.levels().into(), pages.into(), seed, cpus.into(), switcher.0.into()]
            {
                cursor.number(number);
            }
        });
        (Self { last: Last::default(), entry_size: paging.entry_size().into() }, record)
    }

    /// The record of the next operation.
    #[must_use]
    pub fn encode(&mut self, operation: &Operation) -> Record {
        Record::new(|cursor| self.write(operation, cursor))
    }

    /// The end mark, the last byte of a whole trace.
    #[must_use]
    pub fn end() -> Record {
        Record::new(|cursor| cursor.byte(kind::END))
    }

    /// As [`Encoder::encode`], in a place that the caller has; returns the number of bytes.
    // Inlined, so that where the kind of operation is known its encoding is all that is left.
    #[inline(always)]
    pub fn encode_to(&mut self, operation: &Operation, place: &mut [u8; MAX_RECORD]) -> usize {
        let mut cursor = Cursor { bytes: place, length: 0 };
        self.write(operation, &mut cursor);
        cursor.length
    }

    #[inline(always)]
    fn write(&mut self, operation: &Operation, record: &mut Cursor<'_>) {
        record.byte(0);
        let last = &mut self.last;
        let tag = match *operation {
            Operation::Write { at, value } => {
                let next = at == last.at.wrapping_add(self.entry_size);
                if !next {
                    record.signed(at.wrapping_sub(last.at).cast_signed());
                }
                last.at = at;
                kind::WRITE | if next { NEXT } else { 0 } | entry(record, last, value)
            }
            Operation::Init(address) => kind::INIT | address_after(record, &mut last.named, address),
            Operation::LoadPageDirectory(page) => {
                directory(record, last, page);
                kind::LOAD_PAGE_DIRECTORY
            }
            Operation::Access { va, user, write } => {
                let rights = if user { USER } else { 0 } | if write { WRITE } else { 0 };
                kind::ACCESS | rights | address_after(record, &mut last.touched, va)
            }
            Operation::PageFault { va, error } => {
                let bits = address_after(record, &mut last.touched, va);
                record.word(error);
                kind::PAGE_FAULT | bits
            }
            Operation::SetPte { directory: page, va, value } => {
                let same = page.0 == last.directory;
                if !same {
                    directory(record, last, page);
                }
                let bits = address_after(record, &mut last.named, va);
                kind::SET_PTE | if same { SAME_DIRECTORY } else { 0 } | bits | entry(record, last, value)
            }
            Operation::SetPgd(page, index) => {
                directory(record, last, page);
                record.word(index);
                kind::SET_PGD
            }
            Operation::SetPmd(page, index) => {
                directory(record, last, page);
                record.word(index);
                kind::SET_PMD
            }
            Operation::FlushUser => kind::FLUSH_USER,
            Operation::FlushUserOf(page) => {
                directory(record, last, page);
                kind::FLUSH_USER | OF_DIRECTORY
            }
            Operation::FlushAll => kind::FLUSH_ALL,
            Operation::SetStack(esp1, pages) => {
                let bits = address_after(record, &mut last.named, esp1);
                record.word(pages);
                kind::SET_STACK | bits
            }
            Operation::Run(cpu) => {
                record.word(cpu);
                kind::RUN
            }
            Operation::Translate(va) => kind::TRANSLATE | address_after(record, &mut last.touched, va),
            Operation::Lost(operations) => {
                record.number(operations);
                *last = Last::default();
                kind::LOST
            }
        };
        record.bytes[0] = tag;
    }
}

/// Writes an entry; returns its bits of the tag.
#[inline(always)]
fn entry(record: &mut Cursor<'_>, last: &mut Last, value: u64) -> u8 {
    let (new, old) = (flags_together(value), last.entry);
    last.entry = new;
    record.signed((new >> FLAG_BITS).cast_signed() - (old >> FLAG_BITS).cast_signed());
    let flags = |entry| entry as u32 & ((1 << FLAG_BITS) - 1);
    if flags(new) == flags(old) {
        SAME_FLAGS
    } else {
        record.word(flags(new));
        0
    }
}

/// Writes a virtual address; returns its bits of the tag.
#[inline(always)]
fn address_after(record: &mut Cursor<'_>, last: &mut u32, GuestVirt(address): GuestVirt) -> u8 {
    let difference = address.wrapping_sub(*last).cast_signed();
    *last = address;
    let page = PAGE_SIZE.cast_signed();
    if difference % page == 0 {
        record.signed_word(difference / page);
        0
    } else {
        record.signed_word(difference);
        IN_BYTES
    }
}

#[inline(always)]
fn directory(record: &mut Cursor<'_>, last: &mut Last, GuestPhys(page): GuestPhys) {
    record.signed_word(page.wrapping_sub(last.directory).cast_signed());
    last.directory = page;
}

/// Bytes that are read from the front.
struct Bytes<'a> {
    rest: &'a [u8],
}

impl Bytes<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, BinaryError> {
        let (&first, rest) = self.rest.split_first().ok_or(BinaryError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    #[inline]
    fn number(&mut self, bits: u32) -> Result<u64, BinaryError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                break;
            }
            number |= part << shift;
            if byte < 0x80 {
                return if bits == 64 || number >> bits == 0 {
                    Ok(number)
                } else {
                    Err(BinaryError::TooWide(bits))
                };
            }
        }
        Err(BinaryError::TooWide(bits))
    }

    #[inline]
    fn signed(&mut self) -> Result<i64, BinaryError> {
        let number = self.number(64)?;
        Ok((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    fn word(&mut self) -> Result<u32, BinaryError> {
        self.number(32).map(|number| number as u32)
    }

    /// A difference of two 32-bit numbers.
    #[inline]
    fn difference(&mut self) -> Result<i32, BinaryError> {
        i32::try_from(self.signed()?).map_err(|_| BinaryError::TooWide(32))
    }

    #[inline]
    fn address_after(&mut self, tag: u8, last: &mut u32) -> Result<GuestVirt, BinaryError> {
        let unit = if tag & IN_BYTES == 0 { PAGE_SIZE.cast_signed() } else { 1 };
        let difference = self.difference()?.checked_mul(unit).ok_or(BinaryError::TooWide(32))?;
        *last = last.wrapping_add_signed(difference);
        Ok(GuestVirt(*last))
    }

    fn directory(&mut self, last: &mut Last) -> Result<GuestPhys, BinaryError> {
        last.directory = last.directory.wrapping_add_signed(self.difference()?);
        Ok(GuestPhys(last.directory))
    }

    fn entry(&mut self, tag: u8, last: &mut Last, paging: Paging) -> Result<u64, BinaryError> {
        let frame = (last.entry >> FLAG_BITS).wrapping_add_signed(self.signed()?);
        let flags = match tag & SAME_FLAGS {
            0 => self.number(FLAG_BITS)?,
            _ => last.entry & ((1 << FLAG_BITS) - 1),
        };
        last.entry = frame << FLAG_BITS | flags;
        let (entry, bits) = (last.entry.rotate_right(1), paging.entry_size() * 8);
        let fits = frame >> (u64::BITS - FLAG_BITS) == 0 && (bits == 64 || entry >> bits == 0);
        if fits { Ok(entry) } else { Err(BinaryError::TooWide(bits)) }
    }
}

/// Reads a binary trace.
#[derive(Clone, Debug)]
pub struct Decoder {
    last: Last,
    paging: Paging,
}

impl Decoder {
    /// Reads a trace's beginning: a decoder for the rest, the header, and the number of its bytes.
    ///
    /// # Errors
    /// [`BinaryError::Truncated`] when more bytes are needed, which is never so with [`MAX_RECORD`] of
    /// them; any other is final.
    pub fn new(bytes: &[u8]) -> Result<(Self, Header, usize), BinaryError> {
        let rest = bytes.get(MAGIC.len()..).ok_or(BinaryError::Truncated)?;
        if !bytes.starts_with(&MAGIC) {
            return Err(BinaryError::Magic);
        }
        let mut rest = Bytes { rest };
        let version = rest.number(64)?;
        if version != VERSION {
            return Err(BinaryError::Version(version));
        }
        let mut next = || rest.number(64);
        let header = Header::new(next()?, next()?, next()?, next()?, next()?)?;
        let decoder = Self { last: Last::default(), paging: header.paging };
        Ok((decoder, header, bytes.len() - rest.rest.len()))
    }

    /// Reads the next operation, or `None` for the end mark, and the number of its bytes.
    ///
    /// # Errors
    /// As [`Decoder::new`]. The decoder is of no use after any but [`BinaryError::Truncated`].
    #[inline]
    pub fn decode(&mut self, bytes: &[u8]) -> Result<(Option<Operation>, usize), BinaryError> {
        // What a record that is not whole has done must be forgotten.
        let mut last = self.last;
        let mut rest = Bytes { rest: bytes };
        let tag = rest.byte()?;
        let paging = self.paging;
        let possible = match tag & kind::MASK {
            kind::WRITE => NEXT | SAME_FLAGS,
            kind::ACCESS => IN_BYTES | USER | WRITE,
            kind::SET_PTE => IN_BYTES | SAME_DIRECTORY | SAME_FLAGS,
            kind::FLUSH_USER => OF_DIRECTORY,
            kind::INIT | kind::PAGE_FAULT | kind::SET_STACK | kind::TRANSLATE => IN_BYTES,
            _ => 0,
        };
        if tag & !kind::MASK & !possible != 0 {
            return Err(BinaryError::Tag(tag));
        }
        let operation = match tag & kind::MASK {
            kind::WRITE => {
                last.at = match tag & NEXT {
                    0 => last.at.wrapping_add_signed(rest.signed()?),
                    _ => last.at.wrapping_add(paging.entry_size().into()),
                };
                let bits = physical_bits(paging);
                if last.at >> bits != 0 {
                    return Err(BinaryError::TooWide(bits));
                }
                Operation::Write { at: last.at, value: rest.entry(tag, &mut last, paging)? }
            }
            kind::INIT => Operation::Init(rest.address_after(tag, &mut last.named)?),
            kind::LOAD_PAGE_DIRECTORY => Operation::LoadPageDirectory(rest.directory(&mut last)?),
            kind::ACCESS => {
                let va = rest.address_after(tag, &mut last.touched)?;
                Operation::Access { va, user: tag & USER != 0, write: tag & WRITE != 0 }
            }
            kind::PAGE_FAULT => {
                let va = rest.address_after(tag, &mut last.touched)?;
                Operation::PageFault { va, error: rest.word()? }
            }
            kind::SET_PTE => {
                let directory = match tag & SAME_DIRECTORY {
                    0 => rest.directory(&mut last)?,
                    _ => GuestPhys(last.directory),
                };
                let va = rest.address_after(tag, &mut last.named)?;
                Operation::SetPte { directory, va, value: rest.entry(tag, &mut last, paging)? }
            }
            kind::SET_PGD => Operation::SetPgd(rest.directory(&mut last)?, rest.word()?),
            kind::SET_PMD if paging == Paging::TwoLevel => return Err(BinaryError::NeedsPae),
            kind::SET_PMD => Operation::SetPmd(rest.directory(&mut last)?, rest.word()?),
            kind::FLUSH_USER if tag & OF_DIRECTORY != 0 => Operation::FlushUserOf(rest.directory(&mut last)?),
            kind::FLUSH_USER => Operation::FlushUser,
            kind::FLUSH_ALL => Operation::FlushAll,
            kind::SET_STACK => {
                let esp1 = rest.address_after(tag, &mut last.named)?;
                Operation::SetStack(esp1, rest.word()?)
            }
            kind::RUN => Operation::Run(rest.word()?),
            kind::TRANSLATE => Operation::Translate(rest.address_after(tag, &mut last.touched)?),
            kind::LOST => {
                last = Last::default();
                Operation::Lost(rest.number(64)?)
            }
            kind::END => return Ok((None, 1)),
            _ => return Err(BinaryError::Tag(tag)),
        };
        self.last = last;
        Ok((Some(operation), bytes.len() - rest.rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header::new(2, 16, 42, 2, 0xffc0_0000).unwrap()
    }

    #[test]
    fn the_bytes_are_as_the_format_says() {
        let (mut encoder, start) = Encoder::new(&header());
        // Magic; version 1, 2 levels, 16 pages, seed 42, 2 CPUs, 0xffc00000 in seven-bit groups.
        assert_eq!(*start, *b"\x89lgtrace\x01\x02\x10\x2a\x02\x80\x80\x80\xfe\x0f");
        // Kind 0; +0x1000 is 8192 in zigzag, 0x80 0x40; frame +2; flags 0x067 shifted by the NX bit.
        assert_eq!(
            *encoder.encode(&Operation::Write { at: 0x1000, value: 0x2067 }),
            [0x00, 0x80, 0x40, 0x04, 0xce, 0x01]
        );
        // The next entry, the next frame, the same flags.
        assert_eq!(*encoder.encode(&Operation::Write { at: 0x1004, value: 0x3067 }), [0x60, 0x02]);
        // Two pages further, a write by the user; then one byte back, read by the kernel.
        let access = |va, user, write| Operation::Access { va: GuestVirt(va), user, write };
        assert_eq!(*encoder.encode(&access(0x2000, true, true)), [0x63, 0x04]);
        assert_eq!(*encoder.encode(&access(0x1fff, false, false)), [0x13, 0x01]);
        assert_eq!(*encoder.encode(&Operation::FlushAll), [0x09]);
        assert_eq!(*encoder.encode(&Operation::FlushUser), [0x08]);
        // 0x1000, the first page directory that is named, as above.
        assert_eq!(*encoder.encode(&Operation::FlushUserOf(GuestPhys(0x1000))), [0x28, 0x80, 0x40]);
        assert_eq!(*Encoder::end(), [0x0e]);
    }

    #[test]
    fn a_record_that_is_cut_can_be_read_when_it_is_whole() {
        let (mut encoder, start) = Encoder::new(&header());
        let operation =
            Operation::SetPte { directory: GuestPhys(0x5000), va: GuestVirt(0x0804_8123), value: 0x7067 };
        let record = encoder.encode(&operation);
        for length in 0..start.len() {
            assert_eq!(Decoder::new(&start[..length]).unwrap_err(), BinaryError::Truncated);
        }
        let (mut decoder, read, length) = Decoder::new(&start).unwrap();
        assert_eq!((read, length), (header(), start.len()));
        for length in 0..record.len() {
            assert_eq!(decoder.decode(&record[..length]).unwrap_err(), BinaryError::Truncated);
        }
        assert_eq!(decoder.decode(&record).unwrap(), (Some(operation), record.len()));
        assert_eq!(decoder.decode(&Encoder::end()).unwrap(), (None, 1));
    }

    #[test]
    fn after_a_loss_both_sides_agree() {
        let (mut encoder, start) = Encoder::new(&header());
        let (mut decoder, ..) = Decoder::new(&start).unwrap();
        let operation = Operation::SetPgd(GuestPhys(0x5000), 7);
        // The decoder never sees this one.
        let _ = encoder.encode(&operation);
        let lost = Operation::Lost(1);
        assert_eq!(decoder.decode(&encoder.encode(&lost)).unwrap().0, Some(lost));
        assert_eq!(decoder.decode(&encoder.encode(&operation)).unwrap().0, Some(operation));
    }

    #[test]
    fn what_no_encoder_writes_is_refused() {
        let (decoder, ..) = Decoder::new(&Encoder::new(&header()).1).unwrap();
        let decode = |bytes: &[u8]| decoder.clone().decode(bytes).unwrap_err();
        assert_eq!(decode(&[15]), BinaryError::Tag(15));
        assert_eq!(decode(&[kind::END | IN_BYTES]), BinaryError::Tag(0x1e));
        assert_eq!(decode(&[kind::FLUSH_ALL | IN_BYTES]), BinaryError::Tag(0x19));
        assert_eq!(decode(&[kind::SET_PMD, 0, 0]), BinaryError::NeedsPae);
        // An eleventh byte of a number, a 33rd bit, a negative address, an entry of 33 bits.
        assert_eq!(decode(&[kind::RUN, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]), {
            BinaryError::TooWide(32)
        });
        assert_eq!(decode(&[kind::RUN, 0x80, 0x80, 0x80, 0x80, 0x10]), BinaryError::TooWide(32));
        assert_eq!(decode(&[kind::WRITE, 0x01, 0, 0]), BinaryError::TooWide(32));
        assert_eq!(
            decode(&[kind::WRITE | NEXT | SAME_FLAGS, 0x80, 0x80, 0x80, 0x01]),
            BinaryError::TooWide(32)
        );
        let mut other = Encoder::new(&header()).1;
        other.bytes[8] = 2;
        assert_eq!(Decoder::new(&other).unwrap_err(), BinaryError::Version(2));
        other.bytes[0] = b'l';
        assert_eq!(Decoder::new(&other).unwrap_err(), BinaryError::Magic);
    }
}
