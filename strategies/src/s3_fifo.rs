//! `s3-fifo`: three queues. A new directory must be used twice in a small one before it gets into the main one.
//!
//! Slots wait in the small queue (S in the paper) first; one that comes to its end without having been used more
//! than once is evicted and is remembered in a third queue (G), from which it returns straight into the main one
//! (M). There, a used slot goes round again for each of its last uses, three at most.
//!
//! The paper evicts as many as it likes for a new one; here it is one. Where a used directory moves from the small queue and
//! overfills the main one, the victim is the main queue's (the paper's line "if M is full"); with `overflow=small` the search
//! goes on in the small queue, as in libCacheSim. And while the cache is not full, all new directories wait in the small
//! queue, however long it grows; with `fill=main`, as in libCacheSim, those beyond its size go to the main
//! one. J. Yang et al., "FIFO queues are all you need for cache eviction", ACM SOSP 2023, algorithm 1.

use crate::ghosts::Ghosts;
use crate::lists::Lists;
use crate::share::at_least_one;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter, Word};
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
    /// The number of slots at the time.
    slots: usize,
    /// Uses in the small queue from which a slot moves to the main one.
    threshold: u8,
    /// Where a new directory goes when the small queue is full and the cache has never been.
    fill_main: bool,
    /// The victim is looked for in the small queue even when the main one is overfull.
    overflow_small: bool,
    /// The cache has been full.
    has_evicted: bool,
}

const SMALL: usize = 0;
const MAIN: usize = 1;
const REMEMBERED: usize = 2;

const MOST_USES: u8 = 3;

impl EvictionPolicy for S3Fifo {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        let again = self.ghosts.take_off(&mut self.lists, directory);
        self.evicted(slot);
        let to_main =
            again || self.fill_main && !self.has_evicted && self.lists.len(SMALL) >= self.small_slots;
        self.directories[slot] = directory;
        self.uses[slot] = 0;
        self.lists.push_front(if to_main { MAIN } else { SMALL }, slot);
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
        self.slots = slots;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        self.has_evicted = true;
        let mut from_small = self.lists.len(SMALL) >= self.small_slots;
        while from_small && let Some(oldest) = self.lists.back(SMALL) {
            if self.uses[oldest] < self.threshold {
                return oldest;
            }
            self.uses[oldest] = 0;
            self.lists.push_front(MAIN, oldest);
            from_small = self.overflow_small || self.lists.len(MAIN) <= self.slots - self.small_slots;
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

static GHOSTS: Number = Number {
    name: "ghosts",
    help: "evicted directories that are remembered, in percent of the slots",
    default: 90,
    range: 0..=400,
};

static THRESHOLD: Number = Number {
    name: "threshold",
    help: "uses in the small queue that lead to the main one",
    default: 2,
    range: 1..=3,
};

static FILL: Word = Word {
    name: "fill",
    help: "where new directories go at first, when the small queue has its size",
    words: &["small", "main"],
};

static OVERFLOW: Word = Word {
    name: "overflow",
    help: "where the victim is when a move has overfilled the main queue",
    words: &["main", "small"],
};

#[linkme::distributed_slice(POLICIES)]
static S3_FIFO: PolicyEntry = PolicyEntry {
    name: "s3-fifo",
    help: "three queues: a small one for what is new, a main one, and one of names that were evicted",
    parameters: &[
        Parameter::Number(&SMALL_PERCENT),
        Parameter::Number(&GHOSTS),
        Parameter::Number(&THRESHOLD),
        Parameter::Word(&FILL),
        Parameter::Word(&OVERFLOW),
    ],
    build: |config| {
        let slots = config.slots;
        let percent = config.values.number(&SMALL_PERCENT) as usize;
        let small_slots = at_least_one(slots, percent);
        let remembered = slots * config.values.number(&GHOSTS) as usize / 100;
        Ok(boxed(S3Fifo {
            lists: Lists::new(3, slots + remembered)?,
            ghosts: Ghosts::new(slots, remembered)?,
            directories: filled(GuestPhys(0), slots)?,
            uses: filled(0, slots)?,
            small_slots,
            percent,
            slots,
            threshold: config.values.number(&THRESHOLD) as u8,
            fill_main: config.values.word(&FILL) == "main",
            overflow_small: config.values.word(&OVERFLOW) == "small",
            has_evicted: false,
        })?)
    },
};
