//! Random choices, the same for the same seed.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A seeded generator with the choices that an attack is made of.
#[derive(Debug, Clone)]
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// The dice of one life: of the run's seed and the life's number.
    pub fn of(seed: u64, life: u64) -> Dice {
        Dice(Xoshiro256PlusPlus::seed_from_u64(seed ^ life.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Other dice, for one more thread of the life.
    pub fn split(&mut self) -> Dice {
        Dice(Xoshiro256PlusPlus::seed_from_u64(self.0.next_u64()))
    }

    /// Any word.
    pub fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.word()) * u64::from(end)) >> 32) as u32
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// One of `all`.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u32) as usize]
    }

    /// A word as programmers choose them when they look for trouble: small, at an edge, one bit, a page, or any.
    pub fn wild(&mut self) -> u32 {
        match self.below(8) {
            0 => self.below(64),
            1 => self.below(64).wrapping_neg(),
            2 => 1 << self.below(32),
            3 => (1_u32 << self.below(32)).wrapping_sub(1),
            4 => 0xff80_0000 | self.word() & 0x007f_ffff,
            5 => self.word() & !0xfff,
            6 => 0xc000_0000 | self.word() & 0x00ff_f000,
            _ => self.word(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_repeats_and_its_neighbour_differs() {
        let words = |seed, life| -> Vec<u32> {
            let mut dice = Dice::of(seed, life);
            (0..32).map(|_| dice.wild()).collect()
        };
        assert_eq!(words(1, 2), words(1, 2));
        assert_ne!(words(1, 2), words(1, 3));
        assert_ne!(words(1, 2), words(2, 2));
    }

    #[test]
    fn numbers_stay_below_their_end() {
        let mut dice = Dice::of(7, 7);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[dice.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|&times| times > 100), "{seen:?}");
    }
}
