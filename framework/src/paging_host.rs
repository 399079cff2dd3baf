//! What shadow paging needs from the host: the guest's memory, real pages under it, and pages for tables.
//!
//! [`host`](crate::host) lists what a strategy cannot do with it.

use crate::event::{Event, Events};
use crate::ledger::TableKind;
use arch_i386::addr::{GuestFrame, GuestPhys, HostFrame};
use arch_i386::done_in_switcher::FilledInSwitcher;
use arch_i386::table::TablePage;
use core::ops::ControlFlow;
use fallible::OutOfMemory;

/// An access to guest-physical memory, from this address on, that the guest does not have. (A word with this for its error is
/// returned in registers.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest-physical address {0} is outside the guest's memory")]
pub struct BadAddress(pub GuestPhys);

/// There is no frame for a page of the guest's: the launcher has not mapped it, or not writable, or the host is out of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest page {0} has no page of the host under it")]
pub struct NoFrame(pub GuestFrame);

/// What the guest will do with a page, as far as the entry that is made of it lets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Purpose {
    /// Read it, or write to it where that needs nothing more, if at all: the guest has not missed the page yet. A host that has
    /// to look for the page refuses.
    Ahead,
    /// Read it.
    Reading,
    /// Read it now, and write to it soon in all likelihood.
    LikelyWriting,
    /// Write to it.
    Writing,
}

/// The frame that holds a page of the guest's, as long as the host says so ([`PagingHost::frame`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownFrame {
    /// Its number.
    pub frame: HostFrame,
    /// Whether the guest may write to it. If not, others have the page as well, whom that would reach.
    pub writable: bool,
}

/// A part of a recording is lost, as its reader has not made room for it in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for more of the recording")]
pub struct RecordingFull;

/// The right to learn frames, and to take table pages and give them back, which only this crate has.
///
/// ```compile_fail,E0423
/// // A strategy cannot learn a frame behind its shadow tables' back.
/// # use framework::host::{Capability, KnownFrame, PagingHost, Purpose};
/// # use arch_i386::addr::GuestFrame;
/// fn take(host: &mut dyn PagingHost) -> Option<KnownFrame> {
///     host.frame(GuestFrame(1), Purpose::Writing, Capability(())).ok()
/// }
/// ```
///
/// A host that passes a call on to another host has one for that call:
///
/// ```
/// # use framework::host::{Capability, KnownFrame, PagingHost, Purpose};
/// # use arch_i386::addr::GuestFrame;
/// fn take(host: &mut dyn PagingHost, capability: Capability) -> Option<KnownFrame> {
///     host.frame(GuestFrame(1), Purpose::Writing, capability).ok()
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

    /// The end of device memory in pages: what the guest maps of it from [`PagingHost::page_limit`] on has no shadow, and
    /// every access there is for the launcher to emulate. There is none where both are the same.
    fn device_limit(&self) -> u32 {
        self.page_limit()
    }

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

    /// The frame that holds a page of the guest's. It holds no reference: the host may take the page back at any time, and
    /// then drops every shadow entry of the frame before the guest runs again ([`Host::drop_stale`](crate::host::Host)). So
    /// what this returns is good for an entry that is made now, and for nothing else.
    ///
    /// For [`Purpose::Writing`] the frame is writable.
    ///
    /// # Errors
    /// [`NoFrame`] when the host has no page there that serves the purpose, always for a page beyond
    /// [`PagingHost::page_limit`].
    fn frame(&mut self, page: GuestFrame, purpose: Purpose, _: Capability) -> Result<KnownFrame, NoFrame>;

    /// What the host knows of a page now, without finding out.
    fn known(&self, page: GuestFrame) -> Option<KnownFrame>;

    /// Whether frames have gone of which shadow entries may still be there.
    fn has_stale(&self) -> bool;

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

    /// What shadows this page directory of the guest's is given up, or shadows another one from now on: the Switcher must not
    /// load it by itself any more. For a strategy that [publishes] its roots. A host whose Switcher never does so need not look at
    /// it; and of a root whose page comes back to it, a host sees that for itself.
    ///
    /// [publishes]: crate::strategy::PagingStrategy::publishes
    fn retract(&mut self, _: GuestPhys) {}

    /// The entries of level-1 tables that the Switcher has filled by itself in the last run, in order; there may be older ones
    /// behind them.
    fn filled_in_switcher(&self, _: Capability) -> &[FilledInSwitcher] {
        &[]
    }

    /// The page directories that the Switcher has loaded by itself in the last run, in order; there may be older ones behind
    /// them.
    fn loaded_in_switcher(&self, _: Capability) -> &[GuestPhys] {
        &[]
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
    /// [`RecordingFull`] when the reader has not made room for the piece. Up to [`LAST_WORDS`] bytes can be kept once even then, for
    /// the note of a loss.
    fn record(&mut self, _piece: &[u8]) -> Result<(), RecordingFull> {
        Ok(())
    }

    /// Whether somebody watches events of one of these kinds. A host that passes none on says no.
    fn observes(&self, _: Events) -> bool {
        false
    }

    /// Something has happened that somebody may watch. Called for kinds of which [`PagingHost::observes`] says yes, and, where that
    /// costs more than the call, for others.
    fn observe(&mut self, _: Event) {}
}

/// See [`PagingHost::record`].
pub const LAST_WORDS: usize = 64;

/// Whether long work goes on, or is left undone as the host requires; see [`PagingHost::reschedule_point`].
pub type Progress = ControlFlow<()>;

/// Lets the host run something else in the middle of long work.
#[inline]
pub fn reschedule_point(host: &mut dyn PagingHost) -> Progress {
    if host.reschedule_point() { Progress::Break(()) } else { Progress::Continue(()) }
}
