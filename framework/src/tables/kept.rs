//! Level-1 tables that a flush has emptied and kept.
//!
//! A guest flushes for the few entries that it has changed, and then uses the same parts of its address space again. So the table
//! that was there stays linked, empty, and is taken up again when an entry is to be filled: by the host, for whatever the guest's
//! page directory has there then, or by the Switcher, as long as the guest's directory entry gives the rights that the link
//! has. A mark in the link shows the Switcher that it must compare them. Until then the table is none to all others who look for
//! one. One that nobody has taken up by the next flush is released.
//!
//! Only for two levels of both guest and shadow, as the Switcher fills no others: with PAE, tables go and come with their middle
//! tables.

use super::ids::LeafId;
use super::leaf::{LeafTable, clear};
use super::{Holder, RootId, Tables, leaf_indices, table_flags};
use crate::paging_host::{PagingHost, Progress, reschedule_point};
use crate::walk::Origin;
use arch_i386::paging::{Entry, PageFormat};
use arch_i386::shadow_flags;
use core::ops::Range;

impl<G: PageFormat, S: PageFormat> Tables<G, S> {
    /// Whether tables are kept.
    const KEEPS: bool = G::LEVELS == 2 && S::LEVELS == 2;

    /// Releases all that these entries of the guest's root map, as [`Tables::release_entries`] does, and keeps its own tables that
    /// were in use, empty.
    pub fn empty_entries(
        &mut self,
        host: &mut dyn PagingHost,
        id: RootId,
        indices: Range<usize>,
    ) -> Progress {
        if !Self::KEEPS {
            return self.release_entries(host, id, indices);
        }
        // With two levels, an entry of the guest's root is one of the shadow's.
        let mut from = indices.start;
        let end = indices.end.min(self.shared_from);
        while let Some(leaf_index) = self.root(id).in_use.next(from)
            && leaf_index < end
        {
            from = leaf_index + 1;
            let leaf = self.root(id).leaves[leaf_index];
            if leaf.is_used() {
                self.empty_leaf(id, leaf_index, leaf);
            } else {
                self.remove_leaf(host, Holder::Own(id), leaf_index);
            }
            reschedule_point(host)?;
        }
        if end >= indices.end {
            return Progress::Continue(()); // As at every flush: no entry is of the shared half.
        }
        self.release_entries(host, id, end.max(indices.start)..indices.end)
    }

    fn empty_leaf(&mut self, id: RootId, leaf_index: usize, leaf: LeafId) {
        let by_use = self.by_use;
        let LeafTable { page, in_use, .. } = self.leaf_mut(leaf);
        let cleared = clear::<S>(page, in_use, by_use);
        in_use.clear();
        self.count(cleared);
        let root = self.holder_mut(Holder::Own(id));
        root.leaves[leaf_index] = leaf.kept();
        let link = S::load(&root.page, leaf_index);
        S::store(&mut root.page, leaf_index, link.with(shadow_flags::KEPT));
    }

    /// The table that is kept at a leaf-table index, to stand for `origin` from now on.
    pub(super) fn take_up(&mut self, id: RootId, leaf_index: usize, origin: Origin) -> Option<LeafId> {
        let leaf = self.kept_at(id, leaf_index)?;
        let table = self.leaf_mut(leaf);
        table.origin = origin;
        let link = Entry::new(table.page.frame().0.into(), table_flags::<S>(origin));
        let root = self.holder_mut(Holder::Own(id));
        root.leaves[leaf_index] = leaf;
        S::store(&mut root.page, leaf_index, link);
        Some(leaf)
    }

    /// The table that is kept at a leaf-table index, and that the Switcher has taken up by itself.
    pub(super) fn taken_up(&mut self, id: RootId, leaf_index: usize) -> Option<LeafId> {
        let leaf = self.kept_at(id, leaf_index)?;
        self.holder_mut(Holder::Own(id)).leaves[leaf_index] = leaf;
        Some(leaf)
    }

    fn kept_at(&self, id: RootId, leaf_index: usize) -> Option<LeafId> {
        debug_assert!(leaf_index < leaf_indices::<S>(), "{leaf_index} is no leaf-table index");
        if !Self::KEEPS || leaf_index >= self.shared_from {
            return None;
        }
        let leaf = self.root(id).leaves[leaf_index];
        (!leaf.is_used() && leaf != LeafId::NONE).then_some(leaf.used())
    }
}
