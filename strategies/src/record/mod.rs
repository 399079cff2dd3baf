//! `record`: stands before another strategy and writes down what the guest asks of it.
//!
//! The result is a paging trace (`docs/trace-format.md`) that can be replayed on any strategy. Requests
//! and faults are there to be seen; what is not is the guest's own stores to its page tables, for which
//! nothing traps. So the recorder keeps the picture that a replay has of those tables (`known.rs`), and
//! before each operation compares, with the guest's memory, the entries that *any* strategy may read in
//! it; for those that differ it writes `w`:
//!
//! | before | entries compared |
//! | --- | --- |
//! | `acc`, `pf` | all levels of the walk, and the neighbours of the last (`around`) for strategies that fill ahead |
//! | `pte`, `pgd`, `pmd` | the one that the guest says it has changed, with the walk to it |
//! | `cr3`, `stack`, and where everything is dropped | the walks to the pages of the kernel stack, which must not be missing, and their neighbours |
//! | `cr3`, `flush user` | where this page directory has been touched or announced before, as it may all be filled at once; unless touches are not recorded and the strategy reads nothing ahead |
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

mod known;
mod output;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use arch_i386::addr::{GuestPhys, GuestVirt, HostFrame, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use core::hash::Hash;
use core::marker::PhantomData;
use framework::audit::Defect;
use framework::counters::PagingCounters;
use framework::host::{NoRoom, OutOfMemory, PagingHost};
use framework::kill::Kill;
use framework::parameter::{Number, Parameter, Word};
use framework::registry::{WRAPPERS, WrapperEntry};
use framework::strategy::{Fault, Lookup, Mapping, PagingStrategy, SwitcherWindow};
use framework::trace::{Header, Operation};
use framework::walk::frame_within;
use hashbrown::{HashMap, HashSet};
use known::{CHUNK, Chunk, Known, chunk_of};
use output::Output;
use rustc_hash::FxBuildHasher;

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
    help: "entries about a missing one that are recorded, if any strategy may fill them with it",
    default: 16,
    range: 1..=64,
};
static PARAMETERS: [Parameter; 2] = [Parameter::Word(&TOUCH), Parameter::Number(&AROUND)];

#[linkme::distributed_slice(WRAPPERS)]
static RECORD: WrapperEntry = WrapperEntry {
    name: "record",
    help: "writes a trace of what the guest asks of another strategy",
    parameters: &PARAMETERS,
    of: "lguest",
    build: |context, values, of| {
        let touch = match values.word(&TOUCH) {
            "user" => Touch::User,
            "all" => Touch::All,
            _ => Touch::Off,
        };
        let around = values.number(&AROUND) as u32;
        match of.paging() {
            Paging::TwoLevel => Box::new(Recorder::<TwoLevel>::new(of, context.seed, touch, around)),
            Paging::Pae => Box::new(Recorder::<Pae>::new(of, context.seed, touch, around)),
        }
    },
};

/// How many stacks are remembered as recorded: a page of them.
const STACKS: usize = PAGE_SIZE as usize / size_of::<Stack>();

/// The most places that are remembered for a page directory, and for how many page directories.
const MAX_PLACES: usize = 1024;
const MAX_DIRECTORIES: usize = 256;

/// The walks to a stack, as they have been recorded.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Stack {
    directory: GuestPhys,
    esp1: GuestVirt,
    pages: u32,
    epoch: u32,
}

type Set<T> = HashSet<T, FxBuildHasher>;

/// Adds to a set that may forget; says whether it is new there. At the limit, or when memory is short, the
/// set begins again.
fn remember<T: Eq + Hash>(set: &mut Set<T>, member: T, limit: usize) -> bool {
    if set.contains(&member) {
        return false;
    }
    if set.len() >= limit {
        set.clear();
    }
    if set.try_reserve(1).is_ok() {
        set.insert(member);
    }
    true
}

