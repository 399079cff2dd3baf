//! `greedy-dual` and `gdsf`: the cheapest eviction, with a price that grows while a directory is not used.
//!
//! An eviction costs the entries that the guest's next run on the directory must fill again. A directory's value is that
//! cost, divided by what an eviction of it gains, on top of the value of the last victim when it was used last (L, the
//! "inflation"): so what is expensive stays longer, but not for ever. The lowest is evicted, and of equal ones the one that
//! was used longest ago; with equal costs that is LRU. `gdsf` multiplies the cost by the number of uses. The papers fix
//! a cost when an object is brought in; a directory's grows while the guest runs on it, so that it is taken when a victim is
//! looked for. N. E. Young, "The k-server dual and loose competitiveness for paging", Algorithmica 11(6), 1994; P. Cao and
//! S. Irani, "Cost-aware WWW proxy caching algorithms", USENIX Symposium on Internet Technologies and Systems 1997;
//! L. Cherkasova, "Improving WWW proxies performance with Greedy-Dual-Size-Frequency caching policy", HP Labs, 1998.
//!
//! libCacheSim's `GDSF` is no reference for the latter: it takes L from before the eviction that makes room, and so the new
//! object itself can be the lowest.

use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{OutOfMemory, boxed, filled};
use framework::policy::{Costs, EqualCosts, EvictionPolicy};
use framework::registry::{POLICIES, PolicyConfig, PolicyEntry};

struct GreedyDual {
    slots: Box<[Slot]>,
    /// The value of the last victim, in parts of an entry.
    inflation: u64,
    /// Loads so far.
    now: u64,
    counts_uses: bool,
}

/// What is known of a slot.
#[derive(Clone, Copy)]
struct Slot {
    /// 0 for a free one.
    uses: u64,
    /// The inflation, and the number of loads, at its last use.
    inflation: u64,
    last: u64,
}

const FREE: Slot = Slot { uses: 0, inflation: 0, last: 0 };

/// So many parts of an entry are told apart.
const ENTRY: u64 = 1 << 16;

impl GreedyDual {
    fn build(config: &PolicyConfig<'_>, counts_uses: bool) -> Result<Box<dyn EvictionPolicy>, OutOfMemory> {
        Ok(boxed(Self { slots: filled(FREE, config.slots)?, inflation: 0, now: 0, counts_uses })?)
    }

    fn value(&self, slot: usize, costs: &dyn Costs) -> u64 {
        let Slot { uses, inflation, .. } = self.slots[slot];
        // A load costs something, too, if there is nothing to fill.
        let cost = costs.entries(slot).max(1) as u64 * ENTRY / costs.size(slot).max(1) as u64;
        inflation.saturating_add(cost.saturating_mul(if self.counts_uses { uses } else { 1 }))
    }
}

impl EvictionPolicy for GreedyDual {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.slots[slot] = FREE;
        self.used(slot, directory);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.now += 1;
        let uses = self.slots[slot].uses + 1;
        self.slots[slot] = Slot { uses, inflation: self.inflation, last: self.now };
    }

    fn emptied(&mut self, slot: usize) {
        self.slots[slot] = FREE;
    }

    fn victim(&mut self, incoming: GuestPhys) -> usize {
        self.victim_by_cost(incoming, &EqualCosts)
    }

    fn victim_by_cost(&mut self, _incoming: GuestPhys, costs: &dyn Costs) -> usize {
        let filled = (0..self.slots.len()).filter(|&slot| self.slots[slot].uses > 0);
        let valued = filled.map(|slot| (self.value(slot, costs), self.slots[slot].last, slot));
        let Some((value, _, slot)) = valued.min() else { return 0 };
        // A flush may have made it cheaper than the last victim was.
        self.inflation = self.inflation.max(value);
        slot
    }
}

#[linkme::distributed_slice(POLICIES)]
static GREEDY_DUAL: PolicyEntry = PolicyEntry {
    name: "greedy-dual",
    help: "the slot that costs least to fill again is evicted; what is not used gets cheaper",
    parameters: &[],
    build: |config| GreedyDual::build(config, false),
};

#[linkme::distributed_slice(POLICIES)]
static GDSF: PolicyEntry = PolicyEntry {
    name: "gdsf",
    help: "as greedy-dual, with the cost times the number of uses",
    parameters: &[],
    build: |config| GreedyDual::build(config, true),
};

#[cfg(test)]
mod tests {
    use super::*;

    /// So many entries in each slot, and so many table pages.
    struct Given([(usize, usize); 3]);

    impl Costs for Given {
        fn entries(&self, slot: usize) -> usize {
            self.0[slot].0
        }

        fn refills(&self, _slot: usize) -> usize {
            unreachable!("they are not asked for")
        }

        fn size(&self, slot: usize) -> usize {
            self.0[slot].1
        }
    }

    fn policy(counts_uses: bool) -> GreedyDual {
        let mut policy = GreedyDual { slots: filled(FREE, 3).unwrap(), inflation: 0, now: 0, counts_uses };
        (0..3).for_each(|slot| policy.filled(slot, GuestPhys(0)));
        policy
    }

    /// The next victim, in whose place another directory comes.
    fn replace(policy: &mut GreedyDual, costs: [(usize, usize); 3]) -> usize {
        let slot = policy.victim_by_cost(GuestPhys(0), &Given(costs));
        policy.filled(slot, GuestPhys(0));
        slot
    }

    #[test]
    fn the_cheapest_goes_until_the_price_has_risen() {
        let mut policy = policy(false);
        // The values are 5, 2 and 3; then 5, 2 + 2 and 3; then 5, 4 and 3 + 3; then 5, 4 + 2 and 6; then slot 0's turn has come.
        let costs = [(5, 1), (2, 1), (3, 1)];
        assert_eq!([(); 4].map(|()| replace(&mut policy, costs)), [1, 2, 1, 0]);
    }

    #[test]
    fn cost_is_by_what_is_gained() {
        // The values are 3, 2 and 4.
        assert_eq!(replace(&mut policy(false), [(9, 3), (8, 4), (4, 1)]), 1);
    }

    #[test]
    fn uses_multiply_the_cost() {
        let mut policy = policy(true);
        policy.used(1, GuestPhys(0));
        // The values are 5, 2 * 3 and 7.
        assert_eq!(replace(&mut policy, [(5, 1), (3, 1), (7, 1)]), 0);
    }
}
