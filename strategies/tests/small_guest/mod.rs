//! A guest whose whole life is a few hundred requests, on a host that is never short of memory itself.

use super::{ALLOCATIONS, uncounted};
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Flags, PageFormat, Paging};
use arch_i386::table::{TablePage, TrustedHost};
use arch_i386::trap::PageFaultErrorCode;
use framework::host::{
    BadAddress, Capability, KnownFrame, NoFrame, OutOfMemory, PagingHost, Purpose, RecordingFull,
};
use framework::kill::Kill;
use framework::ledger::TableKind;
use framework::pager::Pager;
use framework::registry::{BuildContext, Choice, ConfigError};
use framework::strategy::Formats;
use sim::SimHost;

const WINDOW: GuestVirt = GuestVirt(0xffc0_0000);
const KERNEL: GuestVirt = GuestVirt(0xc000_0000);
const USER: GuestVirt = GuestVirt(0x0800_0000);
const PROCESSES: u32 = 7;
/// Frames: tables of the kernel; then of each process a root, a middle table and two level-1 tables; then data.
const KERNEL_MIDDLE: u32 = 1;
const KERNEL_TABLE: u32 = 2;
const DATA: u32 = 64;
const PAGES: u32 = 128;

/// The simulated host, which allocates what a real one has elsewhere.
struct Uncounted(SimHost);

// SAFETY: it hands on what the simulated host does.
unsafe impl TrustedHost for Uncounted {}

impl PagingHost for Uncounted {
    fn page_limit(&self) -> u32 {
        self.0.page_limit()
    }

    fn no_execute(&self) -> bool {
        self.0.no_execute()
    }

    fn read(&mut self, at: GuestPhys, into: &mut [u8]) -> Result<(), BadAddress> {
        uncounted(|| self.0.read(at, into))
    }

    fn write(&mut self, at: GuestPhys, from: &[u8]) -> Result<(), BadAddress> {
        uncounted(|| self.0.write(at, from))
    }

    fn frame(
        &mut self,
        page: GuestFrame,
        purpose: Purpose,
        capability: Capability,
    ) -> Result<KnownFrame, NoFrame> {
        uncounted(|| self.0.frame(page, purpose, capability))
    }
    fn known(&self, page: GuestFrame) -> Option<KnownFrame> {
        self.0.known(page)
    }
    fn has_stale(&self) -> bool {
        self.0.has_stale()
    }
    fn alloc_table(&mut self, kind: TableKind, capability: Capability) -> Result<TablePage, OutOfMemory> {
        uncounted(|| self.0.alloc_table(kind, capability))
    }

    fn free_table(&mut self, table: TablePage, capability: Capability) {
        uncounted(|| self.0.free_table(table, capability));
    }

    fn free_zeroed_table(&mut self, table: TablePage, capability: Capability) {
        uncounted(|| self.0.free_zeroed_table(table, capability));
    }

    fn reschedule_point(&mut self) -> bool {
        self.0.reschedule_point()
    }

    fn record(&mut self, piece: &[u8]) -> Result<(), RecordingFull> {
        uncounted(|| self.0.record(piece))
    }
}

/// A process's n-th table: its root, middle table (PAE), and two level-1 tables.
const fn table(process: u32, n: u32) -> u32 {
    4 + process * 4 + n
}

const fn root(process: u32) -> GuestPhys {
    GuestPhys(table(process, 0) * 4096)
}

fn store<F: PageFormat>(host: &mut SimHost, table: u32, va: GuestVirt, level: usize, entry: Entry) {
    let at = table * 4096 + F::index(va, level) as u32 * F::ENTRY_SIZE;
    host.store(F::PAGING, at.into(), entry.0);
}

fn build_tables<F: PageFormat>(host: &mut SimHost) {
    let entry = |frame: u32, flags| Entry::new(frame.into(), flags);
    let used = Flags::PRESENT | Flags::WRITABLE | Flags::ACCESSED | Flags::DIRTY;
    for page in 0..16 {
        let va = GuestVirt(KERNEL.0 + page * 4096);
        store::<F>(host, KERNEL_TABLE, va, 1, entry(DATA + page, used));
    }
    for process in 0..PROCESSES {
        let (mut user, mut kernel) = (table(process, 0), table(process, 0));
        if F::LEVELS == 3 {
            store::<F>(host, user, USER, 3, entry(table(process, 1), F::ROOT_FLAGS));
            store::<F>(host, kernel, KERNEL, 3, entry(KERNEL_MIDDLE, F::ROOT_FLAGS));
            (user, kernel) = (table(process, 1), KERNEL_MIDDLE);
        }
        store::<F>(host, kernel, KERNEL, 2, entry(KERNEL_TABLE, F::DIRECTORY_FLAGS));
        for n in 0..2 {
            let va = GuestVirt(USER.0 + n * F::LEAF_SPAN);
            store::<F>(host, user, va, 2, entry(table(process, 2 + n), F::DIRECTORY_FLAGS));
            for page in 0..24 {
                let va = GuestVirt(va.0 + page * 4096);
                let frame = DATA + (process * 8 + page) % (PAGES - DATA);
                store::<F>(host, table(process, 2 + n), va, 1, entry(frame, used | Flags::USER_ACCESSIBLE));
            }
        }
    }
}

