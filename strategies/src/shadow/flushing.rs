//! Part 5, flushing: any entry may have changed, of the user half or of everything.
//!
//! In lguest this is `guest_pagetable_flush_user` and `guest_pagetable_clear_all`. Shadow tables are dropped whole; the
//! slots stay taken.
//!
//! Different here: releasing a table goes by the entries in use, not through all of them; a flush of the user half
//! keeps the tables that it has emptied ([`Tables::empty_entries`](framework::tables::Tables::empty_entries)), which no guest can
//! see; the host may run something else on the way; and what a flush of the user half has dropped may be filled again at once
//! ([`Optimizations::refill_after_flush`](super::Optimizations::refill_after_flush)).

use super::ShadowCache;
use super::slots::Slot;
use super::trial::Verdict;
use alloc::vec::Vec;
use arch_i386::paging::PageFormat;
use framework::host::{PagingHost, Progress, reschedule_point};

/// How many slots are gone through before the host may run something else.
const SLOTS_AT_ONCE: usize = 64;

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    pub(super) fn flush_current_user_half(&mut self, host: &mut dyn PagingHost) {
        let index = self.slots.current();
        let verdict = self.verdict_after_flush();
        let pages = if verdict == Verdict::Leave { Vec::new() } else { self.user_pages(index) };
        if self.flush_user_half(host, index).is_break() {
            return;
        }
        match verdict {
            Verdict::Prefetch => self.fill_pages(host, &pages),
            Verdict::Withhold => self.withhold(host, &pages),
            Verdict::Leave => return,
        }
        self.listed = pages;
    }

    pub(super) fn flush_everything(&mut self, host: &mut dyn PagingHost) {
        self.counters.flush_all += 1;
        self.end_trials(None);
        // Where the host breaks it off, the guest does not come to see what is left.
        let _ = self.release_all(host);
    }

    /// Drops a slot's mappings below the kernel, in whole root entries.
    pub(super) fn flush_user_half(&mut self, host: &mut dyn PagingHost, index: usize) -> Progress {
        let Some(Slot { root, .. }) = self.slots.get(index) else { return Progress::Continue(()) };
        let kernel = G::index(self.kernel_address, G::LEVELS);
        self.tables.empty_entries(host, root, 0..kernel)
    }

    /// Drops everything of all slots; they stay taken.
    pub(super) fn release_all(&mut self, host: &mut dyn PagingHost) -> Progress {
        for (number, (_, Slot { root, .. })) in self.slots.taken().enumerate() {
            // Those that have nothing to release take little, but there may be many.
            if number % SLOTS_AT_ONCE == SLOTS_AT_ONCE - 1 {
                reschedule_point(host)?;
            }
            self.tables.release_entries(host, root, 0..G::ROOT_ENTRIES)?;
        }
        Progress::Continue(())
    }
}
