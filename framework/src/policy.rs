//! Eviction policies: which cached shadow page directory gives way.
//!
//! The smaller of the two plug-in traits. [`cache`](crate::cache) keeps up to `slots` shadow page
//! directories; when the guest loads one that has none, it asks the policy for a slot. A policy sees
//! slot numbers and the guest-physical addresses of directories, never a page table, and cannot break
//! anything: an index out of range is counted and a safe slot taken.
//!
//! All methods run in the hypercall path, with interrupts on; they may allocate, but a policy that
//! allocates only when it is built keeps switches short.

use arch_i386::addr::GuestPhys;

/// Chooses the slot that gives way.
///
/// For one slot, calls come in this order: `filled`, any number of `used`, then `emptied` (when the
/// guest is torn down) or the next `filled`.
pub trait EvictionPolicy: Send {
    /// The slot now shadows this page directory, whatever it held before. Counts as a use.
    fn filled(&mut self, slot: usize, directory: GuestPhys);

    /// The guest switched to a page directory that this slot shadows already.
    fn used(&mut self, slot: usize, directory: GuestPhys);

    /// The slot holds nothing any more.
    fn emptied(&mut self, _slot: usize) {}

    /// The slot that the new page directory shall take.
    fn victim(&mut self, incoming: GuestPhys) -> usize;

    /// Whether a slot that was never filled is taken before [`EvictionPolicy::victim`] is asked.
    fn takes_free_slots_first(&self) -> bool {
        true
    }
}
