//! `random`: a random slot is evicted.
//!
//! As `lguest` with two differences: free slots are taken first, and the rest of the pager has none of lguest's defects.
//! L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966, calls
//! it RAND. The generator is Xoshiro128++ seeded with the module's `seed`, so that a run can be repeated.

use alloc::vec::Vec;
use arch_i386::addr::GuestPhys;
use framework::fallible::{OutOfMemory, boxed, filled};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro128PlusPlus;

struct Random {
    generator: Xoshiro128PlusPlus,
    /// The filled slots, in any order.
    filled: Vec<usize>,
    /// Where each slot is in `filled`.
    positions: Vec<Option<usize>>,
}

impl EvictionPolicy for Random {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        if self.positions[slot].is_none() {
            self.positions[slot] = Some(self.filled.len());
            self.filled.push(slot);
        }
    }

    fn used(&mut self, _slot: usize, _directory: GuestPhys) {}

    fn emptied(&mut self, slot: usize) {
        let Some(position) = self.positions[slot].take() else { return };
        self.filled.swap_remove(position);
        if let Some(&moved) = self.filled.get(position) {
            self.positions[moved] = Some(position);
        }
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let number = self.generator.next_u32() as usize % self.filled.len().max(1);
        self.filled.get(number).copied().unwrap_or(0)
    }
}

#[linkme::distributed_slice(POLICIES)]
static RANDOM: PolicyEntry = PolicyEntry {
    name: "random",
    help: "a random slot is evicted",
    parameters: &[],
    build: |config| {
        let mut slots = Vec::new();
        slots.try_reserve_exact(config.slots).map_err(|_| OutOfMemory)?;
        Ok(boxed(Random {
            generator: Xoshiro128PlusPlus::seed_from_u64(config.seed),
            filled: slots,
            positions: filled(None, config.slots)?.into_vec(),
        })?)
    },
};
