//! A trace run on a strategy.
//!
//! The replay plays processor and guest: it stores entries, makes requests, and for each access checks
//! the shadow tables as the processor would, taking the fault when they deny it. A killed guest ends the
//! run at that operation. [`Report`] is what is reported of it; its text form is exact, so that two
//! implementations can be held against each other with `diff`.

use crate::SimHost;
use crate::trace::{Header, Operation};
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::lguest_data::RING_SIZE;
use arch_i386::paging::{Entry, Paging};
use arch_i386::trap::PageFaultErrorCode;
use framework::counters::PagingCounters;
use framework::inspect::Mapping;
use framework::kill::Kill;
use framework::pager::Pager;
use framework::registry::{BuildContext, Choice, ConfigError};
use framework::strategy::{Fault, Formats};
use std::fmt;
use std::ops::ControlFlow;

/// A strategy in the middle of a trace.
pub struct Replay {
    host: SimHost,
    strategy: Box<dyn Pager>,
    ops: u64,
    hit: u64,
    /// Hypercalls since the last access, which a guest could make by one entry into the host.
    batch: u32,
    batches: u64,
    killed: Option<Kill>,
    /// Page-directory loads that are left of the warm-up.
    warmup: u64,
    /// What had been counted when the warm-up ended.
    before: Counts,
}

/// What is counted from the warm-up's end on.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    hit: u64,
    batches: u64,
    counters: PagingCounters,
}

/// Hypercalls that the guest's ring holds.
const RING: u32 = RING_SIZE as u32;

/// One shadowed page directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where the guest has it.
    pub address: GuestPhys,
    /// It is the one that the guest runs on.
    pub current: bool,
    /// Present entries: page, frame and flags.
    pub entries: Vec<(GuestVirt, Entry)>,
}

/// What is reported of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The strategy, every parameter named.
    pub strategy: String,
    /// Operations done, the fatal one included.
    pub ops: u64,
    /// Why the guest was killed, at the last operation.
    pub killed: Option<Kill>,
    /// Accesses that the shadow tables allowed.
    pub hit: u64,
    /// Batches of hypercalls: a batch is all between two accesses, or as many as the guest's ring holds.
    pub batches: u64,
    /// What the strategy counted.
    pub counters: PagingCounters,
    /// Shadow entries that map something.
    pub entries: u64,
    /// Pages of the guest's that the host had to look for, once each: no prefetch saves those faults.
    pub frames_known: u64,
    /// Table pages held, the Switcher's included.
    pub table_pages: usize,
    /// The shadowed page directories by their addresses, if they were requested and the guest lives.
    pub directories: Option<Vec<Directory>>,
    /// References and table pages that are left when the guest is gone; both must be 0.
    pub after_free: (u64, usize),
}

impl Replay {
    /// A guest as `LHREQ_INITIALIZE` leaves it, on a host that has the page format of the trace.
    ///
    /// # Errors
    /// [`ConfigError`] when the strategy cannot serve the trace's page format.
    pub fn new(header: &Header, choice: &Choice) -> Result<Self, ConfigError> {
        Self::on_host(header, choice, header.paging)
    }

    /// The same on a host with page tables of this format.
    ///
    /// # Errors
    /// [`ConfigError`] when the strategy cannot serve a guest of the trace's page format there.
    pub fn on_host(header: &Header, choice: &Choice, shadow: Paging) -> Result<Self, ConfigError> {
        Self::of(header, shadow, |context| choice.build(context))
    }

