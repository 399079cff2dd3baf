//! `slru`: segmented LRU. A slot that is used again moves up to a protected segment.
//!
//! What overflows a segment goes to the front of the one below; from the end of the lowest one, the probationary segment,
//! slots are evicted. So a process that runs once cannot push out those that run again and again. The paper has two segments
//! and leaves their sizes open. There may be more, of which each use climbs one, as in libCacheSim: its `SLRU`, with four equal
//! ones, is `segments=4,protected=75,new=free`. Its new pages go to the lowest segment that is not full yet, where the paper's
//! go to the probationary one. R. Karedla, J. S. Love and B. G. Wherry, "Caching strategies to improve disk system
//! performance", IEEE Computer 27(3), 1994.

use crate::lists::Lists;
use arch_i386::addr::GuestPhys;
use framework::fallible::boxed;
use framework::parameter::{Number, Parameter, Word};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Slru {
    /// The segments from the lowest up, the last used in front.
    lists: Lists,
    segments: usize,
    /// Slots that the probationary segment has when all are filled, and those that each protected one can have.
    probation_slots: usize,
    protected_slots: usize,
    /// The share of all protected segments, in percent.
    percent: usize,
    /// New directories go to the lowest segment with room, not to the probationary one.
    new_to_free: bool,
}

const PROBATION: usize = 0;

impl Slru {
    fn share_out(&mut self, slots: usize) {
        let protected = self.segments - 1;
        self.protected_slots = slots * self.percent / 100 / protected;
        self.probation_slots = slots - self.protected_slots * protected;
    }
}

impl EvictionPolicy for Slru {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        self.lists.remove(slot);
        let has_room = |segment| match segment {
            PROBATION => self.lists.len(PROBATION) < self.probation_slots,
            _ => self.lists.len(segment) < self.protected_slots,
        };
        let free = (0..self.segments).find(|&segment| has_room(segment));
        self.lists.push_front(free.filter(|_| self.new_to_free).unwrap_or(PROBATION), slot);
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        let mut segment =
            self.lists.list_of(slot).map_or(PROBATION, |segment| (segment + 1).min(self.segments - 1));
        self.lists.push_front(segment, slot);
        while segment > PROBATION {
            self.lists.overflow(segment, self.protected_slots, segment - 1);
            segment -= 1;
        }
    }

    fn emptied(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    fn resized(&mut self, slots: usize) {
        self.share_out(slots);
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        (0..self.segments).find_map(|segment| self.lists.back(segment)).unwrap_or(0)
    }
}

static SEGMENTS: Number = Number {
    name: "segments",
    help: "how many there are, of which each use climbs one",
    default: 2,
    range: 2..=8,
};

static PROTECTED_PERCENT: Number = Number {
    name: "protected",
    help: "size of all segments but the lowest, in percent of the slots",
    default: 80,
    range: 0..=100,
};

static NEW: Word = Word {
    name: "new",
    help: "where a new directory goes: to the lowest segment, or to the lowest with room",
    words: &["lowest", "free"],
};

#[linkme::distributed_slice(POLICIES)]
static SLRU: PolicyEntry = PolicyEntry {
    name: "slru",
    help: "segmented LRU: slots that are used again are protected from those that are not",
    parameters: &[Parameter::Number(&SEGMENTS), Parameter::Number(&PROTECTED_PERCENT), Parameter::Word(&NEW)],
    build: |config| {
        let [segments, percent] =
            [&SEGMENTS, &PROTECTED_PERCENT].map(|number| config.values.number(number) as usize);
        let mut policy = boxed(Slru {
            lists: Lists::new(segments, config.slots)?,
            segments,
            probation_slots: 0,
            protected_slots: 0,
            percent,
            new_to_free: config.values.word(&NEW) == "free",
        })?;
        policy.share_out(config.slots);
        Ok(policy)
    },
};
