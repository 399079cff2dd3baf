//! Pagers: strategies as the run loop has them, with what every strategy must do done for it.
//!
//! [`Checked`] is the one wrapper around a [`PagingStrategy`]. It refuses what concerns the Switcher's window or an entry
//! that no table has, counts the guest's requests, maps the guest's kernel stack again after each request that may
//! have dropped it, and has tables evicted when there is no memory for a request. So the author of a strategy need not remember
//! any of it. A wrapper that sees the requests to a strategy
//! (the audit, the recorder) is a [`Pager`] around a pager.

use crate::counters::PagingCounters;
use crate::in_switcher::{Fills, InSwitcher, NotedFills};
use crate::inspect::Inspect;
use crate::kill::Kill;
use crate::paging_host::{Capability, PagingHost};
use crate::shadow_root::ShadowRoot;
use crate::strategy::{Fault, Formats, Loaded, PagingStrategy, SwitcherWindow};
use alloc::boxed::Box;
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use core::fmt;
use core::ops::Range;
use fallible::{OutOfMemory, boxed_with};

/// All that a guest can request of its page tables, as the run loop passes it on.
///
/// The methods that [`PagingStrategy`] has as well do the same. A method that returns [`Kill`] ends the guest; the only
/// call after that is [`Pager::tear_down`].
#[expect(clippy::missing_errors_doc, reason = "they are those of `PagingStrategy`, and of `Checked`")]
pub trait Pager {
    /// The format of the guest's page tables.
    fn paging(&self) -> Paging;

    /// The part of the address space that is not the guest's.
    fn window(&self) -> SwitcherWindow;

    /// See [`PagingStrategy::set_up`].
    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill>;

    /// See [`PagingStrategy::guest_initialised`].
    fn guest_initialised(&mut self, host: &mut dyn PagingHost, kernel_address: GuestVirt)
    -> Result<(), Kill>;

    /// See [`PagingStrategy::demand_fault`].
    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill>;

    /// The Switcher has missed an address of the guest's kernel. Maps it, if that can be done, as if the kernel had read there.
    /// Where [`Pager::entry`] lets the Switcher do nothing, there is nothing that it could miss.
    fn map_for_switcher(&mut self, _host: &mut dyn PagingHost, _va: GuestVirt) {}

