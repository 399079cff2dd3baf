//! `w-tinylfu`: a new directory gets past a small window only if it is loaded more often than the one it would replace.
//!
//! New directories enter an LRU window. What falls out of it competes with the victim of the main cache, a segmented LRU: the
//! one that was loaded more often of late stays, by a [sketch](crate::sketch) that also knows directories that are not cached
//! and halves its counts every so many loads. The window is for bursts of what is new. Its size and the segments' are the
//! paper's; the counts are halved as often as in Caffeine. Left out is the paper's doorkeeper, a filter for directories that
//! are loaded once, which saves memory. G. Einziger, R. Friedman and B. Manes, "TinyLFU: a highly efficient cache admission
//! policy", ACM Transactions on Storage 13(4), 2017.
//!
//! libCacheSim's `WTinyLFU` is no reference for it: it counts no load that hits in the window.

use crate::lists::Lists;
use crate::share::at_least_one;
use crate::sketch::Sketch;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct WTinyLfu {
    /// The window and the main cache's two segments, the last used in front.
    lists: Lists,
    sketch: Sketch,
    /// The directory in each slot.
    directories: Box<[GuestPhys]>,
    /// Slots that the window and the protected segment can have.
    window_room: usize,
    protected_room: usize,
    /// The same in percent: of all slots, and of those of the main cache.
    window: usize,
    protected: usize,
}

const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;

impl WTinyLfu {
    fn share_out(&mut self, slots: usize) {
        self.window_room = at_least_one(slots, self.window);
        self.protected_room = (slots - self.window_room) * self.protected / 100;
    }
}

impl EvictionPolicy for WTinyLfu {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.sketch.add(directory);
        self.directories[slot] = directory;
        self.lists.push_front(WINDOW, slot);
        self.lists.overflow(WINDOW, self.window_room, PROBATION);
    }

    fn used(&mut self, slot: usize, directory: GuestPhys) {
        self.sketch.add(directory);
        if self.lists.list_of(slot) == Some(WINDOW) {
            self.lists.push_front(WINDOW, slot);
        } else {
            self.lists.push_front(PROTECTED, slot);
            self.lists.overflow(PROTECTED, self.protected_room, PROBATION);
        }
    }

    fn emptied(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    fn resized(&mut self, slots: usize) {
        self.share_out(slots);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        let main = self.lists.back(PROBATION).or(self.lists.back(PROTECTED));
        let candidate = self.lists.back(WINDOW).filter(|_| self.lists.len(WINDOW) >= self.window_room);
        let loads = |slot: usize| self.sketch.estimate(self.directories[slot]);
        let is_admitted = candidate.zip(main).is_some_and(|(candidate, main)| loads(candidate) > loads(main));
        // One that is admitted gets to the main cache when the new one is in the window.
        let order = if is_admitted { [main, candidate] } else { [candidate, main] };
        order.into_iter().flatten().next().unwrap_or_else(|| self.lists.back(WINDOW).unwrap_or(0))
    }
}

static WINDOW_PERCENT: Number = Number {
    name: "window",
    help: "size of the window, in percent of the slots",
    default: 1,
    range: 1..=100,
};

static PROTECTED_PERCENT: Number = Number {
    name: "protected",
    help: "size of the protected segment, in percent of the other slots",
    default: 80,
    range: 0..=100,
};

static SAMPLE: Number = Number {
    name: "sample",
    help: "loads between two halvings of the counts, in times the slots",
    default: 10,
    range: 1..=1000,
};

#[linkme::distributed_slice(POLICIES)]
static W_TINY_LFU: PolicyEntry = PolicyEntry {
    name: "w-tinylfu",
    help: "what leaves a small window stays only if it is loaded more often than what it would replace",
    parameters: &[
        Parameter::Number(&WINDOW_PERCENT),
        Parameter::Number(&PROTECTED_PERCENT),
        Parameter::Number(&SAMPLE),
    ],
    build: |config| {
        let slots = config.slots;
        let [window, protected, sample] = [&WINDOW_PERCENT, &PROTECTED_PERCENT, &SAMPLE]
            .map(|number| config.values.number(number) as usize);
        let mut policy = boxed(WTinyLfu {
            lists: Lists::new(3, slots)?,
            sketch: Sketch::new(slots, sample * slots)?,
            directories: filled(GuestPhys(0), slots)?,
            window_room: 0,
            protected_room: 0,
            window,
            protected,
        })?;
        policy.share_out(slots);
        Ok(policy)
    },
};
