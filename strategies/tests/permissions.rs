//! The permission table, in full: what every strategy makes of every combination of the bits present,
//! write, user, accessed, dirty and page-size on each level of the guest's tables, for each kind of
//! access.
//!
//! What is right is predicted by a model that uses neither shadow tables nor the framework: a few
//! lines of the processor manual (Intel SDM vol. 3A, 4.6 and 4.8) and of lguest's rules for what a
//! guest may write into its tables.

use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Paging};
use arch_i386::trap::PageFaultErrorCode;
use framework::host::PagingHost;
use framework::kill::Kill;
use framework::pager::Pager;
use framework::registry::{self, BuildContext, Choice};
use framework::strategy::{Fault, Formats};
use sim::SimHost;
use std::ops::ControlFlow;
use strategies as _;

const P: u64 = 1 << 0;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PSE: u64 = 1 << 7;
const BITS: [u64; 6] = [P, W, U, A, D, PSE];

/// The `n`th of the 64 combinations.
fn combination(n: usize) -> u64 {
    BITS.iter().enumerate().map(|(i, bit)| if n >> i & 1 == 1 { *bit } else { 0 }).sum()
}

/// A kind of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    user: bool,
    write: bool,
}

const ACCESSES: [Access; 4] = [
    Access { user: false, write: false },
    Access { user: false, write: true },
    Access { user: true, write: false },
    Access { user: true, write: true },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Killed,
    Reflected,
    /// The guest's level-1 entry afterwards, and whether the same access goes through now.
    Fixed {
        entry: u64,
        passes: bool,
        writable: bool,
    },
}

/// What must come of the first access through entries with these flags, root first. Rights are those of every level
/// together; lguest, whose answer `lguest` keeps, looks at the last level only, and lets the processor fault again.
fn predict(levels: &[u64], access: Access, lguest: bool) -> Outcome {
    let (&leaf, directories) = levels.split_last().unwrap();
    for (depth, &flags) in directories.iter().enumerate() {
        if flags & P == 0 {
            return Outcome::Reflected;
        }
        // A table's entry; a PAE root has nothing but P.
        let pae_root = levels.len() == 3 && depth == 0;
        let allowed = if pae_root { P } else { P | W | U | A | D };
        if flags & !allowed != 0 {
            return Outcome::Killed;
        }
    }
    let with_rights = if levels.len() == 3 { &directories[1..] } else { directories };
    let all = |bit: u64| with_rights.iter().all(|flags| flags & bit != 0);
    let given = |bit: u64| leaf & bit != 0 && (lguest || all(bit));
    if leaf & P == 0 || access.write && !given(W) || access.user && !given(U) {
        return Outcome::Reflected;
    }
    if leaf & PSE != 0 {
        return Outcome::Killed;
    }
    let entry = leaf | A | if access.write { D } else { 0 };
    // Not writable before the guest's entry is dirty, so that the first write is seen.
    let writable = entry & (W | D) == W | D;
    let user_ok = leaf & U != 0 && all(U);
    let write_ok = writable && all(W);
    let passes = (user_ok || !access.user) && (write_ok || !access.write);
    Outcome::Fixed { entry, passes, writable }
}

const VA: GuestVirt = GuestVirt(0x0804_8000);
const PAGES: u32 = 16;
/// The guest's tables, one a page, root first, and the page that is mapped.
const TABLES: [u32; 3] = [1, 2, 3];
const TARGET: u64 = 7;

struct Case {
    host: SimHost,
    strategy: Box<dyn Pager>,
    leaf: GuestPhys,
    paging: Paging,
}

impl Case {
    fn new(name: &str, formats: Formats, levels: &[u64]) -> Self {
        let paging = formats.guest;
        let mut host = SimHost::new(PAGES);
        let window = host.window(GuestVirt(0xffc0_0000));
        let context = BuildContext { formats, window, seed: 1, switcher_fills: false };
        let mut strategy = Choice::parse(name).unwrap().build(&context).unwrap();
        strategy.set_up(&mut host).unwrap();
        strategy.guest_initialised(&mut host, GuestVirt(0xc000_0000)).unwrap();

        let mut leaf = GuestPhys(0);
        for (depth, &flags) in levels.iter().enumerate() {
            // Shift amounts of SDM vol. 3A, figures 4-2 and 4-5.
            let index = match (paging, levels.len() - depth) {
                (Paging::TwoLevel, level) => VA.0 >> (12 + 10 * (level - 1)) & 1023,
                (Paging::Pae, level) => VA.0 >> (12 + 9 * (level - 1)) & 511,
            };
            leaf = GuestPhys(TABLES[depth] * 4096 + index * paging.entry_size());
            let frame = if depth + 1 == levels.len() { TARGET } else { TABLES[depth + 1].into() };
            host.store(paging, leaf.0.into(), frame << 12 | flags);
        }
        strategy.load_page_directory(&mut host, GuestPhys(TABLES[0] * 4096)).unwrap();
        Self { host, strategy, leaf, paging }
    }