    /// The same with a strategy that need not be in the registry.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn of<E>(
        header: &Header,
        shadow: Paging,
        build: impl FnOnce(&BuildContext) -> Result<Box<dyn Pager>, E>,
    ) -> Result<Self, E> {
        let mut host = SimHost::new(header.pages);
        let window = host.window(header.switcher);
        let formats = Formats { guest: header.paging, shadow };
        let mut strategy =
            build(&BuildContext { formats, window, seed: header.seed, switcher_fills: false })?;
        let killed = strategy.set_up(&mut host).err();
        Ok(Self {
            host,
            strategy,
            ops: 0,
            hit: 0,
            batch: 0,
            batches: 0,
            killed,
            warmup: 0,
            before: Counts::default(),
        })
    }

    /// Whether the guest is dead; further operations do nothing.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.killed.is_some()
    }

    /// Whether the shadow tables that the guest runs on map an address.
    #[must_use]
    pub fn maps(&self, va: GuestVirt) -> bool {
        self.strategy.inspect().and_then(|inspect| inspect.lookup(va)).is_some()
    }

    /// Leaves the first `loads` loads of page directories, and all that happens until the next one, out of what is
    /// counted; operations count from the beginning all the same. A trace that has no more loads counts nothing.
    #[must_use]
    pub fn after_warmup(mut self, loads: u64) -> Self {
        self.warmup = loads;
        self
    }

    fn counts(&self) -> Counts {
        Counts { hit: self.hit, batches: self.batches, counters: self.strategy.counters() }
    }

    /// Before a load: the warm-up ends when as many as it has are done.
    #[cold]
    fn warm_up(&mut self) {
        let done = self.strategy.counters().page_directory_loads;
        if done == self.warmup {
            (self.before, self.warmup) = (self.counts(), 0);
        }
    }

    /// Does one operation.
    #[inline]
    pub fn step(&mut self, operation: &Operation) {
        if self.killed.is_none() {
            if self.warmup > 0 && matches!(operation, Operation::LoadPageDirectory(_)) {
                self.warm_up();
            }
            self.ops += 1;
            self.count_batch(operation);
            self.killed = self.try_step(operation).err();
        }
    }

    fn count_batch(&mut self, operation: &Operation) {
        match operation {
            Operation::Access { .. } | Operation::PageFault { .. } => self.batch = 0,
            Operation::Write { .. } | Operation::Run(_) | Operation::Translate(_) | Operation::Lost(_) => {}
            Operation::Init(_)
            | Operation::LoadPageDirectory(_)
            | Operation::SetPte { .. }
            | Operation::SetPgd(..)
            | Operation::SetPmd(..)
            | Operation::FlushUser
            | Operation::FlushUserOf(_)
            | Operation::FlushAll
            | Operation::SetStack(..) => {
                if self.batch.is_multiple_of(RING) {
                    self.batches += 1;
                }
                self.batch += 1;
            }
        }
    }

    fn try_step(&mut self, operation: &Operation) -> Result<(), Kill> {
        let (host, strategy) = (&mut self.host, &mut self.strategy);
        match *operation {
            Operation::Write { at, value } => host.store(strategy.paging(), at, value),
            Operation::Init(kernel_address) => strategy.guest_initialised(host, kernel_address)?,
            Operation::LoadPageDirectory(directory) => strategy.load_page_directory(host, directory)?,
            Operation::Access { va, user, write } => {
                let lookup = strategy.inspect().and_then(|inspect| inspect.lookup(va));
                if lookup.is_some_and(|l| (l.user || !user) && (l.writable || !write)) {
                    self.hit += 1;
                } else {
                    let mut error = PageFaultErrorCode::empty();
                    error.set(PageFaultErrorCode::PROTECTION_VIOLATION, lookup.is_some());
                    error.set(PageFaultErrorCode::CAUSED_BY_WRITE, write);
                    error.set(PageFaultErrorCode::USER_MODE, user);
                    strategy.demand_fault(host, va, error)?;
                }
            }
            Operation::PageFault { va, error } => {
                let error = PageFaultErrorCode::from_bits_truncate(error.into());
                strategy.demand_fault(host, va, error).map(|_: Fault| ())?;
            }
            Operation::SetPte { directory, va, value } => {
                // As the run loop: with two levels an entry has one word.
                let entry = match strategy.paging() {
                    Paging::TwoLevel => value & u64::from(u32::MAX),
                    Paging::Pae => value,
                };
                strategy.set_pte(host, directory, va, Entry(entry))?;
            }
            Operation::SetPgd(directory, index) => strategy.set_pgd(host, directory, index)?,
            Operation::SetPmd(middle, index) => strategy.set_pmd(host, middle, index)?,
            Operation::FlushUser => strategy.flush_user(host),
            Operation::FlushUserOf(directory) => strategy.flush_user_of(host, directory),
            Operation::FlushAll => strategy.flush_all(host)?,
            // The run loop refuses more than two pages before a strategy receives them.
            Operation::SetStack(_, pages @ 3..) => return Err(Kill::StackPages(pages)),
            Operation::SetStack(esp1, pages) => strategy.set_stack(host, esp1, pages)?,
            // Every shadow root maps the Switcher at all times, whatever CPU it runs on.
            Operation::Run(_) => {}
            // Whoever reads the trace has accepted that.
            Operation::Lost(_) => {}
            Operation::Translate(va) => {
                strategy.translate(host, va)?;
            }
        }
        Ok(())
    }

    /// Ends the run. With `dump`, the shadow tables' contents are in the report.
    #[must_use]
    pub fn finish(self, choice: impl fmt::Display, dump: bool) -> Report {
        self.finish_recording(choice, dump).0
    }

    /// As [`Replay::finish`]; what the strategy recorded, if it is one that does, comes with it.
    #[must_use]
    pub fn finish_recording(mut self, choice: impl fmt::Display, dump: bool) -> (Report, Vec<u8>) {
        let (all, before) = (self.counts(), if self.warmup > 0 { self.counts() } else { self.before });
        let mut report = Report {
            strategy: choice.to_string(),
            ops: self.ops,
            killed: self.killed,
            hit: all.hit - before.hit,
            batches: all.batches - before.batches,
            counters: all.counters.since(&before.counters),
            entries: self.host.entries(),
            frames_known: self.host.frames_known(),
            table_pages: self.host.tables(),
            directories: (dump && self.killed.is_none()).then(|| directories(&*self.strategy)),
            after_free: (0, 0),
        };
        self.strategy.tear_down(&mut self.host);
        self.host.remove_window();
        report.after_free = (self.host.entries(), self.host.tables());
        (report, self.host.take_recording())
    }
}

