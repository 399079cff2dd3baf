//! Which virtual CPUs of the Switcher area are taken, by number.

use core::sync::atomic::{AtomicU32, Ordering};

/// Numbers that this can keep track of.
pub const MAX: u32 = 128;

/// A set of taken numbers, used by all open files at once.
#[derive(Debug)]
pub struct VcpuNumbers {
    taken: [AtomicU32; (MAX / 32) as usize],
}

impl VcpuNumbers {
    /// All free.
    #[must_use]
    pub const fn new() -> Self {
        Self { taken: [const { AtomicU32::new(0) }; (MAX / 32) as usize] }
    }

    /// Takes the lowest free number below `limit`.
    ///
    /// # Panics
    /// When `limit` is above [`MAX`].
    #[must_use]
    pub fn take(&self, limit: u32) -> Option<u32> {
        assert!(limit <= MAX, "there is room for {MAX} numbers, not {limit}");
        (0..limit).find(|&number| {
            let (word, bit) = self.place(number);
            // Acquire: all that the last user of the number did happened before.
            word.fetch_or(bit, Ordering::Acquire) & bit == 0
        })
    }

    /// Gives a number back.
    pub fn give_back(&self, number: u32) {
        let (word, bit) = self.place(number);
        word.fetch_and(!bit, Ordering::Release);
    }

    fn place(&self, number: u32) -> (&AtomicU32, u32) {
        (&self.taken[(number / 32) as usize], 1 << (number % 32))
    }
}

impl Default for VcpuNumbers {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken_and_no_number_twice() {
        let numbers = VcpuNumbers::new();
        for expected in 0..MAX {
            assert_eq!(numbers.take(MAX), Some(expected));
        }
        assert_eq!(numbers.take(MAX), None);
        numbers.give_back(77);
        numbers.give_back(33);
        assert_eq!(numbers.take(33), None);
        assert_eq!((numbers.take(MAX), numbers.take(MAX), numbers.take(MAX)), (Some(33), Some(77), None));
    }

    #[test]
    fn threads_never_share_a_number() {
        let numbers = VcpuNumbers::new();
        let taken = [const { AtomicU32::new(0) }; MAX as usize];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(number) = numbers.take(MAX) {
                        taken[number as usize].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(taken.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}
