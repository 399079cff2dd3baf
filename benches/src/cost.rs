//! What a replay would have cost on a machine: a model of a few figures, so that strategies can be compared by one.
//!
//! ```text
//! switches = batches of hypercalls + page faults
//! cost     = 382 · switches + FAULT · page faults + LOAD · page-directory loads
//!          + MISS · misses + FILL · entries filled + RELEASE · entries released
//! ```
//!
//! in instructions of the host. A *switch* is one entry into the guest and the way back. A batch is what a guest
//! asks for between two accesses to memory: its ring carries up to 64 hypercalls in one switch (the original's
//! guest sends NEW_PGTABLE, SET_STACK and LOAD_TLS of a context switch that way). The figure for a switch is that of a null hypercall in
//! `docs/design.md`, measured in QEMU; the others are instructions that `replay` itself takes for each, counted
//! under callgrind on the traces in `benches/traces` (`docs/design.md` has the table). The work of the host's kernel
//! for each page that is pinned is not in them, nor is what the guest does about its own faults, so that the model
//! is a lower bound and says more about differences than about sums.

use crate::replay::Report;

/// A null hypercall, there and back.
pub const SWITCH: u64 = 382;
/// A page fault: the walk of the guest's tables.
pub const FAULT: u64 = 120;
/// A load of a page directory that is shadowed.
pub const LOAD: u64 = 60;
/// What a load takes longer when it is not.
pub const MISS: u64 = 400;
/// An entry that is filled: its page pinned, its table found or made.
pub const FILL: u64 = 100;
/// An entry that is released, and its page.
pub const RELEASE: u64 = 25;

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
            + MISS * report.misses()
            + FILL * counters.demand_faults
            + RELEASE * counters.released_entries;
        Self { switches, instructions }
    }
}
