//! What must hold of every strategy for all acts of a guest.
//!
//! * A guest that plays by the rules (every change of a table is followed by the request that reports
//!   it) never runs on a shadow entry that its own tables do not justify: right page, no more rights;
//!   also on a host that takes frames away, or shares them, between any two of its acts.
//! * What `record` writes of such a guest comes, replayed, to what became of the guest.
//! * A guest that does not, and a host that runs out of memory at any point, end in a kill at worst:
//!   nothing panics, and nothing is left when the guest is gone.

use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use framework::audit::{self, Coverage};
use framework::host::Progress;
use framework::kill::Kill;
use framework::pager::Pager;
use framework::registry::{self, BuildContext, Choice};
use framework::strategy::Formats;
use proptest::prelude::*;
use sim::SimHost;
use sim::replay::Replay;
use sim::trace::Reader;
use strategies as _;

const WINDOW: GuestVirt = GuestVirt(0xffc0_0000);
const KERNEL: GuestVirt = GuestVirt(0xc000_0000);
const PAGES: u32 = 256;

/// `shared` with a small capacity, and with some of its optimizations turned off.
const VARIANTS: [&str; 5] = [
    "shared:budget=60",
    "shared:budget=0,slots=2,release-by-use=off",
    "shared:shared-kernel=off,fault-around=16",
    "shared:precise=off,refill=0",
    "shared:populate-on-set-pte=off,refill-after-flush=off",
];

/// Strategies and the formats they serve. All policies run on the same pager, so that two of them and one that
/// is picked stand for the others.
fn formats(pick: usize) -> impl Iterator<Item = (&'static str, Formats)> {
    let is_policy = |name: &&str| Choice::parse(name).unwrap().policy(0).is_some();
    let (policies, mut names): (Vec<_>, Vec<_>) = registry::all_names().into_iter().partition(is_policy);
    names.extend(["lguest", "lru", policies[pick % policies.len()], VARIANTS[pick % VARIANTS.len()]]);
    names
        .into_iter()
        .flat_map(|name| Formats::SERVED.map(|formats| (name, formats)))
        .filter(|(name, formats)| Choice::parse(name).unwrap().check_formats(*formats).is_ok())
}

fn build(name: &str, formats: Formats, host: &mut SimHost) -> Box<dyn Pager> {
    let window = host.window(WINDOW);
    Choice::parse(name)
        .unwrap()
        .build(&BuildContext { formats, window, seed: 7, switcher_fills: false })
        .unwrap()
}

/// Ends the guest and proves that nothing is left of it; what has been recorded of it is.
fn tear_down(mut strategy: Box<dyn Pager>, mut host: SimHost) -> Vec<u8> {
    host.limit_frames(None);
    host.limit_tables(None);
    strategy.tear_down(&mut host);
    host.remove_window();
    assert_eq!((host.entries(), host.tables()), (0, 0), "references and table pages left");
    host.take_recording()
}

/// Something that a well-behaved guest does. Numbers are reduced to what exists.
#[derive(Clone, Copy, Debug)]
enum Step {
    Switch(u8),
    /// Maps a page of the current process; `touched` also sets A and D, as Linux mostly does.
    Map {
        page: u8,
        frame: u8,
        writable: bool,
        touched: bool,
    },
    Unmap(u8),
    /// Maps a page of the kernel, in all processes.
    MapKernel {
        page: u8,
        frame: u8,
    },
    UnmapKernel(u8),
    Touch {
        page: u8,
        user: bool,
        write: bool,
    },
    TouchKernel {
        page: u8,
        write: bool,
    },
    FlushUser,
    FlushUserOf(u8),
    FlushAll,
    /// Empties a whole top-level (2-level) or middle (PAE) entry of the current process.
    DropTable(u8),
    /// The host takes the frame of a data page away; or it takes it and lets others have the page too.
    TakeFrame {
        frame: u8,
        share: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u8>().prop_map(Step::Switch),
        4 => any::<(u8, u8, bool, bool)>().prop_map(|(page, frame, writable, touched)| {
            Step::Map { page, frame, writable, touched }
        }),
        2 => any::<u8>().prop_map(Step::Unmap),
        1 => any::<(u8, u8)>().prop_map(|(page, frame)| Step::MapKernel { page, frame }),
        1 => any::<u8>().prop_map(Step::UnmapKernel),
        8 => any::<(u8, bool, bool)>().prop_map(|(page, user, write)| Step::Touch { page, user, write }),
        3 => any::<(u8, bool)>().prop_map(|(page, write)| Step::TouchKernel { page, write }),
        1 => Just(Step::FlushUser),
        1 => any::<u8>().prop_map(Step::FlushUserOf),
        1 => Just(Step::FlushAll),
        1 => any::<u8>().prop_map(Step::DropTable),
        3 => any::<(u8, bool)>().prop_map(|(frame, share)| Step::TakeFrame { frame, share }),
    ];
    prop::collection::vec(step, 1..120)
}

