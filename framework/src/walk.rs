//! Reading the guest's own page tables (ARCHITECTURE.md, invariant 5).
//!
//! The tables lie in guest memory and the guest may change them at any moment, so every entry is read
//! once and checked before it is used. Entries above level 1 may carry only the bits that Linux gives a
//! table, and must name a frame within the guest's memory; anything else kills the guest.

use crate::kill::Kill;
use crate::paging_host::{BadAddress, PagingHost};
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, PAGE_SHIFT};
use arch_i386::paging::{Entry, Flags, PageFormat};
use arch_i386::trap::PageFaultErrorCode;

/// The bits of an error code that name a right, each of which is also the bit of that right in an entry.
const RIGHTS: u64 = PageFaultErrorCode::CAUSED_BY_WRITE.union(PageFaultErrorCode::USER_MODE).bits();
const _: () = assert!(RIGHTS == Flags::WRITABLE.union(Flags::USER_ACCESSIBLE).bits());

/// Where a walk ended.
#[derive(Clone, Copy, Debug)]
pub struct WalkResult {
    /// Flags of the entry that leads to the level-1 table. (A PAE root entry has no rights.)
    pub table_flags: Flags,
    /// The middle table that the walk went through, with PAE.
    pub middle: Option<GuestFrame>,
    /// The level-1 entry, present or not, unchecked.
    pub entry: Entry,
    /// Where it is.
    pub at: GuestPhys,
}

impl WalkResult {
    /// What a guest without page tables has for them: every address means itself.
    #[must_use]
    pub fn linear(va: GuestVirt) -> Self {
        let flags = Flags::PRESENT | Flags::WRITABLE | Flags::ACCESSED | Flags::DIRTY;
        Self {
            table_flags: flags | Flags::USER_ACCESSIBLE,
            middle: None,
            entry: Entry::new((va.0 >> PAGE_SHIFT).into(), Flags::PRESENT | Flags::WRITABLE),
            at: GuestPhys(0),
        }
    }

    /// Whether the level-1 entry, and those above it, allow an access that faulted with this error code (Intel SDM vol. 3A,
    /// 4.6).
    #[inline(always)] // Few instructions, most of which the caller's next ones share.
    #[must_use]
    pub fn allows(&self, error: PageFaultErrorCode) -> bool {
        let needed = Flags::from_bits_retain(error.bits() & RIGHTS) | Flags::PRESENT;
        let fetch = error.contains(PageFaultErrorCode::INSTRUCTION_FETCH);
        (self.entry.flags() & self.table_flags).contains(needed)
            && !(fetch && self.entry.has(Flags::NO_EXECUTE))
    }

    /// The level-1 entry as a processor leaves it after such an access: accessed, and dirty after a write (4.8 there).
    #[inline(always)] // As above.
    #[must_use]
    pub fn after_access(&self, error: PageFaultErrorCode) -> Entry {
        let entry = self.entry.with(Flags::ACCESSED);
        if error.contains(PageFaultErrorCode::CAUSED_BY_WRITE) { entry.with(Flags::DIRTY) } else { entry }
    }

    /// Where the level-1 entry comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin { table: self.at.frame(), flags: self.table_flags, middle: self.middle }
    }
}

/// Which of the guest's tables a level-1 shadow table stands for, and how the guest gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The guest's level-1 table.
    pub table: GuestFrame,
    /// The flags of the entry that leads to it.
    pub flags: Flags,
    /// The middle table which that entry is in, with PAE.
    pub middle: Option<GuestFrame>,
}

/// What a shadow of this entry is made from: without the right to write until the guest's entry is dirty, so that the first
/// write is seen and the dirty bit can be set.
#[inline]
#[must_use]
pub fn until_dirty(guest: Entry) -> Entry {
    if guest.has(Flags::DIRTY) { guest } else { guest.without(Flags::WRITABLE) }
}

/// Reads one entry of a guest's page table.
///
/// # Errors
/// [`BadAddress`] when it lies outside the guest's memory.
#[inline]
pub fn read_entry<F: PageFormat>(host: &mut dyn PagingHost, at: GuestPhys) -> Result<Entry, BadAddress> {
    Ok(Entry(match F::ENTRY_SIZE {
        4 => host.read_u32(at)?.into(),
        _ => host.read_u64(at)?,
    }))
}

