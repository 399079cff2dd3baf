//! Page-table entries and the two page formats of a 32-bit processor.
//!
//! ```text
//!  two levels (Intel SDM vol. 3A, 4.3), 4-byte entries      PAE (4.4), 8-byte entries
//!   31        22 21        12 11         0                   31 30 29     21 20     12 11       0
//!  | directory  |   table    |   offset   |                 |PDPT | dir.   | table   |  offset  |
//!     1024          1024                                      4      512       512
//! ```
//!
//! [`Entry`] is wide enough for both and [`PageFormat`] describes what differs, so that walks and shadow
//! tables are written once. The flag bits are the same in both formats and are the `x86_64` crate's.

use crate::addr::{GuestVirt, PAGE_SHIFT};
use crate::table::TablePage;
pub use x86_64::structures::paging::PageTableFlags as Flags;

/// One entry of a page table of either format and any level.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Entry(pub u64);

/// The frame-number bits of an entry: 40 bits above the page offset (those beyond the processor's
/// physical width are reserved; no guest has that much memory, so a range check refuses them).
const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

impl Entry {
    /// Not present, all bits zero.
    pub const EMPTY: Self = Self(0);

    /// An entry for page number `frame` with these flags.
    #[must_use]
    pub const fn new(frame: u64, flags: Flags) -> Self {
        Self(frame << PAGE_SHIFT | flags.bits())
    }

    /// The page number, not yet checked against anything.
    #[must_use]
    pub const fn frame(self) -> u64 {
        (self.0 & FRAME_MASK) >> PAGE_SHIFT
    }

    /// Everything but the page number.
    #[must_use]
    pub const fn flags(self) -> Flags {
        Flags::from_bits_retain(self.0 & !FRAME_MASK)
    }

    /// The P bit.
    #[must_use]
    pub const fn present(self) -> bool {
        self.0 & Flags::PRESENT.bits() != 0
    }

    /// Whether all of `flags` are set.
    #[must_use]
    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.bits() == flags.bits()
    }

    /// The same entry with `flags` set.
    #[must_use]
    pub const fn with(self, flags: Flags) -> Self {
        Self(self.0 | flags.bits())
    }

    /// The same entry with `flags` clear.
    #[must_use]
    pub const fn without(self, flags: Flags) -> Self {
        Self(self.0 & !flags.bits())
    }
}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Entry({:#x})", self.0)
    }
}

/// Which of the two formats, when it is not known at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Paging {
    /// Two levels, 4-byte entries.
    TwoLevel,
    /// Three levels, 8-byte entries.
    Pae,
}

impl Paging {
    /// Levels: 2 or 3, as the trace format and Linux count them.
    #[must_use]
    pub const fn levels(self) -> u32 {
        match self {
            Self::TwoLevel => 2,
            Self::Pae => 3,
        }
    }

    /// The format with that many levels.
    #[must_use]
    pub const fn from_levels(levels: u32) -> Option<Self> {
        match levels {
            2 => Some(Self::TwoLevel),
            3 => Some(Self::Pae),
            _ => None,
        }
    }

    /// Bytes of one entry: 4 or 8.
    #[must_use]
    pub const fn entry_size(self) -> u32 {
        match self {
            Self::TwoLevel => 4,
            Self::Pae => 8,
        }
    }
}

impl core::fmt::Display for Paging {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TwoLevel => "2-level",
            Self::Pae => "PAE",
        })
    }
}

/// What distinguishes the page formats at compile time. Level 1 is the one whose entries map pages, as
/// in the processor manual; level [`PageFormat::LEVELS`] is the root.
pub trait PageFormat: Copy + Send + Sync + core::fmt::Debug + 'static {
    /// The same, as a value.
    const PAGING: Paging;
    /// Levels of a walk: 2 or 3.
    const LEVELS: usize;
    /// Bytes of an entry.
    const ENTRY_SIZE: u32;
    /// Entries of a table below the root: 1024 or 512.
    const ENTRIES: usize;
    /// Entries of the root: 1024 or 4.
    const ROOT_ENTRIES: usize;
    /// Bytes of address space under one level-1 table: 4 MiB or 2 MiB.
    const LEAF_SPAN: u32;
    /// The flags a root entry may carry. With PAE, the processor itself reserves the others (SDM
    /// vol. 3A, table 4-8).
    const ROOT_FLAGS: Flags;
    /// The flags an entry of a level between root and leaf may carry.
    const DIRECTORY_FLAGS: Flags = DIRECTORY_FLAGS;

    /// The index into the table of this level.
    fn index(va: GuestVirt, level: usize) -> usize;
    /// Reads entry `i` of a table page.
    fn load(table: &TablePage, i: usize) -> Entry;
    /// Writes entry `i` of a table page.
    fn store(table: &mut TablePage, i: usize, entry: Entry);
    /// An entry as it lies in a table page.
    type Raw: Copy + Default + Into<u64>;
    /// All entries of a table page: for loops, in which [`PageFormat::store`] would look up the page again for each.
    fn raw_entries(table: &mut TablePage) -> &mut [Self::Raw];
}

