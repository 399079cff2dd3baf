//! A strategy under audit: wraps another one and audits it after its operations.

use super::entries::{Coverage, audit_with, current_directory};
use super::seen::{Reader, Seen, SeenBy};
use crate::counters::PagingCounters;
use crate::in_switcher::{Fills, InSwitcher, NotedFills};
use crate::inspect::Inspect;
use crate::kill::Kill;
use crate::pager::Pager;
use crate::paging_host::PagingHost;
use crate::shadow_root::ShadowRoot;
use crate::strategy::{Fault, SwitcherWindow};
use crate::watch::Watched;
use alloc::boxed::Box;
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Paging};
use arch_i386::trap::PageFaultErrorCode;

/// The host as the strategy sees it in its next operation.
fn watched<'a>(host: &'a mut dyn PagingHost, seen: &'a mut Seen) -> Watched<'a, SeenBy<'a>> {
    seen.begin();
    Watched { host, watcher: SeenBy { seen, reader: Reader::Strategy } }
}

/// The strategy and how often it is audited. A guest whose shadow tables have a defect is killed.
pub struct Audited {
    of: Box<dyn Pager>,
    /// Every so many operations.
    every: u64,
    /// The Switcher may do what the strategy lets it.
    switcher: bool,
    operations: u64,
    kernel_address: GuestVirt,
    /// What the strategy has seen of the launcher's memory.
    seen: Seen,
    /// What an audit found after an operation that cannot fail.
    found: Option<Kill>,
    audits: u64,
    stale: u64,
    defects: u64,
}

impl Audited {
    /// Audits the strategy after each `every`th operation; 0 counts as 1.
    #[must_use]
    pub fn new(of: Box<dyn Pager>, every: u64) -> Self {
        let every = every.max(1);
        let (kernel_address, seen, found) = (GuestVirt(0), Seen::default(), None);
        let (switcher, operations, audits, stale, defects) = (false, 0, 0, 0, 0);
        Self { of, every, switcher, operations, kernel_address, seen, found, audits, stale, defects }
    }

    /// Lets the Switcher do what the strategy allows it to do by itself. What it has done is audited when it is known, at the next
    /// exit: the guest may have changed its tables since, so that its entries are held against frames and bookkeeping only.
    #[must_use]
    pub fn with_switcher(self, switcher: bool) -> Self {
        Self { switcher, ..self }
    }

    /// Does the audit that is due after an operation.
    fn audit(&mut self, host: &mut dyn PagingHost, coverage: &Coverage) -> Result<(), Kill> {
        if let Some(kill) = self.found.take() {
            return Err(kill);
        }
        // What was left undone is no defect.
        if host.reschedule_point() {
            return Ok(());
        }
        self.operations += 1;
        if !self.operations.is_multiple_of(self.every) {
            return Ok(());
        }
        self.audits += 1;
        let report = audit_with(&*self.of, host, coverage, &mut self.seen);
        self.stale += report.stale;
        self.defects += report.defects;
        report.first.map_or(Ok(()), |defect| Err(Kill::Audit(defect)))
    }

    /// Bytes of address space under one entry of the guest's root.
    fn root_entry_span(&self) -> u64 {
        match self.of.paging() {
            Paging::TwoLevel => 1 << 22,
            Paging::Pae => 1 << 30,
        }
    }

    /// The end of what is below the kernel, in whole root entries.
    fn user_end(&self) -> u64 {
        let kernel = u64::from(self.kernel_address.0);
        kernel - kernel % self.root_entry_span()
    }
}

impl Pager for Audited {
    fn paging(&self) -> Paging {
        self.of.paging()
    }

