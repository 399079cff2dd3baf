//! Shadow paging with a cache of page directories: the pager under every eviction policy.
//!
//! A guest has a page directory for each of its processes; this cache keeps shadows of some, in shadow *slots*. Which
//! slot is evicted is an [`EvictionPolicy`]'s choice; everything else is here. lguest's `page_tables.c` does seven things,
//! and so does this, in the same order:
//!
//! | part | file | what |
//! | --- | --- | --- |
//! | 1. demand faults | [`demand_fault`] | an entry is filled when the processor first misses it |
//! | 2. the pinned stack | [`framework::pager`] | the guest's kernel stack is never missing: for every strategy the same |
//! | 3. changed entries | [`changed_entries`] | set_pte, set_pgd, set_pmd |
//! | 4. switching | [`switching`] | the guest loads CR3: another slot becomes the current one, or one is taken |
//! | 5. flushing | [`flushing`] | the user half of the current slot, or everything of all |
//! | 6. the Switcher | [`framework::tables`] | every root maps it from the day it is made |
//! | 7. set-up | [`set_up`] | the linear mapping before the first page directory; the end |
//!
//! Each file describes what lguest does there and what is different here. What can be better than in lguest is in
//! [`optimizations`], each with its own switch.
//!
//! The rest: [`slots`] (which page directories are shadowed), [`capacity`], [`eviction`] and [`costs`] (how many, which is
//! evicted, and what that costs), [`prefetch`] with [`trial`] and [`evicted`] (entries that are filled before they are
//! missed), [`inspect`] (what the audit and dumps can see).
//!
//! Here belongs what all eviction policies share. What every strategy needs belongs to the framework, and what only one
//! policy needs into that policy's file.

mod capacity;
mod changed_entries;
mod costs;
mod demand_fault;
mod evicted;
mod eviction;
mod flushing;
mod inspect;
mod optimizations;
mod prefetch;
mod set_up;
mod slots;
mod switching;
mod trial;

use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use evicted::EvictedSets;
use framework::counters::PagingCounters;
use framework::fallible::OutOfMemory;
use framework::host::PagingHost;
use framework::in_switcher::{Fills, NotedFills};
use framework::inspect::Inspect;
use framework::kill::Kill;
use framework::pager::Built;
use framework::policy::EvictionPolicy;
use framework::registry::{BuildContext, ChosenPolicy};
use framework::strategy::{Fault, Formats, Loaded, PagingStrategy, SwitcherWindow};
use framework::tables::{ShadowRoot, Tables};
use framework::walk;
use slots::Slots;
use trial::Trial;

use alloc::boxed::Box;
use alloc::vec::Vec;
pub use capacity::Capacity;
pub use optimizations::{MAX_FAULT_AROUND, Optimizations};

/// Shadow paging with a cache of page directories: the guest's have the format `G`, their shadows `S`.
pub struct ShadowCache<G, S> {
    tables: Tables<G, S>,
    slots: Slots,
    capacity: Capacity,
    policy: Box<dyn EvictionPolicy>,
    optimizations: Optimizations,
    evicted: EvictedSets,
    /// Whether fault-around pays, and refilling after a flush.
    around: Trial,
    after_flush: Trial,
    /// Room for a list of pages.
    listed: Vec<GuestVirt>,
    /// The guest has not loaded a page directory yet.
    linear: bool,
    /// From here up all the guest's page directories are alike.
    kernel_address: GuestVirt,
    counters: PagingCounters,
}

/// A cache for these formats, one of [`Formats::SERVED`]. The policy is one for [`Capacity::slots`].
///
/// # Errors
/// [`OutOfMemory`] when there is no memory for the cache or its slots.
///
/// # Panics
/// When the formats are not served.
pub fn build(
    formats: Formats,
    window: SwitcherWindow,
    capacity: Capacity,
    policy: Box<dyn EvictionPolicy>,
    optimizations: Optimizations,
) -> Result<Built, OutOfMemory> {
    let parts = (capacity, policy, optimizations);
    match (formats.guest, formats.shadow) {
        (Paging::TwoLevel, Paging::TwoLevel) => ShadowCache::<TwoLevel, TwoLevel>::build(window, parts),
        (Paging::TwoLevel, Paging::Pae) => ShadowCache::<TwoLevel, Pae>::build(window, parts),
        (Paging::Pae, Paging::Pae) => ShadowCache::<Pae, Pae>::build(window, parts),
        (Paging::Pae, Paging::TwoLevel) => panic!("a {formats} is refused before"),
    }
}

