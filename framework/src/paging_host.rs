//! What shadow paging needs from the host: the guest's memory, real pages under it, and pages for tables.
//!
//! [`host`](crate::host) lists what a strategy cannot do with it.

use crate::ledger::TableKind;
use arch_i386::addr::{GuestFrame, GuestPhys, HostFrame};
use arch_i386::table::TablePage;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::ControlFlow;
use fallible::OutOfMemory;

/// An access to guest-physical memory that the guest does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest-physical address {at} (length {len}) is outside the guest's memory")]
pub struct BadAddress {
    /// The first byte.
    pub at: GuestPhys,
    /// Bytes.
    pub len: u32,
}

/// The real page under a guest page cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinFailed {
    /// The launcher has not mapped it, or not writable, or the host is out of memory.
    #[error("guest page {0} has no page of the host under it")]
    Missing(GuestFrame),
    /// The host keeps no more references to it: a guest can map a page more often than the host can count.
    #[error("guest page {0} is mapped too many times, by this guest or together with others")]
    TooOften(GuestFrame),
}

/// A part of a recording is lost, as its reader has not made room for it in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for more of the recording")]
pub struct NoRoom;

/// The right to take real pages and to give them back, which only this crate has.
///
/// ```compile_fail,E0423
/// // A strategy cannot take a page from the host behind its shadow tables' back.
/// # use framework::host::{Capability, PagingHost};
/// # use arch_i386::addr::{GuestFrame, HostFrame};
/// fn take(host: &mut dyn PagingHost) -> Option<HostFrame> {
///     host.pin(GuestFrame(1), true, Capability(())).ok()
/// }
/// ```
///
/// A host that passes a call on to another host has one for that call:
///
/// ```
/// # use framework::host::{Capability, PagingHost};
/// # use arch_i386::addr::{GuestFrame, HostFrame};
/// fn take(host: &mut dyn PagingHost, capability: Capability) -> Option<HostFrame> {
///     host.pin(GuestFrame(1), true, capability).ok()
/// }
/// ```
#[derive(Debug)]
pub struct Capability(());

impl Capability {
    /// For a call that this crate answers for.
    pub(crate) const fn new() -> Self {
        Self(())
    }
}

/// Who may be a [`PagingHost`].
pub(crate) mod sealed {
    use arch_i386::table::TrustedHost;

    /// A trusted host, or this crate's own way of observing one ([`Watched`](crate::watch::Watched)).
    pub trait Sealed {}
    impl<T: TrustedHost + ?Sized> Sealed for T {}
}

/// What shadow paging needs. A type outside of this crate needs
/// [`TrustedHost`](arch_i386::table::TrustedHost) for it.
pub trait PagingHost: sealed::Sealed {
    /// The guest's memory in pages: every frame number that the guest may name is below it.
    fn page_limit(&self) -> u32;

    /// Whether the processor honours the no-execute bit; if not, the bit is a reserved one.
    fn no_execute(&self) -> bool;

    /// Copies guest-physical memory out.
    ///
    /// # Errors
    /// [`BadAddress`] when any byte lies outside the guest's memory; `into` is then unspecified.
    fn read(&mut self, at: GuestPhys, into: &mut [u8]) -> Result<(), BadAddress>;

    /// Copies into guest-physical memory.
    ///
    /// # Errors
    /// [`BadAddress`] when any byte lies outside the guest's memory.
    fn write(&mut self, at: GuestPhys, from: &[u8]) -> Result<(), BadAddress>;

    /// Reads one little-endian 32-bit word.
    ///
    /// # Errors
    /// As [`PagingHost::read`].
    fn read_u32(&mut self, at: GuestPhys) -> Result<u32, BadAddress> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads one little-endian 64-bit word.
    ///
    /// # Errors
    /// As [`PagingHost::read`].
    fn read_u64(&mut self, at: GuestPhys) -> Result<u64, BadAddress> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Stores one little-endian 32-bit word.
    ///
    /// # Errors
    /// As [`PagingHost::write`].
    fn write_u32(&mut self, at: GuestPhys, value: u32) -> Result<(), BadAddress> {
        self.write(at, &value.to_le_bytes())
    }

    /// Stores one little-endian 64-bit word.
    ///
    /// # Errors
    /// As [`PagingHost::write`].
    fn write_u64(&mut self, at: GuestPhys, value: u64) -> Result<(), BadAddress> {
        self.write(at, &value.to_le_bytes())
    }

