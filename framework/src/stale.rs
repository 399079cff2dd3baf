//! Which frames have gone from under a guest.

use arch_i386::addr::HostFrame;

/// Frames that held pages of the guest's and do not any more. It has a bit for the low bits of a frame's number, so that
/// others are in it as well; an entry that is dropped without need costs one more fault.
#[derive(Clone, Debug)]
pub struct StaleSet([u32; StaleSet::BITS / 32]);

impl Default for StaleSet {
    fn default() -> Self {
        Self::new()
    }
}

impl StaleSet {
    /// How many frames it tells apart.
    pub const BITS: usize = 1 << 15;

    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; Self::BITS / 32])
    }

    /// As words, the lowest bits first.
    pub const fn words_mut(&mut self) -> &mut [u32; Self::BITS / 32] {
        &mut self.0
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Adds a frame.
    pub const fn insert(&mut self, frame: HostFrame) {
        let bit = frame.0 as usize % Self::BITS;
        self.0[bit / 32] |= 1 << (bit % 32);
    }

    /// Whether a frame may be in it.
    #[inline]
    #[must_use]
    pub const fn contains(&self, frame: HostFrame) -> bool {
        let bit = frame.0 as usize % Self::BITS;
        self.0[bit / 32] >> (bit % 32) & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_in_it_and_what_has_other_low_bits_is_not() {
        let mut set = StaleSet::new();
        assert!(!set.contains(HostFrame(7)));
        set.insert(HostFrame(7));
        assert!(set.contains(HostFrame(7)) && set.contains(HostFrame(7 + (3 << 15))));
        assert!(!set.contains(HostFrame(6)) && !set.contains(HostFrame(7 + 32)));
    }
}