    fn passes(&self, access: Access) -> bool {
        let lookup = self.strategy.inspect().unwrap().lookup(VA);
        lookup.is_some_and(|l| (l.user || !access.user) && (l.writable || !access.write))
    }

    fn fault(&mut self, access: Access) -> Result<Fault, Kill> {
        let mut error = PageFaultErrorCode::empty();
        error.set(PageFaultErrorCode::CAUSED_BY_WRITE, access.write);
        error.set(PageFaultErrorCode::USER_MODE, access.user);
        self.strategy.demand_fault(&mut self.host, VA, error)
    }

    fn guest_entry(&mut self) -> u64 {
        match self.paging {
            Paging::TwoLevel => self.host.read_u32(self.leaf).unwrap().into(),
            Paging::Pae => self.host.read_u64(self.leaf).unwrap(),
        }
    }

    /// Faults once and returns the result.
    fn outcome(&mut self, access: Access) -> Outcome {
        assert!(!self.passes(access), "nothing is mapped before the first fault");
        match self.fault(access) {
            Err(_) => Outcome::Killed,
            Ok(Fault::Reflected) => Outcome::Reflected,
            Ok(Fault::Fixed) => {
                let entry = self.guest_entry();
                let shadow =
                    self.strategy.inspect().unwrap().lookup(VA).expect("a fixed fault leaves an entry").entry;
                assert_eq!(shadow.frame(), TARGET);
                assert_eq!(entry >> 12, TARGET);
                // Every bit but W is the guest's.
                assert_eq!(shadow.0 & 0xfff & !W, entry & 0xfff & !W);
                Outcome::Fixed {
                    entry: entry & 0xfff,
                    passes: self.passes(access),
                    writable: shadow.0 & W != 0,
                }
            }
        }
    }

    fn end(mut self) {
        self.strategy.tear_down(&mut self.host);
        self.host.remove_window();
        assert_eq!((self.host.entries(), self.host.tables()), (0, 0), "something is left");
    }
}

/// Whether it is `lguest`, or wraps it.
fn wraps_lguest(choice: &Choice) -> bool {
    choice.to_string().ends_with("lguest:slots=4")
}

fn check(formats: Formats, combinations: impl Fn(&mut dyn FnMut(&[u64]))) {
    for name in registry::all_names() {
        let choice = Choice::parse(name).unwrap();
        // Policies see no table and run on the same pager: two of them stand for all.
        let stands = choice.policy(0).is_none() || ["lguest", "lru"].contains(&name);
        // Nor does the recorder decide anything.
        let stands = stands && name != "record";
        // A shorter pointer changes nothing in what is decided; two with all the code see to that.
        let stands = stands && (cfg!(target_pointer_width = "64") || ["lguest", "shared"].contains(&name));
        if choice.check_formats(formats).is_err() || !stands {
            continue;
        }
        let lguest = wraps_lguest(&choice);
        let mut cases = 0;
        combinations(&mut |levels| {
            for access in ACCESSES {
                let expected = predict(levels, access, lguest);
                let mut case = Case::new(name, formats, levels);
                let got = case.outcome(access);
                assert_eq!(got, expected, "{name}, {formats}: flags {levels:x?}, {access:?}");
                if let Outcome::Fixed { entry, .. } = expected {
                    check_second(&mut case, levels, entry, access, lguest);
                }
                case.end();
                cases += 1;
            }
        });
        assert_eq!(cases, 1 << 14, "{name}: the table is not whole");
    }
}

