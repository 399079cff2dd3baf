//! `mq`: several LRU queues by number of uses; who is not used for a while moves down one.
//!
//! A directory with 2^i uses or more is in queue i, at its front when it is used. After `lifetime` loads without a use, the
//! last of a queue moves to the front of the one below; the last of the lowest is evicted, and its uses are remembered for a
//! while (Qout in the paper). The paper adjusts the lifetime to the load by what it calls the peak temporal distance; here it
//! is a number of loads, as in libCacheSim. Where the paper remembers the victim before it looks for the directory that
//! comes in, here the look comes first, so that the one is not forgotten for the other. Y. Zhou, J. F. Philbin and K. Li,
//! "The Multi-Queue replacement algorithm for second level buffer caches", USENIX Annual Technical Conference 2001,
//! figure 5.

use crate::ghosts::Ghosts;
use crate::lists::Lists;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Mq {
    /// The queues from the lowest up, and the list of what is remembered; the newest in front.
    lists: Lists,
    queues: usize,
    ghosts: Ghosts,
    /// The directory in each slot, and the load after which it moves down.
    slots: Box<[(GuestPhys, u64)]>,
    /// Uses of each slot and each ghost.
    uses: Box<[u32]>,
    /// Loads so far.
    now: u64,
    lifetime: u64,
}

impl Mq {
    fn use_once(&mut self, slot: usize) {
        self.uses[slot] = self.uses[slot].saturating_add(1);
        self.enter(slot, (self.uses[slot].ilog2() as usize).min(self.queues - 1));
        self.now += 1;
        for queue in 1..self.queues {
            if let Some(last) = self.lists.back(queue)
                && self.slots[last].1 < self.now
            {
                self.enter(last, queue - 1);
            }
        }
    }

    fn enter(&mut self, slot: usize, queue: usize) {
        self.lists.push_front(queue, slot);
        self.slots[slot].1 = self.now + self.lifetime;
    }
}

impl EvictionPolicy for Mq {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        let uses = self.ghosts.find(directory).map_or(0, |ghost| self.uses[ghost]);
        self.ghosts.take_off(&mut self.lists, directory);
        self.evicted(slot);
        self.slots[slot].0 = directory;
        self.uses[slot] = uses;
        self.use_once(slot);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.use_once(slot);
    }

    fn emptied(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    fn evicted(&mut self, slot: usize) {
        if self.lists.list_of(slot).is_some() {
            let directory = self.slots[slot].0;
            self.ghosts.put_on(&mut self.lists, self.queues, directory);
            if let Some(ghost) = self.ghosts.find(directory) {
                self.uses[ghost] = self.uses[slot];
            }
        }
        self.lists.remove(slot);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        (0..self.queues).find_map(|queue| self.lists.back(queue)).unwrap_or(0)
    }
}

static QUEUES: Number =
    Number { name: "queues", help: "how many there are, each for twice the uses", default: 8, range: 1..=16 };

static LIFETIME: Number = Number {
    name: "lifetime",
    help: "loads without a use after which a directory moves down",
    default: 10_000,
    range: 1..=1_000_000_000,
};

static GHOSTS: Number = Number {
    name: "ghosts",
    help: "evicted directories that are remembered, in percent of the slots",
    default: 400,
    range: 0..=400,
};

#[linkme::distributed_slice(POLICIES)]
static MQ: PolicyEntry = PolicyEntry {
    name: "mq",
    help: "LRU queues by number of uses; a directory that is not used for a while moves down one",
    parameters: &[Parameter::Number(&QUEUES), Parameter::Number(&LIFETIME), Parameter::Number(&GHOSTS)],
    build: |config| {
        let (slots, queues) = (config.slots, config.values.number(&QUEUES) as usize);
        let ghosts = slots * config.values.number(&GHOSTS) as usize / 100;
        Ok(boxed(Mq {
            lists: Lists::new(queues + 1, slots + ghosts)?,
            queues,
            ghosts: Ghosts::new(slots, ghosts)?,
            slots: filled((GuestPhys(0), 0), slots)?,
            uses: filled(0, slots + ghosts)?,
            now: 0,
            lifetime: config.values.number(&LIFETIME),
        })?)
    },
};
