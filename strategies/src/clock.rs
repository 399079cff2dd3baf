//! `clock`: a hand goes round the slots; one that was used since it last passed is let off once.
//!
//! F. J. Corbató, "A paging experiment with the Multics system", MIT Project MAC, 1968.

use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Clock {
    /// Whether each slot was used since the hand passed it.
    used: Box<[bool]>,
    /// The slot that is looked at next.
    hand: usize,
}

impl EvictionPolicy for Clock {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.used(slot, directory);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.used[slot] = true;
    }

    fn emptied(&mut self, slot: usize) {
        self.used[slot] = false;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        loop {
            let slot = self.hand;
            self.hand = (slot + 1) % self.used.len();
            if !core::mem::take(&mut self.used[slot]) {
                return slot;
            }
        }
    }
}

#[linkme::distributed_slice(POLICIES)]
static CLOCK: PolicyEntry = PolicyEntry {
    name: "clock",
    help: "a hand goes round; a slot that was used since it last passed is let off",
    parameters: &[],
    build: |config| Ok(boxed(Clock { used: filled(false, config.slots)?, hand: 0 })?),
};
