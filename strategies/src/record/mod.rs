//! `record`: wraps another strategy and records the guest's requests.
//!
//! The result is a paging trace (`docs/trace-format.md`) that can be replayed on any strategy. Requests
//! and faults reach the recorder; the guest's own stores to its page tables do not, as they do not trap. So the recorder
//! keeps what a replay has of those tables (`known.rs`) and compares with it what is read of the guest's memory; for entries
//! that differ it writes `w` before the operation. What is read is:
//!
//! * everything that the recorded strategy reads (`watch.rs`). So its own recording always has all that it needs;
//! * the walks to the kernel stack, which must not be missing: before `init`, `cr3`, `stack`, and where everything is
//!   dropped;
//! * when touches are recorded, all else that *any* strategy may read: the entries that `pte`, `pgd` and `pmd` name;
//!   the walk to each missing entry and its neighbours (`around`); and at `cr3` and `flush user`, the entries
//!   of this page directory near each one that was touched, or named by `pte`, before, as all may be filled at once.
//!
//! Accessed and dirty bits that the strategy sets itself are no stores of the guest's, and are not
//! written: the replayed strategy sets its own.
//!
//! # Touches
//! Only what misses the shadow tables is seen, so what is recorded depends on the strategy under the
//! recorder: a replay on one that keeps less misses touches that the guest made. With `touch=user` the
//! user half of the shadow is dropped at every switch, with `touch=all` all of it, and entries that the
//! guest sets are not filled before they are used: the first touch of every page in every interval is
//! on record. Record like that on a strategy that fills nothing ahead, such as `lguest`.
//!
//! `pa` and `run` are not recorded; they change nothing.

mod book;
mod known;
mod output;
mod watch;

use alloc::boxed::Box;
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use book::{Book, Stack};
use core::hash::Hash;
use framework::counters::PagingCounters;
use framework::fallible::{OutOfMemory, boxed_with};
use framework::host::{PagingHost, RecordingFull};
use framework::inspect::Inspect;
use framework::kill::Kill;
use framework::pager::Pager;
use framework::parameter::{Number, Parameter, Word};
use framework::registry::{WRAPPERS, WrapperEntry};
use framework::strategy::{Fault, SwitcherWindow};
use framework::tables::ShadowRoot;
use framework::trace::{Header, Operation};
use hashbrown::{HashMap, HashSet};
use known::CHUNK;
use output::Output;
use rustc_hash::FxBuildHasher;
use watch::watch;

/// What is dropped at a switch, so that the next touch is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    Off,
    User,
    All,
}

static TOUCH: Word = Word {
    name: "touch",
    help: "what is dropped at each switch, so that its next touch is seen",
    words: &["off", "user", "all"],
};
static AROUND: Number = Number {
    name: "around",
    help: "with touches: entries about a missing one that are recorded too",
    default: 16,
    range: 1..=64,
};
static PARAMETERS: [Parameter; 2] = [Parameter::Word(&TOUCH), Parameter::Number(&AROUND)];

#[linkme::distributed_slice(WRAPPERS)]
static RECORD: WrapperEntry = WrapperEntry {
    name: "record",
    help: "writes a trace of the guest's requests to another strategy",
    parameters: &PARAMETERS,
    of: "lguest",
    build: |context, values, of| {
        let touch = match values.word(&TOUCH) {
            "user" => Touch::User,
            "all" => Touch::All,
            _ => Touch::Off,
        };
        let around = values.number(&AROUND) as u32;
        Ok(match of.paging() {
            Paging::TwoLevel => Recorder::<TwoLevel>::new(of, context.seed, touch, around)?,
            Paging::Pae => Recorder::<Pae>::new(of, context.seed, touch, around)?,
        })
    },
};

/// The most groups of entries that are remembered for a page directory, and for how many page directories.
const MAX_PLACES: usize = 1024;
const MAX_DIRECTORIES: usize = 256;

type Set<T> = HashSet<T, FxBuildHasher>;

