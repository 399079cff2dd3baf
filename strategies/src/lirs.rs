//! `lirs`: what counts is how many others ran between the last two uses of a directory.
//!
//! Most slots belong to directories whose last two uses were close (LIR in the paper); a few are for the others
//! (HIR), and only these are evicted, in turn. A stack in order of last use, down to the oldest LIR one, shows
//! whether a HIR directory that is used again beats that one: it does if it is still in the stack. Directories that
//! were evicted stay in the stack as ghosts. The paper does not bound these. Here `ghosts` bounds them and `stack` bounds the
//! whole stack; the one that was evicted first is forgotten first. `stack=200` is libCacheSim's bound. S. Jiang and X. Zhang,
//! "LIRS: an efficient low inter-reference recency set replacement policy", ACM SIGMETRICS 2002, section 3.3.

use crate::ghosts::Ghosts;
use crate::lists::Lists;
use crate::share::at_least_one;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Number, Parameter};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Lirs {
    /// The paper's stack S: one list of slots and ghosts, the last used in front.
    stack: Lists,
    /// The paper's list Q of HIR slots, and the ghosts in order of their eviction, the newest in front.
    queues: Lists,
    ghosts: Ghosts,
    /// The directory in each slot.
    directories: Box<[GuestPhys]>,
    /// Which slots are LIR, how many these are, and how many they can be.
    lir: Box<[bool]>,
    lir_count: usize,
    lir_room: usize,
    /// The share of the others, in percent of all slots.
    hir: usize,
    /// The most that the stack may hold after a load, ghosts included, and its share in percent of all slots.
    stack_room: usize,
    stack_percent: usize,
}

/// The only list of `stack`.
const STACK: usize = 0;
/// The lists of `queues`.
const HIR: usize = 0;
const EVICTED: usize = 1;

impl Lirs {
    fn is_lir(&self, number: usize) -> bool {
        self.lir.get(number).copied().unwrap_or(false)
    }

    fn forget(&mut self, ghost: usize) {
        self.stack.remove(ghost);
        self.queues.remove(ghost);
        self.ghosts.forget(ghost);
    }

    /// Takes everything off the bottom of the stack that is not LIR ("stack pruning").
    fn prune(&mut self) {
        while let Some(bottom) = self.stack.back(STACK).filter(|&bottom| !self.is_lir(bottom)) {
            if bottom < self.directories.len() {
                self.stack.remove(bottom);
            } else {
                self.forget(bottom);
            }
        }
    }

    /// Puts a slot on top of the stack as LIR; the one at the bottom becomes HIR if there are too many.
    fn promote(&mut self, slot: usize) {
        self.queues.remove(slot);
        self.stack.push_front(STACK, slot);
        self.lir[slot] = true;
        self.lir_count += 1;
        // A HIR entry may be at the bottom by now.
        self.prune();
        self.demote();
    }

    /// Makes the LIR slots at the bottom of the stack HIR until there are no more than there can be.
    fn demote(&mut self) {
        while self.lir_count > self.lir_room
            && let Some(bottom) = self.stack.back(STACK)
        {
            self.lir[bottom] = false;
            self.lir_count -= 1;
            self.stack.remove(bottom);
            self.queues.push_front(HIR, bottom);
            self.prune();
        }
    }

    /// Forgets ghosts until the stack keeps its bound.
    fn bound_stack(&mut self) {
        while self.stack.len(STACK) > self.stack_room
            && let Some(oldest) = self.queues.back(EVICTED)
        {
            self.forget(oldest);
        }
    }

    /// Makes a slot's directory a ghost, if the stack still has it.
    fn evict(&mut self, slot: usize) {
        self.queues.remove(slot);
        if core::mem::take(&mut self.lir[slot]) {
            self.lir_count -= 1;
        } else if self.stack.list_of(slot).is_some() {
            if !self.ghosts.has_free()
                && let Some(oldest) = self.queues.back(EVICTED)
            {
                self.forget(oldest);
            }
            if let Some(ghost) = self.ghosts.remember(self.directories[slot]) {
                self.stack.replace(slot, ghost);
                self.queues.push_front(EVICTED, ghost);
            }
        }
        self.stack.remove(slot);
        self.prune();
    }
}

impl EvictionPolicy for Lirs {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        let again = self.ghosts.find(directory);
        if let Some(ghost) = again {
            self.forget(ghost);
        }
        self.evict(slot);
        self.directories[slot] = directory;
        // At first, every directory is LIR until there are enough of these.
        if again.is_some() || self.lir_count < self.lir_room {
            self.promote(slot);
        } else {
            self.stack.push_front(STACK, slot);
            self.queues.push_front(HIR, slot);
            self.prune();
        }
        self.bound_stack();
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        let in_stack = self.stack.list_of(slot).is_some();
        if self.lir[slot] {
            self.stack.push_front(STACK, slot);
            self.prune();
        } else if in_stack {
            self.promote(slot);
        } else {
            self.stack.push_front(STACK, slot);
            self.queues.push_front(HIR, slot);
            self.prune();
        }
        self.bound_stack();
    }

    fn emptied(&mut self, slot: usize) {
        self.queues.remove(slot);
        self.stack.remove(slot);
        if core::mem::take(&mut self.lir[slot]) {
            self.lir_count -= 1;
        }
        self.prune();
    }

    fn evicted(&mut self, slot: usize) {
        self.evict(slot);
    }

    fn resized(&mut self, slots: usize) {
        self.lir_room = slots - at_least_one(slots, self.hir);
        self.stack_room = slots * self.stack_percent / 100;
        self.demote();
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        // The stack's bottom is a slot: it is LIR.
        self.queues.back(HIR).or(self.stack.back(STACK)).unwrap_or(0)
    }
}

static HIR_PERCENT: Number = Number {
    name: "hir",
    help: "slots for directories that are not used again soon, in percent",
    default: 1,
    range: 1..=50,
};

static GHOSTS: Number = Number {
    name: "ghosts",
    help: "evicted directories that are remembered, in percent of the slots",
    default: 200,
    range: 0..=400,
};

static STACK_PERCENT: Number = Number {
    name: "stack",
    help: "most directories in the stack, remembered ones included, in percent of the slots",
    default: 500,
    range: 100..=500,
};

#[linkme::distributed_slice(POLICIES)]
static LIRS: PolicyEntry = PolicyEntry {
    name: "lirs",
    help: "directories whose last two uses were close are kept; of the others, the oldest is evicted",
    parameters: &[
        Parameter::Number(&HIR_PERCENT),
        Parameter::Number(&GHOSTS),
        Parameter::Number(&STACK_PERCENT),
    ],
    build: |config| {
        let slots = config.slots;
        let [hir, ghosts, stack_percent] =
            [&HIR_PERCENT, &GHOSTS, &STACK_PERCENT].map(|percent| config.values.number(percent) as usize);
        let ghosts = slots * ghosts / 100;
        Ok(boxed(Lirs {
            stack: Lists::new(1, slots + ghosts)?,
            queues: Lists::new(2, slots + ghosts)?,
            ghosts: Ghosts::new(slots, ghosts)?,
            directories: filled(GuestPhys(0), slots)?,
            lir: filled(false, slots)?,
            lir_count: 0,
            lir_room: slots - at_least_one(slots, hir),
            hir,
            stack_room: slots * stack_percent / 100,
            stack_percent,
        })?)
    },
};
