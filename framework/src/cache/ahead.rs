//! Filling ahead of faults: the neighbours of a missing page, what the guest announces, and what a lost page
//! directory had mapped.
//!
//! A guest that has marked a page accessed (or whose accesses were marked for it) is likely to use it
//! again. Such a page is filled without being asked for, by the rules of a demand fault for reading: from
//! the guest's tables as they are now, whatever was shadowed before; writable only if it is dirty, so that
//! the guest's tables need no change; and where anything is wrong with it, not at all. So nothing is
//! mapped that the guest could not have had mapped by touching it, and no mistake of the guest's shows
//! earlier than it would have.

use super::{ShadowCache, Slot};
use crate::host::{OutOfMemory, PagingHost};
use crate::tables::{LeafId, reschedule_point};
use crate::walk::{self, Leaf};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, PageFormat};

/// The largest value of [`Mends::around`](super::Mends::around).
pub const MAX_AROUND: usize = 64;

/// Bytes of the guest's table that are read at a time: no more than are used as a rule, as they are zeroed first.
const PIECE: usize = 128;
const _: () = assert!(PIECE / 4 <= 32, "a bit for each entry");

/// A flush of everything has come too soon for filling around faults to have paid, if less than so many faults for each
/// page that may be filled have come since the last one.
const PAYS: usize = 8;

/// How fast one flush of everything follows another, by the demand faults in between.
///
/// The kernel marks all of its memory as accessed, so that there is always something to fill. A guest that flushes
/// again and again loses it before it has used it. What it did last is taken for what it does next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Demand faults since the last flush of everything.
    faults: usize,
    /// The one before it came too soon, and this one may.
    alone: bool,
}

impl Pace {
    /// The guest flushes everything; so many pages may be filled at a fault.
    pub(super) const fn flushed(&mut self, around: usize) {
        self.alone = self.faults < PAYS * around;
        self.faults = 0;
    }

    /// Counts a fault; whether its neighbours are left alone.
    const fn fixed_alone(&mut self, around: usize) -> bool {
        self.faults += 1;
        self.alone = self.alone && self.faults < PAYS * around;
        self.alone
    }
}

/// How many pages are filled before the host may run something else.
const FILLED_AT_ONCE: usize = 256;

/// How many page directories without a shadow are remembered.
const MAX_LOST: usize = 128;

/// Pages below the kernel that are to be filled when the guest comes to a page directory that has no shadow:
/// what was mapped when it was lost, and what was announced since.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// The last ones at the back.
    directories: VecDeque<(GuestPhys, Vec<GuestVirt>)>,
}

impl Lost {
    /// Takes out what is known of a page directory.
    #[inline(always)] // Most switches find nothing.
    fn take(&mut self, directory: GuestPhys) -> Option<Vec<GuestVirt>> {
        let at = self.position(directory)?;
        self.directories.remove(at).map(|(_, pages)| pages)
    }

    fn position(&self, directory: GuestPhys) -> Option<usize> {
        self.directories.iter().rposition(|(known, _)| *known == directory)
    }

    /// Adds one page, if there are less than `limit` of its page directory.
    fn add_page(&mut self, directory: GuestPhys, page: GuestVirt, limit: usize) {
        match self.position(directory) {
            Some(at) => {
                let (_, pages) = &mut self.directories[at];
                if pages.len() < limit && pages.last() != Some(&page) && pages.try_reserve(1).is_ok() {
                    pages.push(page);
                }
            }
            None => {
                let mut pages = Vec::new();
                if limit > 0 && pages.try_reserve(1).is_ok() {
                    pages.push(page);
                    self.add(directory, pages);
                }
            }
        }
    }

    fn add(&mut self, directory: GuestPhys, pages: Vec<GuestVirt>) {
        self.take(directory);
        if pages.is_empty() {
            return;
        }
        if self.directories.len() >= MAX_LOST {
            self.directories.pop_front();
        }
        if self.directories.try_reserve(1).is_ok() {
            self.directories.push_back((directory, pages));
        }
    }
}