/// Adds to a set that may forget: at the limit it begins again.
fn remember<T: Eq + Hash>(set: &mut Set<T>, member: T, limit: usize) {
    if set.len() >= limit && !set.contains(&member) {
        set.clear();
    }
    if set.try_reserve(1).is_ok() {
        set.insert(member);
    }
}

/// A strategy wrapped by the recorder. `F` is the format of the guest's tables.
struct Recorder<F> {
    of: Box<dyn Pager>,
    book: Book<F>,
    seed: u64,
    touch: Touch,
    /// How many entries of a table that is walked any strategy may read, when touches are recorded.
    around: u32,
    /// The guest's current page directory; none as long as its memory is mapped linearly.
    directory: Option<GuestPhys>,
    /// From here up is the Switcher.
    window_start: GuestVirt,
    /// From here up is the kernel's half.
    kernel_address: GuestVirt,
    stack: Stack,
    /// Where each page directory has been touched, or named by SET_PTE: groups of [`Recorder::place_size`] entries.
    touched: HashMap<GuestPhys, Set<GuestVirt>, FxBuildHasher>,
    /// What the recorder itself has requested, which the guest has not.
    own: PagingCounters,
}

impl<F: PageFormat> Recorder<F> {
    fn new(of: Box<dyn Pager>, seed: u64, touch: Touch, around: u32) -> Result<Box<Self>, OutOfMemory> {
        let (output, stacks) = (Output::new()?, Book::<F>::stacks()?);
        boxed_with(|| Self {
            window_start: of.window().start(),
            of,
            book: Book::new(output, stacks),
            seed,
            touch,
            around: if touch == Touch::Off { 1 } else { around },
            directory: None,
            kernel_address: GuestVirt(0),
            stack: Stack::default(),
            touched: HashMap::default(),
            own: PagingCounters::default(),
        })
    }

    /// Calls the recorded strategy, and records what it reads; then the guest's request for it.
    #[inline(always)] // for the encoder, which knows the kind of operation then
    fn watched<R>(
        &mut self,
        host: &mut dyn PagingHost,
        operation: Operation,
        request: impl FnOnce(&mut dyn Pager, &mut dyn PagingHost) -> R,
    ) -> R {
        let result = request(&mut *self.of, &mut watch(host, &mut self.book));
        self.book.put(host, operation);
        result
    }

    /// The same for a page fault. Device memory has no shadow, so that an access to it is nothing to a replay.
    fn watched_fault(
        &mut self,
        host: &mut dyn PagingHost,
        operation: Operation,
        (va, error): (GuestVirt, PageFaultErrorCode),
    ) -> Result<Fault, Kill> {
        let result = self.of.demand_fault(&mut watch(host, &mut self.book), va, error);
        if !matches!(result, Err(Kill::DeviceMemory(_))) {
            self.book.put(host, operation);
        }
        result
    }

    /// Records the walks to the kernel stack.
    fn record_stack(&mut self, host: &mut dyn PagingHost) {
        if let Some(directory) = self.directory {
            self.book.record_stack(host, directory, self.stack, self.around);
        }
    }

    // ---- Touches ----

    /// Whether the recording is for any strategy.
    fn records_touches(&self) -> bool {
        self.touch != Touch::Off
    }

    /// Records the entry of a table that the guest names, for strategies that look at it.
    fn record_named(&mut self, host: &mut dyn PagingHost, table: GuestPhys, index: u32, entries: usize) {
        if self.records_touches() && (index as usize) < entries {
            self.book.record_entry(host, GuestPhys(table.0.wrapping_add(index * F::ENTRY_SIZE)));
        }
    }

    /// Remembers that a page directory is touched, or named by SET_PTE, at this address.
    fn remember_touch(&mut self, directory: GuestPhys, va: GuestVirt) {
        if !self.touched.contains_key(&directory) {
            if self.touched.len() >= MAX_DIRECTORIES {
                self.touched.clear();
            }
            if self.touched.try_reserve(1).is_err() {
                return;
            }
        }
        let beyond = F::index(va, 1) as u32 % self.place_size();
        let place = GuestVirt(va.page().0 - beyond * PAGE_SIZE);
        remember(self.touched.entry(directory).or_default(), place, MAX_PLACES);
    }

