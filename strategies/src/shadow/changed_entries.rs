//! Part 3, changed entries: the guest names by set_pte, set_pgd or set_pmd what it has changed in its tables.
//!
//! In lguest this is `guest_set_pte`, `guest_set_pgd` and `guest_set_pmd`. A shadow entry is dropped, or replaced at once if
//! the guest has marked the new one accessed or dirty already. An entry of the kernel's half is changed in all slots.
//!
//! Different here:
//! * an entry that is marked and not present is dropped (lguest maps it, and leaks a page);
//! * a page that set_pte names may be populated even where there is no table for it, or no shadow of its page directory
//!   ([`Optimizations::populate_on_set_pte`](super::Optimizations::populate_on_set_pte));
//! * set_pgd and set_pmd may drop just what they name ([`Optimizations::precise`](super::Optimizations::precise)).

use super::ShadowCache;
use super::slots::Slot;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Flags, PageFormat};
use framework::host::PagingHost;
use framework::kill::Kill;
use framework::walk;

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    /// set_pte.
    #[inline]
    pub(super) fn change_entry(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill> {
        let touched = entry.present() && entry.flags().intersects(Flags::ACCESSED | Flags::DIRTY);
        // Linux marks most entries accessed and dirty itself, which saves the fault.
        let fill = touched.then_some(entry);
        if va < self.kernel_address {
            let populates = touched && self.optimizations.populate_on_set_pte;
            if let Some(slot) = self.slots.slot_of(directory) {
                // Where the Switcher fills, it leaves an empty table as it is: what is missed in it costs less than a call.
                if populates && (self.prefetches_at_faults() || !self.tables.is_kept(slot.root, va)) {
                    self.add_table_for(host, slot, va, entry);
                }
                self.tables.replace_if_tabled(host, slot.root, va, fill)?;
                self.keep_to_budget(host);
            } else if populates {
                self.remember_page(directory, va);
            }
        } else if self.tables.is_shared(G::index(va, G::LEVELS)) {
            self.tables.replace_if_tabled(host, self.slots.current_slot().root, va, fill)?;
        } else {
            // The kernel's half is the same everywhere.
            for (_, Slot { root, .. }) in self.slots.taken() {
                self.tables.replace_if_tabled(host, root, va, fill)?;
            }
        }
        Ok(())
    }

    /// set_pgd.
    pub(super) fn change_directory_entry(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        index: usize,
    ) {
        // Where the host breaks off what follows, the guest does not come to see what is left.
        if self.optimizations.precise && self.tables.is_shared(index) {
            // The request holds for all page directories, whichever it names. But a guest also makes it when it
            // gives a page directory what the others have had for long.
            if !self.has_shared_target(host, directory, index) {
                let root = self.slots.current_slot().root;
                let _ = self.tables.release_entries(host, root, index..index + 1);
            }
        } else if let Some(Slot { root, .. }) = self.slots.slot_of(directory) {
            let _ = self.tables.release_entries(host, root, index..index + 1);
        }
    }

    /// Whether a page directory has, at this index, what the shared half stands for.
    fn has_shared_target(&self, host: &mut dyn PagingHost, directory: GuestPhys, index: usize) -> bool {
        let Some((frame, flags)) = self.tables.shared_target(index) else { return true };
        walk::root_entry::<G>(host, directory, index).is_ok_and(|entry| {
            entry.present()
                && entry.frame() == u64::from(frame.0)
                && flags.is_none_or(|flags| entry.flags() == flags)
        })
    }

    /// set_pmd.
    pub(super) fn change_middle_entry(
        &mut self,
        host: &mut dyn PagingHost,
        middle: GuestPhys,
        index: u32,
    ) -> Result<(), Kill> {
        if self.optimizations.precise {
            if index as usize >= G::ENTRIES {
                return Err(Kill::MiddleIndex { index, entries: G::ENTRIES as u32 });
            }
            // Where the host breaks it off, the guest does not come to see what is left.
            let _ = self.tables.release_middle_entry(host, middle.frame(), index as usize);
        } else {
            // There is no record of which page directories share that table.
            self.flush_everything(host);
        }
        Ok(())
    }
}
