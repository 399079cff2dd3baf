//! `irg`: the directory that is expected back latest, for what its eviction costs, is evicted.
//!
//! Belady's optimum with a guess in the place of the future: a directory is used again as long after its last use as its uses have
//! come after one another so far (the inter-reference gap: an average in which each gap has the weight 1 - `smoothing`, and those before
//! it the rest). If it is not, it is expected after as long again as it has been away. A
//! directory with one use is expected `unknown` times the number of slots later than that. So a ring of processes longer than
//! the slots keeps as many as fit, as under the optimum, where LRU keeps none; and what has been popular for long stays through a
//! pause. The time is divided by the entries that would
//! have to be filled again, plus `base`, so that what is expensive is kept for later uses, too; `cost=off` leaves that out.
//! How many of a directory's entries are filled again is known of one that was evicted before: as many as after its earlier evictions
//! (an average in which the last one weighs as much as all before), if it has so many. Of another it is taken to be half of them, as
//! a process uses much only once, when it begins. `refills=off` takes all entries of each.
//! Gaps and refills of evicted directories are remembered. V. Phalke and B. Gopinath, "An inter-reference gap model for temporal
//! locality in program behavior", ACM SIGMETRICS 1995, predict by gaps; the averages and the price are ours.

use crate::ghosts::Ghosts;
use crate::lists::Lists;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Flag, Number, Parameter};
use framework::policy::{Costs, EqualCosts, EvictionPolicy};
use framework::registry::{POLICIES, PolicyEntry};

struct Irg {
    /// The directory in each slot; `None` for a free one.
    directories: Box<[Option<GuestPhys>]>,
    /// What is known of each slot, and then of each ghost.
    uses: Box<[Uses]>,
    ghosts: Ghosts,
    /// One list: the ghosts, the last evicted in front.
    lists: Lists,
    /// Loads so far.
    now: u64,
    /// Loads after which a directory with one use is expected, beyond those that it has been away.
    unknown: u64,
    /// Entries that every eviction costs beyond its own; `None` if all cost the same.
    base: Option<u64>,
    /// Whether earlier refills are taken account of.
    by_refills: bool,
    /// The weight of earlier gaps, in percent.
    smoothing: u64,
}

/// What is known of a directory.
#[derive(Clone, Copy, Default)]
struct Uses {
    /// The number of the load that was its last use.
    last: u64,
    /// After how many loads its uses come, in [`PARTS`] of a load.
    gap: Option<u64>,
    /// It was evicted, and has come back.
    returned: bool,
    /// How often its entries have been filled since it took its slot, when a victim was looked for last.
    refills: usize,
    /// The same for its earlier returns, on average.
    earlier_refills: Option<usize>,
}

const EVICTED: usize = 0;

/// So many parts of an entry, and of a load, are told apart.
const PARTS: u64 = 16;

impl Irg {
    /// In how many loads a slot's directory is expected, in parts of a load.
    fn expected(&self, slot: usize) -> u64 {
        let Uses { last, gap, .. } = self.uses[slot];
        let away = (self.now + 1 - last) * PARTS;
        match gap {
            None => self.unknown * PARTS + away,
            Some(gap) if away <= gap => gap - away + PARTS,
            Some(_) => away,
        }
    }

    /// A directory is used by the present load.
    fn used_again(&self, uses: Uses) -> Uses {
        let now = (self.now - uses.last) * PARTS;
        let gap =
            uses.gap.map_or(now, |before| (before * self.smoothing + now * (100 - self.smoothing)) / 100);
        Uses { last: self.now, gap: Some(gap), ..uses }
    }

    /// How many of a slot's entries are filled again if they are dropped.
    fn filled_again(&self, slot: usize, entries: usize) -> usize {
        match self.uses[slot].earlier_refills {
            _ if !self.by_refills => entries,
            None => entries.div_ceil(2),
            Some(refills) => entries.min(refills),
        }
    }
}