    /// See [`PagingStrategy::load_page_directory`].
    fn load_page_directory(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<(), Kill>;

    /// The Switcher has loaded page directories by itself, one after the other: the first `count` that the host
    /// [has written down](PagingHost::loaded_in_switcher). And it has set the stack, if that is another one than before; it is mapped
    /// writable on the last root.
    fn switched_in_switcher(
        &mut self,
        host: &mut dyn PagingHost,
        count: u32,
        esp1: GuestVirt,
        pages: u32,
    ) -> Result<(), Kill> {
        self.repeat_switches(host, 0..count as usize, esp1, pages)
    }

    /// Does the same as the Switcher once more, as if the guest made the requests now, but for the loads before these.
    fn repeat_switches(
        &mut self,
        host: &mut dyn PagingHost,
        mut loads: Range<usize>,
        esp1: GuestVirt,
        pages: u32,
    ) -> Result<(), Kill> {
        loads.try_for_each(|number| {
            let directory = host.loaded_in_switcher(Capability::new())[number];
            self.load_page_directory(host, directory)
        })?;
        self.set_stack(host, esp1, pages)
    }

    /// See [`PagingStrategy::set_pte`].
    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill>;

    /// See [`PagingStrategy::set_pgd`].
    fn set_pgd(&mut self, host: &mut dyn PagingHost, directory: GuestPhys, index: u32) -> Result<(), Kill>;

    /// See [`PagingStrategy::set_pmd`].
    fn set_pmd(&mut self, host: &mut dyn PagingHost, middle: GuestPhys, index: u32) -> Result<(), Kill>;

    /// See [`PagingStrategy::flush_user`].
    fn flush_user(&mut self, host: &mut dyn PagingHost);

    /// See [`PagingStrategy::flush_user_of`].
    fn flush_user_of(&mut self, host: &mut dyn PagingHost, directory: GuestPhys);

    /// See [`PagingStrategy::flush_all`].
    fn flush_all(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill>;

    /// SET_STACK: `pages` pages below `esp1` must stay mapped writable, so that the processor can push
    /// a trap frame there without help.
    ///
    /// # Errors
    /// [`Kill::StackPage`] when the guest does not map them writable, or the strategy's own when it cannot fill them.
    fn set_stack(&mut self, host: &mut dyn PagingHost, esp1: GuestVirt, pages: u32) -> Result<(), Kill>;

    /// Maps what is missing of the guest's kernel stack. To be called when the host has dropped shadow entries, before the
    /// guest runs.
    ///
    /// # Errors
    /// As [`Pager::set_stack`].
    fn keep_stack(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill>;

    /// See [`PagingStrategy::root`].
    fn root(&self) -> ShadowRoot<'_>;

    /// What the guest is entered with: [`Pager::root`], and what the Switcher may do by itself on it, which is nothing where a
    /// wrapper has to see every request.
    fn entry(&self) -> (ShadowRoot<'_>, InSwitcher) {
        (self.root(), InSwitcher::NOTHING)
    }

    /// The Switcher has filled entries, as [`Pager::entry`] has allowed; see [`PagingStrategy::filled`].
    fn filled(&mut self, _host: &mut dyn PagingHost, _fills: Fills) -> NotedFills {
        panic!("entries were filled where none were to be")
    }

    /// See [`PagingStrategy::translate`].
    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill>;

    /// See [`PagingStrategy::inspect`].
    fn inspect(&self) -> Option<&dyn Inspect>;

    /// What has been counted so far.
    fn counters(&self) -> PagingCounters;

    /// See [`PagingStrategy::tear_down`].
    fn tear_down(&mut self, host: &mut dyn PagingHost);
}

/// A strategy that a registration has made; only [`Built::new`] makes one, with the wrapper around it.
pub struct Built(Box<dyn Pager>);

impl Built {
    /// Wraps the strategy that `make` makes, in its place.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no memory for the strategy; `make` is not called then.
    #[inline(never)] // Or the caller's frame, on a kernel's stack, would have room for all that it may make.
    pub fn new<S: PagingStrategy + 'static>(
        formats: Formats,
        window: SwitcherWindow,
        make: impl FnOnce() -> S,
    ) -> Result<Self, OutOfMemory> {
        let checked = boxed_with(|| Checked {
            strategy: make(),
            formats,
            window,
            esp1: GuestVirt(0),
            stack_pages: 0,
            counters: PagingCounters::default(),
        })?;
        Ok(Self(checked))
    }

    /// The strategy in its wrapper.
    #[must_use]
    pub fn into_pager(self) -> Box<dyn Pager> {
        self.0
    }
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Built")
    }
}

/// The error codes of a kernel-mode read and write of a page that is not present.
const KERNEL_READ: PageFaultErrorCode = PageFaultErrorCode::empty();
const KERNEL_WRITE: PageFaultErrorCode = PageFaultErrorCode::CAUSED_BY_WRITE;

/// A strategy, and what is done for every one.
struct Checked<S> {
    strategy: S,
    formats: Formats,
    window: SwitcherWindow,
    /// The first byte above the guest's kernel stack, and how many pages of it there are.
    esp1: GuestVirt,
    stack_pages: u32,
    /// The guest's requests.
    counters: PagingCounters,
}

impl<S: PagingStrategy> Checked<S> {
    /// Entries of a page directory of the guest's.
    const fn root_entries(&self) -> usize {
        match self.formats.guest {
            Paging::TwoLevel => TwoLevel::ROOT_ENTRIES,
            Paging::Pae => Pae::ROOT_ENTRIES,
        }
    }

    /// The strategy could not do something. If that was for want of memory, it gives tables back, and what it could not do
    /// can be tried again.
    #[cold]
    #[inline(never)]
    fn shrink_after(&mut self, host: &mut dyn PagingHost, failed: Kill) -> Result<(), Kill> {
        if !matches!(failed, Kill::OutOfMemory(_)) {
            return Err(failed);
        }
        self.counters.shrinks += 1;
        self.strategy.shrink(host);
        // It may have gone with the rest.
        self.map_stack(host)
    }

