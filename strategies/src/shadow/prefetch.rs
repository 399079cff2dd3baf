//! Prefetching: the neighbours of a missing page, what SET_PTE names, and the working set of a page directory that was
//! evicted or flushed.
//!
//! A guest that has marked a page accessed (or whose accesses were marked for it) is likely to use it again. Such a page is
//! filled before it is missed, by the rules of a demand fault for reading: from the guest's tables as they are now, not from
//! what was shadowed before; writable only if it is dirty, so that the guest's tables need no change; and not at all if its
//! entry is malformed. So nothing is mapped that the guest could not have had mapped by touching it, and no mistake of the
//! guest's shows earlier than it would have.
//!
//! Fault-around and refilling after a flush are done only where they pay ([`trial`](super::trial)).

use super::ShadowCache;
use super::optimizations::{MAX_FAULT_AROUND, Optimizations};
use super::slots::Slot;
use super::trial::{Verdict, WATCHED};
use alloc::vec::Vec;
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, PageFormat};
use framework::bits::bits;
use framework::fallible::OutOfMemory;
use framework::host::{PagingHost, reschedule_point};
use framework::tables::LeafId;
use framework::walk;

/// Bytes of the guest's table that are read at a time: no more than are used as a rule, as they are zeroed first.
const PIECE: usize = 128;
const _: () = assert!(PIECE / 4 <= 32, "a bit for each entry");

/// How many pages are filled before the host may run something else.
const FILLED_AT_ONCE: usize = 256;

