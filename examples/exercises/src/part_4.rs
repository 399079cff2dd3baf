//! Part 4, switching: an eviction policy.

use arch_i386::addr::GuestPhys;
use framework::policy::EvictionPolicy;

/// Slots are evicted in turn, but one that was used since it was last looked at gets a second chance: it is passed over
/// once, and then counts as unused. A page directory that has just been loaded counts as unused.
///
/// The hole: nobody gets a second chance.
pub struct SecondChance {
    used: Vec<bool>,
    next: usize,
}

impl SecondChance {
    /// The policy for so many slots.
    pub fn new(slots: usize) -> Self {
        Self { used: vec![false; slots], next: 0 }
    }
}

impl EvictionPolicy for SecondChance {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        self.next = (slot + 1) % self.used.len();
    }

    fn used(&mut self, _slot: usize, _directory: GuestPhys) {}

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        self.next
    }
}
