//! The hot paths of shadow paging, each by itself: what `benches/hot_paths.rs` times and
//! `examples/hot_paths.rs` has counted.
//!
//! A guest with a few processes is made, and one kind of operation is done to its strategy again and again:
//!
//! | path | an operation |
//! | --- | --- |
//! | `demand-fault` | a page of the guest's is read for the first time; its table is there |
//! | `set-pte` | an entry that is shadowed changes to another, accessed one |
//! | `switch-hit` | a page directory is loaded whose shadow is kept |
//! | `switch-noted` | the same, by the Switcher: the strategy hears of 64 loads at a time |
//! | `switch-miss` | a page directory is loaded for which another is evicted, with 32 pages |
//! | `flush` | 256 pages of the current process are dropped (and `shared` fills them again) |
//!
//! [`Bench::prepare`] brings the guest to the point before the operations; only [`measured`] counts.

use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use framework::pager::Pager;
use framework::registry::{BuildContext, Choice, ConfigError};
use framework::strategy::Formats;
use sim::SimHost;
use std::fmt;

/// The strategies that are measured: lguest's way, and the optimizations; as many slots each.
pub const STRATEGIES: [&str; 3] = ["lguest", "lru", "shared:budget=0,slots=4"];

/// Slots of each of them.
const SLOTS: usize = 4;

/// Processes: each slot's, and as many others to take their place.
const PROCESSES: usize = 2 * SLOTS;

/// Pages of a process, all under one level-1 table of either format.
const PAGES: u32 = 256;

/// Pages that a process has mapped when it is evicted.
const WORKING_SET: u32 = 32;

/// Page directories that the Switcher loads before it lets the host know (`switcher::published::MOST_LOADS`).
const MOST_LOADS: u32 = 64;

/// Where a process's pages begin.
const USER: GuestVirt = GuestVirt(0x0800_0000);
const KERNEL: GuestVirt = GuestVirt(0xc000_0000);
/// The Switcher, the last thing in the address space.
const SWITCHER: GuestVirt = GuestVirt(0xffc0_0000);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `demand-fault`.
    DemandFault,
    /// `set-pte`.
    SetPte,
    /// `switch-hit`.
    SwitchHit,
    /// `switch-noted`.
    SwitchNoted,
    /// `switch-miss`.
    SwitchMiss,
    /// `flush`.
    Flush,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::DemandFault, Self::SetPte, Self::SwitchHit, Self::SwitchNoted, Self::SwitchMiss, Self::Flush];

    /// How many operations [`measured`] does.
    #[must_use]
    pub const fn operations(self) -> u32 {
        match self {
            Self::DemandFault | Self::SetPte | Self::SwitchHit | Self::SwitchNoted => PAGES,
            Self::SwitchMiss => SLOTS as u32,
            Self::Flush => 1,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DemandFault => "demand-fault",
            Self::SetPte => "set-pte",
            Self::SwitchHit => "switch-hit",
            Self::SwitchNoted => "switch-noted",
            Self::SwitchMiss => "switch-miss",
            Self::Flush => "flush",
        })
    }
}

/// A guest under a strategy, and what is to be done to it.
pub struct Bench {
    path: Path,
    strategy: Box<dyn Pager>,
    host: SimHost,
    processes: Vec<Process>,
    paging: Paging,
    round: u32,
}

/// A process of the guest's.
struct Process {
    directory: GuestPhys,
    /// Its level-1 table.
    table: GuestPhys,
    /// The first of its pages.
    frame: u64,
}

/// An entry that leads to a table, and a page that has not been touched yet.
const TO_TABLE: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::USER_ACCESSIBLE);