const PROCESSES: u8 = 6;
const TABLES: u32 = 2;
const USER_BASE: u32 = 0x0800_0000;
const KERNEL_BASE: u32 = 0xc000_0000;
/// Frames from here up are data; below are tables.
const DATA: u8 = 128;

/// A guest that keeps its tables in order. Each process has a root, and two tables under it that each
/// hold a few pages; the kernel has one table, shared by all.
struct Guest<F> {
    host: SimHost,
    strategy: Box<dyn Pager>,
    current: u8,
    format: std::marker::PhantomData<F>,
}

impl<F: PageFormat> Guest<F> {
    fn new(name: &str, shadow: Paging) -> Self {
        let mut host = SimHost::new(PAGES);
        let mut strategy = build(name, Formats { guest: F::PAGING, shadow }, &mut host);
        strategy.set_up(&mut host).unwrap();
        strategy.guest_initialised(&mut host, KERNEL).unwrap();
        let mut guest = Self { host, strategy, current: 0, format: std::marker::PhantomData };
        for process in 0..PROCESSES {
            guest.build_process(process);
        }
        guest.strategy.load_page_directory(&mut guest.host, Self::root(0)).unwrap();
        guest
    }

    /// Tables of a process: root, middle (PAE) and two level-1 tables; 8 frames apart.
    fn table(process: u8, which: u32) -> u32 {
        8 + u32::from(process) * 8 + which
    }

    fn root(process: u8) -> GuestPhys {
        GuestPhys(Self::table(process, 0) * 4096)
    }

    const KERNEL_MIDDLE: u32 = 1;
    const KERNEL_TABLE: u32 = 2;

    fn store(&mut self, table: u32, va: u32, level: usize, value: u64) {
        let index = F::index(GuestVirt(va), level) as u32;
        let at = table * 4096 + index * F::ENTRY_SIZE;
        self.host.store(F::PAGING, at.into(), value);
    }

    fn build_process(&mut self, process: u8) {
        let (root, middle) = (Self::table(process, 0), Self::table(process, 1));
        let full = F::DIRECTORY_FLAGS.bits();
        let link = |frame: u32, flags: u64| u64::from(frame) << 12 | flags;
        let top = F::ROOT_FLAGS.bits();
        let (user_parent, kernel_parent) = if F::LEVELS == 3 {
            self.store(root, USER_BASE, 3, link(middle, top));
            self.store(root, KERNEL_BASE, 3, link(Self::KERNEL_MIDDLE, top));
            (middle, Self::KERNEL_MIDDLE)
        } else {
            (root, root)
        };
        for table in 0..TABLES {
            let va = USER_BASE + table * F::LEAF_SPAN;
            self.store(user_parent, va, 2, link(Self::table(process, 2 + table), full));
        }
        self.store(kernel_parent, KERNEL_BASE, 2, link(Self::KERNEL_TABLE, full));
    }

    /// One of a few pages in either half of a table.
    fn in_table(page: u8) -> u32 {
        u32::from(page % 8) * 4096 + u32::from(page / 8 % 2) * (F::LEAF_SPAN / 2)
    }