    fn window(&self) -> SwitcherWindow {
        self.of.window()
    }

    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        self.of.set_up(&mut watched(host, &mut self.seen))?;
        self.audit(host, &Coverage::Everything)
    }

    fn guest_initialised(
        &mut self,
        host: &mut dyn PagingHost,
        kernel_address: GuestVirt,
    ) -> Result<(), Kill> {
        self.of.guest_initialised(&mut watched(host, &mut self.seen), kernel_address)?;
        self.kernel_address = kernel_address;
        self.audit(host, &Coverage::Everything)
    }

    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        let fault = self.of.demand_fault(&mut watched(host, &mut self.seen), va, error)?;
        let start = u64::from(va.page().0);
        let page = Coverage::Addresses(current_directory(&*self.of), start..start + u64::from(PAGE_SIZE));
        self.audit(host, if fault == Fault::Fixed { &page } else { &Coverage::Nothing })?;
        Ok(fault)
    }

    fn map_for_switcher(&mut self, host: &mut dyn PagingHost, va: GuestVirt) {
        self.of.map_for_switcher(&mut watched(host, &mut self.seen), va);
    }

    fn load_page_directory(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<(), Kill> {
        self.of.load_page_directory(&mut watched(host, &mut self.seen), directory)?;
        self.audit(host, &Coverage::Nothing)
    }

    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill> {
        self.of.set_pte(&mut watched(host, &mut self.seen), directory, va, entry)?;
        let of = (va < self.kernel_address).then_some(directory);
        self.audit(host, &Coverage::Entry(of, va, entry))
    }

    fn set_pgd(&mut self, host: &mut dyn PagingHost, directory: GuestPhys, index: u32) -> Result<(), Kill> {
        self.of.set_pgd(&mut watched(host, &mut self.seen), directory, index)?;
        let start = u64::from(index) * self.root_entry_span();
        // Of the kernel's half a strategy may know that nothing has changed, and keep it.
        let end = (start + self.root_entry_span()).min(self.user_end());
        self.audit(host, &Coverage::Addresses(directory, start..end))
    }

    fn set_pmd(&mut self, host: &mut dyn PagingHost, middle: GuestPhys, index: u32) -> Result<(), Kill> {
        self.of.set_pmd(&mut watched(host, &mut self.seen), middle, index)?;
        // The guest may have put that table in another's place already, which it reports next.
        self.audit(host, &Coverage::Nothing)
    }

    fn flush_user(&mut self, host: &mut dyn PagingHost) {
        self.of.flush_user(&mut watched(host, &mut self.seen));
        let user = Coverage::Addresses(current_directory(&*self.of), 0..self.user_end());
        self.found = self.audit(host, &user).err();
    }

    fn flush_user_of(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) {
        self.of.flush_user_of(&mut watched(host, &mut self.seen), directory);
        let user = Coverage::Addresses(directory, 0..self.user_end());
        self.found = self.audit(host, &user).err();
    }

    fn flush_all(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        self.of.flush_all(&mut watched(host, &mut self.seen))?;
        self.audit(host, &Coverage::Everything)
    }

    fn set_stack(&mut self, host: &mut dyn PagingHost, esp1: GuestVirt, pages: u32) -> Result<(), Kill> {
        self.of.set_stack(&mut watched(host, &mut self.seen), esp1, pages)?;
        self.audit(host, &Coverage::Nothing)
    }

    fn keep_stack(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        self.of.keep_stack(&mut watched(host, &mut self.seen))
    }

    fn root(&self) -> ShadowRoot<'_> {
        self.of.root()
    }

    fn entry(&self) -> (ShadowRoot<'_>, InSwitcher) {
        let (root, by_itself) = self.of.entry();
        (root, if self.switcher { by_itself } else { InSwitcher::NOTHING })
    }

    fn filled(&mut self, host: &mut dyn PagingHost, fills: Fills) -> NotedFills {
        let noted = self.of.filled(host, fills);
        self.found = self.audit(host, &Coverage::Nothing).err();
        noted
    }

    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill> {
        self.of.translate(&mut watched(host, &mut self.seen), va)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.of.inspect()
    }

    fn counters(&self) -> PagingCounters {
        PagingCounters {
            audits: self.audits,
            audit_defects: self.defects,
            stale_entries: self.stale,
            ..self.of.counters()
        }
    }

    fn tear_down(&mut self, host: &mut dyn PagingHost) {
        self.of.tear_down(&mut watched(host, &mut self.seen));
    }
}
