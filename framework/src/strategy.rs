//! Paging strategies: all that a guest can request of its page tables.
//!
//! The larger of the two plug-in traits. [`hypercall`](crate::guest) and [`trap`](crate::guest) route
//! every request that concerns page tables here, through the strategy's [`pager`](crate::pager); nothing else of the
//! framework looks at one. The built-in strategies are in the crate `strategies`.
//!
//! Every method runs with interrupts on and may allocate, except [`PagingStrategy::root`], which must
//! only look. One that goes through any number of entries calls [`PagingHost::reschedule_point`] on its way. A method that
//! returns [`Kill`] ends the guest; the only call after that is [`PagingStrategy::tear_down`]. A panic ends it, too; there
//! is no call after that ([`guarded`](crate::guarded)). What a method allocates may not outlive the guest: nothing of it is
//! to be kept in a `static`.

use crate::counters::PagingCounters;
use crate::in_switcher::{Fills, NotedFills};
use crate::inspect::Inspect;
use crate::kill::Kill;
use crate::paging_host::PagingHost;
use crate::shadow_root::ShadowRoot;
pub use crate::window::SwitcherWindow;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Paging};
use arch_i386::trap::PageFaultErrorCode;
use core::fmt;

/// The page formats that meet in a guest's shadow paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// That of the guest's own tables.
    pub guest: Paging,
    /// That of the shadow tables, which the processor walks: the host's.
    pub shadow: Paging,
}

impl Formats {
    /// Every combination that can be served. A PAE guest on 2-level shadows is not among them: a shadow
    /// table would stand for two of the guest's, whose rights may differ.
    pub const SERVED: [Self; 3] = [
        Self::both(Paging::TwoLevel),
        Self::both(Paging::Pae),
        Self { guest: Paging::TwoLevel, shadow: Paging::Pae },
    ];

    /// A guest with its host's own format.
    #[must_use]
    pub const fn both(paging: Paging) -> Self {
        Self { guest: paging, shadow: paging }
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} guest on {} host", self.guest, self.shadow)
    }
}

/// What became of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The shadow tables had not caught up; the guest can go on.
    Fixed,
    /// The guest's own tables forbid the access: the fault goes to the guest's page-fault handler.
    Reflected,
}

/// What came of loading a page directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// It was shadowed.
    Hit,
    /// It was not. It has the place of another one, of which the kernel's half is kept.
    Recycled,
    /// It was not, and nothing of it may be mapped yet.
    New,
}

/// A guest's shadow paging: what a strategy decides. All else is done for it by its [`pager`](crate::pager): no address
/// that it is called with lies in the Switcher's window, no index of [`set_pgd`](Self::set_pgd) outside of its table,
/// requests are counted, and after each request that may have dropped the guest's kernel stack it is mapped again, by a
/// [`demand_fault`](Self::demand_fault). A strategy may always drop more than the request names: what is missing is filled
/// by the next fault. So the default for a request drops everything.
///
/// A strategy need not be `Send`, and one with [`Tables`](crate::tables::Tables) is not: what is of one guest stays with it.
/// A host that runs a guest on several threads in turn moves all that belongs to the guest together.
pub trait PagingStrategy {
    /// Takes the first shadow page directory; the guest starts on a linear mapping of its memory.
    ///
    /// # Errors
    /// [`Kill::OutOfMemory`] when the host has no page for it; `tear_down` is still called.
    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill>;

    /// LGUEST_INIT: from `kernel_address` up, all the guest's page directories are alike. The host has just written to the
    /// guest's memory, so that what is mapped of it may be stale.
    ///
    /// # Errors
    /// [`Kill`] when the host has no memory for what the strategy makes of it.
    fn guest_initialised(
        &mut self,
        host: &mut dyn PagingHost,
        _kernel_address: GuestVirt,
    ) -> Result<(), Kill> {
        self.flush_all(host);
        Ok(())
    }

    /// A page fault at `va`. May fill shadow entries and set accessed and dirty bits in the guest's.
    ///
    /// # Errors
    /// [`Kill`] when the guest's tables are malformed or the host has no page. After one of them,
    /// [`Kill::DeviceMemory`], the guest goes on: the tables allow the access, and lead to device memory, of which
    /// [`ShadowEntry::new`](crate::tables::ShadowEntry::new) makes no entry. So a strategy passes that error on, and
    /// leaves its tables fit for the next request.
    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill>;

    /// NEW_PGTABLE: the guest loads CR3.
    ///
    /// # Errors
    /// [`Kill::OutOfMemory`] when the host has no page for its shadow.
    fn load_page_directory(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
    ) -> Result<Loaded, Kill>;

    /// The Switcher has loaded these by itself, one after the other. Returns how many of them, from the first on, the strategy
    /// has taken note of here as in [`load_page_directory`](Self::load_page_directory), each of them a hit; that method is
    /// called for the others. So a strategy need not have this one. It saves the common case what can be done once for all.
    fn loads_in_switcher(&mut self, _directories: &[GuestPhys]) -> usize {
        0
    }

