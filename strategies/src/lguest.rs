//! `lguest`: what the original does, so that it can be cited as the baseline.
//!
//! "We pick one entry at random to throw out. Choosing the Least Recently Used might be better, but
//! this is easy", says lguest's `page_tables.c` (`new_pgdir`) of its four page directories. A slot that
//! was never used is no more likely than another, so a guest may well go through its life with three.
//! The generator is Xoshiro128++ seeded with the module's `seed`, so that a run can be repeated.

use arch_i386::addr::GuestPhys;
use framework::fallible::boxed;
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro128PlusPlus;

struct Random {
    generator: Xoshiro128PlusPlus,
    slots: u32,
}

impl EvictionPolicy for Random {
    fn filled(&mut self, _slot: usize, _directory: GuestPhys) {}

    fn used(&mut self, _slot: usize, _directory: GuestPhys) {}

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        (self.generator.next_u32() % self.slots) as usize
    }

    fn takes_free_slots_first(&self) -> bool {
        false
    }
}

#[linkme::distributed_slice(POLICIES)]
static LGUEST: PolicyEntry = PolicyEntry {
    name: "lguest",
    help: "the original: a random slot gives way, free or not",
    parameters: &[],
    build: |config| {
        Ok(boxed(Random {
            generator: Xoshiro128PlusPlus::seed_from_u64(config.seed),
            slots: config.slots as u32,
        })?)
    },
};
