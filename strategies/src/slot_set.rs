//! A set of slots from which one can be drawn at random.

use alloc::boxed::Box;
use alloc::vec::Vec;
use framework::fallible::{OutOfMemory, filled};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro128PlusPlus;

/// The filled slots, and a generator. Every change takes a few stores.
pub struct SlotSet {
    /// Those that are in it, in any order.
    members: Vec<usize>,
    /// Where each slot is in `members`.
    positions: Box<[Option<usize>]>,
    generator: Xoshiro128PlusPlus,
}

impl SlotSet {
    /// An empty set for that many slots.
    pub fn new(slots: usize, seed: u64) -> Result<Self, OutOfMemory> {
        let mut members = Vec::new();
        members.try_reserve_exact(slots).map_err(|_| OutOfMemory)?;
        let generator = Xoshiro128PlusPlus::seed_from_u64(seed);
        Ok(Self { members, positions: filled(None, slots)?, generator })
    }

    /// Adds a slot, if it is not in it.
    pub fn add(&mut self, slot: usize) {
        if self.positions[slot].is_none() {
            self.positions[slot] = Some(self.members.len());
            self.members.push(slot);
        }
    }

    /// Takes a slot out, if it is in it.
    pub fn remove(&mut self, slot: usize) {
        let Some(position) = self.positions[slot].take() else { return };
        self.members.swap_remove(position);
        if let Some(&moved) = self.members.get(position) {
            self.positions[moved] = Some(position);
        }
    }

    /// All members.
    pub fn members(&self) -> &[usize] {
        &self.members
    }

    /// A random member.
    pub fn draw(&mut self) -> Option<usize> {
        let number = self.generator.next_u32() as usize % self.members.len().max(1);
        self.members.get(number).copied()
    }
}
