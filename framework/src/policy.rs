//! Eviction policies: which cached shadow page directory gives way.
//!
//! The smaller of the two plug-in traits. [`cache`](crate::cache) keeps up to `slots` shadow page
//! directories; when the guest loads one that has none, it asks the policy for a slot. A policy sees
//! slot numbers and the guest-physical addresses of directories, never a page table, and cannot break
//! anything: an index out of range is counted and a safe slot taken.
//!
//! # The contract
//!
//! * A policy serves one guest, from its first page directory to its end. Nothing is called twice at
//!   once.
//! * [`victim`](EvictionPolicy::victim) decides, [`filled`](EvictionPolicy::filled) keeps the books. The
//!   answer of `victim` is nearly always followed by `filled` for that slot and that directory; but when the host
//!   is short of memory another slot is filled, so that only `filled` says what became of a slot's old
//!   directory.
//! * A directory is known by its address. A guest may free one and use its page for a new one; nobody
//!   can tell, so a policy that remembers directories which were evicted may remember a dead one.
//! * All methods run in the hypercall path of a process: interrupts on, sleeping allowed, allocation
//!   allowed. The policies in `strategies` allocate only when they are built, so that a switch never
//!   waits for memory; a test holds them to it.
//! * A panic in a policy ends the guest, with the panic's words as its reason. `sim::policy_check` looks for panics
//!   before that.

use arch_i386::addr::GuestPhys;

/// Chooses the slot that gives way.
///
/// For one slot, calls come in this order: `filled`, any number of `used`, then `emptied` or the next
/// `filled`.
pub trait EvictionPolicy: Send {
    /// The slot now shadows this page directory; what it held before, if anything, has been evicted.
    /// Counts as a use.
    fn filled(&mut self, slot: usize, directory: GuestPhys);

    /// The guest switched to a page directory that this slot shadows already.
    fn used(&mut self, slot: usize, directory: GuestPhys);

    /// The slot holds nothing any more: the guest is torn down, or it has just loaded its first page directory
    /// and what it began on was none. No eviction.
    fn emptied(&mut self, _slot: usize) {}

    /// The slot that the new page directory shall take.
    fn victim(&mut self, incoming: GuestPhys) -> usize;

    /// Whether a slot that was never filled is taken before [`EvictionPolicy::victim`] is asked.
    fn takes_free_slots_first(&self) -> bool {
        true
    }
}
