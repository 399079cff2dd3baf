//! Whether the tables that the processor walks agree with the bookkeeping, for the audit.

use super::ids::{LeafId, leaf_index_of, leaf_indices, leaf_indices_per_entry};
use super::leaf::LeafTable;
use super::root::Root;
use super::{Tables, WINDOW_FLAGS, table_flags};
use crate::defect::Defect;
use crate::paging_host::{PagingHost, Progress, reschedule_point};
use arch_i386::addr::HostFrame;
use arch_i386::paging::{Entry, Flags, PageFormat};
use arch_i386::shadow_tables;

/// What the processor itself sets in an entry that it walks through.
const PROCESSOR_SETS: Flags = Flags::ACCESSED.union(Flags::DIRTY);

impl<G: PageFormat, S: PageFormat> Tables<G, S> {
    /// Looks at every entry of every table page.
    pub fn check(&self, host: &mut dyn PagingHost, found: &mut dyn FnMut(Defect)) -> Progress {
        let mut held = 0;
        for root in self.roots.iter().chain([&self.owner]).flatten() {
            held += root.pages();
            self.check_root(root, found);
            reschedule_point(host)?;
        }
        let mut leaves = 0;
        for leaf in self.leaves.iter().flatten() {
            leaves += 1;
            check_leaf::<S>(leaf, found);
            reschedule_point(host)?;
        }
        held += leaves;
        let counted = self.pages;
        if counted != held || leaves + self.free.len() != self.leaves.len() {
            found(Defect::Pages { counted, held });
        }
        Progress::Continue(())
    }

    fn check_root(&self, root: &Root, found: &mut dyn FnMut(Defect)) {
        let table = root.page.frame();
        let is_owner = self.owner.as_ref().is_some_and(|owner| owner.page.frame() == table);
        let shares = |leaf_index: usize| !is_owner && leaf_index >= self.shared_from;
        let holder = |leaf_index: usize| match &self.owner {
            Some(owner) if shares(leaf_index) => owner,
            _ => root,
        };
        for leaf_index in 0..leaf_indices::<S>() {
            let known = root.leaves[leaf_index] != LeafId::NONE;
            if known != (root.in_use.next(leaf_index) == Some(leaf_index)) || known && shares(leaf_index) {
                found(Defect::InUse { table, index: leaf_index });
            }
        }
        let window = leaf_index_of::<S>(self.window.start());
        if S::LEVELS == 3 {
            for index in 0..S::ROOT_ENTRIES {
                let holder = holder(index * leaf_indices_per_entry::<S>());
                if !root.agrees_on_middle_origin(holder, index) {
                    found(Defect::Link { table, index });
                }
                let middle = holder.middles[index].as_ref();
                let expected = middle.map(|page| Entry::new(page.frame().0.into(), S::ROOT_FLAGS));
                let entry = S::load(&root.page, index).without(PROCESSOR_SETS);
                if entry != expected.unwrap_or(Entry::EMPTY) {
                    let is_window = index == window / S::ENTRIES;
                    found(if is_window {
                        Defect::Window { root: table }
                    } else {
                        Defect::Link { table, index }
                    });
                }
            }
        }
        for leaf_index in 0..leaf_indices::<S>() {
            let holder = holder(leaf_index);
            let directory = match S::LEVELS {
                // The entry itself is in the root, a copy if it is shared.
                2 => Some(&root.page),
                _ => holder.middles[leaf_index / S::ENTRIES].as_ref(),
            };
            let expected = if leaf_index == window {
                Entry::new(self.window.leaf().0.into(), WINDOW_FLAGS)
            } else {
                self.link_to(holder.leaves[leaf_index])
            };
            let index = leaf_index % S::ENTRIES;
            let entry = directory.map_or(Entry::EMPTY, |page| S::load(page, index));
            if entry.without(PROCESSOR_SETS) != expected.without(PROCESSOR_SETS) {
                found(if leaf_index == window {
                    Defect::Window { root: table }
                } else {
                    let table = directory.map_or(HostFrame(0), |page| page.frame());
                    Defect::Link { table, index }
                });
            }
        }
    }

    /// The directory entry that leads to a table.
    fn link_to(&self, id: LeafId) -> Entry {
        let leaf = self.leaves.get(id.number()).and_then(Option::as_ref).filter(|_| id != LeafId::NONE);
        let kept = if id.is_used() { Flags::empty() } else { shadow_tables::KEPT };
        leaf.map_or(Entry::EMPTY, |leaf| {
            Entry::new(leaf.page.frame().0.into(), table_flags::<S>(leaf.origin) | kept)
        })
    }
}

fn check_leaf<S: PageFormat>(leaf: &LeafTable, found: &mut dyn FnMut(Defect)) {
    for index in 0..S::ENTRIES {
        let known = leaf.in_use.next(index) == Some(index);
        // One that is known and not there is one that the host has dropped.
        if S::load(&leaf.page, index).present() && !known {
            found(Defect::InUse { table: leaf.page.frame(), index });
        }
    }
}