    /// A few pages in either table.
    fn user_page(page: u8) -> (u32, u32) {
        let table = u32::from(page) % TABLES;
        (table, USER_BASE + table * F::LEAF_SPAN + Self::in_table(page))
    }

    fn kernel_page(page: u8) -> u32 {
        KERNEL_BASE + Self::in_table(page)
    }

    fn data(frame: u8) -> u64 {
        u64::from(DATA + frame % DATA)
    }

    fn set(&mut self, table: u32, va: u32, value: u64) -> Result<(), Kill> {
        self.store(table, va, 1, value);
        let root = Self::root(self.current);
        self.strategy.set_pte(&mut self.host, root, GuestVirt(va), Entry(value))
    }

    fn access(&mut self, va: u32, user: bool, write: bool) -> Result<(), Kill> {
        let va = GuestVirt(va);
        let lookup = self.strategy.inspect().unwrap().lookup(va);
        if lookup.is_none_or(|l| user && !l.user || write && !l.writable) {
            let mut error = PageFaultErrorCode::empty();
            error.set(PageFaultErrorCode::USER_MODE, user);
            error.set(PageFaultErrorCode::CAUSED_BY_WRITE, write);
            self.strategy.demand_fault(&mut self.host, va, error)?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), Kill> {
        let flags = |writable: bool, touched: bool| {
            let mut flags = Flags::PRESENT | Flags::USER_ACCESSIBLE;
            flags.set(Flags::WRITABLE, writable);
            flags.set(Flags::ACCESSED | Flags::DIRTY, touched);
            flags.bits()
        };
        match step {
            Step::Switch(process) => {
                self.current = process % PROCESSES;
                self.strategy.load_page_directory(&mut self.host, Self::root(self.current))
            }
            Step::Map { page, frame, writable, touched } => {
                let (table, va) = Self::user_page(page);
                let value = Self::data(frame) << 12 | flags(writable, touched);
                self.set(Self::table(self.current, 2 + table), va, value)
            }
            Step::Unmap(page) => {
                let (table, va) = Self::user_page(page);
                self.set(Self::table(self.current, 2 + table), va, 0)
            }
            Step::MapKernel { page, frame } => {
                let flags = Flags::PRESENT | Flags::WRITABLE | Flags::GLOBAL;
                let value = Self::data(frame) << 12 | flags.bits();
                self.set(Self::KERNEL_TABLE, Self::kernel_page(page), value)
            }
            Step::UnmapKernel(page) => self.set(Self::KERNEL_TABLE, Self::kernel_page(page), 0),
            Step::Touch { page, user, write } => self.access(Self::user_page(page).1, user, write),
            Step::TouchKernel { page, write } => self.access(Self::kernel_page(page), false, write),
            Step::FlushUser => {
                self.strategy.flush_user(&mut self.host);
                Ok(())
            }
            Step::FlushUserOf(process) => {
                let directory = Self::root(process % PROCESSES);
                self.strategy.flush_user_of(&mut self.host, directory);
                let mut left = 0;
                let _ = self.strategy.inspect().unwrap().mappings(&mut |mapping| {
                    left += u32::from(mapping.directory == directory && mapping.va.0 < KERNEL_BASE);
                    Progress::Continue(())
                });
                assert_eq!(left, 0, "the user half of {directory:?} is flushed");
                Ok(())
            }
            Step::FlushAll => self.strategy.flush_all(&mut self.host),
            Step::DropTable(table) => {
                let table = u32::from(table) % TABLES;
                for page in 0..F::ENTRIES as u32 {
                    let va = USER_BASE + table * F::LEAF_SPAN + page * 4096;
                    self.store(Self::table(self.current, 2 + table), va, 1, 0);
                }
                if F::LEVELS == 3 {
                    let middle = GuestPhys(Self::table(self.current, 1) * 4096);
                    let index = F::index(GuestVirt(USER_BASE + table * F::LEAF_SPAN), 2);
                    self.strategy.set_pmd(&mut self.host, middle, index as u32)
                } else {
                    let index = F::index(GuestVirt(USER_BASE + table * F::LEAF_SPAN), 2);
                    self.strategy.set_pgd(&mut self.host, Self::root(self.current), index as u32)
                }
            }
            Step::TakeFrame { frame, share } => {
                let page = GuestFrame(Self::data(frame) as u32);
                if share {
                    self.host.share_page(page, true);
                } else {
                    self.host.take_frame(page);
                }
                self.audit();
                // What the run loop does before the guest runs again.
                if self.host.drop_stale().is_some() {
                    self.strategy.keep_stack(&mut self.host)?;
                }
                Ok(())
            }
        }
    }

    /// This guest reports every change at once, so that all entries must be as in its tables.
    fn audit(&mut self) {
        let report = audit::audit(&*self.strategy, &mut self.host, &Coverage::Everything);
        assert_eq!(report.first, None);
    }
}

/// The table pages of one process in this format, with a few to spare: its root and the shared kernel's, with all middle
/// tables; two tables of the guest's user half and one of its kernel's, each of two in another format; the Switcher's.
const fn enough_tables(shadow: Paging) -> usize {
    match shadow {
        Paging::TwoLevel => 2 + 3 + 1 + 2,
        Paging::Pae => 2 * 5 + 3 * 2 + 1 + 2,
    }
}

fn behave<F: PageFormat>(name: &str, shadow: Paging, most_tables: Option<usize>, steps: &[Step]) {
    let mut guest = Guest::<F>::new(name, shadow);
    guest.host.cap_tables(most_tables);
    for &step in steps {
        guest.step(step).unwrap_or_else(|kill| panic!("{name}: {step:?} killed the guest: {kill}"));
        guest.audit();
    }
    tear_down(guest.strategy, guest.host);
}

/// Records the guest on a strategy, and replays that.
fn record<F: PageFormat>(name: &str, shadow: Paging, steps: &[Step]) {
    let mut guest = Guest::<F>::new(&format!("record:of={name}"), shadow);
    // A replay has no host that takes frames away.
    for &step in steps.iter().filter(|step| !matches!(step, Step::TakeFrame { .. })) {
        guest.step(step).unwrap_or_else(|kill| panic!("{name}: {step:?} killed the guest: {kill}"));
    }
    let (counters, entries) = (guest.strategy.counters(), guest.host.entries());
    let recording = tear_down(guest.strategy, guest.host);

    let reader = Reader::new(&recording[..]).unwrap();
    let choice = Choice::parse(name).unwrap();
    let mut replay = Replay::on_host(&reader.header(), &choice, shadow).unwrap();
    for operation in reader {
        replay.step(&operation.unwrap());
    }
    let report = replay.finish(&choice, false);
    assert_eq!((report.counters, report.entries, report.hit), (counters, entries, 0), "{name}");
}

/// Something that a guest does which follows no rule.
#[derive(Clone, Copy, Debug)]
enum Wild {
    Store(u16, u64),
    Load(u32),
    Fault(u32, u8),
    SetPte(u32, u32, u64),
    SetPgd(u32, u16),
    SetPmd(u32, u16),
    Stack(u32, u8),
    Translate(u32),
    FlushUser,
    FlushUserOf(u32),
    FlushAll,
}

/// Addresses near where tables and boundaries are, now and then anywhere.
fn addresses() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => (0u32..PAGES).prop_map(|page| page * 4096),
        4 => (0u32..64).prop_map(|page| KERNEL_BASE + page * 4096),
        2 => (0u32..64).prop_map(|page| WINDOW.0.wrapping_add(page * 4096).wrapping_sub(0x2_0000)),
        1 => any::<u32>(),
    ]
}

