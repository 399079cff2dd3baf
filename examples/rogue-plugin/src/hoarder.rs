//! `rogue-hoarder`: a shadow cache without any limit, which never evicts.

use arch_i386::addr::GuestPhys;
use arch_i386::paging::Paging;
use framework::fallible::boxed;
use framework::policy::EvictionPolicy;
use framework::registry::{CACHES, CacheEntry, PolicyEntry, PolicyUse};
use strategies::shadow::{self, Capacity, Optimizations};

/// Names one and the same slot when the cache has no room for another one.
struct FirstSlot;

impl EvictionPolicy for FirstSlot {
    fn filled(&mut self, _: usize, _: GuestPhys) {}

    fn used(&mut self, _: usize, _: GuestPhys) {}

    fn victim(&mut self, _: GuestPhys) -> usize {
        0
    }
}

static FIRST_SLOT: PolicyEntry = PolicyEntry {
    name: "rogue-first",
    help: "one and the same slot",
    parameters: &[],
    build: |_| Ok(boxed(FirstSlot)?),
};

#[linkme::distributed_slice(CACHES)]
static HOARDER: CacheEntry = CacheEntry {
    name: "rogue-hoarder",
    help: "keeps all page directories for ever",
    parameters: &[],
    formats: &[Paging::TwoLevel, Paging::Pae],
    policy: PolicyUse::Fixed(&FIRST_SLOT),
    build: |context, _, policy| {
        let capacity = Capacity::Budget(usize::MAX);
        shadow::with_policy(context, capacity, policy, Optimizations::NONE)
    },
};
