//! `lguest`: what lguest (C) does, so that it can be cited as the baseline.
//!
//! "We pick one entry at random to throw out. Choosing the Least Recently Used might be better, but
//! this is easy", says lguest's `page_tables.c` (`new_pgdir`) of its four page directories. A slot that
//! was never used is no more likely than another, so a guest may well go through its life with three.
//! Its pager has none of the optimizations, and lguest's defects where they cost a guest and not the host.
//!
//! The generator is Xoshiro128++ seeded with the module's `seed`, so that a run can be repeated.

use crate::shadow::{self, Capacity, Optimizations};
use arch_i386::addr::GuestPhys;
use arch_i386::paging::Paging;
use framework::fallible::boxed;
use framework::parameter::Parameter;
use framework::policy::EvictionPolicy;
use framework::registry::{CACHES, CacheEntry, PolicyEntry, PolicyUse, SLOTS};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro128PlusPlus;

struct AnySlot {
    generator: Xoshiro128PlusPlus,
    slots: u32,
}

impl EvictionPolicy for AnySlot {
    fn filled(&mut self, _slot: usize, _directory: GuestPhys) {}

    fn used(&mut self, _slot: usize, _directory: GuestPhys) {}

    fn counts_each_use(&self) -> bool {
        false
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        (self.generator.next_u32() % self.slots) as usize
    }

    fn takes_free_slots_first(&self) -> bool {
        false
    }
}

/// Not among the policies that other caches can have: it may choose free slots, which only a fixed number of slots has.
static ANY_SLOT: PolicyEntry = PolicyEntry {
    name: "lguest",
    help: "a random slot is evicted, free or not",
    parameters: &[],
    build: |config| {
        Ok(boxed(AnySlot {
            generator: Xoshiro128PlusPlus::seed_from_u64(config.seed),
            slots: config.slots as u32,
        })?)
    },
};

#[linkme::distributed_slice(CACHES)]
static LGUEST: CacheEntry = CacheEntry {
    name: "lguest",
    help: "lguest's own: a random slot is evicted, free or not",
    parameters: &[Parameter::Number(&SLOTS)],
    formats: &[Paging::TwoLevel, Paging::Pae],
    policy: PolicyUse::Fixed(&ANY_SLOT),
    build: |context, values, policy| {
        let capacity = Capacity::Slots(values.number(&SLOTS) as usize);
        shadow::with_policy(context, capacity, policy, Optimizations::LGUEST)
    },
};
