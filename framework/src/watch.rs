//! A host that is observed on behalf of a strategy that wraps another one.
//!
//! A wrapper gives the wrapped strategy a [`Watched`] host, whose [`Watcher`] is called after each access. It cannot change
//! the access: that would put the wrapper between shadow tables and the pages that they are made of. What it can do is to keep
//! from the strategy that the host knows a page.

use crate::event::{Event, Events};
use crate::ledger::TableKind;
use crate::paging_host::{
    BadAddress, Capability, KnownFrame, NoFrame, PagingHost, Purpose, RecordingFull, sealed,
};
use arch_i386::addr::{GuestFrame, GuestPhys};
use arch_i386::table::TablePage;
use fallible::OutOfMemory;

/// Observes the accesses of a strategy to its host; called after each.
pub trait Watcher {
    /// Bytes of the guest's memory were read.
    fn read(&mut self, _host: &mut dyn PagingHost, _at: GuestPhys, _bytes: &[u8]) {}

    /// A word of the guest's memory was read.
    fn read_u32(&mut self, host: &mut dyn PagingHost, at: GuestPhys, value: u32) {
        self.read(host, at, &value.to_le_bytes());
    }

    /// Eight bytes of the guest's memory were read as one value.
    fn read_u64(&mut self, host: &mut dyn PagingHost, at: GuestPhys, value: u64) {
        self.read(host, at, &value.to_le_bytes());
    }

    /// The host has named the frame of a page.
    fn found(&mut self, _page: GuestFrame) {}

    /// Whether the strategy is to learn that the host knows the frame of a page, when it does not need it yet.
    fn may_know(&self, _page: GuestFrame) -> bool {
        true
    }

    /// Bytes of the guest's memory were written.
    fn wrote(&mut self, _at: GuestPhys, _bytes: &[u8]) {}

    /// A word of the guest's memory was written.
    fn wrote_u32(&mut self, at: GuestPhys, value: u32) {
        self.wrote(at, &value.to_le_bytes());
    }

    /// Eight bytes of the guest's memory were written as one value.
    fn wrote_u64(&mut self, at: GuestPhys, value: u64) {
        self.wrote(at, &value.to_le_bytes());
    }
}

/// A host and who watches it.
pub struct Watched<'a, W> {
    /// The host.
    pub host: &'a mut dyn PagingHost,
    /// Who watches it.
    pub watcher: W,
}

impl<W: Watcher> sealed::Sealed for Watched<'_, W> {}

impl<W: Watcher> PagingHost for Watched<'_, W> {
    fn page_limit(&self) -> u32 {
        self.host.page_limit()
    }

    fn device_limit(&self) -> u32 {
        self.host.device_limit()
    }

    fn no_execute(&self) -> bool {
        self.host.no_execute()
    }

    fn read(&mut self, at: GuestPhys, into: &mut [u8]) -> Result<(), BadAddress> {
        self.host.read(at, into)?;
        self.watcher.read(self.host, at, into);
        Ok(())
    }

    fn write(&mut self, at: GuestPhys, from: &[u8]) -> Result<(), BadAddress> {
        self.host.write(at, from)?;
        self.watcher.wrote(at, from);
        Ok(())
    }

    fn read_u32(&mut self, at: GuestPhys) -> Result<u32, BadAddress> {
        let value = self.host.read_u32(at)?;
        self.watcher.read_u32(self.host, at, value);
        Ok(value)
    }

    fn read_u64(&mut self, at: GuestPhys) -> Result<u64, BadAddress> {
        let value = self.host.read_u64(at)?;
        self.watcher.read_u64(self.host, at, value);
        Ok(value)
    }

    fn write_u32(&mut self, at: GuestPhys, value: u32) -> Result<(), BadAddress> {
        self.host.write_u32(at, value)?;
        self.watcher.wrote_u32(at, value);
        Ok(())
    }

    fn write_u64(&mut self, at: GuestPhys, value: u64) -> Result<(), BadAddress> {
        self.host.write_u64(at, value)?;
        self.watcher.wrote_u64(at, value);
        Ok(())
    }

    fn frame(
        &mut self,
        page: GuestFrame,
        purpose: Purpose,
        capability: Capability,
    ) -> Result<KnownFrame, NoFrame> {
        if purpose == Purpose::Ahead && !self.watcher.may_know(page) {
            return Err(NoFrame(page));
        }
        let known = self.host.frame(page, purpose, capability)?;
        self.watcher.found(page);
        Ok(known)
    }

    fn known(&self, page: GuestFrame) -> Option<KnownFrame> {
        self.host.known(page).filter(|_| self.watcher.may_know(page))
    }

    fn has_stale(&self) -> bool {
        self.host.has_stale()
    }

    fn alloc_table(&mut self, kind: TableKind, capability: Capability) -> Result<TablePage, OutOfMemory> {
        self.host.alloc_table(kind, capability)
    }

    fn free_table(&mut self, table: TablePage, capability: Capability) {
        self.host.free_table(table, capability);
    }

    fn free_zeroed_table(&mut self, table: TablePage, capability: Capability) {
        self.host.free_zeroed_table(table, capability);
    }

    fn retract(&mut self, directory: GuestPhys) {
        self.host.retract(directory);
    }

    fn reschedule_point(&mut self) -> bool {
        self.host.reschedule_point()
    }

    fn record(&mut self, piece: &[u8]) -> Result<(), RecordingFull> {
        self.host.record(piece)
    }

    fn observes(&self, events: Events) -> bool {
        self.host.observes(events)
    }

    fn observe(&mut self, event: Event) {
        self.host.observe(event);
    }
}
