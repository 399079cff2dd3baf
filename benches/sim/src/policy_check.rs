//! What must hold of every eviction policy, tried on generated loads.
//!
//! [`check`] is for the tests of a plug-in: one call, and an error that states what the policy did wrong and
//! after what. [`Cache`] is the shadow cache without page tables, for tests that count hits.

use arch_i386::addr::{GuestPhys, PAGE_SIZE};
use framework::policy::{EqualCosts, EvictionPolicy};
use framework::registry::{Choice, ConfigError};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro128PlusPlus;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a policy did wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Violation {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("`{0}` is a strategy of its own, not a policy on the shadow cache")]
    NotAPolicy(String),
    #[error("the policy named slot {slot}; there are {slots}, counted from 0")]
    NoSuchSlot { slot: usize, slots: usize },
    #[error("`{policy}`, load {load} of the load with seed {seed}: {reason}")]
    At { policy: String, seed: u64, load: usize, reason: Box<Self> },
    #[error("the policy panicked: {0}")]
    Panic(String),
    #[error("`{policy}` does not repeat itself: two runs of the load with seed {seed} differ in load {load}")]
    NotDeterministic { policy: String, seed: u64, load: usize },
}

/// Slots with page directories in them, and the policy that chooses among them.
pub struct Cache {
    policy: Box<dyn EvictionPolicy>,
    slots: Vec<Option<GuestPhys>>,
    by_directory: HashMap<GuestPhys, usize>,
}

/// What became of one page directory that the guest loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The slot that it is in now.
    pub slot: usize,
    /// It was there already.
    pub hit: bool,
}

impl Cache {
    /// An empty cache with the policy that a text describes, as in `lru:slots=8`.
    ///
    /// # Errors
    /// [`Violation::Config`], [`Violation::NotAPolicy`].
    pub fn new(text: &str, seed: u64) -> Result<Self, Violation> {
        let (slots, policy) =
            Choice::parse(text)?.policy(seed).ok_or_else(|| Violation::NotAPolicy(text.to_owned()))?;
        Ok(Self { policy, slots: vec![None; slots], by_directory: HashMap::new() })
    }

    /// The guest loads a page directory.
    ///
    /// # Errors
    /// [`Violation::NoSuchSlot`].
    pub fn load(&mut self, directory: GuestPhys) -> Result<Load, Violation> {
        if let Some(&slot) = self.by_directory.get(&directory) {
            self.policy.used(slot, directory);
            return Ok(Load { slot, hit: true });
        }
        let free = self.slots.iter().position(Option::is_none);
        let free = free.filter(|_| self.policy.takes_free_slots_first());
        let slot = free.unwrap_or_else(|| self.policy.victim_by_cost(directory, &EqualCosts));
        self.fill(slot, directory)?;
        Ok(Load { slot, hit: false })
    }

    fn fill(&mut self, slot: usize, directory: GuestPhys) -> Result<(), Violation> {
        let slots = self.slots.len();
        let place = self.slots.get_mut(slot).ok_or(Violation::NoSuchSlot { slot, slots })?;
        if let Some(evicted) = place.replace(directory) {
            self.by_directory.remove(&evicted);
        }
        self.by_directory.insert(directory, slot);
        self.policy.filled(slot, directory);
        Ok(())
    }

    /// As [`Cache::load`] of a directory that has no slot, on a host without memory: the policy is called, and
    /// another slot is filled.
    fn load_elsewhere(&mut self, directory: GuestPhys, slot: usize) -> Result<(), Violation> {
        if self.by_directory.contains_key(&directory) || self.slots[slot].is_none() {
            return Ok(());
        }
        let _: usize = self.policy.victim_by_cost(directory, &EqualCosts);
        self.fill(slot, directory)
    }

    /// As [`Cache::load`] with a capacity in memory, which has room for `limit` page directories at the time.
    fn load_within(&mut self, directory: GuestPhys, limit: usize) -> Result<Load, Violation> {
        while self.by_directory.len() > limit.max(1) {
            let slot = self.filled_victim(directory)?;
            self.slots[slot].take().map(|evicted| self.by_directory.remove(&evicted));
            self.policy.evicted(slot);
        }
        if self.by_directory.contains_key(&directory) || self.by_directory.len() < limit {
            return self.load(directory);
        }
        let slot = self.filled_victim(directory)?;
        self.fill(slot, directory)?;
        Ok(Load { slot, hit: false })
    }

    /// The victim, or if that is free the next slot that is filled.
    fn filled_victim(&mut self, incoming: GuestPhys) -> Result<usize, Violation> {
        self.policy.resized(self.by_directory.len());
        let (slot, slots) = (self.policy.victim_by_cost(incoming, &EqualCosts), self.slots.len());
        let mut circle = (slot..slots).chain(0..slot.min(slots));
        let filled = circle.find(|&slot| self.slots[slot].is_some());
        filled.filter(|_| slot < slots).ok_or(Violation::NoSuchSlot { slot, slots })
    }

    /// The guest ends.
    fn empty(&mut self) {
        for (slot, place) in self.slots.iter_mut().enumerate() {
            if place.take().is_some() {
                self.policy.emptied(slot);
            }
        }
        self.by_directory.clear();
    }
}

