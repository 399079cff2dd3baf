//! Generated loads: the requests to the pager of a guest with many processes.
//!
//! The guest is a small Unix. Its kernel lies above 3 GiB, the same in every page directory; a process has text, a
//! heap, a mapped area and a stack. Processes run for an interval each, most of them from a group that is active for
//! a while, some out of turn. In an interval a process touches mostly what it touched lately. Pages are mapped when
//! they are first touched (a reflected fault, a stored entry, SET_PTE), unmapped in runs, and shared by fork until
//! one side writes. Everything is drawn from one seed, so that a load can be made again.

use crate::trace::{Header, Operation};
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, Paging, TwoLevel};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro128PlusPlus;
use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;

/// What kind of load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Page format of the guest.
    pub paging: Paging,
    /// Processes at a time.
    pub processes: u32,
    /// Where everything random begins.
    pub seed: u64,
}

/// The most processes that a load can have, so that all of their pages fit into the guest's memory.
pub const MAX_PROCESSES: u32 = 200;

/// The guest's memory, in pages.
const PAGES: u32 = 1 << 16;
/// Pages that the kernel maps for itself, from [`KERNEL`] up, onto the first pages of memory.
const KERNEL_PAGES: u32 = 512;
const KERNEL: u32 = 0xc000_0000;
/// Kernel stacks are two pages, at the end of what the kernel maps.
const STACK: u32 = KERNEL + KERNEL_PAGES * PAGE_SIZE;
/// The first page that is not the kernel's.
const FIRST_FREE: u32 = KERNEL_PAGES;
/// Processes that take turns at a time.
const GROUP: usize = 6;
/// Intervals until another group is active.
const PHASE: u32 = 400;
/// Pages that a process has touched lately.
const RECENT: usize = 24;

/// Where a process has pages: first address and number.
const REGIONS: [(u32, u32); 4] =
    [(0x0804_8000, 48), (0x0810_0000, 128), (0x4000_0000, 96), (0xbfff_0000, 15)];

/// A process with every page of its regions, a table for each of them and one more where a boundary of tables lies
/// within, three middle tables and the root.
const MOST_PAGES: u32 = REGIONS[0].1 + REGIONS[1].1 + REGIONS[2].1 + REGIONS[3].1 + 2 * 4 + 3 + 1;
const _: () = assert!(MAX_PROCESSES * MOST_PAGES + FIRST_FREE + 8 <= PAGES);

const KERNEL_FLAGS: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::ACCESSED).union(Flags::DIRTY);
const TABLE_FLAGS: Flags =
    Flags::PRESENT.union(Flags::WRITABLE).union(Flags::USER_ACCESSIBLE).union(Flags::ACCESSED);

#[derive(Clone, Copy, Debug)]
struct Page {
    frame: u32,
    writable: bool,
}

#[derive(Debug, Default)]
struct Process {
    root: u32,
    /// The tables below the root by their addresses' first byte: middle tables (PAE), then level-1 tables.
    middles: BTreeMap<u32, u32>,
    tables: BTreeMap<u32, u32>,
    /// What is mapped, by page address.
    pages: BTreeMap<u32, Page>,
    recent: VecDeque<u32>,
}

/// A load without end.
pub struct Generator {
    guest: Box<dyn Iterator<Item = Operation> + Send>,
    header: Header,
}

impl Generator {
    /// A load of that kind.
    ///
    /// # Panics
    /// For no processes or more than [`MAX_PROCESSES`].
    #[must_use]
    pub fn new(load: Load) -> Self {
        assert!((1..=MAX_PROCESSES).contains(&load.processes), "1 to {MAX_PROCESSES} processes");
        let header = Header {
            paging: load.paging,
            pages: PAGES,
            seed: load.seed,
            cpus: 1,
            switcher: GuestVirt(0xffc0_0000),
        };
        let guest: Box<dyn Iterator<Item = Operation> + Send> = match load.paging {
            Paging::TwoLevel => Box::new(Guest::<TwoLevel>::new(load)),
            Paging::Pae => Box::new(Guest::<Pae>::new(load)),
        };
        Self { guest, header }
    }

    /// What a trace of it begins with.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }
}

impl Iterator for Generator {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        self.guest.next()
    }
}

