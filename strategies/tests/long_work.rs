//! Long work lets others run, and is left undone when the launcher is killed.
//!
//! A guest maps as much as it likes. In each request after that, there is a point at which the host may run something
//! else for every table of it; and from the moment on at which its launcher is killed, nothing is finished for its sake
//! but the giving back.

use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Paging};
use arch_i386::trap::PageFaultErrorCode;
use framework::audit::{Coverage, audit};
use framework::pager::Pager;
use framework::registry::{self, BuildContext, Choice};
use framework::strategy::{Fault, Formats};
use sim::SimHost;
use strategies as _;

const FLAGS: u64 = 0x67;
const WINDOW: GuestVirt = GuestVirt(0xffc0_0000);
/// So many page directories, whose entries all lead to one table, whose entries all lead to pages of the guest's.
const DIRECTORIES: u32 = 3;
const TABLE: u32 = 32;
/// So many of its tables' worth of address space are mapped, below the kernel and in its half.
const MAPPED: [u32; 2] = [0x1000_0000, 0xc000_0000];
const TABLES_MAPPED: u32 = 2;

struct Guest {
    host: SimHost,
    strategy: Box<dyn Pager>,
    /// Bytes under a level-1 table.
    span: u32,
}

/// Where a page directory is. (With PAE, two pages: a root, whose four entries lead to the second.)
const fn directory(n: u32) -> GuestPhys {
    GuestPhys((1 + 2 * n) * 4096)
}

impl Guest {
    /// A guest that has touched all that its page directories map.
    fn new(strategy: &str, formats: Formats) -> Self {
        let paging = formats.guest;
        let mut host = SimHost::new(64);
        let window = host.window(WINDOW);
        let context = BuildContext { formats, window, seed: 1, switcher_fills: false };
        let mut strategy = Choice::parse(strategy).unwrap().build(&context).unwrap();
        strategy.set_up(&mut host).unwrap();
        strategy.guest_initialised(&mut host, GuestVirt(0xc000_0000)).unwrap();
        let (size, span) = (paging.entry_size(), if paging == Paging::Pae { 1 << 21 } else { 1 << 22 });
        for n in 0..DIRECTORIES {
            let root = u64::from(directory(n).0);
            let mut table = root;
            if paging == Paging::Pae {
                table = root + 4096;
                (0..4).for_each(|i| host.store(paging, root + 8 * i, table | 1));
            }
            for i in 0..4096 / size {
                host.store(paging, table + u64::from(i * size), u64::from(TABLE) << 12 | FLAGS);
            }
        }
        for i in 0..4096 / size {
            let page = u64::from(TABLE + 1 + i % 31);
            host.store(paging, u64::from(TABLE * 4096 + i * size), page << 12 | FLAGS);
        }
        let mut guest = Self { host, strategy, span };
        for n in 0..DIRECTORIES {
            guest.strategy.load_page_directory(&mut guest.host, directory(n)).unwrap();
            guest.touch_all();
        }
        guest
    }

    fn touch_all(&mut self) {
        for start in MAPPED {
            for va in (start..start + TABLES_MAPPED * self.span).step_by(4096) {
                if self.strategy.inspect().unwrap().lookup(GuestVirt(va)).is_none() {
                    let write = PageFaultErrorCode::CAUSED_BY_WRITE;
                    let fault = self.strategy.demand_fault(&mut self.host, GuestVirt(va), write);
                    assert_eq!(fault, Ok(Fault::Fixed));
                }
            }
        }
    }

    fn end(mut self) {
        self.host.kill_launcher_after(None);
        self.strategy.tear_down(&mut self.host);
        self.host.remove_window();
        assert_eq!((self.host.entries(), self.host.tables()), (0, 0), "something is left");
    }
}

type Request = fn(&mut Guest);

/// All that a guest can request and that may release much.
const REQUESTS: [(&str, Request); 7] = [
    ("flush_all", |guest| guest.strategy.flush_all(&mut guest.host).unwrap()),
    ("flush_user", |guest| guest.strategy.flush_user(&mut guest.host)),
    ("flush_user_of", |guest| {
        (0..3).for_each(|n| guest.strategy.flush_user_of(&mut guest.host, directory(n)));
    }),
    ("load_page_directory", |guest| {
        for n in 3..12 {
            guest.strategy.load_page_directory(&mut guest.host, directory(n)).unwrap();
        }
    }),
    ("set_pgd", |guest| {
        for index in 0..if guest.strategy.paging() == Paging::Pae { 4 } else { 1024 } {
            guest.strategy.set_pgd(&mut guest.host, directory(2), index).unwrap();
        }
    }),
    ("set_pmd", |guest| {
        if guest.strategy.paging() == Paging::Pae {
            let middle = GuestPhys(directory(2).0 + 4096);
            (0..512).for_each(|index| guest.strategy.set_pmd(&mut guest.host, middle, index).unwrap());
        }
    }),
    ("set_pte", |guest| {
        let entry = Entry(u64::from(TABLE + 1) << 12 | FLAGS);
        guest.strategy.set_pte(&mut guest.host, directory(2), GuestVirt(0xc000_0000), entry).unwrap();
    }),
];

/// Runs `check` with guests on every strategy, wrapped ones among them, in all formats.
fn everywhere(check: impl Fn(&str, Guest)) {
    let wrapped = ["audit:every=1024,of=shared", "record:of=shared", "shared:budget=64"];
    for name in registry::all_names().into_iter().chain(wrapped) {
        let choice = Choice::parse(name).unwrap();
        // Policies see no table and run on the same pager: two of them stand for all.
        let stands = choice.policy(0).is_none() || ["lguest", "lru"].contains(&name);
        // An audit of everything after every fault would take hours.
        let stands = stands && name != "audit";
        for formats in Formats::SERVED {
            if choice.check_formats(formats).is_ok() && stands {
                check(&format!("{name}, {formats}"), Guest::new(name, formats));
            }
        }
    }
}

#[test]
fn others_may_run_after_every_table_or_a_few_with_little_in_them() {
    for (request, ask) in REQUESTS {
        everywhere(|name, mut guest| {
            ask(&mut guest);
            let longest = guest.host.longest_stretch();
            assert!(longest <= 1024 + 128, "{request} on {name}: {longest} references in one go");
            guest.end();
        });
    }
    everywhere(|name, mut guest| {
        guest.strategy.tear_down(&mut guest.host);
        let longest = guest.host.longest_stretch();
        assert!(longest <= 1024 + 128, "the end on {name}: {longest} references in one go");
        guest.host.remove_window();
    });
}

#[test]
fn what_is_left_undone_is_given_back_in_the_end() {
    for (_, ask) in REQUESTS {
        for points in [0, 2] {
            everywhere(|_, mut guest| {
                guest.host.kill_launcher_after(Some(points));
                ask(&mut guest);
                guest.end();
            });
        }
    }
}

#[test]
fn a_launcher_that_is_killed_waits_for_little() {
    for strategy in ["lguest", "shared"] {
        let mut guest = Guest::new(strategy, Formats::both(Paging::TwoLevel));
        let before = guest.host.entries();
        assert!(before > 4 * 1024, "{before} pages are mapped");
        guest.host.kill_launcher_after(Some(1));
        guest.strategy.flush_all(&mut guest.host).unwrap();
        let released = before - guest.host.entries();
        assert!(released <= 2 * 1024, "{strategy}: {released} pages were released all the same");
        // What is half done is nobody's mistake.
        let report = audit(&*guest.strategy, &mut guest.host, &Coverage::Everything);
        assert_eq!(report.defects, 0, "{:?}", report.first);
        guest.end();
    }
}
