//! An eviction policy in a crate of its own: the slot used *most* recently is evicted.
//!
//! The opposite of `lru`, and the better one where processes take turns: with `n` slots and `n + 1`
//! processes in a ring, `lru` throws out exactly the page directory that comes next and never hits,
//! while this keeps `n - 1` of them for good. The whole plug-in is below: a type that implements
//! [`EvictionPolicy`], and a registration. A program that needs it in its registry refers to the crate:
//! `use policy_plugin as _;`.

#![no_std]
#![forbid(unsafe_code)]

use arch_i386::addr::GuestPhys;
use framework::fallible::boxed;
use framework::policy::EvictionPolicy;
use framework::registry::{POLICIES, PolicyEntry};

struct Mru {
    last: usize,
}

impl EvictionPolicy for Mru {
    fn filled(&mut self, slot: usize, _directory: GuestPhys) {
        self.last = slot;
    }

    fn used(&mut self, slot: usize, _directory: GuestPhys) {
        self.last = slot;
    }

    fn victim(&mut self, _incoming: GuestPhys) -> usize {
        self.last
    }
}

#[linkme::distributed_slice(POLICIES)]
static MRU: PolicyEntry = PolicyEntry {
    name: "mru",
    help: "the slot that was switched to last is evicted",
    parameters: &[],
    build: |_config| Ok(boxed(Mru { last: 0 })?),
};

// The examples in the project's README and guide are compiled and run with this crate's tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
struct Guide;