/// The same with the policy that was chosen.
///
/// # Errors
/// [`OutOfMemory`] when there is no memory for the policy, the cache or its slots.
pub fn with_policy(
    context: &BuildContext,
    capacity: Capacity,
    policy: &ChosenPolicy<'_>,
    optimizations: Optimizations,
) -> Result<Built, OutOfMemory> {
    let optimizations = Optimizations { for_switcher: context.switcher_fills, ..optimizations };
    build(context.formats, context.window, capacity, policy.build(capacity.slots())?, optimizations)
}

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    #[inline(never)] // Or the caller's frame, on a kernel's stack, would have room for the caches of all formats.
    fn build(
        window: SwitcherWindow,
        (capacity, policy, optimizations): (Capacity, Box<dyn EvictionPolicy>, Optimizations),
    ) -> Result<Built, OutOfMemory> {
        let slots = Slots::new(capacity.slots_at_first())?;
        let formats = Formats { guest: G::PAGING, shadow: S::PAGING };
        Built::new(formats, window, || Self {
            tables: Tables::new(window, optimizations.release_by_use),
            slots,
            capacity,
            policy,
            optimizations,
            evicted: EvictedSets::default(),
            around: Trial::new(256, 16, 700),
            after_flush: Trial::new(16, 64, 0),
            listed: Vec::new(),
            linear: true,
            kernel_address: GuestVirt(0),
            counters: PagingCounters::default(),
        })
    }
}

impl<G: PageFormat, S: PageFormat> PagingStrategy for ShadowCache<G, S> {
    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        self.fix(host, va, error)
    }

    #[inline] // into the pager's method, which alone calls it
    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill> {
        self.change_entry(host, directory, va, entry)
    }

    fn set_pgd(&mut self, host: &mut dyn PagingHost, directory: GuestPhys, index: u32) -> Result<(), Kill> {
        self.change_directory_entry(host, directory, index as usize);
        Ok(())
    }

    fn set_pmd(&mut self, host: &mut dyn PagingHost, middle: GuestPhys, index: u32) -> Result<(), Kill> {
        self.change_middle_entry(host, middle, index)
    }

    #[inline(always)] // It is on the path of every switch.
    fn load_page_directory(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
    ) -> Result<Loaded, Kill> {
        self.switch(host, directory)
    }

    fn loads_in_switcher(&mut self, directories: &[GuestPhys]) -> usize {
        self.switch_among(directories)
    }

    fn loaded(&mut self, host: &mut dyn PagingHost) {
        self.refill(host);
        self.keep_to_budget(host);
    }

    fn flush_user(&mut self, host: &mut dyn PagingHost) {
        self.flush_current_user_half(host);
    }

    fn flush_user_of(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) {
        if let Some(index) = self.slots.of(directory) {
            // Where the host breaks it off, the guest does not come to see what is left.
            let _ = self.flush_user_half(host, index);
        }
    }

    fn flush_all(&mut self, host: &mut dyn PagingHost) {
        self.flush_everything(host);
    }

    fn shrink(&mut self, host: &mut dyn PagingHost) {
        self.give_up_some(host);
    }

    fn root(&self) -> ShadowRoot<'_> {
        self.tables.current_root()
    }

    fn reflects_by(&self) -> Option<GuestPhys> {
        (!self.linear).then(|| self.slots.current_slot().directory)
    }

    fn publishes(&self) -> bool {
        true
    }

    fn lets_switcher_fill(&self) -> bool {
        !self.prefetches_at_faults()
    }

    fn filled(&mut self, host: &mut dyn PagingHost, fills: Fills) -> NotedFills {
        self.tables.note_fills(host, fills, self.kernel_address)
    }

    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        self.begin_linear(host)
    }

    fn guest_initialised(
        &mut self,
        host: &mut dyn PagingHost,
        kernel_address: GuestVirt,
    ) -> Result<(), Kill> {
        self.learn_kernel_address(host, kernel_address)
    }

    fn tear_down(&mut self, host: &mut dyn PagingHost) {
        self.give_everything_back(host);
    }

    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill> {
        if self.linear {
            return Ok(GuestPhys(va.0));
        }
        walk::translate::<G>(host, self.slots.current_slot().directory, va)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }

    fn counters(&self) -> PagingCounters {
        let PagingCounters { released_entries, visited_entries, .. } = self.tables.counters();
        PagingCounters { released_entries, visited_entries, ..self.counters }
    }
}
