//! A level-1 shadow table, and sets of table entries.

use crate::walk::Origin;
use arch_i386::paging::{Entry, PageFormat};
use arch_i386::table::TablePage;

/// A set of numbers below `32 * WORDS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InUse<const WORDS: usize>([u32; WORDS]);

impl<const WORDS: usize> InUse<WORDS> {
    pub(super) const EMPTY: Self = Self([0; WORDS]);

    pub(super) fn insert(&mut self, i: usize) {
        self.0[i / 32] |= 1 << (i % 32);
    }

    pub(super) fn remove(&mut self, i: usize) {
        self.0[i / 32] &= !(1 << (i % 32));
    }

    /// The lowest member that is at least `from`.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / 32;
        let mut bits = self.0.get(word)? & (u32::MAX << (from % 32));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some(word * 32 + bits.trailing_zeros() as usize)
    }

    /// All members, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let mut from = 0;
        core::iter::from_fn(move || self.next(from).inspect(|i| from = i + 1))
    }
}

/// A level-1 table.
#[derive(Debug)]
pub(super) struct LeafTable {
    pub(super) page: TablePage,
    /// The entries that were put there, all present ones among them. The host may have dropped some since
    /// ([`Ledger::drop_stale`](crate::ledger::Ledger::drop_stale)).
    pub(super) in_use: InUse<32>,
    /// The guest's table that it stands for; the rights there are those of the directory entry here.
    pub(super) origin: Origin,
}

impl LeafTable {
    /// Puts a present entry where nothing is.
    #[inline]
    pub(super) fn put<S: PageFormat>(&mut self, index: usize, entry: Entry) {
        S::store(&mut self.page, index, entry);
        self.in_use.insert(index);
    }

    /// Puts an entry in the place of another; the old one is returned.
    #[inline]
    pub(super) fn replace<S: PageFormat>(&mut self, index: usize, entry: Entry) -> Entry {
        let old = S::load(&self.page, index);
        S::store(&mut self.page, index, entry);
        if entry.present() {
            self.in_use.insert(index);
        } else {
            self.in_use.remove(index);
        }
        old
    }
}
