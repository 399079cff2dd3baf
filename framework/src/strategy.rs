//! Paging strategies: all that a guest can ask of its page tables.
//!
//! The larger of the two plug-in traits. [`hypercall`](crate::guest) and [`trap`](crate::guest) route
//! every request that concerns page tables here; nothing else of the framework looks at one. The
//! built-in strategies are [`ShadowCache`](crate::cache::ShadowCache) with an eviction policy.
//!
//! Every method runs with interrupts on and may allocate, except [`PagingStrategy::root`], which must
//! only look. One that goes through any number of entries calls [`PagingHost::reschedule_point`] on its way. A method that returns [`Kill`] ends the guest; the only call after that is
//! [`PagingStrategy::tear_down`].

use crate::audit::Defect;
use crate::counters::PagingCounters;
use crate::host::PagingHost;
use crate::kill::Kill;
use crate::tables::ShadowRoot;
use arch_i386::addr::{GuestPhys, GuestVirt, HostFrame};
use arch_i386::paging::{Entry, Flags, Paging};
use arch_i386::table::TablePage;
use arch_i386::trap::PageFaultErrorCode;
use core::fmt;
use core::marker::PhantomData;
use core::ops::ControlFlow;

/// The part at the top of the address space in which every shadow root maps the Switcher.
///
/// One page-table page, made once for each guest by the Switcher's mapper, serves all of the guest's
/// shadow roots: it holds the Switcher's text and the two pages of this guest's virtual CPU.
///
/// Only who has that page-table page, which a host alone can have, can make one; strategies get theirs by a
/// [`BuildContext`](crate::registry::BuildContext). It is not `Send`, so that it stays with its guest.
///
/// ```compile_fail,E0451
/// # use arch_i386::addr::{GuestVirt, HostFrame};
/// # use framework::strategy::SwitcherWindow;
/// fn elsewhere(window: SwitcherWindow) -> SwitcherWindow {
///     SwitcherWindow { leaf: HostFrame(0x1234), ..window }
/// }
/// ```
///
/// What a strategy may know of it is where it begins:
///
/// ```
/// # use arch_i386::addr::{GuestVirt, HostFrame};
/// # use framework::strategy::SwitcherWindow;
/// fn elsewhere(window: SwitcherWindow) -> GuestVirt {
///     window.start()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitcherWindow {
    start: GuestVirt,
    leaf: HostFrame,
    not_send: PhantomData<*const ()>,
}

impl SwitcherWindow {
    /// The window that begins at `start`, a multiple of the page format's
    /// [`LEAF_SPAN`](arch_i386::paging::PageFormat::LEAF_SPAN), and is mapped by `leaf`.
    #[must_use]
    pub const fn new(start: GuestVirt, leaf: &TablePage) -> Self {
        Self { start, leaf: leaf.frame(), not_send: PhantomData }
    }

    /// The first address. Nothing from here up is the guest's.
    #[inline]
    #[must_use]
    pub const fn start(self) -> GuestVirt {
        self.start
    }

    /// The page-table page that maps the window.
    pub(crate) const fn leaf(self) -> HostFrame {
        self.leaf
    }
}

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
    /// The guest's own tables forbid the access: its page-fault handler must hear of it.
    Reflected,
}

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
    /// Which of the [`PagingStrategy::directories`], counted from 0.
    pub number: usize,
    /// The guest-physical address of the page directory that is shadowed.
    pub directory: GuestPhys,
    /// The page.
    pub va: GuestVirt,
    /// The shadow entry: a frame of the host and the flags.
    pub entry: Entry,
    /// Flags of the directory entry that leads to its table: rights need both.
    pub table_flags: Flags,
    /// It is in a table that all page directories share: told of for each of them, but one entry, which
    /// holds one page.
    pub shared: bool,
}

