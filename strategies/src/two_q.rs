//! `2q`: a new directory must come back after it was evicted to be kept by LRU.
//!
//! Slots that are filled for the first time wait in a queue (A1in in the paper) and are remembered for a while
//! when they are evicted (A1out); a directory that is loaded again while it is remembered goes to the main list
//! (Am). This is the paper's "2Q, full version". T. Johnson and D. Shasha, "2Q: a low overhead high performance
//! buffer management replacement algorithm", VLDB 1994.

use crate::ghosts::Ghosts;
use crate::lists::Lists;
use crate::share::at_least_one;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct TwoQ {
    /// The paper's three lists, the newest in front.
    lists: Lists,
    ghosts: Ghosts,
    /// The directory in each slot.
    directories: Box<[GuestPhys]>,
    /// Slots that the first queue may have before it gives one up (Kin).
    first_room: usize,
    /// The same in percent of all slots.
    kin: usize,
}

const FIRST: usize = 0;
const REMEMBERED: usize = 1;
const MAIN: usize = 2;

impl EvictionPolicy for TwoQ {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        let again = self.ghosts.take_off(&mut self.lists, directory);
        self.evicted(slot);
        self.directories[slot] = directory;
        self.lists.push_front(if again { MAIN } else { FIRST }, slot);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        if self.lists.list_of(slot) == Some(MAIN) {
            self.lists.push_front(MAIN, slot);
        }
    }

    fn emptied(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    fn evicted(&mut self, slot: usize) {
        // What leaves the main list has not been used for long; it is not worth remembering.
        if self.lists.list_of(slot) == Some(FIRST) {
            self.ghosts.put_on(&mut self.lists, REMEMBERED, self.directories[slot]);
        }
        self.lists.remove(slot);
    }

    fn resized(&mut self, slots: usize) {
        self.first_room = at_least_one(slots, self.kin);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let first = self.lists.back(FIRST);
        let main = self.lists.back(MAIN);
        let order = if self.lists.len(FIRST) > self.first_room { [first, main] } else { [main, first] };
        order.into_iter().flatten().next().unwrap_or(0)
    }
}

static KIN: Number = Number {
    name: "kin",
    help: "size of the queue of new directories, in percent of the slots",
    default: 25,
    range: 1..=100,
};

static KOUT: Number = Number {
    name: "kout",
    help: "evicted directories that are remembered, in percent of the slots",
    default: 50,
    range: 1..=400,
};

#[linkme::distributed_slice(POLICIES)]
static TWO_Q: PolicyEntry = PolicyEntry {
    name: "2q",
    help: "directories that come back after they were evicted are kept by LRU, others in turn",
    parameters: &[Parameter::Number(&KIN), Parameter::Number(&KOUT)],
    build: |config| {
        let slots = config.slots;
        let [kin, kout] = [&KIN, &KOUT].map(|percent| config.values.number(percent) as usize);
        let remembered = at_least_one(slots, kout);
        Ok(boxed(TwoQ {
            lists: Lists::new(3, slots + remembered)?,
            ghosts: Ghosts::new(slots, remembered)?,
            directories: filled(GuestPhys(0), slots)?,
            first_room: at_least_one(slots, kin),
            kin,
        })?)
    },
};
