//! Part 1, demand faults: the shadow starts empty, and an entry is filled when the processor first misses it.
//!
//! In lguest this is `demand_page`. A read maps the page read-only even where the guest may write, so that the first write
//! is seen and the guest's dirty bit can be set.
//!
//! Different here:
//! * the rights of an access are those of every level together, as the processor has them. lguest looks at the last level
//!   only; where an upper level forbids the access, it answers "fixed" for ever. [`Optimizations::LGUEST`] keeps that
//!   answer, since recorded figures of lguest have it;
//! * a fetch from a page that may not be executed is a fault of the guest's own (lguest has no such page);
//! * neighbours may be filled as well ([`prefetch`](super::prefetch)).
//!
//! [`Optimizations::LGUEST`]: super::Optimizations::LGUEST

use super::ShadowCache;
use arch_i386::addr::GuestVirt;
use arch_i386::paging::{Entry, Flags, PageFormat};
use arch_i386::trap::PageFaultErrorCode;
use framework::host::PagingHost;
use framework::kill::Kill;
use framework::strategy::Fault;
use framework::tables::{LeafId, Origin, RootId, ShadowEntry};
use framework::walk::{self, WalkResult};

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    /// The walk through the guest's tables for an address; `None` when a level above the last is not present.
    fn walk(&self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<Option<WalkResult>, Kill> {
        if self.linear {
            return Ok(Some(WalkResult::linear(va)));
        }
        walk::walk::<G>(host, self.slots.current_slot().directory, va)
    }

    /// Fills the entry for `va` if the guest's tables allow the access.
    pub(super) fn fix(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        let Some(found) = self.walk(host, va)? else { return Ok(Fault::Reflected) };
        // For lguest, the last level is all that counts.
        let rights_above =
            if self.optimizations.rights_of_every_level { found.table_flags } else { Flags::all() };
        if !(WalkResult { table_flags: rights_above, ..found }).allows(error) {
            return Ok(Fault::Reflected);
        }
        let guest = found.after_access(error);
        let made = walk::until_dirty(guest);

        let root = self.slots.current_slot().root;
        if self.optimizations.precise {
            // Where the host breaks it off, the guest does not come to see what is left.
            let _ = self.tables.release_if_moved(host, root, va, found.origin());
        }
        let table = match self.tables.table(root, va) {
            Some(table) => table,
            None => self.add_table(host, root, va, (found.origin(), made))?,
        };
        self.tables.replace(table, va, ShadowEntry::new(host, made)?);
        self.count_fill(root, va);
        if !self.linear && guest != found.entry {
            // Before the guest runs again (invariant 6).
            walk::write_entry::<G>(host, found.at, guest)?;
        }
        self.after_fault(host, table, va, (found.at, made));
        self.keep_to_budget(host);
        Ok(Fault::Fixed)
    }

    /// A table for an entry that has none yet. What gets no entry, such as device memory, gets no table either.
    #[inline(never)] // Or every fault would pay for its registers.
    fn add_table(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        va: GuestVirt,
        (origin, made): (Origin, Entry),
    ) -> Result<LeafId, Kill> {
        let _ = ShadowEntry::new(host, made)?;
        Ok(self.tables.find_or_add(host, root, va, origin)?)
    }
}