/// Numbers of slots that are worth trying: the least, the most, and what lies between.
const SLOTS: [usize; 8] = [1, 2, 3, 4, 7, 16, 100, 1024];

/// Loads of each kind that are tried for each number of slots.
const LOADS: usize = 2000;

/// Tries a policy, described as in `2q:kin=50` but without `slots`, on loads of several kinds with few slots and
/// many, and with a capacity in memory: it must name slots that exist, must not panic, and must do the same when it is made
/// again.
///
/// # Errors
/// The first [`Violation`].
pub fn check(text: &str) -> Result<(), Violation> {
    for slots in SLOTS {
        let separator = if text.contains(':') { ',' } else { ':' };
        let policy = format!("{text}{separator}slots={slots}");
        // One that does not compile into a policy is reported before any load.
        Cache::new(&policy, 0)?;
        for seed in 0..3 {
            for in_memory in [false, true] {
                let [once, again] =
                    [run(&policy, slots, seed, in_memory)?, run(&policy, slots, seed, in_memory)?];
                if let Some(load) = once.iter().zip(&again).position(|(a, b)| a != b) {
                    return Err(Violation::NotDeterministic { policy, seed, load });
                }
            }
        }
    }
    Ok(())
}

/// The load with a seed: directories of which a few are loaded often, sometimes one after the other in a ring, and
/// now and then a host without memory; with a capacity in memory that has room for more or fewer of them from time to time,
/// unless the policy takes free slots as it takes others, and so requires a fixed number.
fn run(policy: &str, slots: usize, seed: u64, in_memory: bool) -> Result<Vec<Load>, Violation> {
    let mut generator = Xoshiro128PlusPlus::seed_from_u64(seed);
    let mut below = |bound: usize| generator.next_u32() as usize % bound;
    let mut cache = Cache::new(policy, seed)?;
    let in_memory = in_memory && cache.policy.takes_free_slots_first();
    let mut limit = slots;
    let mut loads = Vec::new();
    for load in 0..LOADS {
        let number = match below(8) {
            0..4 => below(slots),
            4..6 => load % (slots + 1),
            _ => below(4 * slots + 2),
        };
        let directory = GuestPhys((number as u32 + 1) * PAGE_SIZE);
        if in_memory && below(16) == 0 {
            limit = 1 + below(slots);
        }
        let [elsewhere, ends] = [below(64) == 0, below(1000) == 0];
        let result = catch_unwind(AssertUnwindSafe(|| {
            if elsewhere {
                cache.load_elsewhere(directory, number % slots)?;
            } else if ends {
                cache.empty();
            }
            if in_memory { cache.load_within(directory, limit) } else { cache.load(directory) }
        }));
        let result = result.unwrap_or_else(|panic| Err(Violation::Panic(message(&*panic))));
        let at = |reason| Violation::At { policy: policy.to_owned(), seed, load, reason: Box::new(reason) };
        loads.push(result.map_err(at)?);
    }
    Ok(loads)
}

/// The words of a panic.
#[must_use]
pub fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(without words)").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use framework::registry::{POLICIES, PolicyEntry};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Answers as a plug-in should not.
    struct Bad(fn(usize) -> usize, usize);

    impl EvictionPolicy for Bad {
        fn filled(&mut self, _: usize, _: GuestPhys) {}
        fn used(&mut self, _: usize, _: GuestPhys) {}
        fn victim(&mut self, _: GuestPhys) -> usize {
            self.0(self.1)
        }
    }

    macro_rules! bad {
        ($entry:ident, $name:literal, $victim:expr) => {
            #[linkme::distributed_slice(POLICIES)]
            static $entry: PolicyEntry = PolicyEntry {
                name: $name,
                help: "wrong on purpose",
                parameters: &[],
                build: |config| Ok(Box::new(Bad($victim, config.slots))),
            };
        };
    }

    static CALLS: AtomicUsize = AtomicUsize::new(0);
    bad!(OUTSIDE, "test-outside", |slots| slots);
    bad!(PANICS, "test-panics", |_| panic!("not today"));
    bad!(VARIES, "test-varies", |slots| CALLS.fetch_add(1, Ordering::Relaxed) / 3 % slots);
    bad!(FIRST, "test-first", |_| 0);

    #[test]
    fn what_a_policy_does_wrong_is_said() {
        let message = |text| check(text).unwrap_err().to_string();
        let outside = message("test-outside");
        assert!(outside.starts_with("`test-outside:slots=1`, load "), "{outside}");
        assert!(outside.ends_with("the policy named slot 1; there are 1, counted from 0"), "{outside}");
        assert!(message("test-panics").ends_with("the policy panicked: not today"));
        let varies = message("test-varies");
        assert!(varies.contains("does not repeat itself"), "{varies}");
        assert!(message("test-first:slots=4").contains("set twice"));
        check("test-first").unwrap();
    }

    #[test]
    fn hits_are_counted() {
        let mut cache = Cache::new("fifo:slots=2", 0).unwrap();
        let hits = [1, 2, 1, 3, 1].map(|page| cache.load(GuestPhys(page * PAGE_SIZE)).unwrap().hit);
        assert_eq!(hits, [false, false, true, false, false]);
    }
}