/// A strategy with a recorder before it. `F` is the format of the guest's tables.
struct Recorder<F> {
    of: Box<dyn PagingStrategy>,
    seed: u64,
    touch: Touch,
    /// How many entries of a table that is walked are compared.
    around: u32,
    known: Known,
    output: Output,
    /// The guest's current page directory; none as long as its memory is mapped linearly.
    directory: Option<GuestPhys>,
    /// From here up is the Switcher.
    window_start: GuestVirt,
    /// From here up is the kernel's half.
    kernel_address: GuestVirt,
    esp1: GuestVirt,
    stack_pages: u32,
    /// The last entries of the levels above the last that have been recorded by walks.
    last: [Option<(GuestPhys, Entry)>; 2],
    /// Stacks whose walks in a page directory have been recorded, each at the one place that it can be.
    stacks: Vec<Stack>,
    /// Goes up when anything but a level-1 entry of those walks may have changed.
    epoch: u32,
    /// Whether `touched` is needed: for any strategy when touches are recorded, or else for this one.
    keeps_touched: bool,
    /// Where each page directory has been touched or announced, a place of [`Recorder::place_size`] entries each.
    touched: HashMap<GuestPhys, Set<GuestVirt>, FxBuildHasher>,
    /// What the recorder itself has asked for, which the guest has not.
    own: PagingCounters,
    format: PhantomData<F>,
}

impl<F: PageFormat> Recorder<F> {
    fn new(of: Box<dyn PagingStrategy>, seed: u64, touch: Touch, around: u32) -> Self {
        let reads_ahead = touch != Touch::Off || of.reads_ahead();
        Self {
            window_start: of.window().start,
            keeps_touched: reads_ahead,
            of,
            seed,
            touch,
            around: if reads_ahead { around } else { 1 },
            known: Known::new(),
            output: Output::new(),
            directory: None,
            kernel_address: GuestVirt(0),
            esp1: GuestVirt(0),
            stack_pages: 0,
            stacks: vec![Stack::default(); STACKS],
            epoch: 1,
            last: [None; 2],
            touched: HashMap::default(),
            own: PagingCounters::default(),
            format: PhantomData,
        }
    }

    #[inline(always)]
    fn put(&mut self, host: &mut dyn PagingHost, operation: Operation) {
        if self.output.put(host, operation).is_err() {
            self.known.forget();
            self.last = [None; 2];
            self.new_epoch();
        }
    }