struct Guest<F> {
    generator: Xoshiro128PlusPlus,
    /// The operations to emit before the next interval.
    out: VecDeque<Operation>,
    /// Tables of the kernel's half by their first address.
    kernel_tables: BTreeMap<u32, u32>,
    kernel_middle: u32,
    processes: Vec<Process>,
    active: Vec<usize>,
    turn: usize,
    interval: u32,
    /// Frames that are free again, and the first that never was used.
    free: Vec<u32>,
    next_frame: u32,
    /// How many page tables map each frame, where it is more than one.
    shared: BTreeMap<u32, u32>,
    format: PhantomData<F>,
}

impl<F: PageFormat> Guest<F> {
    fn new(load: Load) -> Self {
        let mut guest = Self {
            generator: Xoshiro128PlusPlus::seed_from_u64(load.seed),
            out: VecDeque::new(),
            kernel_tables: BTreeMap::new(),
            kernel_middle: 0,
            processes: Vec::new(),
            active: Vec::new(),
            turn: 0,
            interval: 0,
            free: Vec::new(),
            next_frame: FIRST_FREE,
            shared: BTreeMap::new(),
            format: PhantomData,
        };
        guest.boot();
        while guest.processes.len() < load.processes as usize {
            let process = guest.new_process();
            guest.processes.push(process);
        }
        guest
    }

    fn below(&mut self, bound: usize) -> usize {
        self.generator.next_u32() as usize % bound
    }