    /// The strategy could not handle a fault. It is handled when there is more memory.
    #[cold]
    #[inline(never)]
    fn after_failed_fault(
        &mut self,
        host: &mut dyn PagingHost,
        failed: Kill,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        self.shrink_after(host, failed)?;
        let fault = self.fill(host, va, error)?;
        match fault {
            Fault::Fixed => self.counters.demand_faults += 1,
            Fault::Reflected => self.counters.reflected_faults += 1,
        }
        Ok(fault)
    }

    /// The strategy could not load a page directory. It is loaded when there is more memory.
    #[cold]
    #[inline(never)]
    fn after_failed_load(
        &mut self,
        host: &mut dyn PagingHost,
        failed: Kill,
        directory: GuestPhys,
    ) -> Result<(), Kill> {
        self.shrink_after(host, failed)?;
        self.strategy.load_page_directory(host, directory)?;
        // Whatever it has dropped.
        self.keep_stack(host)?;
        self.strategy.loaded(host);
        Ok(())
    }

    /// The strategy's demand fault, where it is not the guest that comes with one.
    #[inline(never)] // Not one copy of it for each caller.
    fn fill(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        self.strategy.demand_fault(host, va, error)
    }

    /// Maps what is missing of the guest's kernel stack.
    #[inline(never)] // It is seldom missing.
    fn map_stack(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        for page in 0..self.stack_pages {
            // `esp1` is the first byte above the stack.
            let va = GuestVirt(self.esp1.0.wrapping_sub(1).wrapping_sub(page * PAGE_SIZE));
            if va < self.window.start()
                && (self.strategy.inspect().is_some_and(|inspect| inspect.is_writable(va))
                    || self.fill(host, va, KERNEL_WRITE)? == Fault::Fixed)
            {
                continue;
            }
            return Err(Kill::StackPage(va));
        }
        Ok(())
    }
}

impl<S: PagingStrategy> Pager for Checked<S> {
    fn paging(&self) -> Paging {
        self.formats.guest
    }

    fn window(&self) -> SwitcherWindow {
        self.window
    }

    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        self.strategy.set_up(host)
    }

