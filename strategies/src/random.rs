//! `random`: a random slot is evicted.
//!
//! As `lguest` with two differences: free slots are taken first, and the rest of the pager has none of lguest's defects.
//! L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966, calls
//! it RAND. The generator is Xoshiro128++ seeded with the module's `seed`, so that a run can be repeated.

use crate::slot_set::SlotSet;
use arch_i386::addr::GuestPhys;
use framework::fallible::boxed;
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Random {
    filled: SlotSet,
}

impl EvictionPolicy for Random {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        self.filled.add(slot);
    }

    fn used(&mut self, _slot: usize, _directory: GuestPhys) {}

    fn counts_each_use(&self) -> bool {
        false
    }

    fn emptied(&mut self, slot: usize) {
        self.filled.remove(slot);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        self.filled.draw().unwrap_or(0)
    }
}

#[linkme::distributed_slice(POLICIES)]
static RANDOM: PolicyEntry = PolicyEntry {
    name: "random",
    help: "a random slot is evicted",
    parameters: &[],
    build: |config| Ok(boxed(Random { filled: SlotSet::new(config.slots, config.seed)? })?),
};
