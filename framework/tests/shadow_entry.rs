//! The conversion alone: every combination of flags that an entry of the guest's can have, in both formats, held against
//! a rule that is written down from the processor's manual (Intel SDM vol. 3A, 4.6, 4.9 and table 4-11), bit by bit.

use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, HostFrame};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, TwoLevel};
use arch_i386::table::{TablePage, TrustedHost};
use framework::host::{BadAddress, Capability, OutOfMemory, PagingHost, PinFailed};
use framework::kill::Kill;
use framework::ledger::TableKind;
use framework::tables::{LeafId, Origin, ShadowEntry, Tables};
use sim::SimHost;

const PAGES: u32 = 16;
const WINDOW: GuestVirt = GuestVirt(0xffc0_0000);
const VA: GuestVirt = GuestVirt(0x0804_8000);

/// A host whose pages are elsewhere than the guest's, and that remembers whether the last one was had for writing.
struct Elsewhere {
    sim: SimHost,
    for_writing: Option<bool>,
}

/// Where this host has a page of the guest's.
const fn elsewhere(frame: u32) -> u32 {
    frame ^ 5
}

// SAFETY: it hands on what the simulated host does, with another numbering of the same pages.
unsafe impl TrustedHost for Elsewhere {}

impl PagingHost for Elsewhere {
    fn page_limit(&self) -> u32 {
        self.sim.page_limit()
    }
    fn no_execute(&self) -> bool {
        self.sim.no_execute()
    }
    fn read(&mut self, at: GuestPhys, into: &mut [u8]) -> Result<(), BadAddress> {
        self.sim.read(at, into)
    }
    fn write(&mut self, at: GuestPhys, from: &[u8]) -> Result<(), BadAddress> {
        self.sim.write(at, from)
    }
    fn pin(
        &mut self,
        frame: GuestFrame,
        write: bool,
        capability: Capability,
    ) -> Result<HostFrame, PinFailed> {
        let HostFrame(page) = self.sim.pin(frame, write, capability)?;
        self.for_writing = Some(write);
        Ok(HostFrame(elsewhere(page)))
    }
    fn settle(&mut self, given_back: Option<HostFrame>, capability: Capability) {
        self.sim.settle(given_back, capability);
    }
    fn unpin(&mut self, frame: HostFrame, capability: Capability) {
        self.sim.unpin(frame, capability);
    }
    fn pinned(&self) -> u64 {
        self.sim.pinned()
    }
    fn alloc_table(&mut self, kind: TableKind, capability: Capability) -> Result<TablePage, OutOfMemory> {
        self.sim.alloc_table(kind, capability)
    }
    fn free_table(&mut self, table: TablePage, capability: Capability) {
        self.sim.free_table(table, capability);
    }
    fn reschedule_point(&mut self) -> bool {
        self.sim.reschedule_point()
    }
}

const P: u64 = 1 << 0;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const PWT: u64 = 1 << 3;
const PCD: u64 = 1 << 4;
const D: u64 = 1 << 6;
const PAT: u64 = 1 << 7;
const G: u64 = 1 << 8;
const NX: u64 = 1 << 63;

/// What the shadow of an entry must be, if it may have one.
fn rule(guest: u64, knows_no_execute: bool) -> Option<u64> {
    let frame = guest >> 12 & 0xff_ffff_ffff;
    let reserved = (52..63).any(|bit| guest >> bit & 1 == 1);
    let refused = guest & P == 0
        || guest & PAT != 0
        || reserved
        || guest & NX != 0 && !knows_no_execute
        || frame >= u64::from(PAGES);
    let seen = guest & (0xfff | NX) & !(PWT | PCD | G);
    (!refused).then(|| u64::from(elsewhere(frame as u32)) << 12 | seen)
}

/// Tables with one of level 1, for [`VA`], in a host.
fn tables<F: PageFormat>() -> (Elsewhere, Tables<F, F>, LeafId) {
    let mut sim = SimHost::new(PAGES);
    let window = sim.window(WINDOW);
    let mut host = Elsewhere { sim, for_writing: None };
    let mut tables = Tables::new(window, true);
    let root = tables.add_root(&mut host).unwrap();
    tables.make_current(root);
    let origin = Origin { table: GuestFrame(1), flags: F::DIRECTORY_FLAGS, middle: None };
    let leaf = tables.find_or_add(&mut host, root, VA, origin).unwrap();
    (host, tables, leaf)
}

/// Converts one entry, puts it in the table, and holds all that can be seen of it against the rule.
fn check<F: PageFormat>(
    (host, tables, leaf): &mut (Elsewhere, Tables<F, F>, LeafId),
    guest: u64,
    knows_no_execute: bool,
) {
    host.sim.set_no_execute(knows_no_execute);
    host.for_writing = None;
    let expected = rule(guest, knows_no_execute);
    let converted = ShadowEntry::new(host, Entry(guest)).map(|entry| {
        assert_eq!(Some(entry.entry().0), expected, "of {guest:#x}");
        tables.replace(*leaf, VA, entry);
    });
    if let Err(kill) = converted {
        assert_eq!((kill, expected), (Kill::PageTableEntry(Entry(guest)), None), "of {guest:#x}");
        assert_eq!(host.for_writing, None, "{guest:#x} is refused, and a page was asked for");
        tables.clear(host, *leaf, VA);
    }
    let shadow = tables.entry_in(*leaf, VA).0;
    assert_eq!(shadow, expected.unwrap_or(0), "of {guest:#x}");
    // What the rule comes to, stated once more without it.
    assert_eq!(shadow & !guest & (P | W | U), 0, "{guest:#x} has less rights than {shadow:#x}");
    assert!(
        shadow == 0 || guest & NX == shadow & NX,
        "{guest:#x} and {shadow:#x} differ in what can be executed"
    );
    assert_eq!(shadow & (PWT | PCD | PAT | G), 0, "{shadow:#x} says how the page is cached, or is global");
    if shadow & W != 0 {
        assert_eq!(host.for_writing, Some(true), "{shadow:#x} can write to a page that was not had for that");
    }
    if host.for_writing == Some(true) {
        assert_ne!(guest & (W | D), 0, "a page was had for writing, for {guest:#x}");
    }
    assert_eq!(host.pinned(), u64::from(expected.is_some()), "references after {guest:#x}");
}

