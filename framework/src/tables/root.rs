//! A shadow page directory: the root page, with PAE its middle pages, and the tables under them.

use super::ids::{LeafId, leaf_indices};
use super::leaf::InUse;
use crate::ledger::TableKind;
use crate::paging_host::{Capability, PagingHost};
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch_i386::addr::{GuestFrame, HostFrame, PAGE_SHIFT};
use arch_i386::paging::{Entry, Flags, PageFormat};
use arch_i386::shadow_tables::{MIDDLE_ORIGINS, UNCLAIMED};
use arch_i386::table::TablePage;
use core::ops::Range;
use fallible::OutOfMemory;

/// Counts of the middle tables of all roots by the guest's table that they stand for, hashed by its frame: a count of 0
/// is certain. A guest names each middle table that it fills, most of which have no shadow yet.
#[derive(Debug)]
pub(super) struct MiddleCounts([u16; 64]);

impl MiddleCounts {
    pub(super) const NONE: Self = Self([0; 64]);

    #[inline]
    fn count(&mut self, middle: GuestFrame) -> &mut u16 {
        &mut self.0[middle.0 as usize % 64]
    }

    /// Whether any may stand for this one.
    #[inline]
    pub(super) fn may_have(&self, middle: GuestFrame) -> bool {
        self.0[middle.0 as usize % 64] > 0
    }

    /// What one stands for has changed.
    #[inline]
    pub(super) fn change(&mut self, from: Option<GuestFrame>, to: Option<GuestFrame>) {
        if let Some(from) = from {
            *self.count(from) -= 1;
        }
        if let Some(to) = to {
            *self.count(to) += 1;
        }
    }
}

/// The word of a root's page that the first of [`MIDDLE_ORIGINS`] is.
const FIRST_ORIGIN: usize = MIDDLE_ORIGINS as usize / size_of::<u32>();

/// The guest's entry for a middle table, which has no other flag; 0 for none.
fn entry_for(middle: Option<GuestFrame>) -> u32 {
    middle.map_or(0, |frame| frame.0 << PAGE_SHIFT | Flags::PRESENT.bits() as u32)
}

/// A shadow page directory.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) page: TablePage,
    /// With PAE, the table behind each entry of `page`, if it is this root's own.
    pub(super) middles: [Option<TablePage>; 4],
    /// With PAE, the guest's middle table that each of `middles` stands for, once one was seen. The Switcher has it in the root's
    /// [page](MIDDLE_ORIGINS).
    pub(super) middle_origins: [Option<GuestFrame>; 4],
    /// For each [`PageFormat::LEAF_SPAN`] of address space, its table, if it is this root's own.
    pub(super) leaves: Box<[LeafId]>,
    /// The indices of `leaves` that have one.
    pub(super) in_use: InUse<64>,
    /// How often one of its entries has been filled; see [`Tables::count_fills`](super::Tables::count_fills).
    pub(super) fills: u64,
}

impl Root {
    /// An empty one.
    pub(super) fn new<S: PageFormat>(host: &mut dyn PagingHost) -> Result<Self, OutOfMemory> {
        let mut leaves = Vec::new();
        leaves.try_reserve_exact(leaf_indices::<S>()).map_err(|_| OutOfMemory)?;
        leaves.resize(leaf_indices::<S>(), LeafId::NONE);
        Ok(Self {
            page: host.alloc_table(TableKind::Root, Capability::new())?,
            middles: [const { None }; 4],
            middle_origins: [None; 4],
            leaves: leaves.into_boxed_slice(),
            in_use: InUse::EMPTY,
            fills: 0,
        })
    }

    /// The pages that it consists of, those of `leaves` not among them.
    #[inline]
    pub(super) fn pages(&self) -> usize {
        1 + self.middles.iter().flatten().count()
    }

    /// The page with the directory entries for a leaf-table index, if it is there.
    fn directory_mut<S: PageFormat>(&mut self, leaf_index: usize) -> Option<&mut TablePage> {
        match S::LEVELS {
            3 => self.middles[leaf_index / S::ENTRIES].as_mut(),
            _ => Some(&mut self.page),
        }
    }

    /// Makes the directory entry that leads to a level-1 table, and with PAE the table that it is in.
    pub(super) fn link<S: PageFormat>(
        &mut self,
        host: &mut dyn PagingHost,
        leaf_index: usize,
        table: HostFrame,
        flags: Flags,
    ) -> Result<(), OutOfMemory> {
        if S::LEVELS == 3 {
            self.add_middle::<S>(host, leaf_index / S::ENTRIES)?;
        }
        self.change_link::<S>(leaf_index, |_| Entry::new(table.0.into(), flags));
        Ok(())
    }