/// A guest's shadow paging, in full.
///
/// A strategy need not be `Send`, and one with [`Tables`](crate::tables::Tables) is not: what is of one guest stays with it.
/// A host that runs a guest on several threads in turn moves all that belongs to the guest together.
pub trait PagingStrategy {
    /// The format of the guest's page tables.
    fn paging(&self) -> Paging;

    /// The part of the address space that is not the guest's.
    fn window(&self) -> SwitcherWindow;

    /// Takes the first shadow page directory; the guest starts on a linear mapping of its memory.
    ///
    /// # Errors
    /// [`Kill::OutOfMemory`]; `tear_down` is still called.
    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill>;

    /// LGUEST_INIT: from `kernel_address` up, all the guest's page directories are alike.
    ///
    /// # Errors
    /// [`Kill`] when the address lies in the Switcher's window.
    fn guest_initialised(&mut self, host: &mut dyn PagingHost, kernel_address: GuestVirt)
    -> Result<(), Kill>;

    /// A page fault at `va`. May fill shadow entries and set accessed and dirty bits in the guest's.
    ///
    /// # Errors
    /// [`Kill`] when the guest's tables are malformed or the host has no page.
    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill>;

    /// NEW_PGTABLE: the guest loads CR3.
    ///
    /// # Errors
    /// [`Kill`].
    fn load_page_directory(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<(), Kill>;

    /// SET_PTE: the entry for `va` in that page directory is now `entry`.
    ///
    /// # Errors
    /// [`Kill`].
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
    /// [`Kill`].
    fn set_pgd(&mut self, host: &mut dyn PagingHost, directory: GuestPhys, index: u32) -> Result<(), Kill>;

    /// SET_PMD: an entry of that page middle directory has changed (PAE guests).
    ///
    /// # Errors
    /// [`Kill`].
    fn set_pmd(&mut self, host: &mut dyn PagingHost, middle: GuestPhys, index: u32) -> Result<(), Kill>;

    /// FLUSH_TLB of user mappings: the user half of the current page directory may have changed.
    fn flush_user(&mut self, host: &mut dyn PagingHost);

    /// FLUSH_TLB of everything.
    ///
    /// # Errors
    /// [`Kill`] when the kernel stack cannot be mapped again.
    fn flush_all(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill>;

    /// SET_STACK: `pages` pages below `esp1` must stay mapped writable, so that the processor can push
    /// a trap frame there without help.
    ///
    /// # Errors
    /// [`Kill`] when the guest does not map them writable.
    fn set_stack(&mut self, host: &mut dyn PagingHost, esp1: GuestVirt, pages: u32) -> Result<(), Kill>;

    /// The shadow root to run on now.
    fn root(&self) -> ShadowRoot<'_>;

    /// Translates an address by the guest's own current tables.
    ///
    /// # Errors
    /// [`Kill::Unmapped`], or [`Kill::Memory`] when a table lies outside memory.
    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill>;

    /// What the current shadow root holds for an address, if every level is present.
    fn lookup(&self, va: GuestVirt) -> Option<Lookup>;

    /// Whether the guest has not loaded a page directory yet and sees its memory mapped linearly.
    fn is_linear(&self) -> bool;

    /// The page directories that are shadowed now; the flag marks the current one. Two may be alike: the
    /// guest starts on one that is known by address 0.
    fn directories(&self, visit: &mut dyn FnMut(GuestPhys, bool));

    /// Every present entry of every shadowed page directory below the Switcher's window, until `visit` has seen
    /// enough.
    fn mappings(&self, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> ControlFlow<()>;

    /// Holds the tables that the processor walks against the strategy's own bookkeeping, for the
    /// [`audit`](crate::audit). One that keeps none has nothing to say.
    fn check(&self, _host: &mut dyn PagingHost, _found: &mut dyn FnMut(Defect)) {}

    /// What has been counted so far.
    fn counters(&self) -> PagingCounters;

    /// Gives every table page and every pinned page back. The strategy is not used after this; what it has forgotten, the
    /// host takes back itself.
    fn tear_down(&mut self, host: &mut dyn PagingHost);
}
