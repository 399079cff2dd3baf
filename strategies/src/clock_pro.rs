//! `clock-pro`: LIRS on a clock, with a share for cold directories that adjusts itself.
//!
//! All directories are in one circle, those evicted lately among them. A new one is cold and in its test period; if it is used
//! within that, it becomes hot, as it was used again sooner than some hot one. Three hands go round. The *cold* hand looks for
//! the victim: a cold directory without a use. The *hot* hand makes the hot directory that was not used for longest cold
//! again, when there are too many; what is cold and in its way has failed its test. The *test* hand ends the tests of evicted
//! directories when there are more of those than slots. A test that is passed gives the cold ones a slot more, one that is
//! failed a slot less; `cold` is how many they have at first. S. Jiang, F. Chen and X. Zhang, "CLOCK-Pro: an effective
//! improvement of the CLOCK replacement", USENIX Annual Technical Conference 2005, section 4.
//!
//! libCacheSim's `ClockPro` is no reference for it: it does not bring in a page that is missed while the cold pages have their
//! share, where the paper evicts one of them.

use crate::ghosts::Ghosts;
use crate::lists::Lists;
use crate::share::at_least_one;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct ClockPro {
    /// The circle, cut open at the hot hand: it is at the back, and what it passes goes to the front.
    lists: Lists,
    ghosts: Ghosts,
    /// The directory in each slot.
    directories: Box<[GuestPhys]>,
    /// What is known of each slot, and then of each ghost.
    states: Box<[State]>,
    /// Where the other two hands are; none for the back.
    cold_hand: Option<usize>,
    test_hand: Option<usize>,
    /// Slots (m), how many of them are hot, and how many should be cold (m_c).
    slots: usize,
    hot: usize,
    cold_target: usize,
    /// How many directories are in the circle without a slot.
    ghost_count: usize,
}

/// What is known of a directory.
#[derive(Clone, Copy, Default)]
struct State {
    hot: bool,
    in_test: bool,
    used: bool,
}

const CIRCLE: usize = 0;

impl ClockPro {
    fn is_slot(&self, number: usize) -> bool {
        number < self.directories.len()
    }

    /// The one that a hand comes to after this one.
    fn after(&self, number: usize) -> Option<usize> {
        self.lists.in_front_of(number).or(self.lists.back(CIRCLE))
    }

    /// Hands that are at this one go on, as it moves or leaves.
    fn pass(&mut self, number: usize) {
        let next = self.after(number).filter(|&next| next != number);
        for hand in [&mut self.cold_hand, &mut self.test_hand] {
            if *hand == Some(number) {
                *hand = next;
            }
        }
    }

    fn leave(&mut self, number: usize) {
        self.pass(number);
        self.lists.remove(number);
        let state = core::mem::take(&mut self.states[number]);
        self.hot -= usize::from(state.hot);
        if !self.is_slot(number) {
            self.ghosts.forget(number);
            self.ghost_count -= 1;
        }
    }

    fn move_to_head(&mut self, number: usize) {
        self.pass(number);
        self.lists.push_front(CIRCLE, number);
    }

    fn becomes_hot(&mut self, slot: usize) {
        self.cold_target = (self.cold_target + 1).min(self.slots);
        self.hot += 1;
        self.states[slot] = State { hot: true, ..State::default() };
        self.move_to_head(slot);
        self.keep_hot_share();
    }

    fn keep_hot_share(&mut self) {
        while self.hot > self.slots - self.cold_target {
            self.run_hot_hand();
        }
    }

    /// The test of a cold directory is over.
    fn end_test(&mut self, number: usize) {
        if core::mem::take(&mut self.states[number].in_test) && !self.states[number].used {
            self.cold_target = (self.cold_target - 1).max(1);
        }
        if !self.is_slot(number) {
            self.leave(number);
        }
    }

    /// Makes one hot directory cold.
    fn run_hot_hand(&mut self) {
        while let Some(number) = self.lists.back(CIRCLE) {
            let State { hot, used, .. } = self.states[number];
            if !hot {
                self.end_test(number);
            }
            if self.lists.list_of(number).is_none() {
                continue;
            }
            // The hand moves on: this one is the last it will come to again. No other hand moves.
            self.lists.push_front(CIRCLE, number);
            if hot {
                self.states[number].used = false;
                if !used {
                    self.states[number].hot = false;
                    self.hot -= 1;
                    return;
                }
            }
        }
    }

