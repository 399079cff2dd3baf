//! Part 4, switching: the guest loads CR3.
//!
//! In lguest this is `guest_new_pagetable` with `new_pgdir`. A page directory that is shadowed becomes the current one. For
//! another one a slot is taken ([`eviction`](super::eviction)), of which the kernel's half is kept, since that is the same
//! in all of a guest's page directories.
//!
//! Different here: the slot of the linear mapping that the guest began with is used again (lguest leaves it until its
//! random choice falls on it; so does a policy that does not [take free slots first]).
//!
//! [take free slots first]: framework::policy::EvictionPolicy::takes_free_slots_first

use super::ShadowCache;
use arch_i386::addr::GuestPhys;
use arch_i386::paging::PageFormat;
use framework::host::PagingHost;
use framework::kill::Kill;
use framework::strategy::Loaded;

/// Of fewer switches, telling the policy of each takes less than finding the last to each slot.
const WORTH_SORTING: usize = 4;

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    /// The guest runs on this slot from now on.
    pub(super) fn make_current(&mut self, index: usize) {
        self.slots.make_current(index);
        self.tables.make_current(self.slots.current_slot().root);
    }

    /// The guest runs on this page directory from now on.
    #[inline(always)]
    pub(super) fn switch(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<Loaded, Kill> {
        if !self.linear
            && let Some(index) = self.slots.of_loaded(directory)
        {
            self.policy.used(index, directory);
            self.make_current(index);
            return Ok(Loaded::Hit);
        }
        self.load_missing(host, directory)
    }

    /// The guest has run on these page directories, and runs on the last one; returns how many of them, from the first on, are
    /// shadowed and noted.
    pub(super) fn switch_among(&mut self, directories: &[GuestPhys]) -> usize {
        if self.linear {
            return 0;
        }
        if directories.len() >= WORTH_SORTING && !self.policy.counts_each_use() {
            let mut used = |index, directory| self.policy.used(index, directory);
            // As a rule they are in the first few slots.
            let last = self.slots.last_uses::<1>(directories, &mut used);
            if let Some(last) = last.or_else(|| self.slots.last_uses::<4>(directories, &mut used)) {
                self.make_current(last);
                return directories.len();
            }
        }
        let mut last = None;
        let mut noted = 0;
        for &directory in directories {
            let Some(index) = self.slots.of_loaded(directory) else { break };
            self.policy.used(index, directory);
            last = Some(index);
            noted += 1;
        }
        if let Some(index) = last {
            self.make_current(index);
        }
        noted
    }

    /// Loads a page directory that is not shadowed, or the guest's first.
    #[inline(never)] // The usual case is the other one.
    fn load_missing(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<Loaded, Kill> {
        if core::mem::take(&mut self.linear) {
            // What was made up until now is not in the guest's tables.
            if self.release_all(host).is_break() {
                return Ok(Loaded::Hit);
            }
            if self.policy.takes_free_slots_first() {
                // Nor is the slot it was made up in worth keeping, empty as it is now.
                self.policy.emptied(self.slots.current());
                self.rename(host, self.slots.current(), directory);
                return Ok(Loaded::New);
            }
        }
        let (index, blank) = self.take_slot(host, directory)?;
        self.make_current(index);
        Ok(if blank { Loaded::New } else { Loaded::Recycled })
    }
}
