//! `clock`: a hand goes round the slots; one that was used since it last passed gets a second chance.
//!
//! F. J. Corbató, "A paging experiment with the Multics system", MIT Project MAC, 1968.

use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Clock {
    /// Whether each slot was used since the hand passed it; `None` for a free one.
    used: Box<[Option<bool>]>,
    /// The slot that is looked at next.
    hand: usize,
}

impl EvictionPolicy for Clock {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.used(slot, directory);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.used[slot] = Some(true);
    }

    fn emptied(&mut self, slot: usize) {
        self.used[slot] = None;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        // Twice round, and one with its second chance gone has been met, unless all are free.
        for _ in 0..=2 * self.used.len() {
            let slot = self.hand;
            self.hand = (slot + 1) % self.used.len();
            if let Some(used) = &mut self.used[slot]
                && !core::mem::take(used)
            {
                return slot;
            }
        }
        0
    }
}

#[linkme::distributed_slice(POLICIES)]
static CLOCK: PolicyEntry = PolicyEntry {
    name: "clock",
    help: "a hand goes round; a slot that was used since it last passed gets a second chance",
    parameters: &[],
    build: |config| Ok(boxed(Clock { used: filled(None, config.slots)?, hand: 0 })?),
};