impl EvictionPolicy for Irg {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        let known = self.ghosts.find(directory).map(|ghost| self.uses[ghost]);
        self.ghosts.take_off(&mut self.lists, directory);
        self.evicted(slot);
        self.now += 1;
        self.directories[slot] = Some(directory);
        let first = Uses { last: self.now, ..Uses::default() };
        self.uses[slot] =
            known.map_or(first, |uses| Uses { returned: true, refills: 0, ..self.used_again(uses) });
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.now += 1;
        self.uses[slot] = self.used_again(self.uses[slot]);
    }

    fn emptied(&mut self, slot: usize) {
        self.directories[slot] = None;
    }

    fn evicted(&mut self, slot: usize) {
        if let Some(directory) = self.directories[slot].take() {
            let Uses { returned, refills, earlier_refills, .. } = &mut self.uses[slot];
            if *returned {
                *earlier_refills = Some(earlier_refills.map_or(*refills, |before| before.midpoint(*refills)));
            }
            self.ghosts.put_on(&mut self.lists, EVICTED, directory);
            if let Some(ghost) = self.ghosts.find(directory) {
                self.uses[ghost] = self.uses[slot];
            }
        }
    }

    fn victim(&mut self, incoming: GuestPhys) -> usize {
        self.victim_by_cost(incoming, &EqualCosts)
    }

    fn victim_by_cost(&mut self, _incoming: GuestPhys, costs: &dyn Costs) -> usize {
        if self.by_refills {
            for (slot, uses) in self.uses[..self.directories.len()].iter_mut().enumerate() {
                uses.refills = costs.refills(slot);
            }
        }
        let cost = |slot| match self.base {
            Some(base) => {
                let entries = self.filled_again(slot, costs.entries(slot));
                (base + entries as u64) * PARTS / costs.size(slot).max(1) as u64
            }
            None => 1,
        };
        let filled = (0..self.directories.len()).filter(|&slot| self.directories[slot].is_some());
        let rated = filled.map(|slot| (slot, self.expected(slot), cost(slot).max(1)));
        // Quotients are compared without division; of equal ones, the first that was used.
        let latest = rated.reduce(|a, b| {
            let [of_a, of_b] = [a.1.saturating_mul(b.2), b.1.saturating_mul(a.2)];
            let [used_a, used_b] = [a, b].map(|rated| core::cmp::Reverse(self.uses[rated.0].last));
            if (of_b, used_b) > (of_a, used_a) { b } else { a }
        });
        latest.map_or(0, |(slot, ..)| slot)
    }
}

static COST: Flag = Flag { name: "cost", help: "take account of what an eviction costs", default: true };

static BASE: Number = Number {
    name: "base",
    help: "entries that are added to the cost of every eviction",
    default: 16,
    range: 0..=1024,
};

static REFILLS: Flag = Flag {
    name: "refills",
    help: "expect an eviction to cost what earlier ones of the directory have cost, not all its entries",
    default: true,
};

static UNKNOWN: Number = Number {
    name: "unknown",
    help: "when a directory with one use is expected, in times the slots",
    default: 4,
    range: 0..=1000,
};

static SMOOTHING: Number = Number {
    name: "smoothing",
    help: "the weight of earlier gaps beside the last one, in percent",
    default: 75,
    range: 0..=99,
};

static GHOSTS: Number = Number {
    name: "ghosts",
    help: "evicted directories that are remembered, in percent of the slots",
    default: 400,
    range: 0..=1000,
};

