//! Policies allocate when they are built, and never again: a switch must not wait for memory.

use arch_i386::addr::GuestPhys;
use framework::registry::{self, Choice};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use strategies as _;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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
        let slot = if fill < slots { fill } else { policy.victim(directory) };
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
