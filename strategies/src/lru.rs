//! `lru`: the slot that was switched to longest ago is evicted.
//!
//! The policy that lguest's author thought might be better. R. L. Mattson et al., "Evaluation techniques for
//! storage hierarchies", IBM Systems Journal 9(2), 1970.

use crate::lists::Lists;
use arch_i386::addr::GuestPhys;
use framework::fallible::boxed;
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Lru {
    /// One list, the last used in front.
    lists: Lists,
}

const STACK: usize = 0;

impl EvictionPolicy for Lru {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.used(slot, directory);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.lists.push_front(STACK, slot);
    }

    fn counts_each_use(&self) -> bool {
        false
    }

    fn emptied(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        self.lists.back(STACK).unwrap_or(0)
    }
}

#[linkme::distributed_slice(POLICIES)]
static LRU: PolicyEntry = PolicyEntry {
    name: "lru",
    help: "the slot that was switched to longest ago is evicted",
    parameters: &[],
    build: |config| Ok(boxed(Lru { lists: Lists::new(1, config.slots)? })?),
};