    /// True once in `n`.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn say(&mut self, operation: Operation) {
        self.out.push_back(operation);
    }

    fn frame(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next_frame += 1;
            self.next_frame - 1
        })
    }

    fn store(&mut self, table: u32, index: usize, entry: Entry) {
        let at = u64::from(table * PAGE_SIZE) + index as u64 * u64::from(F::PAGING.entry_size());
        self.say(Operation::Write { at, value: entry.0 });
    }

    fn span() -> u32 {
        F::LEAF_SPAN
    }

    /// The kernel's tables, and its own map of its pages.
    fn boot(&mut self) {
        if F::LEVELS == 3 {
            self.kernel_middle = self.frame();
        }
        for number in 0..KERNEL_PAGES {
            let va = KERNEL + number * PAGE_SIZE;
            let first = va & !(Self::span() - 1);
            let table = match self.kernel_tables.get(&first) {
                Some(&table) => table,
                None => {
                    let table = self.frame();
                    self.kernel_tables.insert(first, table);
                    table
                }
            };
            self.store(table, F::index(GuestVirt(va), 1), Entry::new(number.into(), KERNEL_FLAGS));
        }
        if F::LEVELS == 3 {
            for (first, table) in self.kernel_tables.clone() {
                let entry = Entry::new(table.into(), KERNEL_FLAGS);
                self.store(self.kernel_middle, F::index(GuestVirt(first), 2), entry);
            }
        }
        self.say(Operation::Init(GuestVirt(KERNEL)));
    }

    /// A process with nothing but the kernel in its page directory.
    fn new_process(&mut self) -> Process {
        let root = self.frame();
        for index in 0..F::ROOT_ENTRIES {
            self.store(root, index, Entry::EMPTY);
        }
        if F::LEVELS == 3 {
            let index = F::index(GuestVirt(KERNEL), 3);
            self.store(root, index, Entry::new(self.kernel_middle.into(), F::ROOT_FLAGS));
        } else {
            for (first, table) in self.kernel_tables.clone() {
                let entry = Entry::new(table.into(), KERNEL_FLAGS);
                self.store(root, F::index(GuestVirt(first), 2), entry);
            }
        }
        Process { root, ..Process::default() }
    }

    fn root_of(&self, process: usize) -> GuestPhys {
        GuestPhys(self.processes[process].root * PAGE_SIZE)
    }

    /// The level-1 table for a page of a process, made if need be.
    fn table(&mut self, process: usize, va: u32) -> u32 {
        let first = va & !(Self::span() - 1);
        if let Some(&table) = self.processes[process].tables.get(&first) {
            return table;
        }
        let (root, directory) = (self.processes[process].root, self.root_of(process));
        let upper = if F::LEVELS == 3 {
            let gigabyte = va & 0xc000_0000;
            match self.processes[process].middles.get(&gigabyte) {
                Some(&middle) => middle,
                None => {
                    let middle = self.empty_table();
                    self.processes[process].middles.insert(gigabyte, middle);
                    let index = F::index(GuestVirt(va), 3);
                    self.store(root, index, Entry::new(middle.into(), F::ROOT_FLAGS));
                    self.say(Operation::SetPgd(directory, index as u32));
                    middle
                }
            }
        } else {
            root
        };
        let table = self.empty_table();
        let index = F::index(GuestVirt(va), 2);
        self.store(upper, index, Entry::new(table.into(), TABLE_FLAGS));
        self.say(match F::LEVELS {
            3 => Operation::SetPmd(GuestPhys(upper * PAGE_SIZE), index as u32),
            _ => Operation::SetPgd(directory, index as u32),
        });
        self.processes[process].tables.insert(first, table);
        table
    }

    /// A table from a page that may have been something else before.
    fn empty_table(&mut self) -> u32 {
        let table = self.frame();
        for index in 0..F::ENTRIES {
            self.store(table, index, Entry::EMPTY);
        }
        table
    }

    fn set_entry(&mut self, process: usize, va: u32, entry: Entry) {
        let table = self.table(process, va);
        self.store(table, F::index(GuestVirt(va), 1), entry);
        let directory = self.root_of(process);
        self.say(Operation::SetPte { directory, va: GuestVirt(va), value: entry.0 });
    }

    fn map(&mut self, process: usize, va: u32, page: Page) {
        let mut flags = Flags::PRESENT | Flags::USER_ACCESSIBLE | Flags::ACCESSED;
        if page.writable {
            flags |= Flags::WRITABLE | Flags::DIRTY;
        }
        self.set_entry(process, va, Entry::new(page.frame.into(), flags));
        self.processes[process].pages.insert(va, page);
    }

    fn let_go(&mut self, frame: u32) {
        match self.shared.get_mut(&frame) {
            Some(2) => drop(self.shared.remove(&frame)),
            Some(count) => *count -= 1,
            None => self.free.push(frame),
        }
    }

    fn unmap(&mut self, process: usize, va: u32) {
        if let Some(page) = self.processes[process].pages.remove(&va) {
            self.set_entry(process, va, Entry::EMPTY);
            self.let_go(page.frame);
        }
    }

    /// A page of the process: mostly one that it touched lately, often the next one, now and then any.
    fn pick(&mut self, process: usize) -> u32 {
        let recent = self.processes[process].recent.len();
        let choice = self.below(32);
        if recent > 0 && choice < 26 {
            // The smaller of two numbers, so that what was touched last is touched most.
            let place = self.below(recent).min(self.below(recent));
            return self.processes[process].recent[place];
        }
        if recent > 0 && choice < 30 {
            let next = self.processes[process].recent[0] + PAGE_SIZE;
            if REGIONS.iter().any(|&(first, pages)| (first..first + pages * PAGE_SIZE).contains(&next)) {
                return next;
            }
        }
        let (first, pages) = REGIONS[self.below(REGIONS.len())];
        first + self.below(pages as usize) as u32 * PAGE_SIZE
    }

    fn touch(&mut self, process: usize) {
        let page = self.pick(process);
        let write = page >= REGIONS[1].0 && self.once_in(3);
        let va = GuestVirt(page + self.below(1024) as u32 * 4);
        let access = Operation::Access { va, user: true, write };
        self.say(access);
        match self.processes[process].pages.get(&page).copied() {
            None => {
                let writable = page >= REGIONS[1].0;
                let frame = self.frame();
                self.kernel_work();
                self.map(process, page, Page { frame, writable });
                self.say(access);
            }
            Some(Page { frame, writable: false }) if write => {
                let alone = !self.shared.contains_key(&frame);
                let frame = if alone { frame } else { self.frame() };
                if !alone {
                    let old = self.processes[process].pages[&page].frame;
                    self.let_go(old);
                }
                self.kernel_work();
                self.map(process, page, Page { frame, writable: true });
                self.say(access);
            }
            Some(_) => {}
        }
        let recent = &mut self.processes[process].recent;
        recent.retain(|&other| other != page);
        recent.push_front(page);
        recent.truncate(RECENT);
    }

    /// The kernel touches a few pages of its own.
    fn kernel_work(&mut self) {
        for _ in 0..1 + self.below(3) {
            let page = self.below(KERNEL_PAGES as usize / 8).min(self.below(KERNEL_PAGES as usize)) as u32;
            let va = GuestVirt(KERNEL + page * PAGE_SIZE + self.below(1024) as u32 * 4);
            let write = self.once_in(2);
            self.say(Operation::Access { va, user: false, write });
        }
    }

    /// The process in the place of `child` ends, and `parent` forks into it.
    fn fork(&mut self, parent: usize, child: usize) {
        let old = std::mem::take(&mut self.processes[child]);
        for page in old.pages.values() {
            self.let_go(page.frame);
        }
        self.free.extend(old.tables.values().chain(old.middles.values()).copied());
        self.free.push(old.root);
        self.processes[child] = self.new_process();
        let pages = self.processes[parent].pages.clone();
        for (va, page) in pages {
            let shared = Page { writable: false, ..page };
            if page.writable {
                self.map(parent, va, shared);
            }
            *self.shared.entry(page.frame).or_insert(1) += 1;
            self.map(child, va, shared);
        }
        self.say(Operation::FlushUser);
        self.processes[child].recent = self.processes[parent].recent.clone();
    }

    /// Unmaps a run of pages.
    fn unmap_some(&mut self, process: usize) {
        let (first, pages) = REGIONS[1 + self.below(2)];
        let from = first + self.below(pages as usize) as u32 * PAGE_SIZE;
        let length = (1 + self.below(16) as u32) * PAGE_SIZE;
        let run: Vec<u32> =
            self.processes[process].pages.range(from..from + length).map(|(va, _)| *va).collect();
        for &va in &run {
            self.unmap(process, va);
        }
        self.processes[process].recent.retain(|va| !run.contains(va));
        self.say(Operation::FlushUser);
    }

    fn next_process(&mut self) -> usize {
        let count = self.processes.len();
        if self.interval.is_multiple_of(PHASE) {
            self.active = (0..GROUP.min(count)).map(|_| self.below(count)).collect();
        }
        self.interval += 1;
        if self.once_in(5) {
            // Out of turn, small numbers most.
            return self.below(count).min(self.below(count));
        }
        self.turn = (self.turn + 1) % self.active.len();
        self.active[self.turn]
    }

    fn run_interval(&mut self) {
        let process = self.next_process();
        let directory = self.root_of(process);
        self.say(Operation::LoadPageDirectory(directory));
        self.say(Operation::SetStack(GuestVirt(STACK), 2));
        self.kernel_work();
        for _ in 0..8 + self.below(120) {
            self.touch(process);
        }
        if self.once_in(4) {
            self.unmap_some(process);
        }
        let child = self.below(self.processes.len());
        if self.once_in(40) && child != process {
            self.fork(process, child);
        }
        self.kernel_work();
    }
}