fn all<F: PageFormat>(high: &[u64]) {
    let mut at = tables::<F>();
    for flags in 0..1 << 12 {
        for &high in high {
            for knows_no_execute in [false, true] {
                for frame in [0, 3, u64::from(PAGES) - 1, u64::from(PAGES)] {
                    check(&mut at, high | frame << 12 | flags, knows_no_execute);
                }
            }
        }
    }
    let (mut host, mut tables, _) = at;
    tables.remove_all(&mut host);
    host.sim.remove_window();
    assert_eq!((host.sim.pinned(), host.sim.tables()), (0, 0));
}

#[test]
fn every_combination_of_flags_of_a_two_level_entry() {
    all::<TwoLevel>(&[0]);
}

#[test]
fn every_combination_of_flags_of_a_pae_entry() {
    let mut high = vec![0, NX];
    high.extend((52..63).map(|bit| 1 << bit));
    high.push(0x7ff0_0000_0000_0000 | NX);
    all::<Pae>(&high);
}

#[test]
fn frames_that_no_guest_has() {
    let mut at = tables::<Pae>();
    for frame in [1 << 20, 1 << 31, 1 << 32, 1 << 39, 3 | 1 << 20, 3 | 1 << 32] {
        check(&mut at, frame << 12 | 0x67, true);
    }
}

#[test]
fn a_page_that_cannot_be_had() {
    let (mut host, _tables, _) = tables::<TwoLevel>();
    host.sim.limit_pins(Some(0));
    let failed = ShadowEntry::new(&mut host, Entry(0x3067)).map(|entry| entry.entry());
    assert_eq!(failed, Err(Kill::Pin(PinFailed::Missing(GuestFrame(3)))));
    assert_eq!(host.pinned(), 0);
}

#[test]
fn an_entry_that_is_dropped_gives_its_page_back() {
    let (mut host, mut tables, leaf) = tables::<TwoLevel>();
    drop(ShadowEntry::new(&mut host, Entry(0x3067)).unwrap());
    assert_eq!(host.pinned(), 0);
    let entry = ShadowEntry::new(&mut host, Entry(0x4067)).unwrap();
    tables.replace(leaf, VA, entry);
    drop(ShadowEntry::new(&mut host, Entry(0x3067)).unwrap());
    assert_eq!(host.pinned(), 1, "the one in the table");
    assert_eq!(tables.entry_in(leaf, VA), Entry(u64::from(elsewhere(4)) << 12 | 0x67));
}

/// Above level 1, an entry has a table's flags, for any flags of the guest's entry that the strategy passes.
#[test]
fn entries_that_lead_to_tables_have_the_flags_of_a_table() {
    fn check<F: PageFormat>() {
        for bit in 0..64 {
            let (mut host, mut tables, _) = tables::<F>();
            let root = tables.add_root(&mut host).unwrap();
            tables.make_current(root);
            let (before, flags) = (host.sim.tables() as u32, Flags::from_bits_retain(1 << bit | P));
            let origin = Origin { table: GuestFrame(1), flags, middle: None };
            tables.find_or_add(&mut host, root, VA, origin).unwrap();
            // The Switcher's table was the first; the table of level 1 is taken before one that leads to it.
            let leaf = before;
            let mut table = tables.current_root().frame();
            for level in (2..=F::LEVELS).rev() {
                let entry = host.sim.inspect_table(table, |page| F::load(page, F::index(VA, level)));
                if level == 2 {
                    assert_eq!(entry.frame(), u64::from(PAGES + leaf), "bit {bit} leads elsewhere");
                    assert!(F::DIRECTORY_FLAGS.contains(entry.flags()), "bit {bit} is not a table's");
                }
                table = HostFrame(entry.frame() as u32);
            }
        }
    }
    check::<TwoLevel>();
    check::<Pae>();
}

#[test]
#[should_panic(expected = "is not the guest's")]
fn nothing_takes_the_switchers_place() {
    let (mut host, mut tables, _) = tables::<TwoLevel>();
    let root = tables.add_root(&mut host).unwrap();
    let origin = Origin { table: GuestFrame(1), flags: TwoLevel::DIRECTORY_FLAGS, middle: None };
    let _ = tables.find_or_add(&mut host, root, WINDOW, origin);
}

#[test]
#[should_panic(expected = "has a table already")]
fn what_is_mapped_cannot_become_shared() {
    let (mut host, mut tables, _) = tables::<Pae>();
    let _ = tables.share_from(&mut host, GuestVirt(0));
}

#[test]
#[should_panic(expected = "no root is the current one")]
fn a_root_that_is_removed_is_not_the_current_one() {
    let (mut host, mut tables, _) = tables::<TwoLevel>();
    tables.remove_all(&mut host);
    let _ = tables.current_root();
}
