//! The offline optimum: the page directory whose next load is the furthest away is evicted (Belady's MIN).
//!
//! No policy has fewer misses, so that this shows how much is left to gain. Its cost may be higher than another
//! policy's all the same, since a miss costs as much as the page directory has entries to fill again. It needs the
//! future, which only a trace has. L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems
//! Journal 5(2), 1966 (there named MIN).

use arch_i386::addr::GuestPhys;
use framework::policy::EvictionPolicy;
use sim::trace::Operation;
use std::collections::HashMap;
use std::sync::Arc;

/// Never again.
const NEVER: u32 = u32::MAX;

/// For each page directory that a trace loads, when it is loaded again.
///
/// The one thing about a trace that is kept in memory: 4 bytes for each load.
#[derive(Clone, Debug)]
pub struct Future {
    next: Arc<[u32]>,
}

/// Collects the [`Future`] of a trace.
#[derive(Debug, Default)]
pub struct Collector {
    next: Vec<u32>,
    last: HashMap<GuestPhys, u32>,
}

impl Collector {
    /// Takes the next operation of the trace.
    pub fn see(&mut self, operation: &Operation) {
        if let Operation::LoadPageDirectory(directory) = *operation {
            let now = self.next.len() as u32;
            if let Some(before) = self.last.insert(directory, now) {
                self.next[before as usize] = now;
            }
            self.next.push(NEVER);
        }
    }

    /// The trace is at its end.
    #[must_use]
    pub fn finish(self) -> Future {
        Future { next: self.next.into() }
    }
}

/// Evicts with the knowledge of the future.
pub struct Optimum {
    future: Future,
    /// Loads so far, the present one not among them.
    loads: usize,
    /// When each slot's directory is loaded next.
    next: Vec<u32>,
    /// The guest has loaded its first page directory; before, it has a slot without a load.
    begun: bool,
}

impl Optimum {
    /// For that many slots.
    #[must_use]
    pub fn new(future: Future, slots: usize) -> Self {
        Self { future, loads: 0, next: vec![NEVER; slots], begun: false }
    }
}

impl EvictionPolicy for Optimum {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        if core::mem::replace(&mut self.begun, true) {
            self.used(slot, directory);
        }
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.next[slot] = self.future.next.get(self.loads).copied().unwrap_or(NEVER);
        self.loads += 1;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let last = self.next.iter().enumerate().max_by_key(|(_, next)| **next);
        last.map_or(0, |(slot, _)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::golden;

    /// Misses of the optimum, by trying every choice.
    fn fewest_misses(keys: &[u32], held: &[u32], size: usize) -> usize {
        let Some((key, rest)) = keys.split_first() else { return 0 };
        if held.contains(key) {
            return fewest_misses(rest, held, size);
        }
        let with = |without: Option<usize>| {
            let mut held = held.to_vec();
            if let Some(place) = without {
                held.remove(place);
            }
            held.push(*key);
            1 + fewest_misses(rest, &held, size)
        };
        if held.len() < size { with(None) } else { (0..size).map(|place| with(Some(place))).min().unwrap() }
    }

    fn misses(keys: &[u32], size: usize) -> usize {
        let directory = |key: u32| GuestPhys(key * 4096);
        let mut collector = Collector::default();
        keys.iter().for_each(|&key| collector.see(&Operation::LoadPageDirectory(directory(key))));
        let mut policy = Optimum::new(collector.finish(), size);
        // As the guest begins.
        policy.filled(0, GuestPhys(0));
        let mut held: Vec<u32> = Vec::new();
        let mut misses = 0;
        for &key in keys {
            match held.iter().position(|&other| other == key) {
                Some(slot) => policy.used(slot, directory(key)),
                None => {
                    misses += 1;
                    let slot = if held.len() < size { held.len() } else { policy.victim(directory(key)) };
                    if slot == held.len() {
                        held.push(key)
                    } else {
                        held[slot] = key
                    }
                    policy.filled(slot, directory(key));
                }
            }
        }
        misses
    }

    #[test]
    fn nothing_misses_less() {
        use rand_core::{Rng, SeedableRng};
        let mut generator = rand_xoshiro::Xoshiro128PlusPlus::seed_from_u64(1);
        for case in 0..300 {
            let size = 1 + case % 3;
            let keys: Vec<u32> = (0..12).map(|_| generator.next_u32() % 5).collect();
            assert_eq!(misses(&keys, size), fewest_misses(&keys, &[], size), "{keys:?} on {size}");
        }
    }

    #[test]
    fn it_misses_as_often_as_belady_in_libcachesim() {
        let lines: Vec<_> = golden::lines().filter(|line| line.policy == "opt").collect();
        assert!(lines.len() >= 40, "{} lines", lines.len());
        for line in lines {
            assert_eq!(misses(&golden::keys(line.sequence), line.slots), line.misses, "{line:?}");
        }
    }
}