impl<F: PageFormat> Iterator for Guest<F> {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        while self.out.is_empty() {
            self.run_interval();
        }
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Replay;
    use framework::registry::Choice;
    use strategies as _;

    fn load(paging: Paging, processes: u32) -> Load {
        Load { paging, processes, seed: 1 }
    }

    /// The guest plays by the rules: it is never killed, and answers each of its own faults by a new entry.
    #[test]
    fn generated_guests_live() {
        for paging in [Paging::TwoLevel, Paging::Pae] {
            for processes in [1, 3, MAX_PROCESSES] {
                let generator = Generator::new(load(paging, processes));
                let choice = Choice::parse("lru:slots=3").unwrap();
                let mut replay = Replay::new(&generator.header(), &choice).unwrap();
                // Each process begins with stores of up to 1024 empty entries.
                let operations = 50_000 + 1024 * processes as usize;
                generator.take(operations).for_each(|operation| replay.step(&operation));
                let report = replay.finish(&choice, false);
                assert_eq!(report.killed, None, "{paging} {processes}");
                assert_eq!(report.ops, operations as u64);
                assert_eq!(report.after_free, (0, 0));
                let counters = report.counters;
                assert!((1..=counters.set_pte).contains(&counters.reflected_faults), "{counters}");
            }
        }
    }

    #[test]
    fn a_seed_makes_the_same_load_again() {
        let operations = |seed| -> Vec<_> {
            Generator::new(Load { seed, ..load(Paging::TwoLevel, 8) }).take(20_000).collect()
        };
        assert_eq!(operations(1), operations(1));
        assert_ne!(operations(1), operations(2));
    }
}
