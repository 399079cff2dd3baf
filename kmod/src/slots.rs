//! Which slots of the Switcher area are taken.

use core::sync::atomic::{AtomicU32, Ordering};

/// Slots that this can keep track of.
pub const MAX: u32 = 128;

/// A set of taken slots, used by all open files at once.
#[derive(Debug)]
pub struct Slots {
    taken: [AtomicU32; (MAX / 32) as usize],
}

impl Slots {
    /// All free.
    #[must_use]
    pub const fn new() -> Self {
        Self { taken: [const { AtomicU32::new(0) }; (MAX / 32) as usize] }
    }

    /// Takes the lowest free slot below `limit`.
    ///
    /// # Panics
    /// When `limit` is above [`MAX`].
    #[must_use]
    pub fn take(&self, limit: u32) -> Option<u32> {
        assert!(limit <= MAX, "there is room for {MAX} slots, not {limit}");
        (0..limit).find(|&slot| {
            let (word, bit) = self.place(slot);
            // Acquire: whatever the last user of the slot did happened before.
            word.fetch_or(bit, Ordering::Acquire) & bit == 0
        })
    }

    /// Gives a slot back.
    pub fn give_back(&self, slot: u32) {
        let (word, bit) = self.place(slot);
        word.fetch_and(!bit, Ordering::Release);
    }

    fn place(&self, slot: u32) -> (&AtomicU32, u32) {
        (&self.taken[(slot / 32) as usize], 1 << (slot % 32))
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_taken_and_no_slot_twice() {
        let slots = Slots::new();
        for expected in 0..MAX {
            assert_eq!(slots.take(MAX), Some(expected));
        }
        assert_eq!(slots.take(MAX), None);
        slots.give_back(77);
        slots.give_back(33);
        assert_eq!(slots.take(33), None);
        assert_eq!((slots.take(MAX), slots.take(MAX), slots.take(MAX)), (Some(33), Some(77), None));
    }

    #[test]
    fn threads_never_share_a_slot() {
        let slots = Slots::new();
        let taken = [const { AtomicU32::new(0) }; MAX as usize];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(slot) = slots.take(MAX) {
                        taken[slot as usize].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(taken.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}