#[linkme::distributed_slice(POLICIES)]
static IRG: PolicyEntry = PolicyEntry {
    name: "irg",
    help: "the directory that is expected back latest, for what its eviction costs, is evicted",
    parameters: &[
        Parameter::Flag(&COST),
        Parameter::Number(&BASE),
        Parameter::Flag(&REFILLS),
        Parameter::Number(&UNKNOWN),
        Parameter::Number(&SMOOTHING),
        Parameter::Number(&GHOSTS),
    ],
    build: |config| {
        let slots = config.slots;
        let [base, unknown, smoothing, ghosts] =
            [&BASE, &UNKNOWN, &SMOOTHING, &GHOSTS].map(|number| config.values.number(number));
        let ghosts = slots * ghosts as usize / 100;
        Ok(boxed(Irg {
            directories: filled(None, slots)?,
            uses: filled(Uses::default(), slots + ghosts)?,
            ghosts: Ghosts::new(slots, ghosts)?,
            lists: Lists::new(1, slots + ghosts)?,
            now: 0,
            unknown: unknown * slots as u64,
            base: config.values.flag(&COST).then_some(base),
            by_refills: config.values.flag(&REFILLS),
            smoothing,
        })?)
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use framework::parameter::Values;

    /// So many entries in each slot, and so many refills.
    struct Given([usize; 3], [usize; 3]);

    impl Costs for Given {
        fn entries(&self, slot: usize) -> usize {
            self.0[slot]
        }

        fn refills(&self, slot: usize) -> usize {
            self.1[slot]
        }

        fn size(&self, _slot: usize) -> usize {
            1
        }
    }

    #[test]
    fn expectations_are_weighed_by_cost() {
        let values = Values::parse(IRG.name, IRG.parameters, "base=2,refills=off").unwrap();
        let config = framework::registry::PolicyConfig { slots: 3, seed: 0, values: &values };
        let mut policy = (IRG.build)(&config).unwrap();
        // Loads 1 to 6: all three twice, so that the gaps are 3.
        (0..3).for_each(|slot| policy.filled(slot, GuestPhys(4096 * slot as u32)));
        (0..3).for_each(|slot| policy.used(slot, GuestPhys(4096 * slot as u32)));
        // At load 7 they are expected in 1, 2 and 3 loads.
        let mut victim = |entries| policy.victim_by_cost(GuestPhys(0xf000), &Given(entries, [0; 3]));
        assert_eq!(victim([0, 0, 0]), 2);
        // 1 / 3, 2 / 3 and 3 / 5.
        assert_eq!(victim([1, 1, 3]), 1);
        // 1 / 2, 2 / 10 and 3 / 7.
        assert_eq!(victim([0, 8, 5]), 0);
        // 1 / 3, 2 / 6 and 3 / 9: the one that was used first.
        assert_eq!(victim([1, 4, 7]), 0);
    }

    #[test]
    fn what_earlier_evictions_have_cost_is_expected_of_the_next() {
        let values = Values::parse(IRG.name, IRG.parameters, "base=0,smoothing=0,unknown=0").unwrap();
        let config = framework::registry::PolicyConfig { slots: 3, seed: 0, values: &values };
        let mut policy = (IRG.build)(&config).unwrap();
        let directory = |number: usize| GuestPhys(4096 * number as u32);
        (0..3).for_each(|slot| policy.filled(slot, directory(slot)));
        let victim = |policy: &mut dyn EvictionPolicy, entries, refills| {
            policy.victim_by_cost(directory(3), &Given(entries, refills))
        };
        // With one use and `unknown=0` each is expected after as long as it has been away, 3, 2 and 1 loads. None was evicted
        // before, so that of the entries half count: 3 / 6, 2 / 2 and 1 / 2; then 3 / 1, 2 / 1 and 1 / 1.
        assert_eq!(victim(&mut *policy, [12, 4, 4], [100; 3]), 1);
        assert_eq!(victim(&mut *policy, [2; 3], [100; 3]), 0);
        // Directory 0 goes, comes back at load 5 and is refilled 8 times; it goes again, and comes back at load 7. At load 8 it is expected
        // in 2 loads, the others in 6 and 5.
        policy.filled(0, directory(3));
        policy.filled(0, directory(0));
        victim(&mut *policy, [12; 3], [8, 0, 0]);
        policy.filled(0, directory(3));
        policy.filled(0, directory(0));
        // Of its 40 entries 8 count, of the others' half: 2 / 8, 6 / 30 and 5 / 30.
        assert_eq!(victim(&mut *policy, [40, 60, 60], [0; 3]), 0);
        // It has but 2 of them: 2 / 2, 6 / 7 and 5 / 30.
        assert_eq!(victim(&mut *policy, [2, 14, 60], [0; 3]), 0);
    }

    #[test]
    fn earlier_gaps_weigh_as_much_as_the_parameter_says() {
        // The slots that are loaded, at load 1 and on: the gaps of slot 0 are 1, 1 and 8, slot 1 has one of 5, slot 2 comes soon.
        let loads = [0, 0, 0, 1, 2, 2, 2, 2, 1, 2, 0];
        let victim_at_12 = |text| {
            let values = Values::parse(IRG.name, IRG.parameters, text).unwrap();
            let config = framework::registry::PolicyConfig { slots: 3, seed: 0, values: &values };
            let mut policy = (IRG.build)(&config).unwrap();
            let mut filled = [false; 3];
            for slot in loads {
                let directory = GuestPhys(4096 * slot as u32);
                if core::mem::replace(&mut filled[slot], true) {
                    policy.used(slot, directory);
                } else {
                    policy.filled(slot, directory);
                }
            }
            policy.victim(GuestPhys(0xf000))
        };
        // Slot 1 is expected in 3 loads. By its last gap, slot 0 is in 8; by a quarter of it, in 2.75; by a tenth, in 1.7.
        assert_eq!(victim_at_12("smoothing=0"), 0);
        assert_eq!(victim_at_12("smoothing=75"), 1);
        assert_eq!(victim_at_12("smoothing=90"), 1);
    }
}
