//! The shadow cache: several shadow page directories for one guest, and all that is done to them.
//!
//! A guest has a page directory for each of its processes; this keeps shadows of the last few, in
//! *slots*. Which slot gives way is an [`EvictionPolicy`](crate::policy::EvictionPolicy)'s choice; everything else is here, and is
//! what lguest's `page_tables.c` does, in its order. There are seven parts:
//!
//! 1. **Demand faults**: the shadow starts empty, and each entry is filled when the processor first
//!    misses it. A read maps read-only even where the guest may write, so that the first write is seen
//!    and the guest's dirty bit can be set.
//! 2. **The pinned stack**: the processor pushes trap frames on the guest's kernel stack by itself, so
//!    those pages must never be missing. Every strategy needs that, so it is the [`pager`](crate::pager)'s.
//! 3. **Changed entries** (set_pte, set_pgd, set_pmd): a shadow entry is dropped, or replaced at once if
//!    the guest has marked the new one accessed or dirty already.
//! 4. **Switching**: another slot becomes the current one, or one is taken for the new page directory.
//!    The kernel's half of a taken slot is kept, since it is the same in all of a guest's directories.
//! 5. **Flushing**: the user half of the current slot, or everything of all.
//! 6. **The Switcher**: every root maps it from the day it is made ([`Tables::add_root`]).
//! 7. **The beginning**: before its first page directory a guest sees its memory mapped linearly.
//!
//! Where the original is wrong, this is right, and says so at the place. Where it is slow, there are
//! [`Mends`], each to be turned on or off.
//!
//! | file | |
//! | --- | --- |
//! | this | the seven parts |
//! | `slots.rs` | which page directories are shadowed, and where |
//! | `room.rs` | who gives way to whom (part 4) |
//! | `mends.rs` | what can be done better than the original |
//! | `ahead.rs` | three of the mends: filling what has not been asked for yet |

mod ahead;
mod mends;
mod room;
mod slots;

use crate::audit::Defect;
use crate::counters::PagingCounters;
use crate::host::{OutOfMemory, PagingHost};
use crate::inspect::{Inspect, Lookup, Mapping};
use crate::kill::Kill;
use crate::pager::Built;
use crate::strategy::{Fault, Formats, Loaded, PagingStrategy, SwitcherWindow};
use crate::tables::{Part, Progress, ShadowEntry, ShadowRoot, Tables, reschedule_point};
use crate::walk::{self, Leaf};
use ahead::{Lost, Pace};
use alloc::vec::Vec;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use core::ops::ControlFlow;
use slots::{Slot, Slots};

pub use ahead::MAX_AROUND;
pub use mends::{Mends, Room};

/// Shadow paging with a cache of page directories: the guest's have the format `G`, their shadows `S`.
pub struct ShadowCache<G, S> {
    tables: Tables<G, S>,
    slots: Slots,
    room: Room,
    mends: Mends,
    lost: Lost,
    /// The guest has not loaded a page directory yet.
    linear: bool,
    /// From here up all the guest's page directories are alike.
    kernel_address: GuestVirt,
    counters: PagingCounters,
    /// Whether it pays to fill neighbours.
    pace: Pace,
}