/// `_PAGE_TABLE`: what Linux puts into an entry that points to a table.
const DIRECTORY_FLAGS: Flags = Flags::PRESENT
    .union(Flags::WRITABLE)
    .union(Flags::USER_ACCESSIBLE)
    .union(Flags::ACCESSED)
    .union(Flags::DIRTY);

/// The two-level format.
#[derive(Clone, Copy, Debug)]
pub struct TwoLevel;

impl PageFormat for TwoLevel {
    const PAGING: Paging = Paging::TwoLevel;
    const LEVELS: usize = 2;
    const ENTRY_SIZE: u32 = 4;
    const ENTRIES: usize = 1024;
    const ROOT_ENTRIES: usize = 1024;
    const LEAF_SPAN: u32 = 1 << 22;
    const ROOT_FLAGS: Flags = DIRECTORY_FLAGS;

    #[inline]
    fn index(va: GuestVirt, level: usize) -> usize {
        (va.0 >> (PAGE_SHIFT as usize + 10 * (level - 1))) as usize & 1023
    }

    #[inline]
    fn load(table: &TablePage, i: usize) -> Entry {
        Entry(u64::from(table.words()[i]))
    }

    #[inline]
    fn store(table: &mut TablePage, i: usize, entry: Entry) {
        debug_assert!(entry.0 <= u64::from(u32::MAX), "{entry:?} does not fit a 4-byte entry");
        table.words_mut()[i] = entry.0 as u32;
    }

    type Raw = u32;

    #[inline]
    fn raw_entries(table: &mut TablePage) -> &mut [u32] {
        table.words_mut()
    }
}

/// The three-level format with physical-address extension.
#[derive(Clone, Copy, Debug)]
pub struct Pae;

impl PageFormat for Pae {
    const PAGING: Paging = Paging::Pae;
    const LEVELS: usize = 3;
    const ENTRY_SIZE: u32 = 8;
    const ENTRIES: usize = 512;
    const ROOT_ENTRIES: usize = 4;
    const LEAF_SPAN: u32 = 1 << 21;
    const ROOT_FLAGS: Flags = Flags::PRESENT;

    #[inline]
    fn index(va: GuestVirt, level: usize) -> usize {
        let shifted = (va.0 >> (PAGE_SHIFT as usize + 9 * (level - 1))) as usize;
        shifted & 511
    }

    #[inline]
    fn load(table: &TablePage, i: usize) -> Entry {
        Entry(table.longs()[i])
    }

    #[inline]
    fn store(table: &mut TablePage, i: usize, entry: Entry) {
        table.longs_mut()[i] = entry.0;
    }

    type Raw = u64;

    #[inline]
    fn raw_entries(table: &mut TablePage) -> &mut [u64] {
        table.longs_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_split_an_address_as_the_manual_draws_it() {
        let va = GuestVirt(0xc040_3123);
        assert_eq!((TwoLevel::index(va, 2), TwoLevel::index(va, 1)), (0x301, 3));
        assert_eq!((Pae::index(va, 3), Pae::index(va, 2), Pae::index(va, 1)), (3, 2, 3));
        let top = GuestVirt(u32::MAX);
        assert_eq!((TwoLevel::index(top, 2), TwoLevel::index(top, 1)), (1023, 1023));
        assert_eq!((Pae::index(top, 3), Pae::index(top, 2), Pae::index(top, 1)), (3, 511, 511));
    }

    #[test]
    fn an_entry_keeps_frame_and_flags_apart() {
        let e = Entry(0x8000_0001_2345_6067);
        assert_eq!(e.frame(), 0x12_3456);
        assert_eq!(e.flags().bits(), 0x8000_0000_0000_0067);
        assert_eq!(Entry::new(e.frame(), e.flags()), e);
    }
}
