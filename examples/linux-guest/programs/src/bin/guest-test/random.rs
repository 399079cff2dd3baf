//! Seeded random numbers: the same seed gives the same test.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro128PlusPlus;

/// A generator.
#[derive(Clone)]
pub struct Random(Xoshiro128PlusPlus);

impl Random {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Random {
        Random(Xoshiro128PlusPlus::seed_from_u64(seed))
    }

    /// Any number.
    pub fn number(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A seed for another generator.
    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `limit`, which is small against 2^32, so that all are as likely but for a trifle.
    pub fn below(&mut self, limit: usize) -> usize {
        self.number() as usize % limit
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}
