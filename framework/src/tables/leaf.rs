//! A level-1 shadow table, and sets of table entries.

use crate::bits::bits;
use crate::walk::Origin;
use arch_i386::done_in_switcher::FilledInSwitcher;
use arch_i386::paging::{Entry, PageFormat};
use arch_i386::table::TablePage;

/// A set of numbers below `32 * WORDS`, of which there are at most 64 words. Most sets have few members, near each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InUse<const WORDS: usize> {
    words: [u32; WORDS],
    /// A bit for each word that has any.
    used_words: [u32; 2],
}

/// The lowest bit of these that is at least `from`.
#[inline]
fn next_bit(bits: u32, from: usize) -> Option<usize> {
    let bits = bits & (u32::MAX << from);
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}

impl<const WORDS: usize> InUse<WORDS> {
    pub(super) const EMPTY: Self = {
        assert!(WORDS <= 64, "two words tell which are used");
        Self { words: [0; WORDS], used_words: [0; 2] }
    };

    /// Which of `used_words` has the bit for a member's word.
    #[inline]
    const fn half(i: usize) -> usize {
        if WORDS <= 32 { 0 } else { i / 1024 }
    }

    #[inline]
    pub(super) fn insert(&mut self, i: usize) {
        self.words[i / 32] |= 1 << (i % 32);
        self.used_words[Self::half(i)] |= 1 << (i / 32 % 32);
    }

    #[inline]
    pub(super) fn remove(&mut self, i: usize) {
        self.words[i / 32] &= !(1 << (i % 32));
        if self.words[i / 32] == 0 {
            self.used_words[Self::half(i)] &= !(1 << (i / 32 % 32));
        }
    }

    /// Takes all members out, and calls `visit` for each, in order.
    #[inline]
    pub(super) fn drain(&mut self, mut visit: impl FnMut(usize)) {
        for (half, used) in self.used_words.iter_mut().enumerate() {
            for word in bits(core::mem::take(used)) {
                let word = half * 32 + word as usize;
                for bit in bits(core::mem::take(&mut self.words[word])) {
                    visit(word * 32 + bit as usize);
                }
            }
        }
    }

    /// The lowest member that is at least `from`.
    #[inline]
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let word = from / 32;
        if let Some(bit) = next_bit(*self.words.get(word)?, from % 32) {
            return Some(word * 32 + bit);
        }
        let word = self.next_used_word(word + 1)?;
        Some(word * 32 + self.words[word].trailing_zeros() as usize)
    }

    #[inline]
    fn next_used_word(&self, from: usize) -> Option<usize> {
        match from {
            0..32 => next_bit(self.used_words[0], from).or_else(|| self.next_used_word(32)),
            32..64 => next_bit(self.used_words[1], from - 32).map(|word| 32 + word),
            _ => None,
        }
    }

    /// Whether any of `count` numbers from `from` on is a member; these are all of some words, which are all counted in one of
    /// `used_words`.
    #[inline]
    pub(super) fn has_any(&self, from: usize, count: usize) -> bool {
        debug_assert!(from.is_multiple_of(32) && count.is_multiple_of(32) && from % 1024 + count <= 1024);
        let words = (1_u64 << (count / 32)) - 1;
        self.used_words[Self::half(from)] & (words as u32) << (from / 32 % 32) != 0
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// All members, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let used = bits(self.used_words[0]).chain(bits(self.used_words[1]).map(|word| 32 + word));
        used.flat_map(|word| bits(self.words[word as usize]).map(move |bit| (word * 32 + bit) as usize))
    }
}

/// A level-1 table.
#[derive(Debug)]
pub(super) struct LeafTable {
    pub(super) page: TablePage,
    /// The entries that were put there, all present ones among them, but for those that the Switcher has filled and that are not
    /// [noted](super::Tables::note_fills) yet. The host may have dropped some since
    /// ([`Ledger::drop_stale`](crate::ledger::Ledger::drop_stale)).
    pub(super) in_use: InUse<32>,
    /// How many flushes it has been [kept](super::Tables::empty_entries) for, empty, since it was last used.
    pub(super) idle_flushes: u8,
    /// The guest's table that it stands for; the rights there are those of the directory entry here.
    pub(super) origin: Origin,
}

