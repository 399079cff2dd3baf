//! `arc`: between recency and frequency, at a balance that evicted directories adjust when they return.
//!
//! Directories that were loaded once lately are in one list (T1 in the paper), those loaded more often in
//! another (T2); each has a list of ghosts behind it (B1, B2). A ghost that returns shows which list was too
//! short, and the first list's target size moves that way, by a quotient of their lengths. The target is a real number in the
//! paper, and so it is here and in libCacheSim; with `target=whole` the quotients are rounded down, as programs do that keep
//! it in an integer. N. Megiddo and D. S. Modha, "ARC: a self-tuning, low overhead replacement cache", USENIX FAST 2003,
//! figure 4.

use crate::ghosts::Ghosts;
use crate::lists::Lists;
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::{boxed, filled};
use framework::parameter::{Parameter, Word};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Arc {
    /// The paper's four lists, the last used in front.
    lists: Lists,
    ghosts: Ghosts,
    /// The directory in each slot.
    directories: Box<[GuestPhys]>,
    /// The size of the cache (c).
    slots: usize,
    /// The size that the list of those loaded once should have (p), in parts of [`ONE`].
    target: u128,
    /// Quotients are rounded down to whole slots.
    whole: bool,
}

/// One slot of the target. A kernel does not use floating point.
const ONE: u128 = 1 << 64;

/// The nearest number with the precision of a `double` (53 bits, the even one of two that are as near): so the target comes
/// to the same as in a program that has it in one.
const fn to_double(number: u128) -> u128 {
    let excess = 128u32.saturating_sub(number.leading_zeros() + f64::MANTISSA_DIGITS);
    let (kept, rest, half) = (number >> excess, number & ((1 << excess) - 1), (1 << excess) / 2);
    let up = excess > 0 && (rest > half || rest == half && kept % 2 == 1);
    (kept + up as u128) << excess
}

const ONCE: usize = 0;
const OFTEN: usize = 1;
const ONCE_GHOSTS: usize = 2;
const OFTEN_GHOSTS: usize = 3;

impl Arc {
    /// Takes a slot off its list, and puts its directory in front of the ghosts behind that list.
    fn become_ghost(&mut self, slot: usize) {
        let behind = match self.lists.list_of(slot) {
            Some(ONCE) => ONCE_GHOSTS,
            Some(OFTEN) => OFTEN_GHOSTS,
            _ => return,
        };
        self.lists.remove(slot);
        if let Some(ghost) = self.ghosts.remember(self.directories[slot]) {
            self.lists.push_front(behind, ghost);
        }
    }

    /// How far the target moves (δ): a quotient, at least one slot.
    fn step(&self, others: usize, own: usize) -> u128 {
        let (dividend, divisor) = (others as u128 * ONE, own as u128);
        let quotient = if self.whole {
            dividend / divisor / ONE * ONE
        } else {
            // The last bit stands for all that follow.
            to_double((dividend / divisor) | u128::from(dividend % divisor > 0))
        };
        quotient.max(ONE)
    }

    /// Forgets the ghosts that are too many. The paper does so before the insertion, which has the same result: the oldest
    /// ghost goes, and if there was none, the one that was made just now.
    fn forget_ghosts(&mut self) {
        let slots = self.slots;
        while self.lists.len(ONCE) + self.lists.len(ONCE_GHOSTS) > slots && self.lists.len(ONCE_GHOSTS) > 0 {
            self.ghosts.forget_oldest(&mut self.lists, ONCE_GHOSTS);
        }
        while self.lists.len(ONCE_GHOSTS) + self.lists.len(OFTEN_GHOSTS) > slots
            && self.lists.len(OFTEN_GHOSTS) > 0
        {
            self.ghosts.forget_oldest(&mut self.lists, OFTEN_GHOSTS);
        }
    }
}

impl EvictionPolicy for Arc {
    fn filled(&mut self, slot: usize, directory: GuestPhys) {
        let again = self.ghosts.take_off(&mut self.lists, directory);
        self.become_ghost(slot);
        self.directories[slot] = directory;
        self.lists.push_front(if again { OFTEN } else { ONCE }, slot);
        self.forget_ghosts();
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.lists.push_front(OFTEN, slot);
    }

    fn emptied(&mut self, slot: usize) {
        self.lists.remove(slot);
    }

    fn evicted(&mut self, slot: usize) {
        self.become_ghost(slot);
        self.forget_ghosts();
    }

    fn resized(&mut self, slots: usize) {
        self.slots = slots;
        self.target = self.target.min(slots as u128 * ONE);
    }

    fn victim(&mut self, incoming: GuestPhys) -> usize {
        let [once_ghosts, often_ghosts] = [ONCE_GHOSTS, OFTEN_GHOSTS].map(|list| self.lists.len(list));
        let returns_to = self.ghosts.find(incoming).and_then(|ghost| self.lists.list_of(ghost));
        match returns_to {
            Some(ONCE_GHOSTS) => {
                let target = to_double(self.target + self.step(often_ghosts, once_ghosts));
                self.target = target.min(self.slots as u128 * ONE);
            }
            Some(OFTEN_GHOSTS) => {
                self.target = to_double(self.target.saturating_sub(self.step(once_ghosts, often_ghosts)));
            }
            _ => {}
        }
        let [once, often] = [ONCE, OFTEN].map(|list| self.lists.back(list));
        let length = self.lists.len(ONCE) as u128 * ONE;
        let from_once =
            length > self.target || returns_to == Some(OFTEN_GHOSTS) && length > 0 && length == self.target;
        let order = if from_once { [once, often] } else { [often, once] };
        order.into_iter().flatten().next().unwrap_or(0)
    }
}

static TARGET: Word = Word {
    name: "target",
    help: "whether the balance moves by the paper's quotients or by whole slots",
    words: &["real", "whole"],
};

#[linkme::distributed_slice(POLICIES)]
static ARC: PolicyEntry = PolicyEntry {
    name: "arc",
    help: "between recency and frequency, at a balance that adjusts itself",
    parameters: &[Parameter::Word(&TARGET)],
    build: |config| {
        let slots = config.slots;
        // Between the arrival of a ghost and the departure of the oldest there is one more.
        let ghosts = slots + 1;
        Ok(boxed(Arc {
            lists: Lists::new(4, slots + ghosts)?,
            ghosts: Ghosts::new(slots, ghosts)?,
            directories: filled(GuestPhys(0), slots)?,
            slots,
            target: 0,
            whole: config.values.word(&TARGET) == "whole",
        })?)
    },
};