    /// The walks to stacks have to be recorded again.
    fn new_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            // What was recorded so long ago must not count.
            self.stacks.fill(Stack::default());
            self.epoch = 1;
        }
    }

    // ---- The guest's stores ----

    /// Records what the guest has stored in the chunk at this address, a multiple of [`CHUNK`].
    fn record_chunk(&mut self, host: &mut dyn PagingHost, at: GuestPhys) {
        let mut bytes = [0; CHUNK];
        // A table outside memory has no contents, here or in the replay.
        if host.read(at, &mut bytes).is_err() {
            return;
        }
        let (words, _) = bytes.as_chunks::<4>();
        let now: Chunk = core::array::from_fn(|i| u32::from_le_bytes(words[i]));
        let before = match self.known.get_mut(at) {
            Some(known) if known.iter().zip(&now).all(|(known, now)| known == now) => return,
            Some(known) => Some(core::mem::replace(known, now)),
            None => {
                let before = self.known.elsewhere();
                self.known.insert(at, now);
                before
            }
        };
        self.forget_last(at);
        for i in (0..CHUNK).step_by(F::ENTRY_SIZE as usize) {
            let (at, value) = (GuestPhys(at.0 + i as u32), entry_in::<F>(&now, i));
            if before.is_none_or(|before| entry_in::<F>(&before, i) != value) {
                self.put_write(host, at, value);
            }
        }
    }

    fn put_write(&mut self, host: &mut dyn PagingHost, at: GuestPhys, value: Entry) {
        self.put(host, Operation::Write { at: at.0.into(), value: value.0 });
    }

    /// Records one entry, if it is in memory, and says what it is.
    fn record_entry(&mut self, host: &mut dyn PagingHost, at: GuestPhys) -> Option<Entry> {
        let now = read_entry::<F>(host, at)?;
        let offset = at.0 as usize % CHUNK;
        // A page directory may lie anywhere, so that its entries may cross from one chunk to the next.
        if !at.0.is_multiple_of(F::ENTRY_SIZE) {
            self.record_chunk(host, chunk_of(at));
            self.record_chunk(host, chunk_of(GuestPhys(at.0 + F::ENTRY_SIZE - 1)));
        } else if let Some(known) = self.known.get_mut(at) {
            if entry_in::<F>(known, offset) != now {
                store_in::<F>(known, offset, now);
                self.forget_last(at);
                self.put_write(host, at, now);
            }
        } else {
            self.record_chunk(host, chunk_of(at));
        }
        Some(now)
    }

    /// What was recorded last of the chunk that this byte is in has changed.
    fn forget_last(&mut self, at: GuestPhys) {
        for last in &mut self.last {
            if last.is_some_and(|(last, _)| chunk_of(last) == chunk_of(at)) {
                *last = None;
            }
        }
    }

    /// The same for an entry of a level above the last; one of those leads to many pages.
    fn record_directory_entry(
        &mut self,
        host: &mut dyn PagingHost,
        at: GuestPhys,
        level: usize,
    ) -> Option<Entry> {
        let now = read_entry::<F>(host, at)?;
        if self.last[level - 2] != Some((at, now)) {
            self.record_entry(host, at);
            self.last[level - 2] = Some((at, now));
        }
        Some(now)
    }

    /// Records the walk to an address, with `around` entries of the last table. Returns where the last
    /// entry is and what it is, if the walk comes that far.
    fn record_walk(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        around: u32,
    ) -> Option<(GuestPhys, Entry)> {
        let mut table = directory;
        for level in (2..=F::LEVELS).rev() {
            let entry = self.record_directory_entry(host, entry_address::<F>(table, va, level), level)?;
            // Whoever walks into a malformed entry kills the guest there.
            table = frame_within(host, entry).filter(|_| entry.present())?.start();
        }
        let entry_at = entry_address::<F>(table, va, 1);
        if around == 1 {
            return self.record_entry(host, entry_at).map(|entry| (entry_at, entry));
        }
        let first = F::index(va, 1) as u32 / around * around;
        let end = (first + around).min(F::ENTRIES as u32);
        let mut at = chunk_of(GuestPhys(table.0 + first * F::ENTRY_SIZE));
        while at.0 < table.0 + end * F::ENTRY_SIZE {
            self.record_chunk(host, at);
            at.0 += CHUNK as u32;
        }
        let entry =
            self.known.get_mut(entry_at).map(|chunk| entry_in::<F>(chunk, entry_at.0 as usize % CHUNK));
        entry.or_else(|| read_entry::<F>(host, entry_at)).map(|entry| (entry_at, entry))
    }

    /// The strategy has set accessed and dirty bits in this entry, as the replayed one will.
    fn note_entry(&mut self, host: &mut dyn PagingHost, at: GuestPhys) {
        if let (Some(now), Some(known)) = (read_entry::<F>(host, at), self.known.get_mut(at)) {
            store_in::<F>(known, at.0 as usize % CHUNK, now);
        }
    }

    /// Records the walks to the pages of the kernel stack, which must always be mapped.
    fn record_stack(&mut self, host: &mut dyn PagingHost) {
        let Some(directory) = self.directory else { return };
        let (esp1, pages) = (self.esp1, self.stack_pages);
        // Directories and stacks lie at regular distances; a product with the golden ratio spreads them
        // (Knuth, The Art of Computer Programming, vol. 3, 6.4).
        let place = directory.0.wrapping_mul(31).wrapping_add(esp1.0).wrapping_mul(0x9e37_79b9);
        let place = (place >> 16) as usize % STACKS;
        let stack = Stack { directory, esp1, pages, epoch: self.epoch };
        if self.stacks[place] != stack {
            self.stacks[place] = stack;
            for va in stack_pages(esp1, pages) {
                self.record_walk(host, directory, va, self.around);
            }
        }
    }

    // ---- Touches ----

    /// Remembers that a page directory is touched or announced at this address.
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

    /// Entries of a place: what one touch may lead a strategy to fill, and a chunk at least.
    fn place_size(&self) -> u32 {
        self.around.max(CHUNK as u32 / F::ENTRY_SIZE)
    }

    /// Records the entries of all places where a page directory has been touched.
    fn record_touched(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) {
        let Some(places) = self.touched.get_mut(&directory).map(core::mem::take) else { return };
        for place in &places {
            self.record_walk(host, directory, *place, self.place_size());
        }
        if let Some(taken) = self.touched.get_mut(&directory) {
            *taken = places;
        }
    }

    /// Whether an entry that is filled when the guest sets it would hide a touch that shall be seen. The
    /// stack is touched by the processor, which must find it.
    fn hides_touches(&self, va: GuestVirt) -> bool {
        let stack = stack_pages(self.esp1, self.stack_pages).any(|page| page.page() == va.page());
        match self.touch {
            Touch::Off => false,
            Touch::User => va < self.kernel_address && !stack,
            Touch::All => !stack,
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
                for va in stack_pages(self.esp1, self.stack_pages) {
                    self.own.set_pte += 1;
                    self.of.set_pte(host, directory, va, Entry::EMPTY)?;
                }
            }
        }
        Ok(())
    }
}