    /// Ends the test of the next directory without a slot, and those of cold ones before it.
    fn run_test_hand(&mut self) {
        let mut at = self.test_hand.or(self.lists.back(CIRCLE));
        while let Some(number) = at {
            self.test_hand = self.after(number);
            let is_ghost = !self.is_slot(number);
            if !self.states[number].hot {
                self.end_test(number);
            }
            if is_ghost {
                return;
            }
            at = self.test_hand;
        }
    }
}

impl EvictionPolicy for ClockPro {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        self.evicted(slot);
        let again = self.ghosts.find(directory);
        if let Some(ghost) = again {
            self.leave(ghost);
        }
        self.directories[slot] = directory;
        if again.is_some() {
            self.becomes_hot(slot);
        } else {
            self.states[slot] = State { in_test: true, ..State::default() };
            self.move_to_head(slot);
        }
        while self.ghost_count > self.slots {
            self.run_test_hand();
        }
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.states[slot].used = true;
    }

    fn emptied(&mut self, slot: usize) {
        if self.lists.list_of(slot).is_some() {
            self.leave(slot);
        }
    }

    fn evicted(&mut self, slot: usize) {
        let State { hot, in_test, .. } = self.states[slot];
        if self.lists.list_of(slot).is_some()
            && !hot
            && in_test
            && let Some(ghost) = self.ghosts.remember(self.directories[slot])
        {
            // It keeps its place in the circle, and a hand that is there for its test stays.
            if self.test_hand == Some(slot) {
                self.test_hand = Some(ghost);
            }
            self.pass(slot);
            self.lists.replace(slot, ghost);
            self.states[ghost] = core::mem::take(&mut self.states[slot]);
            self.ghost_count += 1;
        }
        self.emptied(slot);
    }

    fn resized(&mut self, slots: usize) {
        self.slots = slots.max(1);
        self.cold_target = self.cold_target.min(self.slots);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        self.keep_hot_share();
        let mut at = self.cold_hand.or(self.lists.back(CIRCLE));
        // Twice round: once for the uses, which are taken, and once more.
        for _ in 0..2 * self.states.len() {
            let Some(number) = at else { break };
            self.cold_hand = self.after(number);
            let State { hot, in_test, used } = self.states[number];
            if self.is_slot(number) && !hot {
                match (used, in_test) {
                    (false, _) => {
                        self.cold_hand = Some(number);
                        return number;
                    }
                    (true, true) => self.becomes_hot(number),
                    (true, false) => {
                        self.states[number] = State { in_test: true, ..State::default() };
                        self.move_to_head(number);
                    }
                }
            }
            at = self.cold_hand;
        }
        // All that there are can be hot while some slots are free.
        let mut circle =
            core::iter::successors(self.lists.back(CIRCLE), |&number| self.lists.in_front_of(number));
        circle.find(|&number| self.is_slot(number)).unwrap_or(0)
    }
}

static COLD: Number = Number {
    name: "cold",
    help: "slots for cold directories at first, in percent",
    default: 50,
    range: 1..=100,
};

#[linkme::distributed_slice(POLICIES)]
static CLOCK_PRO: PolicyEntry = PolicyEntry {
    name: "clock-pro",
    help: "LIRS on a clock, with a share for cold directories that adjusts itself",
    parameters: &[Parameter::Number(&COLD)],
    build: |config| {
        let slots = config.slots;
        // Between the arrival of a ghost and the departure of the oldest there is one more.
        let ghosts = slots + 1;
        Ok(boxed(ClockPro {
            lists: Lists::new(1, slots + ghosts)?,
            ghosts: Ghosts::new(slots, ghosts)?,
            directories: filled(GuestPhys(0), slots)?,
            states: filled(State::default(), slots + ghosts)?,
            cold_hand: None,
            test_hand: None,
            slots,
            hot: 0,
            cold_target: at_least_one(slots, config.values.number(&COLD) as usize),
            ghost_count: 0,
        })?)
    },
};
