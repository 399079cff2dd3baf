//! `lfu`: the slot that was switched to least often is evicted; of those, the one used longest ago.
//!
//! A count begins when a slot is filled and is forgotten when it is evicted ("in-cache" LFU). A. V. Aho, P. J.
//! Denning and J. D. Ullman, "Principles of optimal page replacement", Journal of the ACM 18(1), 1971.

use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Lfu {
    /// Of each slot: how often it was used, 0 if it is free, and the number of its last use. The smallest is evicted.
    uses: Box<[(u64, u64)]>,
    /// The number of the last use of any.
    now: u64,
}

impl EvictionPolicy for Lfu {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.uses[slot].0 = 0;
        self.used(slot, directory);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.now += 1;
        self.uses[slot] = (self.uses[slot].0 + 1, self.now);
    }

    fn emptied(&mut self, slot: usize) {
        self.uses[slot] = (0, 0);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let filled = self.uses.iter().enumerate().filter(|(_, (uses, _))| *uses > 0);
        let least = filled.min_by_key(|(_, uses)| **uses);
        least.map_or(0, |(slot, _)| slot)
    }
}

#[linkme::distributed_slice(POLICIES)]
static LFU: PolicyEntry = PolicyEntry {
    name: "lfu",
    help: "the slot that was switched to least often is evicted",
    parameters: &[],
    build: |config| Ok(boxed(Lfu { uses: filled((0, 0), config.slots)?, now: 0 })?),
};
