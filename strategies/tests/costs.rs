//! What a policy is told that evictions cost, on a trace worked out by hand.

use arch_i386::addr::GuestPhys;
use framework::policy::{Costs, EvictionPolicy};
use framework::registry::{Choice, POLICIES, PolicyEntry};
use sim::replay::Replay;
use sim::trace::Reader;
use std::cell::RefCell;
use strategies as _;

thread_local! {
    /// The entries and refills of each slot, each time a victim was looked for.
    static ASKED: RefCell<Vec<Vec<(usize, usize)>>> = const { RefCell::new(Vec::new()) };
}

/// Asks for everything, and evicts the first slot.
struct Asks {
    slots: usize,
}

impl EvictionPolicy for Asks {
    fn filled(&mut self, _: usize, _: GuestPhys) {}
    fn used(&mut self, _: usize, _: GuestPhys) {}
    fn victim(&mut self, _: GuestPhys) -> usize {
        0
    }
    fn victim_by_cost(&mut self, _: GuestPhys, costs: &dyn Costs) -> usize {
        let all = (0..self.slots).map(|slot| (costs.entries(slot), costs.refills(slot))).collect();
        ASKED.with_borrow_mut(|asked| asked.push(all));
        0
    }
}

#[linkme::distributed_slice(POLICIES)]
static ASKS: PolicyEntry = PolicyEntry {
    name: "test-asks",
    help: "asks for all costs",
    parameters: &[],
    build: |config| Ok(Box::new(Asks { slots: config.slots })),
};

/// What the policy was told on this strategy. Page directories A, B and C share the kernel's half. The first page of A is
/// clean, so that a write misses what a read has filled.
fn asked(strategy: &str) -> Vec<Vec<(usize, usize)>> {
    const TRACE: &str = "lgtrace 1\npaging 2\npages 64\nseed 1\ncpus 1\nswitcher 0xfe800000
w 0x1000 0x4067\nw 0x4000 0x8027\nw 0x4004 0x9067\nw 0x1c00 0x7063
w 0x2000 0x5067\nw 0x5000 0x8067\nw 0x2c00 0x7063
w 0x3c00 0x7063\nw 0x7000 0xb063
init 0xc0000000
cr3 0x1000\nacc 0x0 u r\nacc 0x0 u w\nacc 0x1000 u r\nacc 0xc0000000 k r\nacc 0x0 u r
cr3 0x2000\nacc 0x0 u r
cr3 0x3000
cr3 0x1000\nacc 0x1000 u r\nflush user\nacc 0x1000 u r\nw 0x4008 0xa067\npte 0x1000 0x2000 0xa067
cr3 0x3000
end
";
    let reader = Reader::new(TRACE.as_bytes()).unwrap();
    let choice = Choice::parse(strategy).unwrap();
    let mut replay = Replay::new(&reader.header(), &choice).unwrap();
    reader.for_each(|operation| replay.step(&operation.unwrap()));
    let report = replay.finish(&choice, false);
    assert_eq!((report.killed, report.after_free), (None, (0, 0)), "{strategy}");
    ASKED.take()
}

/// A's page is filled for reading and for writing. It begins anew when it comes back, and a flush drops what it has filled. What
/// SET_PTE puts there is an entry, but nobody has missed it; nor is the kernel's half of anybody.
#[test]
fn refills_are_counted_from_the_load_that_missed() {
    assert_eq!(
        asked("test-asks:slots=2"),
        [[(2, 3), (1, 1)], [(0, 0), (1, 1)], [(2, 2), (1, 1)]],
        "A and B; C and B; A and B"
    );
}

/// When A comes back, both of its pages are filled at once.
#[test]
fn what_is_filled_ahead_is_counted() {
    let options = "slots=2,budget=0,fault-around=0,populate-on-set-pte=off,refill-after-flush=off";
    assert_eq!(
        asked(&format!("shared:policy=test-asks,{options}")),
        [[(2, 3), (1, 1)], [(0, 0), (1, 1)], [(2, 3), (1, 1)]],
        "A and B; C and B; A and B"
    );
}