    fn guest_initialised(
        &mut self,
        host: &mut dyn PagingHost,
        kernel_address: GuestVirt,
    ) -> Result<(), Kill> {
        if kernel_address >= self.window.start() {
            return Err(Kill::KernelAddress(kernel_address));
        }
        if let Err(kill) = self.strategy.guest_initialised(host, kernel_address) {
            self.shrink_after(host, kill)?;
            self.strategy.guest_initialised(host, kernel_address)?;
        }
        self.keep_stack(host)
    }

    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        let fault = if va < self.window.start() {
            self.strategy.demand_fault(host, va, error)
        } else {
            Ok(Fault::Reflected)
        };
        match fault {
            Ok(Fault::Fixed) => self.counters.demand_faults += 1,
            Ok(Fault::Reflected) => self.counters.reflected_faults += 1,
            Err(kill) => return self.after_failed_fault(host, kill, va, error),
        }
        fault
    }

    #[inline(never)] // Once for a page of the guest's tables.
    fn map_for_switcher(&mut self, host: &mut dyn PagingHost, va: GuestVirt) {
        // The guest has not been there itself, so nothing is done to it where that fails.
        if va < self.window.start() && matches!(self.fill(host, va, KERNEL_READ), Ok(Fault::Fixed)) {
            self.counters.filled_ahead += 1;
        }
    }

    fn switched_in_switcher(
        &mut self,
        host: &mut dyn PagingHost,
        count: u32,
        esp1: GuestVirt,
        pages: u32,
    ) -> Result<(), Kill> {
        let count = count as usize;
        let noted = self.strategy.loads_in_switcher(&host.loaded_in_switcher(Capability::new())[..count]);
        self.counters.page_directory_loads += noted as u64;
        self.counters.page_directory_hits += noted as u64;
        if noted == count {
            // That the stack is mapped need not be looked up: the root is the one that the Switcher has found it on.
            (self.esp1, self.stack_pages) = (esp1, pages);
            return Ok(());
        }
        self.repeat_switches(host, noted..count, esp1, pages)
    }

    fn load_page_directory(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) -> Result<(), Kill> {
        self.counters.page_directory_loads += 1;
        match self.strategy.load_page_directory(host, directory) {
            Err(kill) => return self.after_failed_load(host, kill, directory),
            Ok(Loaded::Hit) => {
                self.counters.page_directory_hits += 1;
                return Ok(());
            }
            Ok(Loaded::Recycled) => {}
            Ok(Loaded::New) => self.keep_stack(host)?,
        }
        self.strategy.loaded(host);
        Ok(())
    }

    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), Kill> {
        self.counters.set_pte += 1;
        if va >= self.window.start() {
            return Err(Kill::SwitcherEntry(va));
        }
        self.strategy.set_pte(host, directory, va, entry)
    }

    fn set_pgd(&mut self, host: &mut dyn PagingHost, directory: GuestPhys, index: u32) -> Result<(), Kill> {
        self.counters.set_pgd += 1;
        let entries = self.root_entries();
        // lguest lets one index too many pass.
        if index as usize >= entries {
            return Err(Kill::DirectoryIndex { index, entries: entries as u32 });
        }
        self.strategy.set_pgd(host, directory, index)
    }

    fn set_pmd(&mut self, host: &mut dyn PagingHost, middle: GuestPhys, index: u32) -> Result<(), Kill> {
        if self.formats.guest == Paging::TwoLevel {
            return Err(Kill::NoMiddleLevel);
        }
        self.counters.set_pmd += 1;
        self.strategy.set_pmd(host, middle, index)?;
        self.keep_stack(host)
    }

    fn flush_user(&mut self, host: &mut dyn PagingHost) {
        self.counters.flush_user += 1;
        self.strategy.flush_user(host);
    }

    fn flush_user_of(&mut self, host: &mut dyn PagingHost, directory: GuestPhys) {
        self.counters.flush_user += 1;
        self.strategy.flush_user_of(host, directory);
    }

    fn flush_all(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        self.strategy.flush_all(host);
        self.keep_stack(host)
    }

    fn set_stack(&mut self, host: &mut dyn PagingHost, esp1: GuestVirt, pages: u32) -> Result<(), Kill> {
        (self.esp1, self.stack_pages) = (esp1, pages);
        self.keep_stack(host)
    }

    fn keep_stack(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        self.map_stack(host).or_else(|kill| self.shrink_after(host, kill))
    }

    fn root(&self) -> ShadowRoot<'_> {
        self.strategy.root()
    }

    fn entry(&self) -> (ShadowRoot<'_>, InSwitcher) {
        let strategy = &self.strategy;
        let by_itself = InSwitcher {
            directory: strategy.reflects_by(),
            publish: strategy.publishes(),
            fill: strategy.lets_switcher_fill(),
        };
        (strategy.root(), by_itself)
    }

    fn filled(&mut self, host: &mut dyn PagingHost, fills: Fills) -> NotedFills {
        let noted = self.strategy.filled(host, fills);
        self.counters.demand_faults += u64::from(noted.faults());
        self.counters.set_pte += u64::from(noted.set_ptes());
        noted
    }

    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill> {
        self.strategy.translate(host, va)
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.strategy.inspect()
    }

    fn counters(&self) -> PagingCounters {
        let PagingCounters {
            page_directory_loads,
            page_directory_hits,
            demand_faults,
            reflected_faults,
            set_pte,
            set_pgd,
            set_pmd,
            flush_user,
            filled_ahead,
            shrinks,
            ..
        } = self.counters;
        let strategy = self.strategy.counters();
        PagingCounters {
            page_directory_loads,
            page_directory_hits,
            demand_faults,
            reflected_faults,
            set_pte,
            set_pgd,
            set_pmd,
            flush_user,
            filled_ahead: strategy.filled_ahead + filled_ahead,
            shrinks,
            ..strategy
        }
    }

    fn tear_down(&mut self, host: &mut dyn PagingHost) {
        self.strategy.tear_down(host);
    }
}