fn entries() -> impl Strategy<Value = u64> {
    let flags = prop_oneof![4 => 0u64..128, 1 => 0u64..4096];
    prop_oneof![
        8 => (0u64..u64::from(PAGES) + 8, flags).prop_map(|(frame, flags)| frame << 12 | flags),
        1 => any::<u64>(),
    ]
}

fn wild() -> impl Strategy<Value = Vec<Wild>> {
    let step = prop_oneof![
        8 => (any::<u16>(), entries()).prop_map(|(at, value)| Wild::Store(at, value)),
        4 => addresses().prop_map(Wild::Load),
        8 => (addresses(), 0u8..32).prop_map(|(va, error)| Wild::Fault(va, error)),
        4 => (addresses(), addresses(), entries()).prop_map(|(d, va, e)| Wild::SetPte(d, va, e)),
        1 => (addresses(), 0u16..1030).prop_map(|(d, i)| Wild::SetPgd(d, i)),
        1 => (addresses(), 0u16..520).prop_map(|(d, i)| Wild::SetPmd(d, i)),
        1 => (addresses(), 0u8..3).prop_map(|(esp, pages)| Wild::Stack(esp, pages)),
        2 => addresses().prop_map(Wild::Translate),
        1 => Just(Wild::FlushUser),
        1 => addresses().prop_map(Wild::FlushUserOf),
        1 => Just(Wild::FlushAll),
    ];
    prop::collection::vec(step, 1..80)
}