/// An address in each page of a stack that ends before `esp1`.
fn stack_pages(esp1: GuestVirt, pages: u32) -> impl Iterator<Item = GuestVirt> {
    (0..pages).map(move |page| GuestVirt(esp1.0.wrapping_sub(1).wrapping_sub(page * PAGE_SIZE)))
}

/// Where the entry for `va` is in a table of that level.
fn entry_address<F: PageFormat>(table: GuestPhys, va: GuestVirt, level: usize) -> GuestPhys {
    GuestPhys(table.0.wrapping_add(F::index(va, level) as u32 * F::ENTRY_SIZE))
}

/// An entry in the guest's memory, if it is there.
fn read_entry<F: PageFormat>(host: &mut dyn PagingHost, at: GuestPhys) -> Option<Entry> {
    let value = if F::ENTRY_SIZE == 4 { host.read_u32(at).map(u64::from) } else { host.read_u64(at) };
    value.ok().map(Entry)
}

/// The entry at an offset within a chunk.
fn entry_in<F: PageFormat>(chunk: &Chunk, offset: usize) -> Entry {
    let low = chunk[offset / 4].into();
    Entry(if F::ENTRY_SIZE == 4 { low } else { u64::from(chunk[offset / 4 + 1]) << 32 | low })
}

/// Puts an entry at an offset within a chunk.
fn store_in<F: PageFormat>(chunk: &mut Chunk, offset: usize, entry: Entry) {
    chunk[offset / 4] = entry.0 as u32;
    if F::ENTRY_SIZE == 8 {
        chunk[offset / 4 + 1] = (entry.0 >> 32) as u32;
    }
}