/// The entry in these bytes of the guest's memory.
#[inline(always)]
fn decoded(bytes: &[u8]) -> Entry {
    Entry(bytes.iter().rev().fold(0, |entry, byte| entry << 8 | u64::from(*byte)))
}

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    /// Fills the neighbours of `va`, whose entry `leaf` has just been shadowed in `table`, if that is to be done.
    #[inline]
    pub(super) fn fill_around(
        &mut self,
        host: &mut dyn PagingHost,
        table: LeafId,
        va: GuestVirt,
        leaf: &Leaf,
    ) {
        let size = self.mends.around.min(MAX_AROUND);
        if size >= 2 && !self.linear && !self.pace.fixed_alone(size) {
            self.fill_neighbours(host, table, va, leaf.at, size);
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
        let rights = if guest.has(Flags::DIRTY) { guest } else { guest.without(Flags::WRITABLE) };
        if self.tables.fill(host, table, va, rights) {
            self.counters.filled_ahead += 1;
        }
    }

    /// Makes the table for a page below the kernel that the guest announces with this entry, unless it is there.
    /// When the guest's tables say something else by now, or memory is short, the page is left to a fault.
    pub(super) fn add_announced_table(
        &mut self,
        host: &mut dyn PagingHost,
        slot: Slot,
        va: GuestVirt,
        announced: Entry,
    ) {
        if self.linear || self.tables.entry(slot.root, va).is_some() {
            return;
        }
        let Ok(Some(leaf)) = walk::walk::<G>(host, slot.directory, va) else { return };
        if leaf.entry == announced
            && self.tables.release_if_moved(host, slot.root, va, leaf.origin()).is_continue()
        {
            let _: Result<_, OutOfMemory> = self.tables.find_or_add(host, slot.root, va, leaf.origin());
        }
    }

    /// Remembers a page that the guest announces for a page directory that has no shadow.
    pub(super) fn remember_announced(&mut self, directory: GuestPhys, va: GuestVirt) {
        self.lost.add_page(directory, va.page(), self.mends.refill);
    }

    /// Remembers what a slot has mapped below the kernel, before that is dropped.
    pub(super) fn remember_pages(&mut self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            let pages = self.user_pages(index);
            self.lost.add(slot.directory, pages);
        }
    }

    /// What a slot has mapped below the kernel, as much of it as is refilled; nothing when memory is short.
    pub(super) fn user_pages(&self, index: usize) -> Vec<GuestVirt> {
        let mut pages = Vec::new();
        let Some(slot) = self.slots.get(index).filter(|_| self.mends.refill > 0) else { return pages };
        if pages.try_reserve_exact(self.mends.refill).is_ok() {
            self.tables.list_pages(slot.root, self.kernel_address, self.mends.refill, &mut pages);
        }
        pages
    }

    /// Fills what is remembered of the current page directory, which had no shadow until now.
    pub(super) fn refill(&mut self, host: &mut dyn PagingHost) {
        let pages = self.lost.take(self.slots.current_slot().directory);
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
            let Ok(Some(leaf)) = walk::walk::<G>(host, slot.directory, va) else { continue };
            if self.may_fill(va, leaf.entry) {
                let Ok(table) = self.tables.find_or_add(host, slot.root, va, leaf.origin()) else { return };
                self.fill(host, table, va, leaf.entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many faults are fixed alone of so many that follow.
    fn alone(pace: &mut Pace, faults: usize) -> usize {
        (0..faults).filter(|_| pace.fixed_alone(16)).count()
    }

    #[test]
    fn filling_around_rests_while_one_flush_follows_another() {
        let enough = PAYS * 16;
        let mut pace = Pace::default();
        assert_eq!(alone(&mut pace, enough - 1), 0, "nothing has been flushed yet");
        pace.flushed(16);
        assert_eq!(alone(&mut pace, 5), 5, "what was filled cannot have paid");
        pace.flushed(16);
        assert_eq!(alone(&mut pace, enough + 9), enough - 1, "until there have been enough again");
        pace.flushed(16);
        assert_eq!(alone(&mut pace, 5), 0, "the last flush was long ago");
    }
}
