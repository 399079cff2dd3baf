//! How often page directories were loaded lately, roughly and in little memory.
//!
//! A count-min sketch with conservative update and aging: rows of small counters, in each of which a directory has one by a
//! hash. A load raises the smallest of a directory's counters, which is also the estimate; all are halved from time to time.
//! It is never too low but for that, and too high only where a directory shares all its counters with others. G. Cormode and
//! S. Muthukrishnan, "An improved data stream summary: the count-min sketch and its applications", Journal of Algorithms
//! 55(1), 2005; the aging and the small counters are of G. Einziger, R. Friedman and B. Manes (see
//! [`w_tiny_lfu`](mod@crate::w_tiny_lfu)).

use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{OutOfMemory, filled};

/// Counts of loads.
pub struct Sketch {
    /// [`ROWS`] rows, one after another.
    counters: Box<[u8]>,
    /// Counters in a row: a power of two.
    width: usize,
    /// Loads since the last halving, and how many there may be.
    loads: usize,
    sample: usize,
}

const ROWS: usize = 4;
/// Counters in each row for each directory of a sample's average.
const WIDTH: usize = 8;
/// The least width of a row: few slots do not mean few directories.
const LEAST_WIDTH: usize = 64;
/// What a counter counts to.
const MOST: u8 = 15;

impl Sketch {
    /// For a cache with that many slots; all counters are halved after `sample` loads.
    pub fn new(slots: usize, sample: usize) -> Result<Self, OutOfMemory> {
        let width = (WIDTH * slots).next_power_of_two().max(LEAST_WIDTH);
        Ok(Self { counters: filled(0, ROWS * width)?, width, loads: 0, sample })
    }

    /// Counts a load.
    pub fn add(&mut self, directory: GuestPhys) {
        let places = self.places(directory);
        let least = self.estimate(directory);
        if least < MOST {
            for place in places {
                self.counters[place] = self.counters[place].max(least + 1);
            }
        }
        self.loads += 1;
        if self.loads >= self.sample {
            self.loads /= 2;
            self.counters.iter_mut().for_each(|counter| *counter /= 2);
        }
    }

    /// How often it was loaded.
    pub fn estimate(&self, directory: GuestPhys) -> u8 {
        self.places(directory).map(|place| self.counters[place]).into_iter().min().unwrap_or(0)
    }

    /// Its counter in each row.
    fn places(&self, directory: GuestPhys) -> [usize; ROWS] {
        let mut hash = directory.0;
        core::array::from_fn(|row| {
            hash = mixed(hash.wrapping_add(0x9e37_79b9));
            row * self.width + hash as usize % self.width
        })
    }
}

/// Every bit depends on every other: the finalizer of MurmurHash3 (A. Appleby, in the public domain).
const fn mixed(mut hash: u32) -> u32 {
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn directory(n: u32) -> GuestPhys {
        GuestPhys(n * 4096)
    }

    #[test]
    fn counts_are_never_too_low_and_seldom_too_high() {
        let mut sketch = Sketch::new(64, usize::MAX).unwrap();
        for n in 0..200 {
            (0..1 + n % 10).for_each(|_| sketch.add(directory(n)));
        }
        let error = |n: u32| u32::from(sketch.estimate(directory(n))).checked_sub(1 + n % 10).unwrap();
        assert!((0..200).filter(|&n| error(n) > 0).count() <= 2);
        assert!((200..400).filter(|&n| sketch.estimate(directory(n)) > 0).count() <= 10);
    }

    #[test]
    fn counts_end_and_age() {
        let mut sketch = Sketch::new(4, 24).unwrap();
        (0..20).for_each(|_| sketch.add(directory(1)));
        (0..3).for_each(|_| sketch.add(directory(2)));
        assert_eq!([1, 2].map(|n| sketch.estimate(directory(n))), [15, 3]);
        // The 24th load: its count is made first, then all are halved, and 12 more go by until the next time.
        sketch.add(directory(2));
        assert_eq!([1, 2].map(|n| sketch.estimate(directory(n))), [7, 2]);
        (0..11).for_each(|_| sketch.add(directory(3)));
        assert_eq!(sketch.estimate(directory(3)), 11);
        sketch.add(directory(3));
        assert_eq!([1, 2, 3].map(|n| sketch.estimate(directory(n))), [3, 1, 6]);
    }
}