/// The entry in these bytes of the guest's memory.
#[inline(always)]
fn decoded(bytes: &[u8]) -> Entry {
    Entry(bytes.iter().rev().fold(0, |entry, byte| entry << 8 | u64::from(*byte)))
}

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    /// The guest has missed `va`, and the shadow of `made` is in `table` for it now. Fills its neighbours, if that is to be done.
    #[inline]
    pub(super) fn after_fault(
        &mut self,
        host: &mut dyn PagingHost,
        table: LeafId,
        va: GuestVirt,
        (at, made): (GuestPhys, Entry),
    ) {
        let Optimizations { fault_around, refill_after_flush, .. } = self.optimizations;
        if (fault_around >= 2 || refill_after_flush) && !self.linear {
            self.prefetch_after_fault(host, table, va, (at, made));
        }
    }

    #[inline(never)] // Most strategies prefetch nothing.
    fn prefetch_after_fault(
        &mut self,
        host: &mut dyn PagingHost,
        table: LeafId,
        va: GuestVirt,
        (at, made): (GuestPhys, Entry),
    ) {
        let directory = self.slots.current_slot().directory;
        for trial in [&mut self.around, &mut self.after_flush] {
            trial.fault(directory, va.page(), made);
        }
        if self.optimizations.fault_around < 2 {
            return;
        }
        match self.verdict_on_around() {
            Verdict::Leave => {}
            Verdict::Prefetch => {
                let before = self.counters.filled_ahead;
                self.neighbours(host, table, va, at, |cache, host, page, guest| {
                    cache.fill(host, table, page, guest);
                });
                if va < self.kernel_address {
                    self.count_filled_ahead(before);
                }
            }
            Verdict::Withhold => {
                self.around.begin(directory);
                self.neighbours(host, table, va, at, |cache, host, page, guest| {
                    if walk::frame_within(host, guest).is_some_and(|frame| host.known(frame).is_some()) {
                        cache.around.withhold((page, walk::until_dirty(guest)));
                    }
                });
            }
        }
    }

    fn verdict_on_around(&mut self) -> Verdict {
        if self.optimizations.prefetch_on_trial { self.around.verdict() } else { Verdict::Prefetch }
    }

    /// Whether what a flush of the current user half drops is to be filled again.
    pub(super) fn verdict_after_flush(&mut self) -> Verdict {
        if !self.optimizations.refill_after_flush || self.linear {
            return Verdict::Leave;
        }
        if !self.optimizations.prefetch_on_trial {
            return Verdict::Prefetch;
        }
        self.end_trials(Some(self.slots.current_slot().directory));
        self.after_flush.verdict()
    }

    /// What was withheld of a page directory, or of any with `None`, would not be there any more.
    pub(super) fn end_trials(&mut self, directory: Option<GuestPhys>) {
        for trial in [&mut self.around, &mut self.after_flush] {
            trial.end_of(directory);
        }
    }

    /// Puts refilling after a flush on trial, with some of the pages that a flush has dropped.
    pub(super) fn withhold(&mut self, host: &mut dyn PagingHost, pages: &[GuestVirt]) {
        let directory = self.slots.current_slot().directory;
        self.after_flush.begin(directory);
        for &va in pages.iter().step_by(pages.len().div_ceil(WATCHED).max(1)) {
            if let Ok(Some(found)) = walk::walk::<G>(host, directory, va)
                && self.may_fill(va, found.entry)
            {
                self.after_flush.withhold((va, walk::until_dirty(found.entry)));
            }
        }
    }

    /// Visits the neighbours of `va`, whose entry is at `at`: of the pages about it, those accessed that have no shadow.
    fn neighbours(
        &mut self,
        host: &mut dyn PagingHost,
        table: LeafId,
        va: GuestVirt,
        at: GuestPhys,
        mut visit: impl FnMut(&mut Self, &mut dyn PagingHost, GuestVirt, Entry),
    ) {
        let size = self.optimizations.fault_around.min(MAX_FAULT_AROUND);
        let index = G::index(va, 1);
        let first = index - index % size;
        let count = size.min(G::ENTRIES - first);
        let at = GuestPhys(at.frame().start().0 + first as u32 * G::ENTRY_SIZE);
        let start = va.page().0 - (index - first) as u32 * PAGE_SIZE;
        let piece = PIECE / G::ENTRY_SIZE as usize;
        for done in (0..count).step_by(piece) {
            let mut bytes = [0; PIECE];
            let bytes = &mut bytes[..piece.min(count - done) * G::ENTRY_SIZE as usize];
            if host.read(GuestPhys(at.0 + done as u32 * G::ENTRY_SIZE), bytes).is_err() {
                return;
            }
            let neighbour = |i: usize| GuestVirt(start + (done + i) as u32 * PAGE_SIZE);
            // Looked at first, as most need no more than that: a bit each.
            let mut wanted = 0_u32;
            for (i, bytes) in bytes.chunks_exact(G::ENTRY_SIZE as usize).enumerate() {
                let va_of = neighbour(i);
                // One level-1 table of the guest's may have two shadows.
                if va_of.0 / S::LEAF_SPAN == va.0 / S::LEAF_SPAN
                    && self.may_fill(va_of, decoded(bytes))
                    && !self.tables.entry_in(table, va_of).present()
                {
                    wanted |= 1 << i;
                }
            }
            for i in bits(wanted).map(|i| i as usize) {
                let guest = decoded(&bytes[i * G::ENTRY_SIZE as usize..][..G::ENTRY_SIZE as usize]);
                visit(self, host, neighbour(i), guest);
            }
        }
    }

    /// Whether a page may be filled ahead of a fault: its entry in the guest's tables is accessed.
    #[inline(always)] // Most neighbours come no farther than the first question.
    fn may_fill(&self, va: GuestVirt, guest: Entry) -> bool {
        guest.has(Flags::PRESENT | Flags::ACCESSED) && va < self.tables.window().start()
    }

    /// Fills one page with this entry of the guest's, if it is good and the page has no shadow yet.
    #[inline(always)] // As with an entry's conversion.
    fn fill(&mut self, host: &mut dyn PagingHost, table: LeafId, va: GuestVirt, guest: Entry) {
        if self.tables.fill(host, table, va, walk::until_dirty(guest)) {
            self.counters.filled_ahead += 1;
        }
    }

    /// Makes the table for a page below the kernel that SET_PTE names with this entry, unless it is there.
    /// When the guest's tables have another entry by now, or memory is short, the page is left to a fault.
    pub(super) fn add_table_for(
        &mut self,
        host: &mut dyn PagingHost,
        slot: Slot,
        va: GuestVirt,
        said: Entry,
    ) {
        if self.linear || self.tables.entry(slot.root, va).is_some() {
            return;
        }
        let Ok(Some(found)) = walk::walk::<G>(host, slot.directory, va) else { return };
        if found.entry == said
            && self.tables.release_if_moved(host, slot.root, va, found.origin()).is_continue()
        {
            let _: Result<_, OutOfMemory> = self.tables.find_or_add(host, slot.root, va, found.origin());
        }
    }

    /// Whether prefetching begins at demand faults, and is judged by them, so that none must be missed.
    pub(super) const fn prefetches_at_faults(&self) -> bool {
        self.optimizations.fault_around >= 2 || self.optimizations.refill_after_flush
    }

    /// Remembers a page that SET_PTE names for a page directory that is not shadowed.
    pub(super) fn remember_page(&mut self, directory: GuestPhys, va: GuestVirt) {
        self.evicted.add_page(directory, va.page(), self.optimizations.refill);
    }

    /// Remembers what a slot has mapped below the kernel, before that is dropped; nothing when memory is short.
    pub(super) fn remember_pages(&mut self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            self.end_trials(Some(slot.directory));
            let pages = self.user_pages(index);
            let mut kept = Vec::new();
            if kept.try_reserve_exact(pages.len()).is_ok() {
                kept.extend_from_slice(&pages);
            }
            self.listed = pages;
            self.evicted.add(slot.directory, kept);
        }
    }

    /// What a slot has mapped below the kernel, as much of it as is refilled; nothing when memory is short. To be given back to
    /// `listed`, since a host may take longer to allocate memory than to fill a few pages.
    pub(super) fn user_pages(&mut self, index: usize) -> Vec<GuestVirt> {
        let mut pages = core::mem::take(&mut self.listed);
        pages.clear();
        let refill = self.optimizations.refill;
        if let Some(slot) = self.slots.get(index)
            && refill > 0
            && pages.try_reserve_exact(refill).is_ok()
        {
            self.tables.list_pages(slot.root, self.kernel_address, refill, &mut pages);
        }
        pages
    }

    /// Fills what is remembered of the current page directory, which was not shadowed until now.
    pub(super) fn refill(&mut self, host: &mut dyn PagingHost) {
        let pages = self.evicted.take(self.slots.current_slot().directory);
        self.fill_pages(host, pages.as_deref().unwrap_or_default());
    }

    /// Fills those of some pages that the current page directory maps as accessed.
    #[inline(never)] // Or a switch that fills nothing would have its stack frame.
    pub(super) fn fill_pages(&mut self, host: &mut dyn PagingHost, pages: &[GuestVirt]) {
        let (slot, before) = (self.slots.current_slot(), self.counters.filled_ahead);
        for (number, &va) in pages.iter().enumerate() {
            if number % FILLED_AT_ONCE == FILLED_AT_ONCE - 1 && reschedule_point(host).is_break() {
                break;
            }
            // What is wrong with the guest's tables comes out when it uses them.
            let Ok(Some(found)) = walk::walk::<G>(host, slot.directory, va) else { continue };
            if self.may_fill(va, found.entry) {
                let Ok(table) = self.tables.find_or_add(host, slot.root, va, found.origin()) else { break };
                self.fill(host, table, va, found.entry);
            }
        }
        self.count_filled_ahead(before);
    }

    /// What has been filled ahead for the current slot, below the kernel, since there were so many.
    fn count_filled_ahead(&mut self, before: u64) {
        let count = self.counters.filled_ahead - before;
        self.tables.count_fills(self.slots.current_slot().root, count as u32);
    }
}
