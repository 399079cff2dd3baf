//! What a replay would have cost on a machine: a model of a few figures, so that strategies can be compared by one.
//!
//! ```text
//! switches = batches of hypercalls + page faults
//! cost     = SWITCH · switches + FAULT · page faults + FILL · entries filled
//!          + AHEAD · entries filled ahead + LOAD · page-directory loads + RELEASE · entries released
//! ```
//!
//! in instructions of the host. A *switch* is one entry into the guest and the way back. A batch is what a guest
//! requests between two accesses to memory: its ring carries up to 64 hypercalls in one switch (lguest's
//! guest sends NEW_PGTABLE, SET_STACK and LOAD_TLS of a context switch that way). `SWITCH` is the null hypercall
//! of `docs/design.md`, measured in QEMU. The others are what the pager itself took in a replay under callgrind
//! (`docs/design.md`, "What it costs"). The work of the host's kernel for a page that it has to look for is not in them,
//! nor is what the guest does about its own faults, so that the model is a lower bound and describes
//! differences better than sums. A miss has no price of its own: it is the entries that it releases and those that
//! are filled again.

use sim::replay::Report;

/// A null hypercall, there and back.
pub const SWITCH: u64 = 392;
/// A page fault: the walk of the guest's tables, the frame found, the entry stored.
pub const FAULT: u64 = 272;
/// What an entry that is filled takes beyond that: its table found, or made of a page that is zero already.
pub const FILL: u64 = 56;
/// An entry that is filled before the guest misses it: the walk, its table and frame found, and the share of what was looked
/// at in vain.
pub const AHEAD: u64 = 200;
/// A load of a page directory.
pub const LOAD: u64 = 186;
/// An entry that is released.
pub const RELEASE: u64 = 14;

/// The price of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Entries into the guest that it implies.
    pub switches: u64,
    /// Instructions of the host.
    pub instructions: u64,
}

impl Cost {
    /// By the model.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let counters = &report.counters;
        let faults = counters.demand_faults + counters.reflected_faults;
        let switches = report.batches + faults;
        let instructions = SWITCH * switches
            + FAULT * faults
            + LOAD * counters.page_directory_loads
            + FILL * counters.demand_faults
            + AHEAD * counters.filled_ahead
            + RELEASE * counters.released_entries;
        Self { switches, instructions }
    }
}
