//! `lru`: the slot that was switched to longest ago is evicted.
//!
//! The policy that lguest's author thought might be better. R. L. Mattson et al., "Evaluation techniques for
//! storage hierarchies", IBM Systems Journal 9(2), 1970.

use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Lru {
    /// When each slot was switched to last, as [`Lru::now`] was then; 0 of one that is empty. A list in that order would save
    /// the search for a victim, but take longer at each switch.
    last: Box<[u64]>,
    /// Switches so far.
    now: u64,
}

impl EvictionPolicy for Lru {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.used(slot, directory);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.now += 1;
        self.last[slot] = self.now;
    }

    fn emptied(&mut self, slot: usize) {
        self.last[slot] = 0;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let filled = self.last.iter().enumerate().filter(|(_, last)| **last > 0);
        filled.min_by_key(|(_, last)| **last).map_or(0, |(slot, _)| slot)
    }
}

#[linkme::distributed_slice(POLICIES)]
static LRU: PolicyEntry = PolicyEntry {
    name: "lru",
    help: "the slot that was switched to longest ago is evicted",
    parameters: &[],
    build: |config| Ok(boxed(Lru { last: filled(0, config.slots)?, now: 0 })?),
};
