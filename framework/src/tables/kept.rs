//! Level-1 tables that a flush has emptied and kept.
//!
//! A guest flushes for the few entries that it has changed, and then uses the same parts of its address space again. So the table
//! that was there stays linked, empty, and is taken up again when an entry is to be filled: by the host, for whatever the guest's
//! page directory has there then, or by the Switcher, as long as the guest's directory entry gives the rights that the link
//! has. A mark in the link shows the Switcher that it must compare them. Until then the table is none to all others who look for
//! one. One that nobody takes up for some flushes is released.
//!
//! With PAE the middle tables stay as well, as long as a table is under them. The Switcher fills nothing under one that
//! stands for another table than the guest has there; after a flush of everything under it, it stands for the one that is used first.

use super::ids::LeafId;
use super::leaf::Cleared;
use super::{Holder, RootId, Tables, leaf_in, leaf_index_of, leaf_indices, root_in, table_flags};
use crate::paging_host::{PagingHost, Progress, reschedule_point};
use crate::walk::Origin;
use arch_i386::addr::GuestVirt;
use arch_i386::paging::{Entry, PageFormat};
use arch_i386::shadow_tables;
use core::ops::Range;

/// At this flush in a row without a use a table is released. A guest's page directory serves one process after another, and each
/// begins with a flush: one that only forks leaves most of the tables alone that one which runs a program uses.
const IDLE_FLUSHES: u8 = 8;

/// How many entries are released before others may run. (A table is emptied in one go.)
const AT_ONCE: u32 = 128;

impl<G: PageFormat, S: PageFormat> Tables<G, S> {
    /// Releases all that these entries of the guest's root map, as [`Tables::release_entries`] does, and keeps its own tables that
    /// were in use, empty.
    pub fn empty_entries(
        &mut self,
        host: &mut dyn PagingHost,
        id: RootId,
        indices: Range<usize>,
    ) -> Progress {
        let start = Self::leaf_indices_of(indices.start).start;
        let end = Self::leaf_indices_of(indices.end).start;
        let own_end = end.min(self.shared_from);
        let mut idle = false;
        let mut cleared = Cleared { visited: 0, released: 0 };
        let mut at_once = 0;
        let mut progress = Progress::Continue(());
        let Self { roots, leaves, by_use, .. } = self;
        let root = root_in(roots, id);
        let mut from = start;
        while let Some(leaf_index) = root.in_use.next(from)
            && leaf_index < own_end
            && progress.is_continue()
        {
            from = leaf_index + 1;
            let leaf = root.leaves[leaf_index];
            let table = leaf_in(leaves, leaf);
            if !leaf.is_used() {
                table.idle_flushes += 1;
                idle |= table.idle_flushes >= IDLE_FLUSHES;
                continue;
            }
            let Cleared { visited, released } = table.empty::<S>(*by_use);
            cleared.visited += visited;
            cleared.released += released;
            root.leaves[leaf_index] = leaf.kept();
            root.change_link::<S>(leaf_index, |link| link.with(shadow_tables::KEPT));
            at_once += visited;
            if at_once >= AT_ONCE {
                at_once = 0;
                progress = reschedule_point(host);
            }
        }
        self.count(cleared);
        progress?;
        if idle {
            self.remove_idle(host, id, start..own_end)?;
        }
        self.free_unused_middles(host, id, start..end);
        if G::LEVELS == 3 {
            let middles = start / S::ENTRIES..own_end / S::ENTRIES;
            root_in(&mut self.roots, id).unclaim_middles(&mut self.middle_counts, middles);
        }
        if own_end >= end {
            return Progress::Continue(()); // As at every flush: no entry is of the shared half.
        }
        self.release_in(host, Holder::Shared, own_end.max(start)..end)
    }

    /// Releases the tables that nobody has taken up for long.
    #[cold]
    fn remove_idle(&mut self, host: &mut dyn PagingHost, id: RootId, indices: Range<usize>) -> Progress {
        let mut from = indices.start;
        while let Some(leaf_index) = self.root(id).in_use.next(from)
            && leaf_index < indices.end
        {
            from = leaf_index + 1;
            let leaf = self.root(id).leaves[leaf_index];
            if !leaf.is_used() && self.leaf(leaf).idle_flushes >= IDLE_FLUSHES {
                self.remove_leaf(host, Holder::Own(id), leaf_index);
                reschedule_point(host)?;
            }
        }
        Progress::Continue(())
    }

    /// Whether the table for an address is kept, empty.
    #[must_use]
    pub fn is_kept(&self, root: RootId, va: GuestVirt) -> bool {
        self.kept_at(root, leaf_index_of::<S>(va)).is_some()
    }

    /// The table that is kept at a leaf-table index, to stand for `origin` from now on.
    pub(super) fn take_up(&mut self, id: RootId, leaf_index: usize, origin: Origin) -> Option<LeafId> {
        let leaf = self.kept_at(id, leaf_index)?;
        let table = self.leaf_mut(leaf);
        (table.origin, table.idle_flushes) = (origin, 0);
        let link = Entry::new(table.page.frame().0.into(), table_flags::<S>(origin));
        let root = self.holder_mut(Holder::Own(id));
        root.leaves[leaf_index] = leaf;
        root.change_link::<S>(leaf_index, |_| link);
        self.note_middle_origin(id, leaf_index, origin.middle);
        Some(leaf)
    }

    fn kept_at(&self, id: RootId, leaf_index: usize) -> Option<LeafId> {
        debug_assert!(leaf_index < leaf_indices::<S>(), "{leaf_index} is no leaf-table index");
        if leaf_index >= self.shared_from {
            return None;
        }
        let leaf = self.root(id).leaves[leaf_index];
        (!leaf.is_used() && leaf != LeafId::NONE).then_some(leaf.used())
    }
}
