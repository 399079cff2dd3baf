//! The audit finds what is wrong, and nothing where nothing is.
//!
//! Each test plants one error behind the strategy's back: a bit of a table page as broken memory would
//! change it, a frame that goes, an entry of the guest's. The tables are found as the processor
//! finds them, from the root on.

use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, HostFrame};
use arch_i386::paging::{Entry, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use framework::audit::{Coverage, Defect, Report, audit};
use framework::kill::Kill;
use framework::pager::Pager;
use framework::registry::{BuildContext, Choice};
use framework::strategy::{Fault, Formats};
use sim::SimHost;
use strategies as _;

const P: u64 = 1 << 0;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const G: u64 = 1 << 8;

const WINDOW: GuestVirt = GuestVirt(0xffc0_0000);
const VA: GuestVirt = GuestVirt(0x0804_8000);
/// The frames of the guest's tables, root first, and of the page that is mapped.
const TABLES: [u32; 3] = [1, 2, 3];
const PAGE: u64 = 7;

struct Guest {
    host: SimHost,
    strategy: Box<dyn Pager>,
    formats: Formats,
}

/// Shift of the index into a table of this level, its number of entries, and bytes of one.
fn geometry(paging: Paging, level: u32) -> (u32, u32, u32) {
    match paging {
        Paging::TwoLevel => (12 + 10 * (level - 1), 1024, 4),
        Paging::Pae => (12 + 9 * (level - 1), 512, 8),
    }
}

impl Guest {
    /// A guest with one page at [`VA`], which it has read and written, on a strategy.
    fn new(strategy: &str, formats: Formats) -> Self {
        let mut host = SimHost::new(64);
        let window = host.window(WINDOW);
        let context = BuildContext { formats, window, seed: 1, switcher_fills: false };
        let mut strategy = Choice::parse(strategy).unwrap().build(&context).unwrap();
        strategy.set_up(&mut host).unwrap();
        strategy.guest_initialised(&mut host, GuestVirt(0xc000_0000)).unwrap();
        let mut guest = Self { host, strategy, formats };
        let levels = formats.guest.levels();
        for (table, level) in TABLES.into_iter().zip((1..=levels).rev()) {
            let flags = if level == 3 { P } else { P | W | U | A };
            let next = if level == 1 { PAGE } else { u64::from(table) + 1 };
            guest.store(table, level, next << 12 | flags);
        }
        guest.strategy.load_page_directory(&mut guest.host, Self::directory()).unwrap();
        let write = PageFaultErrorCode::CAUSED_BY_WRITE | PageFaultErrorCode::USER_MODE;
        assert_eq!(guest.strategy.demand_fault(&mut guest.host, VA, write), Ok(Fault::Fixed));
        assert_eq!(guest.audit(), Report { entries: 1, ..Report::default() });
        guest
    }

    fn directory() -> GuestPhys {
        GuestPhys(TABLES[0] * 4096)
    }

    /// The guest stores its entry for [`VA`] in its table of this level.
    fn store(&mut self, table: u32, level: u32, entry: u64) {
        let (shift, entries, size) = geometry(self.formats.guest, level);
        let at = table * 4096 + (VA.0 >> shift) % entries * size;
        self.host.store(self.formats.guest, at.into(), entry);
    }

    fn store_leaf(&mut self, entry: u64) {
        let level_1 = TABLES[self.formats.guest.levels() as usize - 1];
        self.store(level_1, 1, entry);
    }

    fn audit(&mut self) -> Report {
        audit(&*self.strategy, &mut self.host, &Coverage::Everything)
    }

    /// The shadow table of this level for an address, and the index there.
    fn shadow(&self, va: GuestVirt, wanted: u32) -> (HostFrame, usize) {
        let shadow = self.formats.shadow;
        let mut table = self.strategy.root().frame();
        for level in (1..=shadow.levels()).rev() {
            let (shift, entries, _) = geometry(shadow, level);
            let index = ((va.0 >> shift) % entries) as usize;
            if level == wanted {
                return (table, index);
            }
            table = HostFrame(self.load(table, index).frame() as u32);
        }
        panic!("there is no level {wanted}");
    }

    fn load(&self, table: HostFrame, index: usize) -> Entry {
        self.host.inspect_table(table, |page| match self.formats.shadow {
            Paging::TwoLevel => TwoLevel::load(page, index),
            Paging::Pae => Pae::load(page, index),
        })
    }

    /// Changes a shadow entry as broken memory would, and returns what the audit finds.
    fn plant(&mut self, va: GuestVirt, level: u32, change: impl FnOnce(u64) -> u64) -> Report {
        let (table, index) = self.shadow(va, level);
        let entry = Entry(change(self.load(table, index).0));
        self.host.damage_table(table, |page| match self.formats.shadow {
            Paging::TwoLevel => TwoLevel::store(page, index, entry),
            Paging::Pae => Pae::store(page, index, entry),
        });
        self.audit()
    }
}

/// Runs a check on a guest of each kind of tables that the strategies keep.
fn everywhere(check: impl Fn(Guest)) {
    for strategy in ["lguest", "shared"] {
        for formats in Formats::SERVED {
            check(Guest::new(strategy, formats));
        }
    }
}

fn first(report: Report) -> Defect {
    assert!(report.defects > 0, "the audit finds nothing");
    report.first.unwrap()
}

#[test]
fn another_page() {
    everywhere(|mut guest| {
        let directory = Guest::directory();
        guest.store_leaf((PAGE ^ 3) << 12 | P | W | U | A | D);
        let (shadow, page) = (HostFrame(PAGE as u32), GuestFrame(PAGE as u32 ^ 3));
        assert_eq!(first(guest.audit()), Defect::Frame { directory, va: VA, shadow, guest: page });
        // One that holds no page of the guest's.
        let found = first(guest.plant(VA, 1, |entry| entry ^ 3 << 12));
        assert_eq!(found, Defect::Unknown { directory, va: VA, shadow: HostFrame(PAGE as u32 ^ 3) });
    });
}

#[test]
fn more_rights_than_the_guest_gives() {
    everywhere(|mut guest| {
        // The guest takes rights away, reports it, and the strategy has missed it.
        for right in [W, U] {
            guest.store_leaf(PAGE << 12 | (P | W | U | A | D) & !right);
            assert!(
                matches!(first(guest.audit()), Defect::Rights { va: VA, extra, .. } if extra.bits() == right)
            );
        }
        guest.store_leaf(PAGE << 12 | P | W | U | A | D);
        assert_eq!(guest.audit().defects, 0);
        // The same one level up, where rights are for a whole table.
        let above = TABLES[guest.formats.guest.levels() as usize - 2];
        guest.store(above, 2, u64::from(above + 1) << 12 | P | W | A);
        assert!(matches!(first(guest.audit()), Defect::Rights { va: VA, extra, .. } if extra.bits() == U));
    });
}

#[test]
fn an_access_that_leaves_no_trace() {
    everywhere(|mut guest| {
        for missing in [A, D] {
            guest.store_leaf(PAGE << 12 | (P | W | U | A | D) & !missing);
            let found = first(guest.audit());
            assert!(matches!(found, Defect::Unseen { va: VA, missing: bits, .. } if bits.bits() == missing));
        }
    });
}

#[test]
fn an_entry_that_the_guest_sets_needs_one_mark() {
    everywhere(|mut guest| {
        let mut told = |entry| {
            guest.store_leaf(entry);
            let covered = Coverage::Entry(Some(Guest::directory()), VA, Entry(entry));
            audit(&*guest.strategy, &mut guest.host, &covered)
        };
        for mark in [A, D] {
            assert_eq!(told(PAGE << 12 | P | W | U | mark).defects, 0);
        }
        assert!(matches!(first(told(PAGE << 12 | P | W | U)), Defect::Unseen { va: VA, .. }));
    });
}

#[test]
fn what_the_guest_does_not_map() {
    everywhere(|mut guest| {
        guest.store_leaf(0);
        assert_eq!(first(guest.audit()), Defect::Unmapped { directory: Guest::directory(), va: VA });
        // As long as it has not reported that, it may be so.
        let report = audit(&*guest.strategy, &mut guest.host, &Coverage::Nothing);
        assert_eq!(report, Report { entries: 1, stale: 1, ..Report::default() });
    });
}

#[test]
fn a_global_entry() {
    everywhere(|mut guest| {
        let found = first(guest.plant(VA, 1, |entry| entry | G));
        assert_eq!(found, Defect::Global { directory: Guest::directory(), va: VA });
    });
}

#[test]
fn a_frame_that_has_gone_and_its_entry_has_not() {
    everywhere(|mut guest| {
        let directory = Guest::directory();
        guest.host.take_frame(GuestFrame(PAGE as u32));
        assert_eq!(guest.audit(), Report { entries: 1, ..Report::default() }, "it is yet to be dropped");
        guest.host.lose_stale();
        let shadow = HostFrame(PAGE as u32);
        assert_eq!(first(guest.audit()), Defect::Unknown { directory, va: VA, shadow });
    });
}

#[test]
fn a_frame_that_has_gone_and_its_entry_has_too() {
    everywhere(|mut guest| {
        guest.host.take_frame(GuestFrame(PAGE as u32));
        assert_eq!(guest.host.drop_stale(), Some(1));
        assert_eq!(guest.audit(), Report::default());
        guest.strategy.demand_fault(&mut guest.host, VA, WRITE).unwrap();
        assert_eq!(guest.audit(), Report { entries: 1, ..Report::default() });
    });
}

#[test]
fn a_page_that_others_have_too_and_the_guest_can_write_to() {
    everywhere(|mut guest| {
        let page = GuestFrame(PAGE as u32);
        guest.host.share_page(page, true);
        assert_eq!(guest.host.drop_stale(), Some(1));
        guest.strategy.demand_fault(&mut guest.host, VA, READ).unwrap();
        // The guest's entry is dirty, so that the read is for writing as well, and the sharing ends.
        guest.store_leaf(PAGE << 12 | P | W | U | A);
        guest.host.share_page(page, true);
        assert_eq!(guest.host.drop_stale(), Some(1));
        guest.strategy.demand_fault(&mut guest.host, VA, READ).unwrap();
        assert_eq!(guest.audit(), Report { entries: 1, ..Report::default() });
        guest.store_leaf(PAGE << 12 | P | W | U | A | D);
        let found = first(guest.plant(VA, 1, |entry| entry | W));
        let shadow = HostFrame(PAGE as u32);
        assert_eq!(found, Defect::Shared { directory: Guest::directory(), va: VA, shadow });
    });
}

#[test]
fn entries_that_come_by_themselves() {
    everywhere(|mut guest| {
        let (table, index) = guest.shadow(VA, 1);
        assert_eq!(guest.plant(VA, 1, |entry| entry & !P).defects, 0, "the host may have dropped it");
        guest.plant(VA, 1, |entry| entry | P);
        let next = GuestVirt(VA.0 + 4096);
        let found = first(guest.plant(next, 1, |_| 9 << 12 | P));
        assert_eq!(found, Defect::InUse { table, index: index + 1 });
    });
}

#[test]
fn directory_entries_that_lead_elsewhere() {
    everywhere(|mut guest| {
        for level in 2..=guest.formats.shadow.levels() {
            let (table, index) = guest.shadow(VA, level);
            let right = guest.load(table, index).0;
            assert_eq!(first(guest.plant(VA, level, |entry| entry ^ 1 << 12)), Defect::Link { table, index });
            assert_eq!(guest.plant(VA, level, |_| right).defects, 0);
        }
        // More rights on the way.
        let (table, index) = guest.shadow(VA, 2);
        assert_eq!(first(guest.plant(VA, 2, |entry| entry ^ W)), Defect::Link { table, index });
        // The processor's own marks are no change.
        assert_eq!(guest.plant(VA, 2, |entry| (entry ^ W) | A | D).defects, 0);
    });
}

#[test]
fn a_window_that_is_lost() {
    everywhere(|mut guest| {
        let root = guest.strategy.root().frame();
        for level in 2..=guest.formats.shadow.levels() {
            let (table, index) = guest.shadow(WINDOW, level);
            let right = guest.load(table, index).0;
            assert_eq!(first(guest.plant(WINDOW, level, |_| 0)), Defect::Window { root });
            assert_eq!(guest.plant(WINDOW, level, |_| right).defects, 0);
        }
    });
}

/// Under `audit` the guest does not live on.
#[test]
fn a_guest_with_a_defect_is_killed() {
    let mut guest = Guest::new("audit:every=2,of=lguest", Formats::both(Paging::TwoLevel));
    assert!(guest.strategy.counters().audits >= 1);
    guest.host.take_frame(GuestFrame(PAGE as u32));
    guest.host.lose_stale();
    let mut load = || guest.strategy.load_page_directory(&mut guest.host, Guest::directory());
    let killed = load().and_then(|()| load()).unwrap_err();
    let shadow = HostFrame(PAGE as u32);
    assert_eq!(killed, Kill::Audit(Defect::Unknown { directory: Guest::directory(), va: VA, shadow }));
}

/// A guest with one page mapped, on a strategy that audits itself.
fn under_audit(strategy: &str, formats: Formats) -> Guest {
    Guest::new(&format!("audit:of={strategy}"), formats)
}

const READ: PageFaultErrorCode = PageFaultErrorCode::USER_MODE;
const WRITE: PageFaultErrorCode = PageFaultErrorCode::CAUSED_BY_WRITE.union(PageFaultErrorCode::USER_MODE);

#[test]
fn a_launcher_that_maps_other_pages_is_no_mistake_of_the_hosts() {
    for strategy in ["lguest", "shared"] {
        for formats in Formats::SERVED {
            let mut guest = under_audit(strategy, formats);
            for _ in 0..3 {
                guest.host.take_frame(GuestFrame(PAGE as u32));
                guest.strategy.load_page_directory(&mut guest.host, Guest::directory()).unwrap();
                assert_eq!(guest.host.drop_stale(), Some(1));
                guest.strategy.flush_all(&mut guest.host).unwrap();
                let fault = guest.strategy.demand_fault(&mut guest.host, VA, WRITE);
                assert_eq!(fault, Ok(Fault::Fixed), "{strategy}, {formats}");
            }
        }
    }
}

#[test]
fn a_launcher_that_writes_to_tables_is_no_mistake_of_the_hosts() {
    for strategy in ["lguest", "shared"] {
        let mut guest = under_audit(strategy, Formats::both(Paging::TwoLevel));
        let entry = GuestPhys(TABLES[1] * 4096 + (VA.0 >> 12) % 1024 * 4);
        let mapped = (PAGE << 12 | P | W | U | A | D) as u32;
        // Away, without rights, without a trace, elsewhere.
        for other in [0, mapped & !(W as u32), mapped & !(D as u32), mapped ^ 3 << 12] {
            for values in [[mapped, other], [other, mapped]] {
                guest.host.write_at_every_look(entry, values);
                for _ in 0..4 {
                    guest.strategy.flush_all(&mut guest.host).unwrap();
                    let fault = guest.strategy.demand_fault(&mut guest.host, VA, WRITE);
                    assert!(fault.is_ok(), "{strategy}, {other:#x}: {fault:?}");
                }
            }
        }
    }
}
