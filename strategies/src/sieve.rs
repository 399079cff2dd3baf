//! `sieve`: a queue in order of filling, and a hand that goes through it; a used slot gets a second chance where it is.
//!
//! As `clock`, but a new slot goes to the front of the queue and not to the position of the hand, so that it
//! is looked at soon. Y. Zhang et al., "SIEVE is simpler than LRU: an efficient turn-key eviction algorithm for
//! web caches", USENIX NSDI 2024.

use crate::lists::Lists;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Sieve {
    /// One list, the last filled in front.
    lists: Lists,
    /// Whether each slot was used since the hand passed it.
    visited: Box<[bool]>,
    /// The slot that is looked at next; none for the back of the queue.
    hand: Option<usize>,
}

const QUEUE: usize = 0;

impl EvictionPolicy for Sieve {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        self.emptied(slot);
        self.lists.push_front(QUEUE, slot);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.visited[slot] = true;
    }

    fn counts_each_use(&self) -> bool {
        false
    }

    fn emptied(&mut self, slot: usize) {
        if self.hand == Some(slot) {
            self.hand = self.lists.in_front_of(slot);
        }
        self.lists.remove(slot);
        self.visited[slot] = false;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        while let Some(slot) = self.hand.or(self.lists.back(QUEUE)) {
            self.hand = Some(slot);
            if !core::mem::take(&mut self.visited[slot]) {
                return slot;
            }
            self.hand = self.lists.in_front_of(slot);
        }
        0
    }
}

#[linkme::distributed_slice(POLICIES)]
static SIEVE: PolicyEntry = PolicyEntry {
    name: "sieve",
    help: "a hand goes from old to new; a slot that was used since gets a second chance where it is",
    parameters: &[],
    build: |config| {
        Ok(boxed(Sieve {
            lists: Lists::new(1, config.slots)?,
            visited: filled(false, config.slots)?,
            hand: None,
        })?)
    },
};
