//! Prefetching: the neighbours of a missing page, what SET_PTE names, and the working set of a page directory that was
//! evicted or flushed.
//!
//! A guest that has marked a page accessed (or whose accesses were marked for it) is likely to use it again. Such a page is
//! filled before it is missed, by the rules of a demand fault for reading: from the guest's tables as they are now, not from
//! what was shadowed before; writable only if it is dirty, so that the guest's tables need no change; and not at all if its
//! entry is malformed. So nothing is mapped that the guest could not have had mapped by touching it, and no mistake of the
//! guest's shows earlier than it would have.

use super::ShadowCache;
use super::optimizations::MAX_FAULT_AROUND;
use super::slots::Slot;
use alloc::vec::Vec;
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, PageFormat};
use framework::fallible::OutOfMemory;
use framework::host::{PagingHost, reschedule_point};
use framework::tables::LeafId;
use framework::walk::{self, WalkResult};

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
    /// Fills the neighbours of `va`, whose entry has just been shadowed in `table`, if that is to be done.
    #[inline]
    pub(super) fn fault_around(
        &mut self,
        host: &mut dyn PagingHost,
        table: LeafId,
        va: GuestVirt,
        found: &WalkResult,
    ) {
        let size = self.optimizations.fault_around.min(MAX_FAULT_AROUND);
        if size >= 2 && !self.linear && !self.throttle.is_suppressed(size) {
            self.fill_neighbours(host, table, va, found.at, size);
        }
    }

    /// Fills the neighbours of `va`, whose entry is at `at`: the `size` about it, those accessed that have no shadow.
    #[inline(never)]
    fn fill_neighbours(
        &mut self,
        host: &mut dyn PagingHost,
        table: LeafId,
        va: GuestVirt,
        at: GuestPhys,
        size: usize,
    ) {
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
            while wanted != 0 {
                let i = wanted.trailing_zeros() as usize;
                wanted &= wanted - 1;
                let guest = decoded(&bytes[i * G::ENTRY_SIZE as usize..][..G::ENTRY_SIZE as usize]);
                self.fill(host, table, neighbour(i), guest);
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

    /// Remembers a page that SET_PTE names for a page directory that is not shadowed.
    pub(super) fn remember_page(&mut self, directory: GuestPhys, va: GuestVirt) {
        self.evicted.add_page(directory, va.page(), self.optimizations.refill);
    }

    /// Remembers what a slot has mapped below the kernel, before that is dropped.
    pub(super) fn remember_pages(&mut self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            let pages = self.user_pages(index);
            self.evicted.add(slot.directory, pages);
        }
    }

    /// What a slot has mapped below the kernel, as much of it as is refilled; nothing when memory is short.
    pub(super) fn user_pages(&self, index: usize) -> Vec<GuestVirt> {
        let mut pages = Vec::new();
        let Some(slot) = self.slots.get(index).filter(|_| self.optimizations.refill > 0) else {
            return pages;
        };
        if pages.try_reserve_exact(self.optimizations.refill).is_ok() {
            self.tables.list_pages(slot.root, self.kernel_address, self.optimizations.refill, &mut pages);
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
        let slot = self.slots.current_slot();
        for (number, &va) in pages.iter().enumerate() {
            if number % FILLED_AT_ONCE == FILLED_AT_ONCE - 1 && reschedule_point(host).is_break() {
                return;
            }
            // What is wrong with the guest's tables comes out when it uses them.
            let Ok(Some(found)) = walk::walk::<G>(host, slot.directory, va) else { continue };
            if self.may_fill(va, found.entry) {
                let Ok(table) = self.tables.find_or_add(host, slot.root, va, found.origin()) else { return };
                self.fill(host, table, va, found.entry);
            }
        }
    }
}
