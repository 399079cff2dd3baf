//! `lru`: the slot that was switched to longest ago gives way.
//!
//! The policy that lguest's author thought might be better. Switches are numbered; the slot with the
//! smallest number is the victim.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use arch_i386::addr::GuestPhys;
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Lru {
    /// The number of the last switch.
    now: u64,
    /// The number of the last switch to each slot; 0 for one that is empty.
    last_use: Vec<u64>,
}

impl EvictionPolicy for Lru {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.used(slot, directory);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.now += 1;
        self.last_use[slot] = self.now;
    }

    fn emptied(&mut self, slot: usize) {
        self.last_use[slot] = 0;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let oldest = self.last_use.iter().enumerate().min_by_key(|(_, used)| **used);
        oldest.map_or(0, |(slot, _)| slot)
    }
}

#[linkme::distributed_slice(POLICIES)]
static LRU: PolicyEntry = PolicyEntry {
    name: "lru",
    help: "the slot that was switched to longest ago gives way",
    parameters: &[],
    build: |config| Box::new(Lru { now: 0, last_use: vec![0; config.slots] }),
};
