//! `lecar`: LRU or LFU, by lot, with odds that are learnt from evictions that were regretted.
//!
//! Each has a weight and remembers what it has evicted. When such a directory comes back, the weight of the one that has
//! evicted it falls, the more the sooner it comes. If both choose the same slot, nobody is to blame, and it is not
//! remembered. The paper's learning rate of 0.45 and its discount, 0.005 after as many loads as there are slots, are kept.
//! `learn=off` keeps the odds as they are: `lru=100` is `lru` then, and `lru=0` is `lfu`. Each of the two remembers as many
//! directories as there are slots, in libCacheSim half as many (`ghosts=50`). G. Vietri et al., "Driving cache
//! replacement with ML-based LeCaR", USENIX HotStorage 2018, algorithms 1 and 2.

use crate::fixed::{ONE, power_of_half, product};
use crate::ghosts::Ghosts;
use crate::lists::Lists;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Flag, Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro128PlusPlus;

struct Lecar {
    /// The slots, the last used in front, and the ghosts of LRU's and of LFU's, the last evicted in front.
    lists: Lists,
    ghosts: Ghosts,
    /// The most that each of them may remember.
    ghost_room: usize,
    /// The directory in each slot, and how often it was used, and when last.
    slots: Box<[(GuestPhys, u64, u64)]>,
    /// When each ghost was evicted; slots come first and have none.
    evictions: Box<[u64]>,
    generator: Xoshiro128PlusPlus,
    /// The weight of LRU, which is what LFU's is short of one.
    lru_weight: u64,
    learns: bool,
    /// Loads so far.
    now: u64,
}

const RECENCY: usize = 0;
const LRU_GHOSTS: usize = 1;
const LFU_GHOSTS: usize = 2;

/// The paper's λ, for a power of 2 instead of e: 0.45 / ln 2.
const LEARNING_RATE: u64 = 2_788_347_608;
/// The logarithm to base 2 of 1 / 0.005.
const DISCOUNT: u64 = 32_830_112_350;

impl Lecar {
    fn lfu_victim(&self) -> Option<usize> {
        let filled = self.slots.iter().enumerate().filter(|(_, (_, uses, _))| *uses > 0);
        filled.min_by_key(|(_, (_, uses, last))| (*uses, *last)).map(|(slot, _)| slot)
    }

    /// The weight that is left of this one after an eviction that many loads ago, beside another.
    fn lessened(&self, weight: u64, loads: u64) -> u64 {
        let regret = power_of_half(loads.saturating_mul(DISCOUNT / self.slots.len() as u64));
        let factor = power_of_half(product(LEARNING_RATE, regret));
        let less = product(weight, factor);
        let share = (u128::from(less) << 32) / u128::from(less + (ONE - weight)).max(1);
        // None ever becomes nothing, from which it could not recover.
        (share as u64).clamp(1, ONE - 1)
    }

    fn learn(&mut self, ghost: usize) {
        let loads = self.now - self.evictions[ghost];
        match self.lists.list_of(ghost) {
            Some(LRU_GHOSTS) => self.lru_weight = self.lessened(self.lru_weight, loads),
            Some(LFU_GHOSTS) => self.lru_weight = ONE - self.lessened(ONE - self.lru_weight, loads),
            _ => {}
        }
    }
}

impl EvictionPolicy for Lecar {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.now += 1;
        if let Some(ghost) = self.ghosts.find(directory) {
            if self.learns {
                self.learn(ghost);
            }
            self.ghosts.take_off(&mut self.lists, directory);
        }
        self.evicted(slot);
        self.slots[slot] = (directory, 1, self.now);
        self.lists.push_front(RECENCY, slot);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.now += 1;
        let (_, uses, last) = &mut self.slots[slot];
        (*uses, *last) = (*uses + 1, self.now);
        self.lists.push_front(RECENCY, slot);
    }

    fn emptied(&mut self, slot: usize) {
        self.slots[slot].1 = 0;
        self.lists.remove(slot);
    }

    fn evicted(&mut self, slot: usize) {
        let [by_lru, by_lfu] =
            [self.lists.back(RECENCY), self.lfu_victim()].map(|victim| victim == Some(slot));
        if by_lru != by_lfu {
            let list = if by_lru { LRU_GHOSTS } else { LFU_GHOSTS };
            if self.lists.len(list) == self.ghost_room {
                self.ghosts.forget_oldest(&mut self.lists, list);
            }
            let directory = self.slots[slot].0;
            if let Some(ghost) = self.ghosts.remember(directory) {
                self.lists.push_front(list, ghost);
                self.evictions[ghost] = self.now;
            }
        }
        self.emptied(slot);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let by_lru = u64::from(self.generator.next_u32()) < self.lru_weight;
        let victim = if by_lru { self.lists.back(RECENCY) } else { self.lfu_victim() };
        victim.unwrap_or(0)
    }
}

static LRU: Number =
    Number { name: "lru", help: "LRU's odds at first, in percent", default: 50, range: 0..=100 };

static LEARN: Flag = Flag { name: "learn", help: "adjust the odds", default: true };

static GHOSTS: Number = Number {
    name: "ghosts",
    help: "evicted directories that each of the two remembers, in percent of the slots",
    default: 100,
    range: 0..=200,
};

#[linkme::distributed_slice(POLICIES)]
static LECAR: PolicyEntry = PolicyEntry {
    name: "lecar",
    help: "LRU or LFU by lot, at odds that are learnt from evictions that were regretted",
    parameters: &[Parameter::Number(&LRU), Parameter::Flag(&LEARN), Parameter::Number(&GHOSTS)],
    build: |config| {
        let slots = config.slots;
        let [odds, ghosts] = [&LRU, &GHOSTS].map(|percent| config.values.number(percent));
        let ghost_room = slots * ghosts as usize / 100;
        Ok(boxed(Lecar {
            lists: Lists::new(3, slots + 2 * ghost_room)?,
            ghosts: Ghosts::new(slots, 2 * ghost_room)?,
            ghost_room,
            slots: filled((GuestPhys(0), 0, 0), slots)?,
            evictions: filled(0, slots + 2 * ghost_room)?,
            generator: Xoshiro128PlusPlus::seed_from_u64(config.seed),
            lru_weight: ONE * odds / 100,
            learns: config.values.flag(&LEARN),
            now: 0,
        })?)
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_as_in_floating_point() {
        let policy = |slots| Lecar {
            lists: Lists::new(1, slots).unwrap(),
            ghosts: Ghosts::new(slots, 1).unwrap(),
            ghost_room: 1,
            slots: filled((GuestPhys(0), 0, 0), slots).unwrap(),
            evictions: filled(0, slots).unwrap(),
            generator: Xoshiro128PlusPlus::seed_from_u64(0),
            lru_weight: 0,
            learns: true,
            now: 0,
        };
        for (slots, weight, loads) in
            [(1, 0.5, 1), (4, 0.5, 0), (4, 0.25, 3), (64, 0.9, 40), (1024, 1.0, 5000)]
        {
            let fixed = policy(slots).lessened((weight * ONE as f64) as u64, loads) as f64 / ONE as f64;
            let regret = 0.005_f64.powf(loads as f64 / slots as f64);
            let less = weight * (-0.45 * regret).exp();
            assert!((fixed - less / (less + 1.0 - weight)).abs() < 1e-6, "{slots} {weight} {loads}: {fixed}");
        }
    }
}
