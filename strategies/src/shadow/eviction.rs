//! Eviction: the slot for a page directory that is not shadowed, and what goes when a budget is exceeded.
//!
//! The policy chooses; if its answer is no slot, a safe one is taken. With a fixed number of slots the policy is used when
//! all are taken; with a budget of table pages also when the tables of the current page directory have grown beyond it; and
//! always when a guest reaches the limit of its memory.
//!
//! lguest keeps four slots and chooses one of them at random in `new_pgdir`, free or not.

use super::slots::Slot;
use super::{Capacity, ShadowCache};
use arch_i386::addr::GuestPhys;
use arch_i386::paging::PageFormat;
use framework::event::Event;
use framework::host::{PagingHost, reschedule_point};
use framework::kill::Kill;
use framework::tables::{RootId, Tables};

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    /// The slot for a page directory that is not shadowed. The second value is set when its root is new, so
    /// that not even the kernel's half is there.
    pub(super) fn take_slot(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
    ) -> Result<(usize, bool), Kill> {
        let mut index = self.free_slot().unwrap_or_else(|| self.victim(directory));
        if self.slots.get(index).is_none() {
            match self.tables.add_root(host) {
                Ok(root) => {
                    self.note_filled(host, index, directory, root);
                    return Ok((index, true));
                }
                // Short of memory with no other one to evict, the guest goes on with the slot that it has. With others, the
                // pager has some evicted, and requests the page directory again.
                Err(_) if self.slots.taken().count() == 1 => index = self.slots.current(),
                Err(error) => return Err(error.into()),
            }
        }
        self.note_eviction(host, index, directory);
        // Where the host breaks it off, the guest does not come to see what is left.
        let _ = self.flush_user_half(host, index);
        self.rename(host, index, directory);
        Ok((index, false))
    }

    /// A slot's page directory is evicted for another one.
    fn note_eviction(&mut self, host: &mut dyn PagingHost, index: usize, incoming: GuestPhys) {
        self.counters.evictions += 1;
        self.remember_pages(index);
        if let Some(Slot { directory: victim, .. }) = self.slots.get(index) {
            host.observe(Event::Eviction { victim, incoming });
        }
    }

    /// A slot that can be taken without an eviction.
    fn free_slot(&mut self) -> Option<usize> {
        match self.capacity {
            Capacity::Slots(_) if self.policy.takes_free_slots_first() => self.slots.free(),
            Capacity::Slots(_) => None,
            Capacity::Budget(budget) => {
                let fits = self.tables.pages() + Tables::<G, S>::NEW_DIRECTORY_PAGES <= budget;
                if fits { self.slots.free_up_to(self.capacity.slots()) } else { None }
            }
        }
    }

    /// The slot that the policy chooses for a page directory that is to be loaded.
    fn victim(&mut self, incoming: GuestPhys) -> usize {
        let index = self.choose(incoming);
        match self.capacity {
            // Free or not.
            Capacity::Slots(_) => index,
            Capacity::Budget(_) => self.slots.taken_from(index).unwrap_or(index),
        }
    }

    /// Requests a slot from the policy; returns one that exists.
    fn choose(&mut self, incoming: GuestPhys) -> usize {
        if matches!(self.capacity, Capacity::Budget(_)) {
            self.policy.resized(self.slots.taken().count());
        }
        let index = self.ask_policy(incoming);
        if index < self.capacity.slots() {
            return index;
        }
        self.counters.policy_errors += 1;
        (self.slots.current() + 1) % self.slots.len()
    }

    /// Evicts page directories, but never the current one, until the budget is kept.
    #[inline]
    pub(super) fn keep_to_budget(&mut self, host: &mut dyn PagingHost) {
        if let Capacity::Budget(budget) = self.capacity
            && self.tables.pages() > budget
        {
            self.evict_beyond(host, budget);
        }
    }

    #[inline(never)]
    fn evict_beyond(&mut self, host: &mut dyn PagingHost, budget: usize) {
        let current = self.slots.current();
        while self.tables.pages() > budget
            && let Some(next) = self.slots.taken_from(current + 1).filter(|&index| index != current)
        {
            // The policy has no record of which one the guest runs on.
            let chosen = self.choose(self.slots.current_slot().directory);
            let taken = self.slots.taken_from(chosen).filter(|&index| index != current);
            let victim = taken.unwrap_or(next);
            self.note_eviction(host, victim, self.slots.current_slot().directory);
            let Some(Slot { root, .. }) = self.slots.get(victim) else { return };
            if reschedule_point(host).is_break() || self.tables.release_own(host, root).is_break() {
                return;
            }
            self.give_up(host, victim);
            self.policy.evicted(victim);
        }
    }

    /// Evicts page directories until a quarter of the tables is given back, so that the next request does not run short
    /// again at once. Where the guest's current one alone has more, all of it goes.
    pub(super) fn give_up_some(&mut self, host: &mut dyn PagingHost) {
        let kept = self.tables.pages() / 4 * 3;
        self.evict_beyond(host, kept);
        if self.tables.pages() > kept {
            // Where the host breaks it off, the guest does not come to see what is left.
            let _ = self.release_all(host);
        }
    }

    /// Empties a slot and gives its tables back, to the end. Returns whether it was taken; the caller notifies the policy.
    pub(super) fn give_up(&mut self, host: &mut dyn PagingHost, index: usize) -> bool {
        let slot = self.slots.empty(index);
        if let Some(Slot { root, directory }) = slot {
            host.retract(directory);
            self.tables.remove_root(host, root);
        }
        slot.is_some()
    }

    /// Notes that a slot shadows this page directory from now on.
    pub(super) fn rename(&mut self, host: &mut dyn PagingHost, index: usize, directory: GuestPhys) {
        if let Some(Slot { root, directory: old }) = self.slots.get(index) {
            host.retract(old);
            self.note_filled(host, index, directory, root);
        }
    }

    fn note_filled(&mut self, host: &mut dyn PagingHost, index: usize, directory: GuestPhys, root: RootId) {
        // Another slot may have been the one for it.
        host.retract(directory);
        self.slots.fill(index, directory, root);
        self.tables.restart_fills(root);
        self.policy.filled(index, directory);
    }
}
