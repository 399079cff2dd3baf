//! Who gives way to whom: the slot for a page directory that has none.
//!
//! With a fixed number of slots a policy chooses, and whatever it answers, a safe slot is taken. With a
//! budget of table pages, the page directory that was used longest ago goes when the next one would not
//! fit, or when the current one grows.

use super::{Room, ShadowCache, Slot};
use crate::host::PagingHost;
use crate::kill::Kill;
use crate::tables::{RootId, Tables, reschedule_point};
use arch_i386::addr::GuestPhys;
use arch_i386::paging::PageFormat;

/// The most page directories that a budget is spent on.
const MAX_SLOTS: usize = 1024;

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    /// The slot for a page directory that has none. The second value says that its root is new, so
    /// that not even the kernel's half is there.
    pub(super) fn take_slot(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
    ) -> Result<(usize, bool), Kill> {
        let mut index = match &mut self.room {
            Room::Slots(slots, policy) => {
                let free = if policy.takes_free_slots_first() { self.slots.free() } else { None };
                let index = free.unwrap_or_else(|| policy.victim(directory));
                if index < *slots {
                    index
                } else {
                    self.counters.policy_errors += 1;
                    (self.slots.current() + 1) % *slots
                }
            }
            &mut Room::Pages(budget) => self.slot_by_budget(budget),
        };
        if self.slots.get(index).is_none() {
            match self.tables.add_root(host) {
                Ok(root) => {
                    self.note_filled(index, directory, root);
                    return Ok((index, true));
                }
                // Short of memory, go on with the slots there are.
                Err(_) if self.slots.get(self.slots.current()).is_some() => index = self.slots.current(),
                Err(error) => return Err(error.into()),
            }
        }
        self.counters.evictions += 1;
        self.remember_pages(index);
        // Where the host breaks it off, the guest does not come to see what is left.
        let _ = self.flush_user_of(host, index);
        self.rename(index, directory);
        Ok((index, false))
    }

    /// A free slot if the budget allows one more page directory, or else the one used longest ago.
    fn slot_by_budget(&mut self, budget: usize) -> usize {
        let fits = self.tables.pages() + Tables::<G, S>::NEW_DIRECTORY_PAGES <= budget;
        let free = if fits { self.slots.free_up_to(MAX_SLOTS) } else { None };
        free.or_else(|| self.slots.oldest(None)).unwrap_or(0)
    }

    /// Gives page directories up, but never the current one, until the budget is kept.
    #[inline]
    pub(super) fn keep_to_budget(&mut self, host: &mut dyn PagingHost) {
        if let Room::Pages(budget) = self.room
            && self.tables.pages() > budget
        {
            self.give_up_beyond(host, budget);
        }
    }

    #[inline(never)]
    fn give_up_beyond(&mut self, host: &mut dyn PagingHost, budget: usize) {
        while self.tables.pages() > budget
            && let Some(oldest) = self.slots.oldest(Some(self.slots.current()))
        {
            self.counters.evictions += 1;
            self.remember_pages(oldest);
            let Some(Slot { root, .. }) = self.slots.get(oldest) else { return };
            if reschedule_point(host).is_break() || self.tables.release_own(host, root).is_break() {
                return;
            }
            self.give_up(host, oldest);
        }
    }

    /// Empties a slot and gives its tables back, to the end.
    pub(super) fn give_up(&mut self, host: &mut dyn PagingHost, index: usize) {
        if let Some(Slot { root, .. }) = self.slots.empty(index) {
            self.tables.remove_root(host, root);
            self.note_emptied(index);
        }
    }

    /// Tells the policy that a slot holds no page directory any more.
    pub(super) fn note_emptied(&mut self, index: usize) {
        if let Room::Slots(_, policy) = &mut self.room {
            policy.emptied(index);
        }
    }

    /// Whether the guest's first page directory takes the slot of the linear mapping.
    pub(super) fn reuses_first_slot(&self) -> bool {
        match &self.room {
            Room::Slots(_, policy) => policy.takes_free_slots_first(),
            Room::Pages(_) => true,
        }
    }

    /// Notes that a slot shadows this page directory from now on.
    pub(super) fn rename(&mut self, index: usize, directory: GuestPhys) {
        if let Some(Slot { root, .. }) = self.slots.get(index) {
            self.note_filled(index, directory, root);
        }
    }

    fn note_filled(&mut self, index: usize, directory: GuestPhys, root: RootId) {
        self.slots.fill(index, directory, root);
        if let Room::Slots(_, policy) = &mut self.room {
            policy.filled(index, directory);
        }
    }

    /// Tells the policy that the guest has come back to a page directory.
    pub(super) fn note_use(&mut self, index: usize, directory: GuestPhys) {
        if let Room::Slots(_, policy) = &mut self.room {
            policy.used(index, directory);
        }
    }
}
