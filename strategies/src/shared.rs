//! `shared`: the shadow cache with every mend, and `pae`: with the one that PAE needs most.
//!
//! What lguest's author lists as slow in `page_tables.c`, each mended by one parameter, so that its worth
//! can be measured alone: turned off, that part works as the original does.
//!
//! | parameter | the original | here |
//! | --- | --- | --- |
//! | `kernel` | shadows the kernel's half in each page directory anew | once, for all |
//! | `precise` | drops everything at SET_PMD | what it names |
//! | `in-use` | looks at every entry of a table to release it | at those in use |
//! | `budget` | four page directories | as many as fit into that much memory |
//! | `around` | fills the page that was missed | neighbours that were used as well, unless the guest flushes all the time |
//! | `announced` | fills what SET_PTE announces if it has a table for it | makes the table; keeps it in mind for a page directory not shadowed |
//! | `flushed` | drops at a flush what the guest did not change, too | fills it again |
//! | `refill` | starts a lost page directory from nothing | from what it had mapped |
//!
//! [`Mends`] tells why each is right.

use crate::lru;
use arch_i386::addr::PAGE_SIZE;
use arch_i386::paging::Paging;
use framework::cache::{self, MAX_AROUND, Mends, Room};
use framework::fallible::OutOfMemory;
use framework::parameter::{Flag, Number, Parameter};
use framework::registry::{SLOTS, STRATEGIES, StrategyEntry};

static KERNEL: Flag =
    Flag { name: "kernel", help: "shadow the kernel's half once, for all page directories", default: true };
static PRECISE: Flag =
    Flag { name: "precise", help: "drop no more than SET_PGD and SET_PMD name", default: true };
static IN_USE: Flag =
    Flag { name: "in-use", help: "release a table by its entries in use, not by all", default: true };
static BUDGET: Number = Number {
    name: "budget",
    help: "KiB of page tables; 0 for a fixed number of slots",
    default: 4096,
    range: 0..=262_144,
};
static AROUND: Number = Number {
    name: "around",
    help: "pages filled at a demand fault, if the guest has used them; 0 for the missing one only",
    default: 16,
    range: 0..=MAX_AROUND as u64,
};
static ANNOUNCED: Flag = Flag {
    name: "announced",
    help: "fill what SET_PTE announces as used, even where that takes a new table",
    default: true,
};
static FLUSHED: Flag =
    Flag { name: "flushed", help: "fill again at once what a flush has dropped", default: true };
static REFILL: Number = Number {
    name: "refill",
    help: "pages filled at once for a page directory that was lost or flushed",
    default: 256,
    range: 0..=1024,
};
static PARAMETERS: [Parameter; 9] = [
    Parameter::Flag(&KERNEL),
    Parameter::Flag(&PRECISE),
    Parameter::Flag(&IN_USE),
    Parameter::Number(&BUDGET),
    Parameter::Number(&SLOTS),
    Parameter::Number(&AROUND),
    Parameter::Flag(&ANNOUNCED),
    Parameter::Flag(&FLUSHED),
    Parameter::Number(&REFILL),
];

/// With a fixed number of slots, the one used longest ago gives way.
fn slots(number: u64) -> Result<Room, OutOfMemory> {
    Ok(Room::Slots(number as usize, lru::policy(number as usize)?))
}

#[linkme::distributed_slice(STRATEGIES)]
static SHARED: StrategyEntry = StrategyEntry {
    name: "shared",
    help: "the kernel's half shadowed once, and the original's other flaws mended",
    parameters: &PARAMETERS,
    formats: &[Paging::TwoLevel, Paging::Pae],
    build: |context, values| {
        let room = match values.number(&BUDGET) {
            0 => slots(values.number(&SLOTS))?,
            kibibytes => Room::Pages((kibibytes * 1024 / u64::from(PAGE_SIZE)) as usize),
        };
        let mends = Mends {
            shared_kernel: values.flag(&KERNEL),
            precise: values.flag(&PRECISE),
            by_use: values.flag(&IN_USE),
            around: values.number(&AROUND) as usize,
            announced: values.flag(&ANNOUNCED),
            flushed: values.flag(&FLUSHED),
            refill: values.number(&REFILL) as usize,
        };
        cache::build(context.formats, room, mends, context.window)
    },
};

static PAE_PARAMETERS: [Parameter; 1] = [Parameter::Number(&SLOTS)];

#[linkme::distributed_slice(STRATEGIES)]
static PAE: StrategyEntry = StrategyEntry {
    name: "pae",
    help: "lru for hosts with PAE, where SET_PMD drops what it names instead of everything",
    parameters: &PAE_PARAMETERS,
    formats: &[Paging::Pae],
    build: |context, values| {
        let mends = Mends { precise: true, ..Mends::NONE };
        cache::build(context.formats, slots(values.number(&SLOTS))?, mends, context.window)
    },
};
