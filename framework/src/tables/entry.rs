//! The conversion: how an entry of the guest's becomes one that the processor walks.
//!
//! This file keeps a guest within its own memory, on every strategy (ARCHITECTURE.md, invariant 3). Every entry that maps a
//! page comes from [`ShadowEntry::new`]; there is no other way to make one, and [`Tables`](super::Tables) takes nothing else.
//! So what that function guarantees holds for every page that a guest can reach:
//!
//! * the frame is the one that holds the guest page which the guest's entry names, by what the host knows at that moment;
//!   when that ends, the host drops the entry before the guest runs again;
//! * it is writable only if the host says that the guest may write to the frame;
//! * the entry gives no right that the guest's entry does not give: P, W, U and NX come from there and from nowhere else;
//! * how the page is cached is the host's choice, and the entry does not outlive a world switch.

use crate::kill::Kill;
use crate::paging_host::{Capability, NoFrame, PagingHost, Purpose};
use arch_i386::addr::GuestFrame;
use arch_i386::paging::{Entry, Flags};
use arch_i386::shadow_tables;
use core::marker::PhantomData;

/// Bits 52 to 62 of a PAE entry are reserved (Intel SDM vol. 3A, table 4-11). In a shadow entry, where
/// lguest (C) lets them pass, they make the processor fault again and again.
const RESERVED: Flags = Flags::from_bits_retain(0x7ff0_0000_0000_0000);

/// What a level-1 entry must not have.
const REFUSED: Flags = shadow_tables::REFUSED.union(RESERVED);

/// What a guest may have in its own entries and the processor must not find in the shadow's.
///
/// * Global: a guest marks its kernel's pages global (so that a flush of the user half keeps them). In a shadow, such
///   entries would survive the switch to the host.
/// * How a page is cached is the host's choice: it has the same page mapped write-back, and where the two disagree,
///   what one has written the other need not see, and neither need the host's devices (Intel SDM vol. 3A, 12.12.4;
///   the class of XSA-402). Above level 1, a guest's entries may have none of these bits
///   ([`PageFormat::DIRECTORY_FLAGS`](arch_i386::paging::PageFormat::DIRECTORY_FLAGS)).
const HIDDEN: Flags = shadow_tables::HIDDEN;

/// An entry of a level-1 shadow table that is not in its table yet.
///
/// It borrows the host: it cannot be kept beyond the call in which it was made, so that it is in its table, or gone, when
/// the host drops what is stale; there is one at a time; and it goes into a table by
/// [`Tables::replace`](super::Tables::replace) once.
///
/// ```
/// # use arch_i386::{addr::GuestVirt, paging::{Entry, Flags, TwoLevel}};
/// # use framework::{host::PagingHost, kill::Kill, tables::{LeafId, ShadowEntry, Tables}};
/// fn map(
///     host: &mut dyn PagingHost,
///     tables: &mut Tables<TwoLevel, TwoLevel>,
///     (leaf, va): (LeafId, GuestVirt),
///     guest: Entry,
/// ) -> Result<(), Kill> {
///     // Fewer rights than the guest gives are requested on the guest's entry.
///     let entry = ShadowEntry::new(host, guest.without(Flags::WRITABLE))?;
///     tables.replace(leaf, va, entry);
///     Ok(())
/// }
/// ```
///
/// What does not compile, beside that: to map a page that the host has not vouched for,
///
/// ```compile_fail,E0308
/// # use arch_i386::{addr::GuestVirt, paging::{Entry, Flags, TwoLevel}};
/// # use framework::{host::PagingHost, kill::Kill, tables::{LeafId, ShadowEntry, Tables}};
/// fn map(tables: &mut Tables<TwoLevel, TwoLevel>, (leaf, va): (LeafId, GuestVirt)) {
///     tables.replace(leaf, va, Entry::new(0x1234, Flags::PRESENT));
/// }
/// ```
///
/// also not by an entry made by hand,
///
/// ```compile_fail,E0451
/// # use arch_i386::paging::{Entry, Flags};
/// # use framework::tables::ShadowEntry;
/// fn other_page(entry: ShadowEntry<'_>) -> ShadowEntry<'_> {
///     ShadowEntry { entry: Entry::new(0x1234, Flags::PRESENT), ..entry }
/// }
/// ```
///
/// to widen the rights of an entry,
///
/// ```compile_fail,E0599
/// # use arch_i386::{addr::GuestVirt, paging::{Entry, Flags, TwoLevel}};
/// # use framework::{host::PagingHost, kill::Kill, tables::{LeafId, ShadowEntry, Tables}};
/// # fn map(host: &mut dyn PagingHost, tables: &mut Tables<TwoLevel, TwoLevel>, (leaf, va): (LeafId, GuestVirt), guest: Entry) -> Result<(), Kill> {
/// let entry = ShadowEntry::new(host, guest)?;
/// tables.replace(leaf, va, entry.with(Flags::WRITABLE));
/// # Ok(())
/// # }
/// ```
///
/// to use one twice,
///
/// ```compile_fail,E0382
/// # use arch_i386::{addr::GuestVirt, paging::{Entry, Flags, TwoLevel}};
/// # use framework::{host::PagingHost, kill::Kill, tables::{LeafId, ShadowEntry, Tables}};
/// # fn map(host: &mut dyn PagingHost, tables: &mut Tables<TwoLevel, TwoLevel>, (leaf, va): (LeafId, GuestVirt), guest: Entry) -> Result<(), Kill> {
/// let entry = ShadowEntry::new(host, guest)?;
/// tables.replace(leaf, va, entry);
/// tables.replace(leaf, GuestVirt(0), entry);
/// # Ok(())
/// # }
/// ```
///
/// to have two at a time,
///
/// ```compile_fail,E0499
/// # use arch_i386::{addr::GuestVirt, paging::{Entry, Flags, TwoLevel}};
/// # use framework::{host::PagingHost, kill::Kill, tables::{LeafId, ShadowEntry, Tables}};
/// # fn map(host: &mut dyn PagingHost, tables: &mut Tables<TwoLevel, TwoLevel>, (leaf, va): (LeafId, GuestVirt), guest: Entry) -> Result<(), Kill> {
/// let first = ShadowEntry::new(host, guest)?;
/// let second = ShadowEntry::new(host, guest)?;
/// tables.replace(leaf, va, first);
/// # Ok(())
/// # }
/// ```
///
/// and to keep one for later:
///
/// ```compile_fail,E0521
/// # use arch_i386::paging::Entry;
/// # use framework::{host::PagingHost, kill::Kill, tables::ShadowEntry};
/// struct Strategy {
///     kept: Vec<ShadowEntry<'static>>,
/// }
///
/// impl Strategy {
///     fn keep(&mut self, host: &mut dyn PagingHost, guest: Entry) -> Result<(), Kill> {
///         self.kept.push(ShadowEntry::new(host, guest)?);
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "an entry that is in no table maps nothing"]
pub struct ShadowEntry<'h> {
    entry: Entry,
    host: PhantomData<&'h mut dyn PagingHost>,
}

