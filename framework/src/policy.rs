//! Eviction policies: which cached shadow page directory is evicted.
//!
//! The smaller of the two plug-in traits. A shadow cache (the crate `strategies` has it) keeps up to `slots` shadow page
//! directories; when the guest loads one that is not shadowed, it requests a slot from the policy. A policy sees
//! slot numbers, the guest-physical addresses of directories and what their evictions cost and have cost, never a page table, and cannot
//! break anything: an index out of range is counted and a safe slot taken.
//!
//! # The contract
//!
//! * A policy serves one guest, from its first page directory to its end. Nothing is called twice at
//!   once.
//! * [`victim`](EvictionPolicy::victim) decides, [`filled`](EvictionPolicy::filled) reports what was done. The
//!   answer of `victim` is nearly always followed by `filled` for that slot and that directory; but when the host
//!   is short of memory another slot is filled, so that only `filled` reports what became of a slot's old
//!   directory.
//! * When the guest has reached the limit of its memory, `victim` is also called to make room, which ends in
//!   [`evicted`](EvictionPolicy::evicted) for some slot and not in `filled`. The capacity of a cache may be an amount of
//!   memory, too. Then `slots` is the most there can ever be; [`resized`](EvictionPolicy::resized) is called with the
//!   current number before each `victim`; and room is made whenever the tables of the current directory have grown beyond
//!   the capacity. Where `victim` names a free slot while room is made, or the one that the guest runs on, the next filled
//!   one after it is taken.
//! * What is evicted has to be filled again, entry by entry, when the guest comes back to it, so that evictions differ in cost.
//!   A policy that takes account of it overrides [`victim_by_cost`](EvictionPolicy::victim_by_cost), which is what the cache
//!   calls; the others have no part in it.
//! * A directory is known by its address. A guest may free one and use its page for a new one, which
//!   cannot be detected: a policy that remembers evicted directories may remember a dead one.
//! * All methods run in the hypercall path of a process: interrupts on, sleeping allowed, allocation
//!   allowed. The policies in `strategies` allocate only when they are built, so that a switch never
//!   waits for memory; a test holds them to it.
//! * A panic in a policy ends the guest, with the panic's words as its reason. `sim::policy_check` looks for panics
//!   before that.

use arch_i386::addr::GuestPhys;

/// Chooses the slot whose page directory is evicted.
///
/// For one slot, calls come in this order: `filled`, any number of `used`, then `evicted`, `emptied` or the next
/// `filled`.
pub trait EvictionPolicy: Send {
    /// The slot now shadows this page directory; what it held before, if anything, has been evicted.
    /// Counts as a use.
    fn filled(&mut self, slot: usize, directory: GuestPhys);

    /// The guest switched to a page directory that this slot shadows already.
    fn used(&mut self, slot: usize, directory: GuestPhys);

    /// Whether it makes a difference how often a slot was used before its last use. A policy to which only the order of the slots'
    /// last uses matters, or none, answers no. Then, of what the guest did before the host looks again, it is told of the last use
    /// of each slot alone, in their order.
    fn counts_each_use(&self) -> bool {
        true
    }

    /// The slot holds nothing any more: the guest is torn down, or it has just loaded its first page directory
    /// and what it began on was none. No eviction.
    fn emptied(&mut self, _slot: usize) {}

    /// The slot's page directory has been evicted, and nothing has taken its place: the guest holds more than its memory
    /// allows. A policy that remembers what was evicted remembers it as when another one had taken its place.
    fn evicted(&mut self, slot: usize) {
        self.emptied(slot);
    }

    /// So many page directories are shadowed at the time; only where the capacity is an amount of memory does that ever
    /// differ from the number of slots that the policy was made for. A policy whose parts are in proportion to the number
    /// of slots goes by this number from now on.
    fn resized(&mut self, _slots: usize) {}

    /// The slot that the new page directory shall take, or that is to be emptied.
    fn victim(&mut self, incoming: GuestPhys) -> usize;

    /// The same, with what the eviction of each slot would cost. The cache calls this; a policy to which all evictions are the
    /// same has only [`EvictionPolicy::victim`].
    fn victim_by_cost(&mut self, incoming: GuestPhys, _costs: &dyn Costs) -> usize {
        self.victim(incoming)
    }

    /// Whether a slot that was never filled is taken before [`EvictionPolicy::victim`] is called.
    fn takes_free_slots_first(&self) -> bool {
        true
    }
}

/// What the eviction of a slot's page directory costs, as it is at the time; it is counted when it is asked for.
pub trait Costs {
    /// Shadow entries that are dropped with it: the guest's next run on the directory fills those again that it needs.
    fn entries(&self, slot: usize) -> usize;

    /// How often entries have been filled for the directory since it took the slot, as they were missed or about to be: each for the
    /// first time, and again after a flush, or for writing after reading. If the directory was evicted before, this is what
    /// that eviction has cost.
    fn refills(&self, slot: usize) -> usize;

    /// What is gained for it, in the unit of the cache's capacity: one slot, or the table pages that are given back.
    fn size(&self, slot: usize) -> usize;
}

/// Every eviction costs the same.
pub struct EqualCosts;

impl Costs for EqualCosts {
    fn entries(&self, _slot: usize) -> usize {
        1
    }

    fn refills(&self, _slot: usize) -> usize {
        1
    }

    fn size(&self, _slot: usize) -> usize {
        1
    }
}