/// Reads the entry of this index in a page directory of the guest's.
///
/// # Errors
/// [`BadAddress`] when it lies outside the guest's memory.
pub fn root_entry<F: PageFormat>(
    host: &mut dyn PagingHost,
    directory: GuestPhys,
    index: usize,
) -> Result<Entry, BadAddress> {
    read_entry::<F>(host, GuestPhys(directory.0.wrapping_add(index as u32 * F::ENTRY_SIZE)))
}

/// Stores one entry of a guest's page table.
///
/// # Errors
/// [`BadAddress`] when it lies outside the guest's memory.
#[inline]
pub fn write_entry<F: PageFormat>(
    host: &mut dyn PagingHost,
    at: GuestPhys,
    entry: Entry,
) -> Result<(), BadAddress> {
    match F::ENTRY_SIZE {
        4 => host.write_u32(at, entry.0 as u32),
        _ => host.write_u64(at, entry.0),
    }
}

/// A frame number of the guest's, if it has that much memory.
#[inline]
pub fn frame_within(host: &dyn PagingHost, entry: Entry) -> Option<GuestFrame> {
    let frame = u32::try_from(entry.frame()).ok()?;
    (frame < host.page_limit()).then_some(GuestFrame(frame))
}

/// Walks a page directory of the guest's down to level 1. `None` when a level above is not present.
///
/// # Errors
/// [`Kill::DirectoryEntry`] or [`Kill::MiddleEntry`] for a malformed entry above level 1, [`Kill::Memory`] for a table
/// outside memory.
#[inline(always)] // Or what was found would go through memory.
pub fn walk<F: PageFormat>(
    host: &mut dyn PagingHost,
    directory: GuestPhys,
    va: GuestVirt,
) -> Result<Option<WalkResult>, Kill> {
    let mut table = directory;
    let mut table_flags = Flags::empty();
    let mut middle = None;
    for level in (2..=F::LEVELS).rev() {
        let at = entry_address::<F>(table, va, level);
        let entry = read_entry::<F>(host, at)?;
        if !entry.present() {
            return Ok(None);
        }
        let (allowed, kill) = if level == F::LEVELS {
            (F::ROOT_FLAGS, Kill::DirectoryEntry(entry))
        } else {
            (F::DIRECTORY_FLAGS, Kill::MiddleEntry(entry))
        };
        let frame = frame_within(host, entry).filter(|_| allowed.contains(entry.flags())).ok_or(kill)?;
        table_flags = entry.flags();
        table = frame.start();
        if level > 2 {
            middle = Some(frame);
        }
    }
    let at = entry_address::<F>(table, va, 1);
    Ok(Some(WalkResult { table_flags, middle, entry: read_entry::<F>(host, at)?, at }))
}

/// Where the entry for `va` is in a table of that level. Page directories need not be page-aligned (a
/// PAE one is 32 bytes); an address that wraps is as bad as any other that is out of memory.
#[must_use]
pub fn entry_address<F: PageFormat>(table: GuestPhys, va: GuestVirt, level: usize) -> GuestPhys {
    GuestPhys(table.0.wrapping_add(F::index(va, level) as u32 * F::ENTRY_SIZE))
}

/// Translates an address by the guest's tables, without regard to the rights that they give. (lguest checks nothing
/// else of the entries, and fails where a middle entry is missing.)
///
/// # Errors
/// [`Kill::Unmapped`] when it is not mapped, [`Kill::PageTableEntry`] when its frame is beyond memory, or as [`walk`].
pub fn translate<F: PageFormat>(
    host: &mut dyn PagingHost,
    directory: GuestPhys,
    va: GuestVirt,
) -> Result<GuestPhys, Kill> {
    let leaf = walk::<F>(host, directory, va)?.filter(|leaf| leaf.entry.present());
    let entry = leaf.ok_or(Kill::Unmapped(va))?.entry;
    let frame = frame_within(host, entry).ok_or(Kill::PageTableEntry(entry))?;
    Ok(GuestPhys(frame.start().0 | va.offset()))
}
