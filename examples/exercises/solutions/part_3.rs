//! Part 3, solved.

use arch_i386::addr::{GuestPhys, GuestVirt};

/// The slots in whose shadow the entry has to be dropped or replaced.
pub fn slots_with_the_entry(
    directory: GuestPhys,
    va: GuestVirt,
    kernel_address: GuestVirt,
    slots: &[Option<GuestPhys>],
) -> Vec<usize> {
    let has_it = |held: GuestPhys| held == directory || va >= kernel_address;
    (0..slots.len()).filter(|&slot| slots[slot].is_some_and(has_it)).collect()
}