fn run_wild(strategy: &mut dyn Pager, host: &mut SimHost, steps: &[Wild]) -> Result<(), Kill> {
    strategy.set_up(host)?;
    let paging = strategy.paging();
    for &step in steps {
        match step {
            Wild::Store(at, value) => host.store(paging, u64::from(at) * 16, value),
            Wild::Load(directory) => strategy.load_page_directory(host, GuestPhys(directory))?,
            Wild::Fault(va, error) => {
                let error = PageFaultErrorCode::from_bits_truncate(error.into());
                strategy.demand_fault(host, GuestVirt(va), error)?;
            }
            Wild::SetPte(directory, va, value) => {
                let value = if paging == Paging::TwoLevel { value & 0xffff_ffff } else { value };
                strategy.set_pte(host, GuestPhys(directory), GuestVirt(va), Entry(value))?;
            }
            Wild::SetPgd(directory, index) => strategy.set_pgd(host, GuestPhys(directory), index.into())?,
            Wild::SetPmd(middle, index) if paging == Paging::Pae => {
                strategy.set_pmd(host, GuestPhys(middle), index.into())?;
            }
            Wild::SetPmd(..) => {}
            Wild::Stack(esp, pages) => strategy.set_stack(host, GuestVirt(esp), pages.into())?,
            Wild::Translate(va) => {
                strategy.translate(host, GuestVirt(va))?;
            }
            Wild::FlushUser => strategy.flush_user(host),
            Wild::FlushUserOf(directory) => strategy.flush_user_of(host, GuestPhys(directory)),
            Wild::FlushAll => strategy.flush_all(host)?,
        }
    }
    Ok(())
}

/// Under Miri every step costs a thousandfold; as a 32-bit program there are fewer, as pointers are all that differs.
const CASES: u32 = if cfg!(miri) {
    4
} else if cfg!(target_pointer_width = "32") {
    60
} else {
    200
};

