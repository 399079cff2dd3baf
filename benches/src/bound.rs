//! A lower bound on what a trace costs with a number of slots: no eviction policy on the plain cache has a lower cost.
//!
//! `opt` has the fewest misses, and misses differ in what they cost. Here the entries are counted that must be filled,
//! whatever is evicted:
//!
//! * an entry of the user half that is missed although nothing was ever evicted;
//! * a page of the kernel's half the first time since everything was flushed: the root of an evicted directory keeps that half;
//! * an entry that was used, or put there by SET_PTE, after an earlier load of a page directory and is used after this one, if
//!   the directory is evicted between this load and the last one. What can be kept at best is a
//!   [packing of intervals](crate::packing): a directory that is kept from one load to the next takes a slot at each load in
//!   between, beside the one that is loaded.
//!
//! An entry that is not used after some loads counts for the last of the gaps only, and the rights of entries are left out, so
//! that the bound is below what can be reached. It holds for guests that report what they change in their tables, and for
//! strategies that fill at faults; `shared` fills many entries at once, for less.

use crate::cost::Cost;
use crate::packing::{Interval, greatest_weights};
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::Paging;
use framework::policy::EvictionPolicy;
use framework::registry::ConfigError;
use sim::replay::Replay;
use sim::trace::{Header, Operation};
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use strategies::shadow::{self, Capacity, Optimizations};

/// Slots that no guest fills.
const ENOUGH: usize = 8192;

/// Never called: there are slots for all.
struct NoVictim;

impl EvictionPolicy for NoVictim {
    fn filled(&mut self, _: usize, _: GuestPhys) {}
    fn used(&mut self, _: usize, _: GuestPhys) {}
    fn victim(&mut self, _: GuestPhys) -> usize {
        0
    }
}

/// Collects what the bound is made of.
pub struct Collector {
    /// The trace on slots for all page directories.
    replay: Replay,
    paging: Paging,
    /// Where the kernel's half begins, in whole entries of a root.
    kernel: GuestVirt,
    /// The kernel's pages that have been filled since the last flush of everything.
    of_kernel: HashSet<u32>,
    /// The pages of the kernel stack.
    stack: RangeInclusive<u32>,
    /// The page directory that the guest runs on.
    current: Option<GuestPhys>,
    /// The load after which each page of each directory was used last.
    used: HashMap<(GuestPhys, u32), usize>,
    /// The last load of each directory.
    loaded: HashMap<GuestPhys, usize>,
    /// For each load, the last one of the same directory, and the entries of then that are used after it.
    loads: Vec<(Option<usize>, u64)>,
    /// Entries that are filled whatever happens.
    compulsory: u64,
}

/// What no policy can go below, for each number of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// For 1 slot, 2 and so on: entries that faults fill, and the cost by the model of [`cost`](crate::cost).
    pub by_slots: Vec<(u64, Cost)>,
}

impl Collector {
    /// For a trace with that header.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no cache for its page format.
    pub fn new(header: &Header) -> Result<Self, ConfigError> {
        let replay = Replay::of(header, header.paging, |context| {
            let (capacity, policy) = (Capacity::Slots(ENOUGH), Box::new(NoVictim));
            let built =
                shadow::build(context.formats, context.window, capacity, policy, Optimizations::NONE)?;
            Ok::<_, ConfigError>(built.into_pager())
        })?;
        Ok(Self {
            replay,
            paging: header.paging,
            kernel: GuestVirt(0),
            of_kernel: HashSet::new(),
            stack: RangeInclusive::new(1, 0),
            current: None,
            used: HashMap::new(),
            loaded: HashMap::new(),
            loads: Vec::new(),
            compulsory: 0,
        })
    }

    /// Whether the guest is dead; further operations do nothing.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.replay.is_over()
    }

    /// Takes the next operation of the trace.
    pub fn see(&mut self, operation: &Operation) {
        match *operation {
            Operation::Access { va, .. } | Operation::PageFault { va, .. } => {
                let before = self.replay.maps(va);
                self.replay.step(operation);
                if self.replay.maps(va) {
                    self.count_use(va, before);
                }
                return;
            }
            Operation::LoadPageDirectory(directory) => {
                let load = self.loads.len();
                self.loads.push((self.loaded.insert(directory, load), 0));
                self.current = Some(directory);
            }
            Operation::SetPte { directory, va, .. } => self.note_put(directory, va),
            Operation::Init(kernel) => {
                let root_entry = if self.paging == Paging::Pae { 30 } else { 22 };
                self.kernel = GuestVirt(kernel.0 >> root_entry << root_entry);
            }
            // The pages of the guest's kernel stack are mapped without a fault, whatever is flushed.
            Operation::FlushAll => {
                self.of_kernel.clear();
                self.of_kernel.extend(self.stack.clone());
            }
            Operation::SetStack(top, pages) => {
                let page = top.0 / PAGE_SIZE;
                self.stack = page.saturating_sub(pages)..=page;
                self.of_kernel.extend(self.stack.clone());
            }
            _ => {}
        }
        self.replay.step(operation);
    }

    /// SET_PTE puts an entry there without a fault, if the page directory has a shadow.
    fn note_put(&mut self, directory: GuestPhys, va: GuestVirt) {
        let page = va.0 / PAGE_SIZE;
        if va >= self.kernel {
            self.of_kernel.insert(page);
        } else if self.current == Some(directory) {
            self.used.insert((directory, page), self.loads.len() - 1);
        }
    }

    /// A page is used, which was mapped already or not.
    fn count_use(&mut self, va: GuestVirt, was_mapped: bool) {
        let page = va.0 / PAGE_SIZE;
        let (Some(directory), true) = (self.current, va < self.kernel) else {
            let is_new = self.of_kernel.insert(page);
            self.compulsory += u64::from(is_new && !was_mapped);
            return;
        };
        let load = self.loads.len() - 1;
        let last = self.used.insert((directory, page), load);
        if !was_mapped {
            self.compulsory += 1;
        } else if last.is_some_and(|last| last < load) {
            self.loads[load].1 += 1;
        }
    }

    /// The trace is at its end. The bound for 1 to `slots` slots; `None` when the guest has had so many page directories that
    /// some were evicted.
    #[must_use]
    pub fn finish(self, slots: usize) -> Option<Bound> {
        let all: u64 = self.loads.iter().map(|(_, entries)| entries).sum();
        let (mut intervals, mut always) = (Vec::new(), 0);
        for (load, &(before, weight)) in self.loads.iter().enumerate().filter(|(_, (_, weight))| *weight > 0)
        {
            match before.map(|before| before + 1) {
                // Nothing else was loaded in between.
                Some(start) if start == load => always += weight,
                Some(start) => intervals.push(Interval { start, end: load, weight }),
                None => {}
            }
        }
        let points = self.loads.len();
        let report = self.replay.finish("bound", false);
        if report.counters.evictions > 0 {
            return None;
        }
        let of_kept = |kept: u64| {
            let again = all - always - kept;
            let mut report = report.clone();
            report.counters.demand_faults = self.compulsory + again;
            report.counters.released_entries = again;
            (report.counters.demand_faults, Cost::of(&report))
        };
        let kept = greatest_weights(&intervals, points, slots.saturating_sub(1));
        Some(Bound { by_slots: kept.into_iter().map(of_kept).collect() })
    }
}