fn directories(strategy: &dyn Pager) -> Vec<Directory> {
    let mut all = Vec::new();
    let Some(inspect) = strategy.inspect() else { return all };
    inspect.directories(&mut |address, current| {
        all.push(Directory { address, current, entries: Vec::new() });
    });
    let _ = inspect.mappings(&mut |Mapping { number, va, entry, .. }| {
        all[number].entries.push((va, entry));
        ControlFlow::Continue(())
    });
    all.sort_by_key(|directory| directory.address);
    all
}

/// The twelve flag bits that both page formats have.
#[must_use]
pub fn low_flags(entry: Entry) -> u64 {
    entry.0 & 0xfff
}

/// A number as C's `%#x` writes it, which the text form is held to: zero has no prefix.
struct Hex(u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ops {}", self.ops)?;
        if let Some(reason) = self.killed {
            writeln!(f, "killed {} # {reason}", self.ops)?;
        }
        let counters = &self.counters;
        writeln!(f, "hit {}", self.hit)?;
        writeln!(f, "fixed {}", counters.demand_faults)?;
        writeln!(f, "reflected {}", counters.reflected_faults)?;
        writeln!(f, "cr3 {}", counters.page_directory_loads)?;
        writeln!(f, "cr3_hit {}", counters.page_directory_hits)?;
        writeln!(f, "entries {}", self.entries)?;
        writeln!(f, "table_pages {}", self.table_pages)?;
        for directory in self.directories.iter().flatten() {
            let pgdir = Hex(directory.address.0.into());
            writeln!(f, "pgdir {pgdir}{}", if directory.current { "*" } else { "" })?;
            for &(va, entry) in &directory.entries {
                let (va, frame, flags) = (Hex(va.0.into()), Hex(entry.frame()), Hex(low_flags(entry)));
                writeln!(f, "map {pgdir} {va} {frame} {flags}")?;
            }
        }
        writeln!(f, "after_free entries {} table_pages {}", self.after_free.0, self.after_free.1)
    }
}

impl Report {
    /// Page-directory loads that found no shadow.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.counters.page_directory_loads - self.counters.page_directory_hits
    }
}