impl<'h> ShadowEntry<'h> {
    /// The shadow of a present level-1 entry of the guest's: its frame is the host's, and the flags are those of the guest's
    /// entry that the processor may see. To give fewer rights, a strategy removes them from `guest`.
    ///
    /// Where the guest's entry is writable and not dirty, the shadow may be read-only all the same, until the guest writes.
    ///
    /// # Errors
    /// [`Kill::PageTableEntry`] for an entry that is not present, leads out of the guest's memory or has bits that are
    /// reserved (NX where the processor lacks it, PAT); [`Kill::DeviceMemory`] for a page of device memory, which has no
    /// shadow; [`Kill::NoFrame`] when the host has no page for it.
    #[inline(always)] // Or an entry and the reasons for which there is none would go through memory.
    pub fn new(host: &'h mut dyn PagingHost, guest: Entry) -> Result<Self, Kill> {
        let written = Flags::WRITABLE.union(Flags::DIRTY);
        let purpose = match guest.flags().intersection(written) {
            flags if flags == written => Purpose::Writing,
            Flags::WRITABLE => Purpose::LikelyWriting,
            _ => Purpose::Reading,
        };
        Self::for_purpose(host, guest, purpose)
    }

    /// The same for an entry that the guest has not missed yet. The shadow may be read-only until the guest writes.
    ///
    /// # Errors
    /// As [`ShadowEntry::new`]; [`Kill::NoFrame`] also when the host would have to look for the page.
    #[inline(always)] // As above.
    pub fn ahead(host: &'h mut dyn PagingHost, guest: Entry) -> Result<Self, Kill> {
        Self::for_purpose(host, guest, Purpose::Ahead)
    }

    #[inline(always)] // As above.
    fn for_purpose(host: &'h mut dyn PagingHost, guest: Entry, purpose: Purpose) -> Result<Self, Kill> {
        let flags = guest.flags();
        if flags.intersection(REFUSED.union(Flags::PRESENT)) != Flags::PRESENT
            || flags.contains(Flags::NO_EXECUTE) && !host.no_execute()
        {
            return Err(Kill::PageTableEntry(guest));
        }
        let page = u32::try_from(guest.frame()).map_err(|_| Kill::PageTableEntry(guest))?;
        let known = match host.frame(GuestFrame(page), purpose, Capability::new()) {
            Ok(known) => known,
            Err(NoFrame(page)) if page.0 >= host.page_limit() => {
                let device = page.0 < host.device_limit();
                return Err(if device { Kill::DeviceMemory(page) } else { Kill::PageTableEntry(guest) });
            }
            Err(missing) => return Err(missing.into()),
        };
        let hidden = if known.writable { HIDDEN } else { HIDDEN.union(Flags::WRITABLE) };
        Ok(Self { entry: Entry::new(known.frame.0.into(), flags - hidden), host: PhantomData })
    }

    /// What the processor will find.
    #[inline]
    #[must_use]
    pub const fn entry(&self) -> Entry {
        self.entry
    }
}