impl Bench {
    /// A guest that runs already, with pages in `formats`.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no such strategy, or it cannot serve these formats.
    ///
    /// # Panics
    /// When the strategy kills a guest that has done nothing wrong.
    pub fn new(path: Path, strategy: &str, formats: Formats) -> Result<Self, ConfigError> {
        let mut host = SimHost::new(PROCESSES as u32 * (PAGES + 3) + 1);
        let window = host.window(SWITCHER);
        let mut strategy = Choice::parse(strategy)?.build(&BuildContext {
            formats,
            window,
            seed: 1,
            switcher_fills: false,
        })?;
        let mut next = 1;
        let mut processes = Vec::new();
        for _ in 0..PROCESSES {
            processes.push(match formats.guest {
                Paging::TwoLevel => Process::new::<TwoLevel>(&mut host, &mut next),
                Paging::Pae => Process::new::<Pae>(&mut host, &mut next),
            });
        }
        strategy.set_up(&mut host).expect("the host has pages");
        strategy.guest_initialised(&mut host, KERNEL).expect("the kernel is below the Switcher");
        let mut bench = Self { path, strategy, host, processes, paging: formats.guest, round: 0 };
        for number in 0..PROCESSES {
            bench.load(number);
        }
        Ok(bench)
    }

    /// What [`measured`] will do.
    #[must_use]
    pub const fn path(&self) -> Path {
        self.path
    }

    fn load(&mut self, number: usize) {
        let directory = self.processes[number].directory;
        self.strategy.load_page_directory(&mut self.host, directory).expect("the directory is the guest's");
    }

    fn read(&mut self, page: u32) {
        let va = GuestVirt(USER.0 + page * PAGE_SIZE);
        self.strategy
            .demand_fault(&mut self.host, va, PageFaultErrorCode::USER_MODE)
            .expect("the page is the guest's");
    }

    fn entry(&self, number: usize, page: u32) -> Entry {
        Entry::new(self.processes[number].frame + u64::from((page + self.round) % PAGES), TO_TABLE)
    }

    /// Forgets all that is shadowed of the current process `number` and all that the guest has touched of it.
    fn forget(&mut self, number: usize) {
        for page in 0..PAGES {
            let at = self.processes[number].table.0 + page * self.paging.entry_size();
            self.host.store(self.paging, at.into(), self.entry(number, page).0);
        }
        self.strategy.flush_user(&mut self.host);
    }

    /// Makes everything ready for the operations.
    pub fn prepare(&mut self) {
        self.round += 1;
        match self.path {
            Path::DemandFault => {
                self.load(0);
                self.forget(0);
                // The table is made by one that does not count.
                self.read(PAGES);
            }
            Path::SetPte | Path::Flush => {
                self.load(0);
                self.forget(0);
                (0..PAGES).for_each(|page| self.read(page));
            }
            Path::SwitchHit => {
                self.load(1);
                self.load(0);
            }
            Path::SwitchNoted => {
                self.load(1);
                self.load(0);
                let directories = [1, 0].map(|number| self.processes[number].directory);
                self.host.load_in_switcher(directories.repeat(MOST_LOADS as usize / 2));
            }
            Path::SwitchMiss => {
                let first = SLOTS * (self.round as usize % 2);
                for number in first..first + SLOTS {
                    self.load(number);
                    self.forget(number);
                    (0..WORKING_SET).for_each(|page| self.read(page));
                }
            }
        }
    }