    /// A page directory that was not shadowed is loaded, and the guest's kernel stack mapped in it: time to fill it ahead,
    /// or to evict others.
    fn loaded(&mut self, _host: &mut dyn PagingHost) {}

    /// SET_PTE: the entry for `va` in that page directory is now `entry`.
    ///
    /// # Errors
    /// [`Kill`] when the strategy maps `entry` at once, and it is malformed or the host has no page for it.
    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill>;

    /// SET_PGD: a top-level entry of that page directory has changed.
    ///
    /// # Errors
    /// [`Kill`] when the strategy cannot go on; dropping entries needs nothing that can fail.
    fn set_pgd(&mut self, host: &mut dyn PagingHost, _directory: GuestPhys, _index: u32) -> Result<(), Kill> {
        self.flush_all(host);
        Ok(())
    }

    /// SET_PMD: an entry of that page middle directory has changed (PAE guests; the index may be any number).
    ///
    /// # Errors
    /// [`Kill::MiddleIndex`] when the index is outside of the table, for a strategy that goes by it.
    fn set_pmd(&mut self, host: &mut dyn PagingHost, _middle: GuestPhys, _index: u32) -> Result<(), Kill> {
        self.flush_all(host);
        Ok(())
    }

    /// FLUSH_TLB of user mappings: the user half of the current page directory may have changed.
    fn flush_user(&mut self, host: &mut dyn PagingHost) {
        self.flush_all(host);
    }

    /// FLUSH_USER_OF: whatever is kept of the user half of this page directory, loaded or not, is not valid any more. Its guest may
    /// have given it back, so that nothing is to be filled by it now.
    fn flush_user_of(&mut self, host: &mut dyn PagingHost, _directory: GuestPhys) {
        self.flush_all(host);
    }

    /// FLUSH_TLB of everything.
    fn flush_all(&mut self, host: &mut dyn PagingHost);

    /// A demand fault, a page directory's load or LGUEST_INIT has failed with [`Kill::OutOfMemory`]: the guest has reached the
    /// limit of its memory, or the host is short of it. The strategy gives table pages back, by evicting; then the request
    /// comes again, for the last time. (No other request needs a table: an entry that has none is filled by a fault.)
    fn shrink(&mut self, host: &mut dyn PagingHost) {
        self.flush_all(host);
    }

    /// The shadow root to run on now.
    fn root(&self) -> ShadowRoot<'_>;

    /// The guest's page directory by which the Switcher may reflect page faults without a call of
    /// [`demand_fault`](Self::demand_fault), where an entry of the guest's own tables is not present or forbids the access.
    /// `None`, which is the default, for a strategy that must see every fault.
    fn reflects_by(&self) -> Option<GuestPhys> {
        None
    }

    /// Whether the Switcher may load the roots that [`root`](Self::root) returns by itself from now on, each when the guest loads
    /// the page directory that [`reflects_by`](Self::reflects_by) returned with it. For each such load
    /// [`load_page_directory`](Self::load_page_directory), or [`loads_in_switcher`](Self::loads_in_switcher) in its place, is
    /// called afterwards, before any other request, and must find it shadowed. So a strategy that says yes calls [`PagingHost::retract`] before a page directory has no shadow any more, or
    /// another one. The default is no: then every load comes as it happens.
    fn publishes(&self) -> bool {
        false
    }

    /// Whether the Switcher may fill entries that the guest misses by itself, in level-1 tables that are there, by the page
    /// directory that [`reflects_by`](Self::reflects_by) returns and by the rules of a [`demand_fault`](Self::demand_fault):
    /// without a call of that, and without one for the neighbours; and, if the strategy [publishes](Self::publishes), replace
    /// those that the guest names by [`set_pte`](Self::set_pte). One that is named in a table that is
    /// [kept](crate::tables::Tables::is_kept) is left as it is. The default is no, for a strategy that must see every fault.
    fn lets_switcher_fill(&self) -> bool {
        false
    }

    /// The Switcher has filled entries of the strategy's [`Tables`](crate::tables::Tables), which must
    /// [note](crate::tables::Tables::note_fills) them. Called before any other request that came after them.
    ///
    /// # Panics
    /// By default: a strategy that [lets the Switcher fill](Self::lets_switcher_fill) has a method of its own.
    fn filled(&mut self, _host: &mut dyn PagingHost, _fills: Fills) -> NotedFills {
        panic!("entries were filled for a strategy that does not note any")
    }

    /// Translates an address by the guest's own current tables.
    ///
    /// # Errors
    /// [`Kill::Unmapped`] when the guest does not map it, [`Kill::Memory`] when a table lies outside memory, or another
    /// when an entry is malformed.
    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill>;

    /// What can be seen of its shadow tables, for a strategy that can be audited and dumped.
    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }

    /// The strategy's own counters. The guest's requests are counted by its pager.
    fn counters(&self) -> PagingCounters {
        PagingCounters::default()
    }

    /// Gives every table page back. The strategy is not used after this; what it has forgotten, the
    /// host takes back itself.
    fn tear_down(&mut self, host: &mut dyn PagingHost);
}
