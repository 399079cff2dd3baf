//! `hyperbolic`: the directory with the fewest uses for the time since its slot was filled is evicted.
//!
//! Unlike LFU, a new directory does not have to win against uses of long ago: its rate falls from one, as a hyperbola does.
//! The rates change all the time and at different speeds, so that no order is kept; the paper looks at 64 random ones and
//! evicts the lowest. With `sample` slots or fewer all are looked at. Equal rates: the one filled first. A. Blankstein,
//! S. Sen and M. J. Freedman, "Hyperbolic caching: flexible caching for web applications", USENIX Annual Technical
//! Conference 2017.

use crate::slot_set::SlotSet;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Hyperbolic {
    filled: SlotSet,
    /// Of each slot: its uses, and the number of the load that has filled it.
    slots: Box<[(u64, u64)]>,
    /// Loads so far.
    now: u64,
    sample: usize,
}

impl Hyperbolic {
    /// The one of two slots that is evicted sooner.
    fn lower(&self, a: usize, b: usize) -> usize {
        let [(uses_a, filled_a), (uses_b, filled_b)] = [a, b].map(|slot| self.slots[slot]);
        let [age_a, age_b] = [filled_a, filled_b].map(|filled| u128::from(self.now + 1 - filled));
        // The quotients are compared without division.
        let [rate_a, rate_b] = [u128::from(uses_a) * age_b, u128::from(uses_b) * age_a];
        if (rate_b, filled_b) < (rate_a, filled_a) { b } else { a }
    }
}

impl EvictionPolicy for Hyperbolic {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        self.now += 1;
        self.filled.add(slot);
        self.slots[slot] = (1, self.now);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.now += 1;
        self.slots[slot].0 += 1;
    }

    fn emptied(&mut self, slot: usize) {
        self.filled.remove(slot);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let all = self.filled.members();
        if all.len() <= self.sample {
            return all.iter().copied().reduce(|a, b| self.lower(a, b)).unwrap_or(0);
        }
        let mut lowest = self.filled.draw();
        for _ in 1..self.sample {
            let drawn = self.filled.draw();
            lowest = lowest.zip(drawn).map(|(a, b)| self.lower(a, b));
        }
        lowest.unwrap_or(0)
    }
}

static SAMPLE: Number =
    Number { name: "sample", help: "slots that are looked at", default: 64, range: 1..=1024 };

#[linkme::distributed_slice(POLICIES)]
static HYPERBOLIC: PolicyEntry = PolicyEntry {
    name: "hyperbolic",
    help: "the slot with the fewest uses for the time since it was filled is evicted",
    parameters: &[Parameter::Number(&SAMPLE)],
    build: |config| {
        Ok(boxed(Hyperbolic {
            filled: SlotSet::new(config.slots, config.seed)?,
            slots: filled((0, 0), config.slots)?,
            now: 0,
            sample: config.values.number(&SAMPLE) as usize,
        })?)
    },
};
