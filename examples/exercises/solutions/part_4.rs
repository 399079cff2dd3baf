//! Part 4, solved.

use arch_i386::addr::GuestPhys;
use framework::policy::EvictionPolicy;

/// Slots are evicted in turn; one that was used is passed over once.
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
        self.used[slot] = false;
        self.next = (slot + 1) % self.used.len();
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.used[slot] = true;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        while std::mem::take(&mut self.used[self.next]) {
            self.next = (self.next + 1) % self.used.len();
        }
        self.next
    }
}
