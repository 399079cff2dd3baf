//! `clock`: a hand goes round the slots; one that was used since it last passed gets a second chance.
//!
//! Corbató's pages have one usage bit, which is set when a page is brought in, since the access that has missed it follows.
//! Two choices are parameters, as other programs choose otherwise: `bits` makes a count of the bit, of which each pass of the
//! hand takes one ("generalized clock"), and `initial` is what a new directory begins with. `initial=0` is libCacheSim's
//! default, `init-freq=0`. F. J. Corbató, "A paging experiment with the Multics system", MIT Project MAC, 1968.

use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Clock {
    /// Uses of each slot that the hand has not taken yet; `None` for a free one.
    uses: Box<[Option<u8>]>,
    /// The slot that is looked at next.
    hand: usize,
    /// Uses that are counted at most, and those that a slot begins with.
    most: u8,
    initial: u8,
}

impl EvictionPolicy for Clock {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        self.uses[slot] = Some(self.initial);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        let uses = self.uses[slot].unwrap_or(0);
        self.uses[slot] = Some((uses + 1).min(self.most));
    }

    fn counts_each_use(&self) -> bool {
        self.most > 1
    }

    fn emptied(&mut self, slot: usize) {
        self.uses[slot] = None;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        // After so many rounds one with its chances gone has been met, unless all are free.
        for _ in 0..=(usize::from(self.most) + 1) * self.uses.len() {
            let slot = self.hand;
            self.hand = (slot + 1) % self.uses.len();
            match &mut self.uses[slot] {
                Some(0) => return slot,
                Some(uses) => *uses -= 1,
                None => {}
            }
        }
        0
    }
}

static BITS: Number =
    Number { name: "bits", help: "width of a slot's count of uses", default: 1, range: 1..=4 };

static INITIAL: Number =
    Number { name: "initial", help: "uses that a new directory begins with", default: 1, range: 0..=15 };

#[linkme::distributed_slice(POLICIES)]
static CLOCK: PolicyEntry = PolicyEntry {
    name: "clock",
    help: "a hand goes round; a slot that was used since it last passed gets a second chance",
    parameters: &[Parameter::Number(&BITS), Parameter::Number(&INITIAL)],
    build: |config| {
        let [bits, initial] = [&BITS, &INITIAL].map(|number| config.values.number(number) as u8);
        let most = (1 << bits) - 1;
        Ok(boxed(Clock { uses: filled(None, config.slots)?, hand: 0, most, initial: initial.min(most) })?)
    },
};