/// Every other kind of access after the first: as if it had come first to what the guest holds now.
fn check_second(case: &mut Case, levels: &[u64], entry: u64, first: Access, lguest: bool) {
    let mut now = levels.to_vec();
    *now.last_mut().unwrap() = entry;
    for access in ACCESSES {
        if case.passes(access) {
            // Then it would have passed after a fault of its own, and a write leaves the entry dirty.
            let alone = predict(&now, access, lguest);
            assert!(
                matches!(alone, Outcome::Fixed { passes: true, .. }),
                "{levels:x?}: {first:?}, {access:?}"
            );
            assert!(!access.write || entry & D != 0, "{levels:x?}: an unseen write");
        }
    }
}

fn check_two_levels(shadow: Paging) {
    check(Formats { guest: Paging::TwoLevel, shadow }, |visit| {
        for top in 0..64 {
            for leaf in 0..64 {
                visit(&[combination(top), combination(leaf)]);
            }
        }
    });
}

const PWT: u64 = 1 << 3;
const PCD: u64 = 1 << 4;

/// How a page is cached is the host's choice: a guest's own entry keeps the bits (or kills it, above level 1), no
/// entry that the processor walks through has them.
#[test]
fn cacheability_never_leaves_the_guests_entries() {
    for formats in Formats::SERVED {
        let depth = formats.guest.levels() as usize;
        let mut usual = vec![P | W | U | A | D; depth];
        if depth == 3 {
            usual[0] = P;
        }
        for name in registry::all_names() {
            if Choice::parse(name).unwrap().check_formats(formats).is_err() {
                continue;
            }
            for bits in [PWT, PCD, PWT | PCD] {
                for level in 0..depth {
                    let mut levels = usual.clone();
                    levels[level] |= bits;
                    check_cacheability(Case::new(name, formats, &levels), level + 1 == depth, bits);
                }
            }
        }
    }
}

fn check_cacheability(mut case: Case, in_leaf: bool, bits: u64) {
    let access = Access { user: true, write: true };
    let fault = case.fault(access);
    let entry = case.guest_entry();
    if in_leaf {
        assert_eq!(fault, Ok(Fault::Fixed));
        assert_eq!(entry & (PWT | PCD), bits, "the guest's entry is its own");
        // Reported by set_pte as well: another way into the shadow.
        let told = Entry(entry);
        case.strategy.set_pte(&mut case.host, GuestPhys(TABLES[0] * 4096), VA, told).unwrap();
        // A strategy may fill the entry at once, or leave it to a fault.
        assert!(case.passes(access) || case.fault(access) == Ok(Fault::Fixed) && case.passes(access));
    } else {
        assert!(fault.is_err(), "such an entry above level 1 is refused");
    }
    let whole = case.strategy.inspect().unwrap().mappings(&mut |mapping| {
        assert_eq!(mapping.entry.0 & (PWT | PCD), 0, "the level-1 entry");
        assert_eq!(mapping.table_flags.bits() & (PWT | PCD), 0, "the entry that leads to it");
        ControlFlow::Continue(())
    });
    assert!(whole.is_continue());
    case.end();
}

/// A fault that is answered "fixed" is fixed, whatever rights each level has, but for `lguest`.
#[test]
fn only_lguest_answers_fixed_where_the_processor_faults_again() {
    let levels = [P | U | A | D, P | W | U | A | D];
    let write = Access { user: true, write: true };
    for name in registry::all_names() {
        let formats = Formats::both(Paging::TwoLevel);
        if Choice::parse(name).unwrap().check_formats(formats).is_err() {
            continue;
        }
        let mut case = Case::new(name, formats, &levels);
        let fault = case.fault(write);
        let expected =
            if wraps_lguest(&Choice::parse(name).unwrap()) { Fault::Fixed } else { Fault::Reflected };
        assert_eq!(fault, Ok(expected), "{name}");
        case.end();
    }
}

#[test]
fn two_levels() {
    check_two_levels(Paging::TwoLevel);
}

#[test]
fn two_levels_on_a_pae_host() {
    check_two_levels(Paging::Pae);
}

/// Three levels, the root as Linux writes it.
#[test]
fn pae() {
    check(Formats::both(Paging::Pae), |visit| {
        for middle in 0..64 {
            for leaf in 0..64 {
                visit(&[P, combination(middle), combination(leaf)]);
            }
        }
    });
}

/// Three levels, every root, with the middle level as Linux writes it.
#[test]
fn pae_roots() {
    check(Formats::both(Paging::Pae), |visit| {
        for root in 0..64 {
            for leaf in 0..64 {
                visit(&[combination(root), P | W | U | A | D, combination(leaf)]);
            }
        }
    });
}
