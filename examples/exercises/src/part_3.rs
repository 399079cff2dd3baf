//! Part 3, changed entries: whose shadow a SET_PTE is about.

use arch_i386::addr::{GuestPhys, GuestVirt};

/// The slots in whose shadow the entry for `va` has to be dropped or replaced, when the guest has changed it in `directory`.
/// `slots` holds the page directory that each slot shadows. From `kernel_address` up all page directories of the guest are
/// alike.
///
/// The hole: the kernel's half is forgotten.
pub fn slots_with_the_entry(
    directory: GuestPhys,
    va: GuestVirt,
    kernel_address: GuestVirt,
    slots: &[Option<GuestPhys>],
) -> Vec<usize> {
    let _ = (va, kernel_address);
    (0..slots.len()).filter(|&slot| slots[slot] == Some(directory)).collect()
}
