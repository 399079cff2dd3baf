//! Page frames: which are free, and how often each other one is used.
//!
//! A frame's reference count is the number of page-table entries (and other owners) that lead to it;
//! copy-on-write rests on it. Free frames form a stack, so that a frame that was just given back is the
//! next to be used again: whoever still had an outdated mapping of it would be noticed soon.

use arch_i386::addr::GuestFrame;

/// What is known of one frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    references: u32,
    /// While the frame is free: the index of the next free one, or [`NONE`].
    next_free: u32,
}

const NONE: u32 = u32::MAX;

/// There is no free page frame left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of page frames; start the guest with more --memory")]
pub struct OutOfFrames;

/// The allocator of a range of frames.
#[derive(Debug)]
pub struct Frames<'a> {
    first: u32,
    slots: &'a mut [Slot],
    /// Invariant: heads a list of exactly the slots whose `references` is 0.
    free: u32,
    free_count: u32,
}

impl<'a> Frames<'a> {
    /// Takes charge of `slots.len()` frames from `first` on, all of them free.
    pub fn new(first: GuestFrame, slots: &'a mut [Slot]) -> Self {
        let count = slots.len() as u32;
        for (slot, next) in slots.iter_mut().zip(1..) {
            *slot = Slot { references: 0, next_free: if next < count { next } else { NONE } };
        }
        Self { first: first.0, slots, free: if count > 0 { 0 } else { NONE }, free_count: count }
    }

    /// A free frame, with one reference and its previous contents.
    pub fn allocate(&mut self) -> Result<GuestFrame, OutOfFrames> {
        let slot = self.slots.get_mut(self.free as usize).ok_or(OutOfFrames)?;
        let frame = GuestFrame(self.first + self.free);
        self.free = slot.next_free;
        slot.references = 1;
        self.free_count -= 1;
        Ok(frame)
    }

    /// One more reference to a frame in use.
    pub fn share(&mut self, frame: GuestFrame) {
        self.used(frame).references += 1;
    }

    /// One reference less; without any the frame is free.
    pub fn release(&mut self, frame: GuestFrame) {
        let next_free = self.free;
        let slot = self.used(frame);
        slot.references -= 1;
        if slot.references == 0 {
            slot.next_free = next_free;
            self.free = frame.0 - self.first;
            self.free_count += 1;
        }
    }

    /// How often a frame in use is used.
    pub fn references(&mut self, frame: GuestFrame) -> u32 {
        self.used(frame).references
    }

    /// How many frames are free.
    #[must_use]
    pub fn free_count(&self) -> u32 {
        self.free_count
    }

    /// The slot of a frame in use.
    ///
    /// # Panics
    /// When the frame is free or not one of these: a kernel that has lost count must not go on.
    fn used(&mut self, frame: GuestFrame) -> &mut Slot {
        let index = frame.0.checked_sub(self.first);
        match index.and_then(|index| self.slots.get_mut(index as usize)) {
            Some(slot) if slot.references > 0 => slot,
            Some(_) => panic!("{frame:?} is free already"),
            None => panic!("{frame:?} is not managed here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_frame_freed_is_the_next_used() {
        let mut slots = [Slot::default(); 4];
        let mut frames = Frames::new(GuestFrame(100), &mut slots);
        let all: Vec<_> = (0..4).map(|_| frames.allocate().unwrap()).collect();
        assert_eq!(all, [100, 101, 102, 103].map(GuestFrame));
        assert_eq!(frames.allocate(), Err(OutOfFrames));
        frames.release(GuestFrame(101));
        frames.release(GuestFrame(103));
        assert_eq!(frames.allocate(), Ok(GuestFrame(103)));
        assert_eq!(frames.allocate(), Ok(GuestFrame(101)));
    }

    #[test]
    #[should_panic(expected = "free already")]
    fn freeing_twice_is_noticed() {
        let mut slots = [Slot::default(); 2];
        let mut frames = Frames::new(GuestFrame(0), &mut slots);
        let frame = frames.allocate().unwrap();
        frames.release(frame);
        frames.release(frame);
    }

    proptest! {
        /// Against a model that is a plain map of counts.
        #[test]
        fn counts_agree_with_a_model(steps in prop::collection::vec((0..3u8, any::<prop::sample::Index>()), 0..200)) {
            let mut slots = [Slot::default(); 16];
            let mut frames = Frames::new(GuestFrame(7), &mut slots);
            let mut model = std::collections::BTreeMap::<GuestFrame, u32>::new();
            for (step, which) in steps {
                let known: Vec<_> = model.keys().copied().collect();
                match step {
                    0 => match frames.allocate() {
                        Ok(frame) => prop_assert_eq!(model.insert(frame, 1), None),
                        Err(OutOfFrames) => prop_assert_eq!(model.len(), 16),
                    },
                    _ if known.is_empty() => {}
                    1 => {
                        let frame = *which.get(&known);
                        frames.share(frame);
                        *model.get_mut(&frame).unwrap() += 1;
                    }
                    _ => {
                        let frame = *which.get(&known);
                        frames.release(frame);
                        let count = model.get_mut(&frame).unwrap();
                        *count -= 1;
                        if *count == 0 {
                            model.remove(&frame);
                        }
                    }
                }
                prop_assert_eq!(frames.free_count() as usize, 16 - model.len());
                for (&frame, &count) in &model {
                    prop_assert_eq!(frames.references(frame), count);
                }
            }
        }
    }
}