proptest! {
    // Each step is followed by an audit of everything.
    #![proptest_config(ProptestConfig { cases: CASES / 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_guest_that_plays_by_the_rules_gets_what_its_tables_say(steps in steps(), pick in any::<usize>()) {
        for (name, Formats { guest, shadow }) in formats(pick) {
            match guest {
                Paging::TwoLevel => behave::<TwoLevel>(name, shadow, None, &steps),
                Paging::Pae => behave::<Pae>(name, shadow, None, &steps),
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES / 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_guest_at_the_limit_of_its_tables_goes_on(steps in steps(), pick in any::<usize>()) {
        for (name, Formats { guest, shadow }) in formats(pick) {
            let most = Some(enough_tables(shadow));
            match guest {
                Paging::TwoLevel => behave::<TwoLevel>(name, shadow, most, &steps),
                Paging::Pae => behave::<Pae>(name, shadow, most, &steps),
            }
        }
    }
}

/// There is no memory for one fault, and then for another: the page of the first was filled when the stack was mapped again, so that
/// no fault was fixed in between.
#[test]
fn a_guest_may_run_short_of_memory_twice_in_a_row() {
    let switches =
        |processes: &[u8]| processes.iter().map(|&process| Step::Switch(process)).collect::<Vec<_>>();
    let map = |page, frame| Step::Map { page, frame, writable: true, touched: true };
    let steps = [
        switches(&[229, 232, 254]),
        vec![Step::MapKernel { page: 135, frame: 23 }, map(253, 127)],
        switches(&[7, 195]),
        vec![Step::MapKernel { page: 20, frame: 217 }, Step::Switch(181)],
        vec![Step::TouchKernel { page: 119, write: false }, Step::Switch(206)],
        vec![Step::TouchKernel { page: 51, write: true }, Step::Switch(197)],
        vec![map(80, 103), Step::TouchKernel { page: 164, write: false }],
    ]
    .concat();
    let most = Some(enough_tables(Paging::TwoLevel));
    behave::<TwoLevel>("shared", Paging::TwoLevel, most, &steps);
}

/// Every process writes to a page of each of its tables, twice over.
fn all_processes<F: PageFormat>(name: &str, shadow: Paging) {
    let touch = |page| {
        [
            Step::Map { page, frame: page, writable: true, touched: false },
            Step::Touch { page, user: true, write: true },
        ]
    };
    let process = |process| [Step::Switch(process)].into_iter().chain(touch(0)).chain(touch(1));
    let steps: Vec<_> = (0..PROCESSES).chain(0..PROCESSES).flat_map(process).collect();
    let mut guest = Guest::<F>::new(name, shadow);
    guest.host.cap_tables(Some(enough_tables(shadow)));
    for step in steps {
        guest.step(step).unwrap_or_else(|kill| panic!("{name}: {step:?} killed the guest: {kill}"));
        guest.audit();
    }
    let counters = guest.strategy.counters();
    assert!(counters.shrinks > 0 && counters.evictions > 0, "{name}, {shadow}: {counters}");
    tear_down(guest.strategy, guest.host);
}

#[test]
fn at_the_limit_of_its_tables_a_guests_directories_are_evicted() {
    // Room for all of them, but for the limit.
    for name in ["lru:slots=16", "random:slots=16", "shared:budget=0,slots=16", "shared:budget=1000"] {
        all_processes::<TwoLevel>(name, Paging::TwoLevel);
        all_processes::<TwoLevel>(name, Paging::Pae);
        all_processes::<Pae>(name, Paging::Pae);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_recording_comes_to_what_was_recorded(steps in steps(), pick in any::<usize>()) {
        // One that wraps another wraps no third.
        let wrappers = ["audit", "record"];
        for (name, Formats { guest, shadow }) in formats(pick).filter(|(name, _)| !wrappers.contains(name)) {
            match guest {
                Paging::TwoLevel => record::<TwoLevel>(name, shadow, &steps),
                Paging::Pae => record::<Pae>(name, shadow, &steps),
            }
        }
    }

    #[test]
    fn a_wild_guest_leaves_nothing(steps in wild(), no_execute in any::<bool>(), pick in any::<usize>()) {
        for (name, formats) in formats(pick) {
            let mut host = SimHost::new(PAGES);
            host.set_no_execute(no_execute);
            let mut strategy = build(name, formats, &mut host);
            // Killed or not, the outcome is the guest's own doing.
            let _: Result<(), Kill> = run_wild(&mut *strategy, &mut host, &steps);
            tear_down(strategy, host);
        }
    }

    #[test]
    fn a_host_without_memory_leaves_nothing(
        steps in wild(), tables in 0usize..12, pins in 0usize..12, pick in any::<usize>()
    ) {
        for (name, formats) in formats(pick) {
            let mut host = SimHost::new(PAGES);
            let mut strategy = build(name, formats, &mut host);
            host.limit_tables(Some(tables));
            host.limit_frames(Some(pins));
            let _: Result<(), Kill> = run_wild(&mut *strategy, &mut host, &steps);
            tear_down(strategy, host);
        }
    }
}
