//! `shared`: the shadow cache with every optimization, and `pae`: with the one that PAE needs most.
//!
//! What lguest's author lists as slow in `page_tables.c`, each improved on by one parameter, so that its worth
//! can be measured alone: turned off, that part works as lguest does. Any eviction policy can be had with it.
//!
//! | parameter | lguest | here |
//! | --- | --- | --- |
//! | `shared-kernel` | shadows the kernel's half in each page directory anew | once, for all |
//! | `precise` | drops everything at SET_PMD | what it names |
//! | `release-by-use` | looks at every entry of a table to release it | at those in use |
//! | `budget` | four page directories | as many as fit into that much memory |
//! | `policy` | a random one is evicted | the least recently used one, or what another policy chooses |
//! | `fault-around` | fills the page that was missed | neighbours that were used as well, where that pays |
//! | `populate-on-set-pte` | fills what SET_PTE marks accessed if it has a table for it | makes the table; remembers the page for a page directory not shadowed |
//! | `refill-after-flush` | drops at a flush what the guest did not change, too | fills it again, where that pays |
//! | `prefetch-on-trial` | does none of these | withholds the last two until trials show that they pay |
//! | `refill` | starts an evicted page directory from nothing | from what it had mapped |
//!
//! [`Optimizations`] explains why each is right.

use crate::shadow::{self, Capacity, MAX_FAULT_AROUND, Optimizations};
use arch_i386::addr::PAGE_SIZE;
use arch_i386::paging::Paging;
use framework::parameter::{Flag, Number, Parameter};
use framework::registry::{CACHES, CacheEntry, PolicyUse, SLOTS};

static SHARED_KERNEL: Flag = Flag {
    name: "shared-kernel",
    help: "shadow the kernel's half once, for all page directories",
    default: true,
};
static PRECISE: Flag =
    Flag { name: "precise", help: "drop no more than SET_PGD and SET_PMD name", default: true };
static RELEASE_BY_USE: Flag =
    Flag { name: "release-by-use", help: "release a table by its entries in use, not by all", default: true };
/// The memory of the shadow tables. With a budget the parameter `slots` has no effect.
pub static BUDGET: Number = Number {
    name: "budget",
    help: "KiB of page tables; 0 for a fixed number of slots",
    default: 4096,
    range: 0..=262_144,
};
static FAULT_AROUND: Number = Number {
    name: "fault-around",
    help: "pages filled at a demand fault, if used before; 0 for one",
    default: 16,
    range: 0..=MAX_FAULT_AROUND as u64,
};
static POPULATE: Flag = Flag {
    name: "populate-on-set-pte",
    help: "fill what SET_PTE marks accessed, even where that takes a new table",
    default: true,
};
static REFILL_AFTER_FLUSH: Flag =
    Flag { name: "refill-after-flush", help: "fill again at once what a flush has dropped", default: true };
static ON_TRIAL: Flag = Flag {
    name: "prefetch-on-trial",
    help: "fault-around and refill-after-flush only while trials show that they pay",
    default: true,
};
static REFILL: Number = Number {
    name: "refill",
    help: "pages filled at once for a page directory that was evicted or flushed",
    default: 256,
    range: 0..=1024,
};
static PARAMETERS: [Parameter; 10] = [
    Parameter::Flag(&SHARED_KERNEL),
    Parameter::Flag(&PRECISE),
    Parameter::Flag(&RELEASE_BY_USE),
    Parameter::Number(&BUDGET),
    Parameter::Number(&SLOTS),
    Parameter::Number(&FAULT_AROUND),
    Parameter::Flag(&POPULATE),
    Parameter::Flag(&REFILL_AFTER_FLUSH),
    Parameter::Flag(&ON_TRIAL),
    Parameter::Number(&REFILL),
];

#[linkme::distributed_slice(CACHES)]
static SHARED: CacheEntry = CacheEntry {
    name: "shared",
    help: "the kernel's half shadowed once, and lguest's other flaws fixed",
    parameters: &PARAMETERS,
    formats: &[Paging::TwoLevel, Paging::Pae],
    policy: PolicyUse::Named("lru"),
    build: |context, values, policy| {
        let capacity = match values.number(&BUDGET) {
            0 => Capacity::Slots(values.number(&SLOTS) as usize),
            kibibytes => Capacity::Budget((kibibytes * 1024 / u64::from(PAGE_SIZE)) as usize),
        };
        // On trial it does not pay where faults cost as little as what would save them.
        let on_trial = values.flag(&ON_TRIAL);
        let prefetch = !(on_trial && context.switcher_fills);
        let optimizations = Optimizations {
            shared_kernel: values.flag(&SHARED_KERNEL),
            precise: values.flag(&PRECISE),
            release_by_use: values.flag(&RELEASE_BY_USE),
            fault_around: if prefetch { values.number(&FAULT_AROUND) as usize } else { 0 },
            populate_on_set_pte: values.flag(&POPULATE),
            refill_after_flush: prefetch && values.flag(&REFILL_AFTER_FLUSH),
            prefetch_on_trial: on_trial,
            refill: values.number(&REFILL) as usize,
            ..Optimizations::NONE
        };
        shadow::with_policy(context, capacity, policy, optimizations)
    },
};

#[linkme::distributed_slice(CACHES)]
static PAE: CacheEntry = CacheEntry {
    name: "pae",
    help: "a policy for hosts with PAE, where SET_PMD drops what it names instead of everything",
    parameters: &[Parameter::Number(&SLOTS)],
    formats: &[Paging::Pae],
    policy: PolicyUse::Named("lru"),
    build: |context, values, policy| {
        let capacity = Capacity::Slots(values.number(&SLOTS) as usize);
        let optimizations = Optimizations { precise: true, ..Optimizations::NONE };
        shadow::with_policy(context, capacity, policy, optimizations)
    },
};