    /// Entries of a group: what one touch may lead a strategy to fill, and a chunk at least.
    fn place_size(&self) -> u32 {
        self.around.max(CHUNK as u32 / F::ENTRY_SIZE)
    }

    /// Records the entries of all groups in which a page directory has been touched.
    fn record_touched(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) {
        if !self.records_touches() {
            return;
        }
        let size = self.place_size();
        for place in self.touched.get(&directory).into_iter().flatten() {
            self.book.record_walk(host, directory, *place, size);
        }
    }

    /// Whether an entry that is filled when the guest sets it would hide a touch that shall be seen. The
    /// stack is touched by the processor, which must find it.
    fn hides_touches(&self, va: GuestVirt) -> bool {
        let stack = || self.stack.pages().any(|page| page.page() == va.page());
        match self.touch {
            Touch::Off => false,
            Touch::User => va < self.kernel_address && !stack(),
            Touch::All => !stack(),
        }
    }

    /// Drops what shall be seen when it is touched next.
    fn drop_mappings(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<(), Kill> {
        match self.touch {
            Touch::Off => {}
            Touch::User => {
                self.own.flush_user += 1;
                self.of.flush_user(host);
            }
            Touch::All => {
                self.own.flush_all += 1;
                self.of.flush_all(host)?;
                // The stack, too, which has been mapped again: strategies that keep the kernel's half may
                // miss it here. Before ring 3, from where the processor pushes, comes a return from it.
                for va in self.stack.pages() {
                    self.own.set_pte += 1;
                    self.of.set_pte(host, directory, va, Entry::EMPTY)?;
                }
            }
        }
        Ok(())
    }
}

impl<F: PageFormat> Pager for Recorder<F> {
    fn paging(&self) -> Paging {
        self.of.paging()
    }

    fn window(&self) -> SwitcherWindow {
        self.of.window()
    }

    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        let header = Header {
            paging: F::PAGING,
            pages: host.page_limit(),
            seed: self.seed,
            // No request names another than the one that the guest's virtual CPU is on.
            cpus: 1,
            // A host with smaller tables than the guest's may have its window begin within one of these.
            switcher: GuestVirt(self.window_start.0 / F::LEAF_SPAN * F::LEAF_SPAN),
        };
        self.book.begin(host, &header).map_err(|RecordingFull| Kill::OutOfMemory(OutOfMemory))?;
        self.of.set_up(host)
    }

