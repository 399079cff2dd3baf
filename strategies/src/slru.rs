//! `slru`: segmented LRU. A slot that is used a second time moves to a protected segment.
//!
//! What overflows the protected segment goes back to the front of the other, from whose end slots are evicted; a
//! process that runs once cannot push out those that run again and again. R. Karedla, J. S. Love and B. G.
//! Wherry, "Caching strategies to improve disk system performance", IEEE Computer 27(3), 1994.

use crate::lists::Lists;
use arch_i386::addr::GuestPhys;
use framework::fallible::boxed;
use framework::parameter::{Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Slru {
    /// The two segments, the last used in front.
    lists: Lists,
    /// Slots that the protected segment can have, and its share of all in percent.
    protected_slots: usize,
    percent: usize,
}

const PROBATION: usize = 0;
const PROTECTED: usize = 1;

impl EvictionPolicy for Slru {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        self.lists.push_front(PROBATION, slot);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.lists.push_front(PROTECTED, slot);
        while self.lists.len(PROTECTED) > self.protected_slots
            && let Some(oldest) = self.lists.back(PROTECTED)
        {
            self.lists.push_front(PROBATION, oldest);
        }
    }

    fn emptied(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    fn resized(&mut self, slots: usize) {
        self.protected_slots = slots * self.percent / 100;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        self.lists.back(PROBATION).or(self.lists.back(PROTECTED)).unwrap_or(0)
    }
}

static PROTECTED_PERCENT: Number = Number {
    name: "protected",
    help: "size of the protected segment, in percent of the slots",
    default: 80,
    range: 0..=100,
};

#[linkme::distributed_slice(POLICIES)]
static SLRU: PolicyEntry = PolicyEntry {
    name: "slru",
    help: "segmented LRU: slots that are used again are protected from those that are not",
    parameters: &[Parameter::Number(&PROTECTED_PERCENT)],
    build: |config| {
        let percent = config.values.number(&PROTECTED_PERCENT) as usize;
        let protected_slots = config.slots * percent / 100;
        Ok(boxed(Slru { lists: Lists::new(2, config.slots)?, protected_slots, percent })?)
    },
};
