//! What strategies and policies allocate.
//!
//! * Policies allocate when they are built, and never again, and no more does the switch to a page directory that takes
//!   another's slot: it must not wait for memory.
//! * Every allocation of a strategy's life may fail: nothing ends the program (in the module, the host's kernel), and
//!   nothing is left.
//! * A guest's end allocates nothing.

mod small_guest;

use arch_i386::addr::GuestPhys;
use arch_i386::paging::{Pae, Paging, TwoLevel};
use framework::policy::EqualCosts;
use framework::registry::{self, Choice};
use framework::strategy::Formats;
use small_guest::{live, switches};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use strategies as _;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Which of them fails.
    static FAILING: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is the system's, or null.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        if ALLOCATIONS.get() == FAILING.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A load that evicts, remembers and returns: a ring somewhat longer than the slots, with every third
/// directory loaded again soon.
fn drive(text: &str) -> u64 {
    let (slots, mut policy) = Choice::parse(text).unwrap().policy(7).unwrap();
    let directories = slots as u32 * 2 + 3;
    let mut held = vec![None; slots];
    let mut fill = 0;
    let before = ALLOCATIONS.get();
    for i in 0..20 * directories {
        let number = if i % 3 == 0 { i / 2 } else { i } % directories;
        let directory = GuestPhys(number * 4096);
        if let Some(slot) = held.iter().position(|held| *held == Some(directory)) {
            policy.used(slot, directory);
            continue;
        }
        let slot = if fill < slots { fill } else { policy.victim_by_cost(directory, &EqualCosts) };
        fill += 1;
        held[slot] = Some(directory);
        policy.filled(slot, directory);
    }
    ALLOCATIONS.get() - before
}

#[test]
fn only_building_allocates() {
    let mut tried = 0;
    for name in registry::all_names() {
        if Choice::parse(name).unwrap().policy(0).is_some() {
            for slots in [1, 3, 16, 100] {
                assert_eq!(drive(&format!("{name}:slots={slots}")), 0, "{name} with {slots} slots");
            }
            tried += 1;
        }
    }
    assert!(tried >= 10);
}

/// Does something whose allocations neither count nor fail.
fn uncounted<R>(action: impl FnOnce() -> R) -> R {
    let before = (ALLOCATIONS.get(), FAILING.replace(0));
    let result = action();
    ALLOCATIONS.set(before.0);
    FAILING.set(before.1);
    result
}

/// Strategies with parameters in which they differ in what they allocate.
const VARIANTS: [&str; 9] = [
    "lru:slots=1",
    "arc:slots=64",
    "lirs:slots=3,ghosts=400",
    "shared:budget=60",
    "shared:budget=0,slots=2",
    "record:of=shared",
    "record:touch=user,of=lru",
    "record:touch=all,of=shared:budget=60",
    "audit:of=shared",
];

/// Lets each allocation of each strategy's life fail once, with these formats.
fn each_allocation_fails_once(formats: Formats) {
    let mut failed = 0;
    for text in registry::all_names().into_iter().chain(VARIANTS) {
        let choice = Choice::parse(text).unwrap();
        // Policies see no table and run on the same pager: with the other formats two of them stand for all.
        let stands = choice.policy(0).is_none() || ["lguest", "lru"].contains(&text);
        let served = choice.check_formats(formats).is_ok();
        // A shorter pointer changes sizes, not the places where memory is requested; two see to that.
        let two = ["lru", "record:touch=all,of=shared:budget=60"].contains(&text);
        if !served
            || !stands && formats != Formats::both(Paging::TwoLevel)
            || cfg!(target_pointer_width = "32") && !two
        {
            continue;
        }
        let life = |failing: u64| {
            ALLOCATIONS.set(0);
            FAILING.set(failing);
            match formats.guest {
                Paging::TwoLevel => live::<TwoLevel>(text, formats.shadow),
                Paging::Pae => live::<Pae>(text, formats.shadow),
            }
            FAILING.set(0);
            ALLOCATIONS.get()
        };
        let all = life(0);
        for failing in 1..=all {
            life(failing);
        }
        failed += all;
    }
    assert!(failed > 50, "there were only {failed} allocations");
}

#[test]
fn each_allocation_fails_once_with_two_levels() {
    each_allocation_fails_once(Formats::both(Paging::TwoLevel));
}

#[test]
fn each_allocation_fails_once_with_two_levels_on_a_pae_host() {
    each_allocation_fails_once(Formats { guest: Paging::TwoLevel, shadow: Paging::Pae });
}

#[test]
fn each_allocation_fails_once_with_pae() {
    each_allocation_fails_once(Formats::both(Paging::Pae));
}

#[test]
fn a_switch_allocates_nothing_once_all_slots_are_in_use() {
    // Numbers that nearly fill the index of page directories, so that it has to tidy up.
    let all =
        ["lru:slots=28", "lru:slots=112", "shared:budget=0,slots=56,refill=0", "shared:budget=920,refill=0"];
    for text in all {
        ALLOCATIONS.set(0);
        FAILING.set(0);
        assert_eq!(switches(text, 2000), 0, "{text}");
    }
}
