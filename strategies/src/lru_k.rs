//! `lru-k`: the directory whose last use but K - 1 was longest ago is evicted.
//!
//! With K = 2, one use of a directory counts little: what counts is how close the last two were. A directory with fewer
//! uses than K is evicted before all others. A use soon after another (`correlated`) is one with it, and keeps a directory
//! from being evicted that long. What was evicted is remembered with its uses; the paper has a time for that, here it is a
//! number of directories. Among those with fewer uses than K, the paper suggests LRU; `ties=fifo,ghosts=0` is
//! libCacheSim's choice, where nothing is remembered either. E. J. O'Neil, P. E. O'Neil and G. Weikum, "The LRU-K page
//! replacement algorithm for database disk buffering", ACM SIGMOD 1993, figure 2.1.

use crate::ghosts::Ghosts;
use crate::lists::Lists;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter, Word};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct LruK {
    k: usize,
    /// The paper's HIST, k loads' numbers for each slot and then for each ghost: its uses, the last first; 0 for none.
    uses: Box<[u64]>,
    /// The same for the directory that comes in.
    incoming: Box<[u64]>,
    /// Of each slot: its directory, when it was filled, and its last use (LAST), correlated or not; 0 if it is free.
    slots: Box<[(GuestPhys, u64, u64)]>,
    ghosts: Ghosts,
    /// One list: the ghosts, the last evicted in front.
    lists: Lists,
    /// Loads so far.
    now: u64,
    correlated: u64,
    ties_by_fill: bool,
}

const EVICTED: usize = 0;

impl LruK {
    fn of(&mut self, number: usize) -> &mut [u64] {
        &mut self.uses[number * self.k..][..self.k]
    }
}

impl EvictionPolicy for LruK {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.now += 1;
        self.incoming.fill(0);
        if let Some(ghost) = self.ghosts.find(directory) {
            let first = ghost * self.k;
            self.incoming[1..].copy_from_slice(&self.uses[first..][..self.k - 1]);
            self.ghosts.take_off(&mut self.lists, directory);
        }
        self.incoming[0] = self.now;
        self.evicted(slot);
        self.uses[slot * self.k..][..self.k].copy_from_slice(&self.incoming);
        self.slots[slot] = (directory, self.now, self.now);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.now += 1;
        let (now, (_, _, last)) = (self.now, self.slots[slot]);
        if now - last > self.correlated {
            // The earlier ones move on by as long as the uses of before, which were one, took.
            let uses = self.of(slot);
            let period = last - uses[0];
            uses.rotate_right(1);
            uses[1..].iter_mut().filter(|time| **time > 0).for_each(|time| *time += period);
            uses[0] = now;
        }
        self.slots[slot].2 = now;
    }

    fn emptied(&mut self, slot: usize) {
        self.slots[slot].2 = 0;
    }

    fn evicted(&mut self, slot: usize) {
        let (directory, _, last) = self.slots[slot];
        if last > 0 {
            self.ghosts.put_on(&mut self.lists, EVICTED, directory);
            if let Some(ghost) = self.ghosts.find(directory) {
                self.uses.copy_within(slot * self.k..(slot + 1) * self.k, ghost * self.k);
            }
        }
        self.emptied(slot);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let filled = self.slots.iter().enumerate().filter(|(_, (_, _, last))| *last > 0);
        let oldest = filled.min_by_key(|(slot, (_, fill, last))| {
            let in_use = self.now + 1 - last <= self.correlated;
            (in_use, self.uses[slot * self.k + self.k - 1], if self.ties_by_fill { *fill } else { *last })
        });
        oldest.map_or(0, |(slot, _)| slot)
    }
}

static K: Number = Number { name: "k", help: "which of the last uses counts", default: 2, range: 1..=8 };

static GHOSTS: Number = Number {
    name: "ghosts",
    help: "evicted directories that are remembered, in percent of the slots",
    default: 100,
    range: 0..=400,
};

static CORRELATED: Number = Number {
    name: "correlated",
    help: "loads within which two uses are one",
    default: 0,
    range: 0..=1_000_000,
};

static TIES: Word = Word {
    name: "ties",
    help: "who goes first of those with fewer uses: by last use or by age",
    words: &["lru", "fifo"],
};

#[linkme::distributed_slice(POLICIES)]
static LRU_K: PolicyEntry = PolicyEntry {
    name: "lru-k",
    help: "the directory whose last use but k - 1 was longest ago is evicted",
    parameters: &[
        Parameter::Number(&K),
        Parameter::Number(&GHOSTS),
        Parameter::Number(&CORRELATED),
        Parameter::Word(&TIES),
    ],
    build: |config| {
        let (slots, k) = (config.slots, config.values.number(&K) as usize);
        let ghosts = slots * config.values.number(&GHOSTS) as usize / 100;
        Ok(boxed(LruK {
            k,
            uses: filled(0, (slots + ghosts) * k)?,
            incoming: filled(0, k)?,
            slots: filled((GuestPhys(0), 0, 0), slots)?,
            ghosts: Ghosts::new(slots, ghosts)?,
            lists: Lists::new(1, slots + ghosts)?,
            now: 0,
            correlated: config.values.number(&CORRELATED),
            ties_by_fill: config.values.word(&TIES) == "fifo",
        })?)
    },
};
