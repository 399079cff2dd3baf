//! What a strategy lets be seen of its shadow tables: for the audit, for dumps, and for tests.

use crate::defect::Defect;
use crate::paging_host::PagingHost;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Flags};
use core::ops::ControlFlow;

/// What the shadow tables hold for one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The level-1 entry.
    pub entry: Entry,
    /// The user bit, on every level that has one.
    pub user: bool,
    /// The write bit, on every level that has one.
    pub writable: bool,
}

/// One present entry of a shadow page directory, below the Switcher's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Which of the [`Inspect::directories`], counted from 0.
    pub number: usize,
    /// The guest-physical address of the page directory that is shadowed.
    pub directory: GuestPhys,
    /// The page.
    pub va: GuestVirt,
    /// The shadow entry: a frame of the host and the flags.
    pub entry: Entry,
    /// Flags of the directory entry that leads to its table: rights need both.
    pub table_flags: Flags,
    /// It is in a table that all page directories share: visited for each of them, but one entry, which
    /// holds one page.
    pub shared: bool,
}

/// A strategy whose shadow tables can be looked at. The guest does not depend on any of it.
pub trait Inspect {
    /// What the current shadow root holds for an address, if every level is present.
    fn lookup(&self, va: GuestVirt) -> Option<Lookup>;

    /// Whether the level-1 entry of [`Inspect::lookup`] is one that the kernel can write by: checked for the guest's kernel
    /// stack at each switch of its processes.
    fn is_writable(&self, va: GuestVirt) -> bool {
        self.lookup(va).is_some_and(|lookup| lookup.entry.has(Flags::PRESENT | Flags::WRITABLE))
    }

    /// Whether the guest has not loaded a page directory yet and sees its memory mapped linearly.
    fn is_linear(&self) -> bool;

    /// The page directories that are shadowed now; the flag marks the current one. Two may be alike: the
    /// guest starts on one that is known by address 0.
    fn directories(&self, visit: &mut dyn FnMut(GuestPhys, bool));

    /// How many level-1 tables of its own the page directory with this number has, counted from 0 as
    /// [`Inspect::directories`] visits them; 0 when there is none.
    fn leaf_tables(&self, number: usize) -> usize;

    /// Every present entry of every shadowed page directory below the Switcher's window, until `visit` has seen
    /// enough.
    fn mappings(&self, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> ControlFlow<()>;

    /// Holds the tables that the processor walks against the strategy's own bookkeeping, for the
    /// [`audit`](crate::audit). The default, for a strategy that keeps none, finds nothing.
    fn check(&self, _host: &mut dyn PagingHost, _found: &mut dyn FnMut(Defect)) {}
}