    fn operate(&mut self) {
        match self.path {
            Path::DemandFault => (0..PAGES).for_each(|page| self.read(page)),
            Path::SetPte => {
                let directory = self.processes[0].directory;
                for page in 0..PAGES {
                    let va = GuestVirt(USER.0 + page * PAGE_SIZE);
                    let entry = self.entry(0, page + 1).with(Flags::ACCESSED);
                    self.strategy.set_pte(&mut self.host, directory, va, entry).expect("the page is there");
                }
            }
            Path::SwitchHit => (0..PAGES as usize).for_each(|count| self.load((count + 1) % 2)),
            Path::SwitchNoted => (0..PAGES / MOST_LOADS).for_each(|_| {
                let noted = self.strategy.switched_in_switcher(&mut self.host, MOST_LOADS, GuestVirt(0), 0);
                noted.expect("the directories are shadowed");
            }),
            Path::SwitchMiss => {
                let first = SLOTS * ((self.round as usize + 1) % 2);
                (first..first + SLOTS).for_each(|number| self.load(number));
            }
            Path::Flush => self.strategy.flush_user(&mut self.host),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.strategy.tear_down(&mut self.host);
        self.host.remove_window();
    }
}

impl Process {
    /// One with all its pages mapped and none touched. `next` is the next page of the guest's that is free.
    fn new<G: PageFormat>(host: &mut SimHost, next: &mut u32) -> Self {
        let mut take = |pages: u32| {
            let first = *next;
            *next += pages;
            first
        };
        let (directory, table, frame) = (take(1), take(1), u64::from(take(PAGES)));
        let mut store = |page: u32, index: usize, entry: Entry| {
            let at = GuestPhys(page * PAGE_SIZE + index as u32 * G::ENTRY_SIZE);
            host.store(G::PAGING, at.0.into(), entry.0);
        };
        let mut above = directory;
        if G::LEVELS == 3 {
            let middle = take(1);
            store(directory, G::index(USER, 3), Entry::new(middle.into(), G::ROOT_FLAGS));
            above = middle;
        }
        store(above, G::index(USER, 2), Entry::new(table.into(), TO_TABLE));
        for page in 0..=PAGES {
            // The last one is the first again.
            let frame = frame + u64::from(page % PAGES);
            store(table, G::index(USER, 1) + page as usize, Entry::new(frame, TO_TABLE));
        }
        let at = |page: u32| GuestPhys(page * PAGE_SIZE);
        Self { directory: at(directory), table: at(table), frame }
    }
}

/// Does the operations. Under callgrind, this function's instructions are what is counted.
#[inline(never)]
pub fn measured(bench: &mut Bench) {
    bench.operate();
}

/// Calls `visit` with each of the benchmarks and its name, `path/strategy/formats`.
pub fn all(visit: &mut dyn FnMut(String, Bench)) {
    for path in Path::ALL {
        for strategy in STRATEGIES {
            for formats in Formats::SERVED {
                let bench = Bench::new(path, strategy, formats).expect("the strategies serve all formats");
                let Formats { guest, shadow } = formats;
                let formats =
                    if guest == shadow { guest.to_string() } else { format!("{guest}-on-{shadow}") };
                visit(format!("{path}/{strategy}/{formats}"), bench);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an operation is named for is what happens, and happens as often each time.
    #[test]
    fn each_path_does_what_it_is_named_for() {
        all(&mut |name, mut bench| {
            for _ in 0..3 {
                bench.prepare();
                let before = bench.strategy.counters();
                measured(&mut bench);
                let after = bench.strategy.counters();
                let moved = match bench.path() {
                    Path::DemandFault => after.demand_faults - before.demand_faults,
                    Path::SetPte => after.set_pte - before.set_pte,
                    Path::SwitchHit | Path::SwitchNoted => {
                        after.page_directory_hits - before.page_directory_hits
                    }
                    Path::SwitchMiss => {
                        // lguest's choice is random, and may fall on one that has just come.
                        let released = after.released_entries - before.released_entries;
                        let all = u64::from(SLOTS as u32 * WORKING_SET);
                        assert!(released > 0 && released <= all, "{name} released {released} entries");
                        assert!(
                            name.contains("lguest") || released == all,
                            "{name} released {released} entries"
                        );
                        (after.page_directory_loads - after.page_directory_hits)
                            - (before.page_directory_loads - before.page_directory_hits)
                    }
                    Path::Flush => {
                        assert_eq!(
                            after.released_entries - before.released_entries,
                            u64::from(PAGES),
                            "{name}"
                        );
                        after.flush_user - before.flush_user
                    }
                };
                assert_eq!(moved, u64::from(bench.path().operations()), "{name}");
            }
        });
    }
}