    fn guest_initialised(
        &mut self,
        host: &mut dyn PagingHost,
        kernel_address: GuestVirt,
    ) -> Result<(), Kill> {
        self.kernel_address = kernel_address;
        self.book.new_epoch();
        self.record_stack(host);
        self.watched(host, Operation::Init(kernel_address), |of, host| {
            of.guest_initialised(host, kernel_address)
        })
    }

    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        let fetch = error.contains(PageFaultErrorCode::INSTRUCTION_FETCH);
        let mut forbidden_fetch = false;
        if (fetch || self.records_touches())
            && let Some(directory) = self.directory.filter(|_| va < self.window_start)
        {
            let leaf = self.book.record_walk(host, directory, va, self.around);
            forbidden_fetch = fetch && leaf.is_some_and(|leaf| leaf.has(Flags::PRESENT | Flags::NO_EXECUTE));
            if self.records_touches() {
                self.remember_touch(directory, va);
            }
        }
        // Where in the page it was makes no difference to anybody, and would be half of the recording.
        let page = va.page();
        // `acc` knows reads and writes; what may be read, but not executed, would be allowed in a replay.
        if forbidden_fetch {
            let operation = Operation::PageFault { va: page, error: error.bits() as u32 };
            return self.watched_fault(host, operation, (va, error));
        }
        let user = error.contains(PageFaultErrorCode::USER_MODE);
        let write = error.contains(PageFaultErrorCode::CAUSED_BY_WRITE);
        let operation = Operation::Access { va: page, user, write };
        self.watched_fault(host, operation, (va, error))
    }

    fn load_page_directory(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<(), Kill> {
        self.directory = Some(directory);
        self.record_stack(host);
        self.record_touched(host, directory);
        self.watched(host, Operation::LoadPageDirectory(directory), |of, host| {
            of.load_page_directory(host, directory)
        })?;
        self.drop_mappings(host, directory)
    }

    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill> {
        self.book.new_epoch_at(va);
        if self.records_touches() && va < self.window_start {
            self.book.record_walk(host, directory, va, 1);
            if entry.present() {
                self.remember_touch(directory, va);
            }
        }
        // A replay has no device memory. Nothing is filled there, so that to the strategy, too, there may be nothing.
        let device = u64::from(host.page_limit())..u64::from(host.device_limit());
        let entry = if device.contains(&entry.frame()) { Entry::EMPTY } else { entry };
        let operation = Operation::SetPte { directory, va, value: entry.0 };
        // Not filled before it is used, or its first use would not be seen.
        let entry =
            if self.hides_touches(va) { entry.without(Flags::ACCESSED | Flags::DIRTY) } else { entry };
        self.watched(host, operation, |of, host| of.set_pte(host, directory, va, entry))
    }

    fn set_pgd(&mut self, host: &mut dyn PagingHost, directory: GuestPhys, index: u32) -> Result<(), Kill> {
        if index as usize >= F::index(self.kernel_address, F::LEVELS) {
            self.book.new_epoch_of(directory);
        }
        self.record_named(host, directory, index, F::ROOT_ENTRIES);
        self.watched(host, Operation::SetPgd(directory, index), |of, host| of.set_pgd(host, directory, index))
    }

    fn set_pmd(&mut self, host: &mut dyn PagingHost, middle: GuestPhys, index: u32) -> Result<(), Kill> {
        self.book.new_epoch();
        // With two levels the guest dies of it, and the trace has no word for it.
        if F::LEVELS < 3 {
            return self.of.set_pmd(host, middle, index);
        }
        self.record_named(host, middle, index, F::ENTRIES);
        self.record_stack(host);
        self.watched(host, Operation::SetPmd(middle, index), |of, host| of.set_pmd(host, middle, index))
    }

    fn flush_user(&mut self, host: &mut dyn PagingHost) {
        if let Some(directory) = self.directory {
            self.record_touched(host, directory);
        }
        self.watched(host, Operation::FlushUser, |of, host| of.flush_user(host));
    }

    fn flush_user_of(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) {
        self.watched(host, Operation::FlushUserOf(directory), |of, host| of.flush_user_of(host, directory));
    }

    fn flush_all(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        self.book.new_epoch();
        self.record_stack(host);
        self.watched(host, Operation::FlushAll, |of, host| of.flush_all(host))
    }

    fn set_stack(&mut self, host: &mut dyn PagingHost, esp1: GuestVirt, pages: u32) -> Result<(), Kill> {
        self.stack = Stack { esp1, pages };
        self.record_stack(host);
        self.watched(host, Operation::SetStack(esp1, pages), |of, host| of.set_stack(host, esp1, pages))
    }

    fn keep_stack(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        // A replay has no host that takes frames back.
        self.of.keep_stack(host)
    }

    fn root(&self) -> ShadowRoot<'_> {
        self.of.root()
    }

    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill> {
        self.of.translate(host, va)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.of.inspect()
    }

    fn counters(&self) -> PagingCounters {
        let mut counters = self.of.counters();
        counters.flush_user -= self.own.flush_user;
        // Counted by the strategy itself, if it does.
        counters.flush_all = counters.flush_all.saturating_sub(self.own.flush_all);
        counters.set_pte -= self.own.set_pte;
        counters
    }

    fn tear_down(&mut self, host: &mut dyn PagingHost) {
        self.book.finish(host);
        self.of.tear_down(host);
    }
}
