//! The conversion alone: every combination of flags that an entry of the guest's can have, in both formats, held against
//! a rule that is written down from the processor's manual (Intel SDM vol. 3A, 4.6, 4.9 and table 4-11), bit by bit.

use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, HostFrame};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, TwoLevel};
use arch_i386::table::{TablePage, TrustedHost};
use framework::host::{BadAddress, Capability, KnownFrame, NoFrame, OutOfMemory, PagingHost, Purpose};
use framework::kill::Kill;
use framework::ledger::TableKind;
use framework::tables::{LeafId, Origin, ShadowEntry, Tables};
use sim::SimHost;

const PAGES: u32 = 16;
const WINDOW: GuestVirt = GuestVirt(0xffc0_0000);
const VA: GuestVirt = GuestVirt(0x0804_8000);

/// A host whose frames are elsewhere than the guest's pages, and that remembers what the last one was had for.
struct Elsewhere {
    sim: SimHost,
    purpose: Option<Purpose>,
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
    fn frame(
        &mut self,
        page: GuestFrame,
        purpose: Purpose,
        capability: Capability,
    ) -> Result<KnownFrame, NoFrame> {
        let KnownFrame { frame: HostFrame(frame), writable } = self.sim.frame(page, purpose, capability)?;
        self.purpose = Some(purpose);
        Ok(KnownFrame { frame: HostFrame(elsewhere(frame)), writable })
    }
    fn known(&self, page: GuestFrame) -> Option<KnownFrame> {
        self.sim.known(page)
    }
    fn has_stale(&self) -> bool {
        self.sim.has_stale()
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
    let mut host = Elsewhere { sim, purpose: None };
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
    host.purpose = None;
    let expected = rule(guest, knows_no_execute);
    let converted = ShadowEntry::new(host, Entry(guest)).map(|entry| {
        assert_eq!(Some(entry.entry().0), expected, "of {guest:#x}");
        tables.replace(*leaf, VA, entry);
    });
    if let Err(kill) = converted {
        assert_eq!((kill, expected), (Kill::PageTableEntry(Entry(guest)), None), "of {guest:#x}");
        assert_eq!(host.purpose, None, "{guest:#x} is refused, and a frame was requested");
        tables.clear(*leaf, VA);
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
    if expected.is_some() {
        let purpose = match (guest & W != 0, guest & D != 0) {
            (true, true) => Purpose::Writing,
            (true, false) => Purpose::LikelyWriting,
            (false, _) => Purpose::Reading,
        };
        assert_eq!(host.purpose, Some(purpose), "of {guest:#x}");
    }
    assert_eq!(host.sim.entries(), u64::from(expected.is_some()), "entries after {guest:#x}");
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
    assert_eq!((host.sim.entries(), host.sim.tables()), (0, 0));
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
    host.sim.limit_frames(Some(0));
    let failed = ShadowEntry::new(&mut host, Entry(0x3067)).map(|entry| entry.entry());
    assert_eq!(failed, Err(Kill::NoFrame(NoFrame(GuestFrame(3)))));
}

/// A page that others have too is mapped read-only, whatever the guest's entry allows, until the guest writes.
#[test]
fn a_frame_that_the_guest_may_not_write_to() {
    let (mut host, _tables, _) = tables::<TwoLevel>();
    let mut convert = |share: bool, ahead: bool, guest: u64| {
        host.sim.share_page(GuestFrame(3), share);
        let entry = if ahead {
            // Of a page that was read.
            let _ = ShadowEntry::new(&mut host, Entry(0x3025)).unwrap();
            ShadowEntry::ahead(&mut host, Entry(guest))
        } else {
            ShadowEntry::new(&mut host, Entry(guest))
        };
        entry.unwrap().entry().0 & 0xfff
    };
    // Present, user, accessed; and writable; and dirty.
    assert_eq!(convert(true, false, 0x3025), 0x25);
    assert_eq!(convert(true, true, 0x3027), 0x25);
    assert_eq!(convert(true, true, 0x3067), 0x65);
    assert_eq!(convert(true, false, 0x3067), 0x67, "the guest writes, which ends the sharing");
    assert_eq!(convert(true, false, 0x3027), 0x27, "the guest will write in all likelihood");
    assert_eq!(convert(false, true, 0x3067), 0x67);
}

/// A page that the host would have to look for is not mapped ahead of its use.
#[test]
fn a_page_ahead_is_one_that_the_host_knows() {
    let (mut host, _tables, _) = tables::<TwoLevel>();
    let ahead = |host: &mut Elsewhere| ShadowEntry::ahead(host, Entry(0x3067)).map(|entry| entry.entry());
    assert_eq!(ahead(&mut host), Err(Kill::NoFrame(NoFrame(GuestFrame(3)))));
    let now = ShadowEntry::new(&mut host, Entry(0x3067)).map(|entry| entry.entry());
    assert_eq!(ahead(&mut host), now);
}

/// The host drops what is stale, and nothing else, behind the tables' back; they go on with what is left.
#[test]
fn entries_of_frames_that_have_gone_are_dropped() {
    fn check<F: PageFormat>() {
        let mut sim = SimHost::new(PAGES);
        let mut tables = Tables::<F, F>::new(sim.window(WINDOW), true);
        let root = tables.add_root(&mut sim).unwrap();
        let origin = Origin { table: GuestFrame(1), flags: F::DIRECTORY_FLAGS, middle: None };
        let leaf = tables.find_or_add(&mut sim, root, VA, origin).unwrap();
        let at = |page: u32| GuestVirt(VA.0 + (page << 12));
        let entry = |page: u32| Entry(u64::from(page) << 12 | 0x67);
        for page in 1..8 {
            tables.replace(leaf, at(page), ShadowEntry::new(&mut sim, entry(page)).unwrap());
        }
        assert_eq!(sim.drop_stale(), None, "nothing has gone");
        sim.take_frame(GuestFrame(3));
        sim.take_frame(GuestFrame(5));
        sim.take_frame(GuestFrame(12));
        assert!(sim.has_stale());
        assert_eq!(sim.drop_stale(), Some(2));
        assert!(!sim.has_stale());
        for page in 1..8 {
            let left = if page == 3 || page == 5 { Entry::EMPTY } else { entry(page) };
            assert_eq!(tables.entry_in(leaf, at(page)), left, "page {page}");
        }
        tables.replace(leaf, at(3), ShadowEntry::new(&mut sim, entry(3)).unwrap());
        let mut defects = Vec::new();
        let _ = tables.check(&mut sim, &mut |defect| defects.push(defect));
        assert_eq!((sim.entries(), tables.released(), defects), (6, 0, vec![]));
        tables.remove_all(&mut sim);
        assert_eq!((sim.entries(), tables.released()), (0, 6));
        sim.remove_window();
        assert_eq!(sim.tables(), 0);
    }
    check::<TwoLevel>();
    check::<Pae>();
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