fn requests<F: PageFormat>(strategy: &mut dyn Pager, host: &mut Uncounted) -> Result<(), Kill> {
    let write = PageFaultErrorCode::CAUSED_BY_WRITE;
    strategy.set_up(host)?;
    for page in 0..4 {
        strategy.demand_fault(host, GuestVirt(page * 0x20_0000 / 4096 * 4096 % (PAGES * 4096)), write)?;
    }
    strategy.guest_initialised(host, KERNEL)?;
    for round in 0..4 * PROCESSES {
        // Some again and again, some rarely.
        let process = if round % 3 == 0 { round / 3 } else { round } % PROCESSES;
        strategy.load_page_directory(host, root(process))?;
        strategy.set_stack(host, GuestVirt(KERNEL.0 + 0x4000 + process * 0x1000), 2)?;
        for n in 0..2 {
            let va = GuestVirt(USER.0 + n * F::LEAF_SPAN);
            strategy.demand_fault(host, va, write | PageFaultErrorCode::USER_MODE)?;
            strategy.demand_fault(host, GuestVirt(va.0 + (8 + round % 16) * 4096), write)?;
        }
        strategy.demand_fault(host, GuestVirt(KERNEL.0 + round % 16 * 4096), write)?;
        // For a page directory that has a shadow, and for one that may have none.
        for other in [process, (process + 3) % PROCESSES] {
            let va = GuestVirt(USER.0 + (16 + round % 8) * 4096);
            let flags = Flags::PRESENT | Flags::ACCESSED | Flags::USER_ACCESSIBLE;
            let entry = Entry::new((DATA + round).into(), flags);
            store::<F>(&mut host.0, table(other, 2), va, 1, entry);
            strategy.set_pte(host, root(other), va, entry)?;
        }
        match round % 7 {
            3 => {
                strategy.flush_user_of(host, root((process + 1) % PROCESSES));
                strategy.flush_user(host);
            }
            5 => strategy.flush_all(host)?,
            6 if F::LEVELS == 3 => strategy.set_pmd(host, GuestPhys(table(process, 1) * 4096), 1)?,
            6 => strategy.set_pgd(host, root(process), F::index(USER, F::LEVELS) as u32)?,
            _ => {}
        }
    }
    Ok(())
}

/// Switches among page directories that map nothing until one takes another's slot, and so many times more; returns how
/// many allocations these made.
pub fn switches(text: &str, switches: u32) -> u64 {
    let mut host = uncounted(|| Uncounted(SimHost::new(PAGES)));
    let window = uncounted(|| host.0.window(WINDOW));
    let formats = Formats::both(Paging::TwoLevel);
    let mut strategy = Choice::parse(text)
        .unwrap()
        .build(&BuildContext { formats, window, seed: 7, switcher_fills: false })
        .unwrap();
    strategy.set_up(&mut host).unwrap();
    strategy.guest_initialised(&mut host, KERNEL).unwrap();
    let mut random = 1_u32;
    let mut switch = |strategy: &mut dyn Pager, host: &mut Uncounted| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // (Where they lie in their pages makes no difference.)
        strategy.load_page_directory(host, GuestPhys(DATA * 4096 + (random >> 16) % 1000 * 32)).unwrap();
    };
    while strategy.counters().evictions == 0 {
        switch(&mut *strategy, &mut host);
    }
    let before = ALLOCATIONS.get();
    (0..switches).for_each(|_| switch(&mut *strategy, &mut host));
    let allocated = ALLOCATIONS.get() - before;
    strategy.tear_down(&mut host);
    uncounted(|| host.0.remove_window());
    allocated
}

/// Lives on a strategy from the choice to the end, which may come early; proves that nothing is left then, and that the
/// end allocated nothing.
pub fn live<F: PageFormat>(text: &str, shadow: Paging) {
    let mut host = uncounted(|| {
        let mut host = SimHost::new(PAGES);
        build_tables::<F>(&mut host);
        Uncounted(host)
    });
    let window = uncounted(|| host.0.window(WINDOW));
    let context = BuildContext {
        formats: Formats { guest: F::PAGING, shadow },
        window,
        seed: 7,
        switcher_fills: false,
    };
    let strategy = Choice::parse(text).and_then(|choice| choice.build(&context));
    let died = match strategy {
        Ok(mut strategy) => {
            let end = requests::<F>(&mut *strategy, &mut host);
            let before = ALLOCATIONS.get();
            strategy.tear_down(&mut host);
            drop(strategy);
            assert_eq!(ALLOCATIONS.get(), before, "{text}: the end allocates");
            end.err()
        }
        Err(error) => {
            uncounted(|| assert_eq!(error, ConfigError::OutOfMemory(OutOfMemory), "{text}"));
            None
        }
    };
    uncounted(|| {
        assert!(matches!(died, None | Some(Kill::OutOfMemory(_))), "{text}: {died:?}");
        host.0.remove_window();
        assert_eq!((host.0.entries(), host.0.tables()), (0, 0), "{text}: references and table pages left");
        drop(host);
    });
}
