//! `rogue-policy`: a policy that does one thing wrong.

use crate::misdeed::{AFTER, DOES, Misdeed};
use alloc::boxed::Box;
use arch_i386::addr::GuestPhys;
use framework::fallible::boxed;
use framework::parameter::{Parameter, Word};
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

/// The methods, the making and the dropping.
static IN: Word = Word {
    name: "in",
    help: "where it is done",
    words: &["victim", "filled", "used", "emptied", "takes-free-slots-first", "build", "drop"],
};
static PARAMETERS: [Parameter; 3] = [Parameter::Word(&DOES), Parameter::Word(&IN), Parameter::Number(&AFTER)];

struct Rogue {
    misdeed: Misdeed,
    /// To be dropped with it.
    _held: Box<[u64; 16]>,
}

impl EvictionPolicy for Rogue {
    fn filled(&mut self, _slot: usize, _directory: GuestPhys) {
        self.misdeed.commit("filled");
    }

    fn used(&mut self, _slot: usize, _directory: GuestPhys) {
        self.misdeed.commit("used");
    }

    fn emptied(&mut self, _slot: usize) {
        self.misdeed.commit("emptied");
    }

    fn victim(&mut self, incoming: GuestPhys) -> usize {
        if self.misdeed.commit("victim") { usize::MAX - incoming.0 as usize } else { 0 }
    }

    fn takes_free_slots_first(&self) -> bool {
        !self.misdeed.commit("takes-free-slots-first")
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.misdeed.commit("drop");
    }
}

#[linkme::distributed_slice(POLICIES)]
static ROGUE: PolicyEntry = PolicyEntry {
    name: "rogue-policy",
    help: "does one thing wrong",
    parameters: &PARAMETERS,
    build: |config| {
        let rogue = Rogue { misdeed: Misdeed::new(config.values, &IN), _held: boxed([0; 16])? };
        rogue.misdeed.commit("build");
        Ok(boxed(rogue)?)
    },
};
