//! `s3-fifo`: three queues. A new directory must be used twice in a small one before it gets into the main one.
//!
//! Slots wait in the small queue (S in the paper) first; one that comes to its end without having been used more
//! than once is evicted and is remembered in a third queue (G), from which it returns straight into the main one
//! (M). There, a used slot goes round again for each of its last uses, three at most. J. Yang et al., "FIFO queues
//! are all you need for cache eviction", ACM SOSP 2023, algorithm 1.

use crate::ghosts::Ghosts;
use crate::lists::Lists;
use crate::share::at_least_one;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct S3Fifo {
    /// The paper's three queues, the newest in front.
    lists: Lists,
    ghosts: Ghosts,
    /// The directory in each slot.
    directories: Box<[GuestPhys]>,
    /// Uses of each slot since it was filled or moved, [`MOST_USES`] at most.
    uses: Box<[u8]>,
    /// The size from which the small queue gives slots up.
    small_slots: usize,
    /// The same in percent of all slots.
    percent: usize,
}

const SMALL: usize = 0;
const MAIN: usize = 1;
const REMEMBERED: usize = 2;

const MOST_USES: u8 = 3;

impl EvictionPolicy for S3Fifo {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        let again = self.ghosts.take_off(&mut self.lists, directory);
        self.evicted(slot);
        self.directories[slot] = directory;
        self.uses[slot] = 0;
        self.lists.push_front(if again { MAIN } else { SMALL }, slot);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.uses[slot] = (self.uses[slot] + 1).min(MOST_USES);
    }

    fn emptied(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    fn evicted(&mut self, slot: usize) {
        if self.lists.list_of(slot) == Some(SMALL) {
            self.ghosts.put_on(&mut self.lists, REMEMBERED, self.directories[slot]);
        }
        self.lists.remove(slot);
    }

    fn resized(&mut self, slots: usize) {
        self.small_slots = at_least_one(slots, self.percent);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        while self.lists.len(SMALL) >= self.small_slots
            && let Some(oldest) = self.lists.back(SMALL)
        {
            if self.uses[oldest] <= 1 {
                return oldest;
            }
            self.uses[oldest] = 0;
            self.lists.push_front(MAIN, oldest);
        }
        while let Some(oldest) = self.lists.back(MAIN) {
            if self.uses[oldest] == 0 {
                return oldest;
            }
            self.uses[oldest] -= 1;
            self.lists.push_front(MAIN, oldest);
        }
        0
    }
}

static SMALL_PERCENT: Number = Number {
    name: "small",
    help: "size of the small queue, in percent of the slots",
    default: 10,
    range: 1..=100,
};

#[linkme::distributed_slice(POLICIES)]
static S3_FIFO: PolicyEntry = PolicyEntry {
    name: "s3-fifo",
    help: "three queues: a small one for what is new, a main one, and one of names that were evicted",
    parameters: &[Parameter::Number(&SMALL_PERCENT)],
    build: |config| {
        let slots = config.slots;
        let percent = config.values.number(&SMALL_PERCENT) as usize;
        let small_slots = at_least_one(slots, percent);
        let remembered = slots - small_slots;
        Ok(boxed(S3Fifo {
            lists: Lists::new(3, slots + remembered)?,
            ghosts: Ghosts::new(slots, remembered)?,
            directories: filled(GuestPhys(0), slots)?,
            uses: filled(0, slots)?,
            small_slots,
            percent,
        })?)
    },
};