impl<F: PageFormat> PagingStrategy for Recorder<F> {
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
            // Nobody asks for more than the one that the guest's virtual CPU is on.
            cpus: 1,
            // A host with smaller tables than the guest's may have its window begin within one of these.
            switcher: GuestVirt(self.window_start.0 / F::LEAF_SPAN * F::LEAF_SPAN),
        };
        self.output.begin(host, &header).map_err(|NoRoom| Kill::OutOfMemory(OutOfMemory))?;
        self.of.set_up(host)
    }

    fn guest_initialised(
        &mut self,
        host: &mut dyn PagingHost,
        kernel_address: GuestVirt,
    ) -> Result<(), Kill> {
        self.kernel_address = kernel_address;
        self.new_epoch();
        self.record_stack(host);
        self.put(host, Operation::Init(kernel_address));
        self.of.guest_initialised(host, kernel_address)
    }

    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        let mut leaf = None;
        if let Some(directory) = self.directory.filter(|_| va < self.window_start) {
            leaf = self.record_walk(host, directory, va, self.around);
            if self.keeps_touched {
                self.remember_touch(directory, va);
            }
        }
        let user = error.contains(PageFaultErrorCode::USER_MODE);
        let write = error.contains(PageFaultErrorCode::CAUSED_BY_WRITE);
        // `acc` knows reads and writes; what may be read, but not executed, would be allowed in a replay.
        let forbidden_fetch = error.contains(PageFaultErrorCode::INSTRUCTION_FETCH)
            && leaf.is_some_and(|(_, entry)| entry.has(Flags::PRESENT | Flags::NO_EXECUTE));
        if forbidden_fetch {
            self.put(host, Operation::PageFault { va, error: error.bits() as u32 });
        } else {
            self.put(host, Operation::Access { va, user, write });
        }
        let fault = self.of.demand_fault(host, va, error)?;
        if let (Some((at, entry)), Fault::Fixed) = (leaf, fault) {
            let marks = if write { Flags::ACCESSED | Flags::DIRTY } else { Flags::ACCESSED };
            if !entry.has(marks) {
                self.note_entry(host, at);
            }
        }
        Ok(fault)
    }

    fn load_page_directory(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<(), Kill> {
        self.directory = Some(directory);
        self.record_stack(host);
        if self.keeps_touched {
            self.record_touched(host, directory);
        }
        self.put(host, Operation::LoadPageDirectory(directory));
        self.of.load_page_directory(host, directory)?;
        self.drop_mappings(host, directory)
    }

    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill> {
        if va < self.window_start {
            self.record_walk(host, directory, va, 1);
            if self.keeps_touched && entry.present() {
                self.remember_touch(directory, va);
            }
        }
        self.put(host, Operation::SetPte { directory, va, value: entry.0 });
        // Not filled before it is used, or its first use would not be seen.
        let entry =
            if self.hides_touches(va) { entry.without(Flags::ACCESSED | Flags::DIRTY) } else { entry };
        self.of.set_pte(host, directory, va, entry)
    }

    fn set_pgd(&mut self, host: &mut dyn PagingHost, directory: GuestPhys, index: u32) -> Result<(), Kill> {
        self.new_epoch();
        if (index as usize) < F::ROOT_ENTRIES {
            self.record_entry(host, GuestPhys(directory.0.wrapping_add(index * F::ENTRY_SIZE)));
        }
        self.put(host, Operation::SetPgd(directory, index));
        self.of.set_pgd(host, directory, index)
    }

    fn set_pmd(&mut self, host: &mut dyn PagingHost, middle: GuestPhys, index: u32) -> Result<(), Kill> {
        self.new_epoch();
        // With two levels the guest dies of it, and the trace has no word for it.
        if F::LEVELS == 3 {
            if (index as usize) < F::ENTRIES {
                self.record_entry(host, GuestPhys(middle.0.wrapping_add(index * F::ENTRY_SIZE)));
            }
            self.record_stack(host);
            self.put(host, Operation::SetPmd(middle, index));
        }
        self.of.set_pmd(host, middle, index)
    }

    fn flush_user(&mut self, host: &mut dyn PagingHost) {
        if let Some(directory) = self.directory.filter(|_| self.keeps_touched) {
            self.record_touched(host, directory);
        }
        self.put(host, Operation::FlushUser);
        self.of.flush_user(host);
    }

    fn flush_all(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        self.new_epoch();
        self.record_stack(host);
        self.put(host, Operation::FlushAll);
        self.of.flush_all(host)
    }

    fn set_stack(&mut self, host: &mut dyn PagingHost, esp1: GuestVirt, pages: u32) -> Result<(), Kill> {
        (self.esp1, self.stack_pages) = (esp1, pages);
        self.record_stack(host);
        self.put(host, Operation::SetStack(esp1, pages));
        self.of.set_stack(host, esp1, pages)
    }

    fn root(&self) -> HostFrame {
        self.of.root()
    }

    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill> {
        self.of.translate(host, va)
    }

    fn lookup(&self, va: GuestVirt) -> Option<Lookup> {
        self.of.lookup(va)
    }

    fn reads_ahead(&self) -> bool {
        self.of.reads_ahead()
    }

    fn is_linear(&self) -> bool {
        self.of.is_linear()
    }

    fn check(&self, found: &mut dyn FnMut(Defect)) {
        self.of.check(found);
    }

    fn directories(&self, visit: &mut dyn FnMut(GuestPhys, bool)) {
        self.of.directories(visit);
    }

    fn mappings(&self, visit: &mut dyn FnMut(Mapping)) {
        self.of.mappings(visit);
    }

    fn counters(&self) -> PagingCounters {
        let mut counters = self.of.counters();
        counters.flush_user -= self.own.flush_user;
        counters.flush_all -= self.own.flush_all;
        counters.set_pte -= self.own.set_pte;
        counters
    }

    fn tear_down(&mut self, host: &mut dyn PagingHost) {
        self.output.finish(host);
        self.of.tear_down(host);
    }
}
