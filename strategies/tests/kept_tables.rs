//! Tables that a flush of the user half has emptied, and for how long they stay.

use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, Paging};
use arch_i386::trap::PageFaultErrorCode;
use framework::host::PagingHost;
use framework::pager::Pager;
use framework::registry::{BuildContext, Choice};
use framework::strategy::{Fault, Formats};
use sim::SimHost;
use strategies as _;

/// Two addresses of different level-1 tables.
const HERE: GuestVirt = GuestVirt(0x0800_0000);
const THERE: GuestVirt = GuestVirt(0x1000_0000);

/// Lets a guest map both; `life` is what it does with its strategy.
fn on(strategy: &str, life: impl FnOnce(&mut dyn Pager, &mut SimHost)) {
    let mut host = SimHost::new(16);
    let used = Flags::PRESENT | Flags::WRITABLE | Flags::USER_ACCESSIBLE | Flags::ACCESSED | Flags::DIRTY;
    for (va, table) in [(HERE, 2), (THERE, 3)] {
        let mut store = |at: u32, frame: u32| {
            host.write_u32(GuestPhys(at), Entry::new(frame.into(), used).0 as u32).unwrap();
        };
        store(PAGE_SIZE + (va.0 >> 22) * 4, table);
        store(table * PAGE_SIZE, 8);
    }
    let context = BuildContext {
        formats: Formats::both(Paging::TwoLevel),
        window: host.window(GuestVirt(0xffc0_0000)),
        seed: 7,
        switcher_fills: true,
    };
    let mut pager = Choice::parse(strategy).unwrap().build(&context).unwrap();
    pager.set_up(&mut host).unwrap();
    pager.guest_initialised(&mut host, GuestVirt(0xc000_0000)).unwrap();
    pager.load_page_directory(&mut host, GuestPhys(PAGE_SIZE)).unwrap();
    life(&mut *pager, &mut host);
    pager.tear_down(&mut host);
    host.remove_window();
}

fn touch(pager: &mut dyn Pager, host: &mut SimHost, va: GuestVirt) {
    assert_eq!(pager.demand_fault(host, va, PageFaultErrorCode::USER_MODE), Ok(Fault::Fixed));
}

#[test]
fn a_table_stays_for_seven_flushes_without_a_use() {
    for strategy in ["lguest", "lru", "shared"] {
        on(strategy, |pager, host| {
            touch(pager, host, HERE);
            touch(pager, host, THERE);
            let all = host.tables();
            // The second time after a use in between.
            for uses in 0..2 {
                pager.flush_user(host);
                for idle in 1..=7 {
                    touch(pager, host, HERE);
                    pager.flush_user(host);
                    assert_eq!(host.tables(), all, "{strategy}, use {uses}, {idle} flushes without a use");
                }
                if uses == 0 {
                    touch(pager, host, THERE);
                    assert_eq!(host.tables(), all, "{strategy}: it is taken up, and none is made");
                }
            }
            pager.flush_user(host);
            assert_eq!(host.tables(), all - 1, "{strategy}: the one that nobody uses is given back");
            touch(pager, host, THERE);
            assert_eq!(host.tables(), all, "{strategy}: it is made again");
        });
    }
}