    /// Takes a reference to the real page under a guest page, so that it stays where it is, and notes the page as in
    /// transit ([`Ledger::depart`](crate::ledger::Ledger::depart)). With `write`, the page will be written through the
    /// shadow tables.
    ///
    /// # Errors
    /// [`PinFailed::Missing`] when the host has no page there, always for a frame beyond [`PagingHost::page_limit`];
    /// [`PinFailed::TooOften`] when the page can take no more references.
    fn pin(&mut self, frame: GuestFrame, write: bool, _: Capability) -> Result<HostFrame, PinFailed>;

    /// Nothing is in transit any more. Where the page that was has taken the place of another one, or is not needed, gives
    /// back the reference on that one.
    fn settle(&mut self, given_back: Option<HostFrame>, _: Capability);

    /// Gives back one reference that [`PagingHost::pin`] took.
    fn unpin(&mut self, frame: HostFrame, _: Capability);

    /// References held now: those that were taken and not given back.
    fn pinned(&self) -> u64;

    /// A zeroed page for a table of this kind, noted in the host's [`Ledger`](crate::ledger::Ledger).
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no page, or the guest has reached its limit.
    fn alloc_table(&mut self, kind: TableKind, _: Capability) -> Result<TablePage, OutOfMemory>;

    /// Takes a table page back; what it holds does not matter.
    fn free_table(&mut self, table: TablePage, _: Capability);

    /// Takes a table page back that is zero again, so that a host may hand it out as it is.
    fn free_zeroed_table(&mut self, table: TablePage, capability: Capability) {
        self.free_table(table, capability);
    }

    /// A point in long work at which the host may run something else (ARCHITECTURE.md, invariant 10). Code that releases or
    /// reads entries without a fixed bound calls this at least once for every table.
    ///
    /// Returns whether the work is to be left undone as it is: the launcher is being killed, so that the guest is
    /// never entered again, and all that is left to do is to give everything back. As long as that lasts
    /// ([`Guest::tear_down`](crate::guest::Guest::tear_down)) the answer is no.
    fn reschedule_point(&mut self) -> bool;

    /// Keeps the next piece of the guest's recording (a [`trace`](crate::trace)), all of it or nothing,
    /// without waiting for its reader. A host that keeps no recordings drops it.
    ///
    /// # Errors
    /// [`NoRoom`] when the reader has not made room for the piece. Up to [`LAST_WORDS`] bytes can be kept once even then, for
    /// the note of a loss.
    fn record(&mut self, _piece: &[u8]) -> Result<(), NoRoom> {
        Ok(())
    }
}

/// See [`PagingHost::record`].
pub const LAST_WORDS: usize = 64;

/// A page of the guest's on its way into a shadow table, with a reference on it.
///
/// It borrows the host, so that it cannot be kept beyond the call in which it was taken, and there is no other one
/// meanwhile. Dropping it gives the reference back; whoever forgets it leaves that to the host's ledger.
pub(crate) struct PinnedPage<'h> {
    host: &'h mut dyn PagingHost,
    page: HostFrame,
}

impl<'h> PinnedPage<'h> {
    /// The page that `host` has just returned from [`PagingHost::pin`].
    #[inline]
    pub(crate) fn in_transit(host: &'h mut dyn PagingHost, page: HostFrame) -> Self {
        Self { host, page }
    }

    /// Where the page is in the real machine.
    #[inline]
    pub(crate) const fn frame(&self) -> HostFrame {
        self.page
    }

    /// The page is in a table now, which gives the reference back one day. The page that was in its place goes.
    #[inline]
    pub(crate) fn arrived(self, replaced: Option<HostFrame>) {
        ManuallyDrop::new(self).host.settle(replaced, Capability::new());
    }
}

impl Drop for PinnedPage<'_> {
    #[inline]
    fn drop(&mut self) {
        self.host.settle(Some(self.page), Capability::new());
    }
}

impl fmt::Debug for PinnedPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PinnedPage").field(&self.page).finish()
    }
}

/// Whether long work goes on, or is left undone as the host requires; see [`PagingHost::reschedule_point`].
pub type Progress = ControlFlow<()>;

/// Lets the host run something else in the middle of long work.
#[inline]
pub fn reschedule_point(host: &mut dyn PagingHost) -> Progress {
    if host.reschedule_point() { Progress::Break(()) } else { Progress::Continue(()) }
}