    /// Changes the directory entry that leads to a level-1 table, if the table that it is in is there.
    pub(super) fn change_link<S: PageFormat>(
        &mut self,
        leaf_index: usize,
        change: impl FnOnce(Entry) -> Entry,
    ) {
        if let Some(page) = self.directory_mut::<S>(leaf_index) {
            let link = S::load(page, leaf_index % S::ENTRIES);
            S::store(page, leaf_index % S::ENTRIES, change(link));
        }
    }

    /// Makes the middle page of a root entry, if it is not there (PAE).
    pub(super) fn add_middle<S: PageFormat>(
        &mut self,
        host: &mut dyn PagingHost,
        index: usize,
    ) -> Result<(), OutOfMemory> {
        if self.middles[index].is_none() {
            let middle = host.alloc_table(TableKind::Directory, Capability::new())?;
            S::store(&mut self.page, index, Entry::new(middle.frame().0.into(), S::ROOT_FLAGS));
            self.middles[index] = Some(middle);
        }
        Ok(())
    }

    /// Sets which middle table of the guest's one of `middles` stands for.
    pub(super) fn set_middle_origin(
        &mut self,
        counts: &mut MiddleCounts,
        index: usize,
        origin: Option<GuestFrame>,
    ) {
        counts.change(core::mem::replace(&mut self.middle_origins[index], origin), origin);
        self.page.words_mut()[FIRST_ORIGIN + index] = entry_for(origin);
    }

    /// Everything under these of `middles` is empty: each stands for whichever of the guest's tables is used there next.
    pub(super) fn unclaim_middles(&mut self, counts: &mut MiddleCounts, indices: Range<usize>) {
        for index in indices {
            if self.middles[index].is_some() {
                counts.change(self.middle_origins[index].take(), None);
                self.page.words_mut()[FIRST_ORIGIN + index] = UNCLAIMED;
            }
        }
    }

    /// The guest's middle table that the Switcher has filled under, where the host knew of none.
    pub(super) fn note_claimed_middle(&mut self, counts: &mut MiddleCounts, index: usize) {
        let word = self.page.words()[FIRST_ORIGIN + index];
        if self.middle_origins[index].is_none() && word & Flags::PRESENT.bits() as u32 != 0 {
            self.set_middle_origin(counts, index, Some(GuestFrame(word >> PAGE_SHIFT)));
        }
    }

    /// Whether the Switcher has the same of a middle table as `from`, which is this root or the one that it shares the table with. (Where
    /// nothing is claimed, it may have begun something that it has not brought to its end.)
    pub(super) fn agrees_on_middle_origin(&self, from: &Self, index: usize) -> bool {
        let word = self.page.words()[FIRST_ORIGIN + index];
        match from.middle_origins[index] {
            None => word == 0 || from.middles[index].is_some(),
            middle => word == entry_for(middle),
        }
    }

    /// Takes a level-1 table out of its root.
    pub(super) fn unlink<S: PageFormat>(&mut self, leaf_index: usize) -> LeafId {
        self.change_link::<S>(leaf_index, |_| Entry::EMPTY);
        self.in_use.remove(leaf_index);
        core::mem::replace(&mut self.leaves[leaf_index], LeafId::NONE)
    }

    /// Makes entries of the root page, and with PAE what the Switcher has there of them, the same as another root's.
    pub(super) fn copy_entries<S: PageFormat>(&mut self, from: &Self, indices: Range<usize>) {
        for index in indices {
            S::store(&mut self.page, index, S::load(&from.page, index));
            if S::LEVELS == 3 {
                let word = FIRST_ORIGIN + index;
                self.page.words_mut()[word] = from.page.words()[word];
            }
        }
    }

    /// Gives middle pages back, this root's own among those of these entries. No tables are under them.
    pub(super) fn free_middles<S: PageFormat>(
        &mut self,
        host: &mut dyn PagingHost,
        counts: &mut MiddleCounts,
        indices: impl Iterator<Item = usize>,
    ) {
        for index in indices {
            if let Some(middle) = self.middles.get_mut(index).and_then(Option::take) {
                S::store(&mut self.page, index, Entry::EMPTY);
                self.set_middle_origin(counts, index, None);
                host.free_zeroed_table(middle, Capability::new());
            }
        }
    }
}