/// A cache for these formats, one of [`Formats::SERVED`].
///
/// # Errors
/// [`OutOfMemory`].
///
/// # Panics
/// When they are not.
pub fn build(
    formats: Formats,
    room: Room,
    mends: Mends,
    window: SwitcherWindow,
) -> Result<Built, OutOfMemory> {
    match (formats.guest, formats.shadow) {
        (Paging::TwoLevel, Paging::TwoLevel) => ShadowCache::<TwoLevel, TwoLevel>::build(room, mends, window),
        (Paging::TwoLevel, Paging::Pae) => ShadowCache::<TwoLevel, Pae>::build(room, mends, window),
        (Paging::Pae, Paging::Pae) => ShadowCache::<Pae, Pae>::build(room, mends, window),
        (Paging::Pae, Paging::TwoLevel) => panic!("a {formats} is refused before"),
    }
}

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    /// A cache with room for at least one page directory.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    #[inline(never)] // Or the caller's frame, on a kernel's stack, would have room for the caches of all formats.
    fn build(room: Room, mends: Mends, window: SwitcherWindow) -> Result<Built, OutOfMemory> {
        let slots = match room {
            Room::Slots(slots, _) => slots,
            Room::Pages(_) => 1,
        };
        assert!(slots > 0, "a shadow cache needs a slot");
        let slots = Slots::new(slots)?;
        let formats = Formats { guest: G::PAGING, shadow: S::PAGING };
        Built::new(formats, window, || Self {
            tables: Tables::new(window, mends.by_use),
            slots,
            room,
            mends,
            lost: Lost::default(),
            linear: true,
            kernel_address: GuestVirt(0),
            counters: PagingCounters::default(),
            pace: Pace::default(),
        })
    }

    /// The guest runs on this slot from now on.
    fn make_current(&mut self, index: usize) {
        self.slots.make_current(index);
        self.tables.make_current(self.slots.current_slot().root);
    }

    // ---- 1. Demand faults ----

    /// What the guest's tables say about an address; `None` when a level above is not present.
    fn walk(&self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<Option<Leaf>, Kill> {
        if self.linear {
            return Ok(Some(Leaf::linear(va)));
        }
        walk::walk::<G>(host, self.slots.current_slot().directory, va)
    }

    // ---- 3. Changed entries ----

    /// Whether a page directory has, at this index, what the shared half stands for.
    fn has_shared_target(&self, host: &mut dyn PagingHost, directory: GuestPhys, index: usize) -> bool {
        let Some((frame, flags)) = self.tables.shared_target(index) else { return true };
        let at = GuestPhys(directory.0.wrapping_add(index as u32 * G::ENTRY_SIZE));
        walk::read_entry::<G>(host, at).is_ok_and(|entry| {
            entry.present()
                && entry.frame() == u64::from(frame.0)
                && flags.is_none_or(|flags| entry.flags() == flags)
        })
    }

    // ---- 4. Switching ----

    /// Loads a page directory that is not shadowed, or the guest's first.
    #[inline(never)] // The usual case is the other one.
    fn load_missing(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<Loaded, Kill> {
        if core::mem::take(&mut self.linear) {
            // What was made up until now is not in the guest's tables.
            if self.release_all(host).is_break() {
                return Ok(Loaded::Hit);
            }
            if self.reuses_first_slot() {
                // Nor is the slot it was made up in worth keeping, empty as it is now.
                self.note_emptied(self.slots.current());
                self.rename(self.slots.current(), directory);
                return Ok(Loaded::New);
            }
        }
        let (index, blank) = self.take_slot(host, directory)?;
        self.make_current(index);
        Ok(if blank { Loaded::New } else { Loaded::Recycled })
    }

    // ---- 5. Flushing ----

    /// Drops a slot's mappings below the kernel, in whole root entries.
    fn flush_user_of(&mut self, host: &mut dyn PagingHost, index: usize) -> Progress {
        if let Some(Slot { root, .. }) = self.slots.get(index) {
            let kernel = G::index(self.kernel_address, G::LEVELS);
            self.tables.release_entries(host, root, 0..kernel)?;
        }
        Progress::Continue(())
    }

    /// Drops everything of all slots; they stay taken.
    fn release_all(&mut self, host: &mut dyn PagingHost) -> Progress {
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

/// How many slots are gone through before the host may run something else.
const SLOTS_AT_ONCE: usize = 64;

impl<G: PageFormat, S: PageFormat> PagingStrategy for ShadowCache<G, S> {
    // ---- 7. The beginning ----

    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        let (index, _) = self.take_slot(host, GuestPhys(0))?;
        self.make_current(index);
        self.linear = true;
        Ok(())
    }

    fn guest_initialised(
        &mut self,
        host: &mut dyn PagingHost,
        kernel_address: GuestVirt,
    ) -> Result<(), Kill> {
        // The host has just written to the guest's memory, perhaps to a page that was shared until
        // then: what is mapped may be the old one.
        if self.release_all(host).is_break() {
            return Ok(());
        }
        self.kernel_address = kernel_address;
        if self.mends.shared_kernel {
            self.tables.share_from(host, kernel_address)?;
        }
        Ok(())
    }

    // ---- 1. Demand faults ----

    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        let write = error.contains(PageFaultErrorCode::CAUSED_BY_WRITE);
        let user = error.contains(PageFaultErrorCode::USER_MODE);
        let fetch = error.contains(PageFaultErrorCode::INSTRUCTION_FETCH);
        let Some(leaf) = self.walk(host, va)? else { return Ok(Fault::Reflected) };
        let guest = leaf.entry;
        let forbidden = !guest.present()
            || write && !guest.has(Flags::WRITABLE)
            || user && !guest.has(Flags::USER_ACCESSIBLE)
            // (The original knows no such page, and would fix the same fault for ever.)
            || fetch && guest.has(Flags::NO_EXECUTE);
        if forbidden {
            return Ok(Fault::Reflected);
        }
        let mut guest = guest.with(Flags::ACCESSED);
        if write {
            guest = guest.with(Flags::DIRTY);
        }
        // An entry that is dirty already may be writable at once.
        let shadow = if guest.has(Flags::DIRTY) { guest } else { guest.without(Flags::WRITABLE) };

        let root = self.slots.current_slot().root;
        if self.mends.precise {
            // Where the host breaks it off, the guest does not come to see what is left.
            let _ = self.tables.release_if_moved(host, root, va, leaf.origin());
        }
        let table = self.tables.find_or_add(host, root, va, leaf.origin())?;
        // The new page is pinned before the old one is let go; they are often the same.
        self.tables.replace(table, va, ShadowEntry::new(host, shadow)?);
        if !self.linear && guest != leaf.entry {
            walk::write_entry::<G>(host, leaf.at, guest)?;
        }
        self.fill_around(host, table, va, &leaf);
        self.keep_to_budget(host);
        Ok(Fault::Fixed)
    }

    // ---- 3. Changed entries ----

    #[inline] // into the pager's method, which alone calls it
    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill> {
        let touched = entry.present() && entry.flags().intersects(Flags::ACCESSED | Flags::DIRTY);
        // Linux marks most entries accessed and dirty itself, which saves the fault. (The original
        // forgets to ask whether the entry is present, and loses a page if it is not.)
        let fill = touched.then_some(entry);
        if va < self.kernel_address {
            let fills = touched && self.mends.announced;
            if let Some(slot) = self.slots.slot_of(directory) {
                if fills {
                    self.add_announced_table(host, slot, va, entry);
                }
                self.tables.replace_if_tabled(host, slot.root, va, fill)?;
                self.keep_to_budget(host);
            } else if fills {
                self.remember_announced(directory, va);
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

    fn set_pgd(&mut self, host: &mut dyn PagingHost, directory: GuestPhys, index: u32) -> Result<(), Kill> {
        let position = index as usize;
        if self.mends.precise && self.tables.is_shared(position) {
            // Of whatever page directory it is said, it holds of all. But a guest also says it when it
            // gives a page directory what the others have had for long.
            if !self.has_shared_target(host, directory, position) {
                let root = self.slots.current_slot().root;
                let _ = self.tables.release_entries(host, root, position..position + 1);
            }
        } else if let Some(Slot { root, .. }) = self.slots.slot_of(directory) {
            let _ = self.tables.release_entries(host, root, position..position + 1);
        }
        Ok(())
    }

    fn set_pmd(&mut self, host: &mut dyn PagingHost, middle: GuestPhys, index: u32) -> Result<(), Kill> {
        if self.mends.precise {
            if index as usize >= G::ENTRIES {
                return Err(Kill::MiddleIndex { index, entries: G::ENTRIES as u32 });
            }
            // Where the host breaks it off, the guest does not come to see what is left.
            let _ = self.tables.release_middle_entry(host, middle.frame(), index as usize);
        } else {
            // Nobody knows which page directories share that table.
            self.flush_all(host);
        }
        Ok(())
    }

    // ---- 4. Switching ----

    #[inline] // into the pager's method, which alone calls it
    fn load_page_directory(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
    ) -> Result<Loaded, Kill> {
        if !self.linear
            && let Some(index) = self.slots.of(directory)
        {
            self.note_use(index, directory);
            self.make_current(index);
            return Ok(Loaded::Hit);
        }
        self.load_missing(host, directory)
    }

    fn loaded(&mut self, host: &mut dyn PagingHost) {
        self.refill(host);
        self.keep_to_budget(host);
    }

    fn flush_user(&mut self, host: &mut dyn PagingHost) {
        let index = self.slots.current();
        let pages = if self.mends.flushed && !self.linear { self.user_pages(index) } else { Vec::new() };
        if self.flush_user_of(host, index).is_continue() {
            self.fill_pages(host, &pages);
        }
    }

    fn flush_all(&mut self, host: &mut dyn PagingHost) {
        self.counters.flush_all += 1;
        self.pace.flushed(self.mends.around);
        // Where the host breaks it off, the guest does not come to see what is left.
        let _ = self.release_all(host);
    }

    // ---- 6. The Switcher ----

    fn root(&self) -> ShadowRoot<'_> {
        self.tables.current_root()
    }

    // ---- To be looked at ----

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
        PagingCounters {
            released_entries: self.tables.released(),
            visited_entries: self.tables.visited(),
            ..self.counters
        }
    }

    fn tear_down(&mut self, host: &mut dyn PagingHost) {
        for index in 0..self.slots.len() {
            self.give_up(host, index);
        }
        self.tables.remove_all(host);
    }
}

impl<G: PageFormat, S: PageFormat> Inspect for ShadowCache<G, S> {
    fn lookup(&self, va: GuestVirt) -> Option<Lookup> {
        self.tables.lookup(self.slots.current_slot().root, va)
    }

    fn is_linear(&self) -> bool {
        self.linear
    }

    fn directories(&self, visit: &mut dyn FnMut(GuestPhys, bool)) {
        for (index, slot) in self.slots.taken() {
            visit(slot.directory, index == self.slots.current());
        }
    }

    fn mappings(&self, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> ControlFlow<()> {
        for (number, (_, Slot { directory, root, .. })) in self.slots.taken().enumerate() {
            for part in [Part::Own, Part::Shared] {
                let shared = part == Part::Shared;
                self.tables.visit(root, part, &mut |va, entry, table_flags| {
                    visit(Mapping { number, directory, va, entry, table_flags, shared })
                })?;
            }
        }
        ControlFlow::Continue(())
    }

    fn check(&self, host: &mut dyn PagingHost, found: &mut dyn FnMut(Defect)) {
        if self.tables.check(host, found).is_continue() {
            // Where the host breaks it off, nothing is looked at.
            let _ = self.slots.check(host, found);
        }
    }
}
