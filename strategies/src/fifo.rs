//! `fifo`: the slot that was filled longest ago is evicted, however often it was used since.
//!
//! L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal
//! 5(2), 1966.

use crate::lists::Lists;
use arch_i386::addr::GuestPhys;
use framework::fallible::boxed;
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Fifo {
    /// One list, the last filled in front.
    lists: Lists,
}

const QUEUE: usize = 0;

impl EvictionPolicy for Fifo {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        self.lists.push_front(QUEUE, slot);
    }

    fn used(&mut self, _slot: usize, _directory: GuestPhys) {}

    fn counts_each_use(&self) -> bool {
        false
    }

    fn emptied(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        self.lists.back(QUEUE).unwrap_or(0)
    }
}

#[linkme::distributed_slice(POLICIES)]
static FIFO: PolicyEntry = PolicyEntry {
    name: "fifo",
    help: "the slot that was filled longest ago is evicted",
    parameters: &[],
    build: |config| Ok(boxed(Fifo { lists: Lists::new(1, config.slots)? })?),
};