/// What [`LeafTable::empty`] has done.
pub(super) struct Cleared {
    /// Entries looked at.
    pub(super) visited: u32,
    /// Those that were there.
    pub(super) released: u32,
}

impl LeafTable {
    /// Takes all entries out, by those in use or through all.
    #[inline(always)] // Or what it counts would go through memory.
    pub(super) fn empty<S: PageFormat>(&mut self, by_use: bool) -> Cleared {
        let entries = S::raw_entries(&mut self.page);
        // Nearly all that are in use are there.
        let (mut visited, mut absent) = (0, 0);
        let mut release = |index: usize| {
            visited += 1;
            if Entry(entries[index].into()).present() {
                entries[index] = S::Raw::default();
            } else {
                absent += 1;
            }
        };
        if by_use {
            self.in_use.drain(release);
        } else {
            (0..S::ENTRIES).for_each(&mut release);
            self.in_use = InUse::EMPTY;
        }
        Cleared { visited, released: visited - absent }
    }

    /// Puts a present entry where nothing is.
    #[inline]
    pub(super) fn put<S: PageFormat>(&mut self, index: usize, entry: Entry) {
        S::store(&mut self.page, index, entry);
        self.in_use.insert(index);
    }

    /// Takes what the Switcher has filled anew into the entries in use, from the head of its account on as far as that is in
    /// this table, as the entry `first` is; returns how many these are.
    #[inline(never)] // For the registers: most of what is noted is noted here.
    pub(super) fn note_new<S: PageFormat>(
        &mut self,
        first: FilledInSwitcher,
        account: &[FilledInSwitcher],
    ) -> usize {
        let InUse { words, used_words: [used, _] } = &mut self.in_use;
        let mut used_now = *used;
        let mut rest = account;
        while let Some((filled, behind)) = rest.split_first()
            && filled.is_new_beside::<S>(first)
        {
            let index = S::index(filled.page(), 1);
            words[index / 32] |= 1 << (index % 32);
            used_now |= 1 << (index / 32);
            rest = behind;
        }
        *used = used_now;
        account.len() - rest.len()
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

#[cfg(test)]
mod tests {
    use super::InUse;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    /// Changes that reach every word, and leave some empty, are made to the set and to one of the library's.
    fn is_a_set<const WORDS: usize>() {
        let (mut set, mut model) = (InUse::<WORDS>::EMPTY, BTreeSet::new());
        let size = WORDS * 32;
        let mut number = 1;
        for round in 0..4 * size {
            // A primitive root of 65537 steps through all residues.
            number = number * 3 % 65537;
            let i = number % size;
            if round % 5 < if round < 2 * size { 3 } else { 1 } {
                set.insert(i);
                model.insert(i);
            } else {
                set.remove(i);
                model.remove(&i);
            }
            let from = (i + 37) % (size + 40);
            let start = i / 512 * 512;
            assert_eq!(set.has_any(start, size.min(512)), model.range(start..start + 512).next().is_some());
            assert_eq!(set.next(from), model.range(from..).next().copied(), "from {from}");
            if round % 64 == 0 {
                assert!(set.iter().eq(model.iter().copied()));
            }
        }
        let (mut drained, mut members) = (set.clone(), Vec::new());
        drained.drain(|member| members.push(member));
        assert!(members.iter().eq(model.iter()));
        assert_eq!(drained, InUse::EMPTY);
        for i in set.iter().collect::<Vec<_>>() {
            set.remove(i);
        }
        assert_eq!((set.next(0), set), (None, InUse::EMPTY));
    }

    #[test]
    fn numbers_in_use_are_a_set() {
        is_a_set::<1>();
        is_a_set::<32>();
        is_a_set::<64>();
    }
}
