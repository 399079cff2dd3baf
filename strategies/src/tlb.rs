//! `tlb`: the simplest strategy that there can be. It keeps the shadow of one page directory, as a TLB without address-space
//! tags does, and drops all of it at each CR3 load.
//!
//! It shows what the shadow cache is worth, and what a whole strategy must do: the chapter "A strategy of your own" of
//! docs/guide.md builds it step by step. Demand faults, rights and the pinned stack are as in every strategy; nothing is
//! cached, evicted, shared or filled ahead.

use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::{Entry, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::trap::PageFaultErrorCode;
use framework::audit::Defect;
use framework::counters::PagingCounters;
use framework::fallible::OutOfMemory;
use framework::host::{PagingHost, Progress};
use framework::inspect::{Inspect, Lookup, Mapping};
use framework::kill::Kill;
use framework::pager::Built;
use framework::registry::{BuildContext, STRATEGIES, StrategyEntry};
use framework::strategy::{Fault, Loaded, PagingStrategy};
use framework::tables::{Part, RootId, ShadowEntry, ShadowRoot, Tables};
use framework::walk::{self, WalkResult};

/// The guest's tables have the format `G`, their shadows `S`.
struct Tlb<G, S> {
    tables: Tables<G, S>,
    /// The only root, once there is one.
    root: Option<RootId>,
    /// The guest's page directory; `None` while it sees its memory mapped linearly.
    directory: Option<GuestPhys>,
}

impl<G: PageFormat, S: PageFormat> Tlb<G, S> {
    fn build(context: &BuildContext) -> Result<Built, OutOfMemory> {
        let tables = || Tables::new(context.window, true);
        Built::new(context.formats, context.window, || Self { tables: tables(), root: None, directory: None })
    }

    fn root_id(&self) -> RootId {
        self.root.expect("set_up made a root")
    }
}

impl<G: PageFormat, S: PageFormat> PagingStrategy for Tlb<G, S> {
    fn set_up(&mut self, host: &mut dyn PagingHost) -> Result<(), Kill> {
        let root = self.tables.add_root(host)?;
        self.tables.make_current(*self.root.insert(root));
        Ok(())
    }

    fn demand_fault(
        &mut self,
        host: &mut dyn PagingHost,
        va: GuestVirt,
        error: PageFaultErrorCode,
    ) -> Result<Fault, Kill> {
        let walk = |directory| walk::walk::<G>(host, directory, va);
        let found = self.directory.map_or(Ok(Some(WalkResult::linear(va))), walk)?;
        let Some(found) = found.filter(|found| found.allows(error)) else { return Ok(Fault::Reflected) };
        let guest = found.after_access(error);
        // The guest may have another table here than the one that was shadowed.
        let _ = self.tables.release_if_moved(host, self.root_id(), va, found.origin());
        let made = walk::until_dirty(guest);
        if self.tables.table(self.root_id(), va).is_none() {
            // What gets no entry, such as device memory, gets no table either.
            let _ = ShadowEntry::new(host, made)?;
        }
        let table = self.tables.find_or_add(host, self.root_id(), va, found.origin())?;
        self.tables.replace(table, va, ShadowEntry::new(host, made)?);
        if self.directory.is_some() && guest != found.entry {
            walk::write_entry::<G>(host, found.at, guest)?;
        }
        Ok(Fault::Fixed)
    }

    fn load_page_directory(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
    ) -> Result<Loaded, Kill> {
        self.flush_all(host);
        self.directory = Some(directory);
        Ok(Loaded::New)
    }

    fn set_pte(
        &mut self,
        host: &mut dyn PagingHost,
        _directory: GuestPhys,
        va: GuestVirt,
        _entry: Entry,
    ) -> Result<(), Kill> {
        // The page directory does not matter: a fault brings back what was dropped in vain.
        self.tables.replace_if_tabled(host, self.root_id(), va, None)
    }

    fn flush_all(&mut self, host: &mut dyn PagingHost) {
        // Where the host breaks it off, the guest is not entered again.
        let _ = self.tables.release_entries(host, self.root_id(), 0..G::ROOT_ENTRIES);
    }

    fn root(&self) -> ShadowRoot<'_> {
        self.tables.current_root()
    }

    fn translate(&mut self, host: &mut dyn PagingHost, va: GuestVirt) -> Result<GuestPhys, Kill> {
        self.directory.map_or(Ok(GuestPhys(va.0)), |directory| walk::translate::<G>(host, directory, va))
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }

    fn counters(&self) -> PagingCounters {
        self.tables.counters()
    }

    fn tear_down(&mut self, host: &mut dyn PagingHost) {
        self.tables.remove_all(host);
    }
}

impl<G: PageFormat, S: PageFormat> Inspect for Tlb<G, S> {
    fn lookup(&self, va: GuestVirt) -> Option<Lookup> {
        self.tables.lookup(self.root?, va)
    }

    fn is_linear(&self) -> bool {
        self.directory.is_none()
    }

    fn directories(&self, visit: &mut dyn FnMut(GuestPhys, bool)) {
        visit(self.directory.unwrap_or(GuestPhys(0)), true);
    }

    fn leaf_tables(&self, _: usize) -> usize {
        self.root.map_or(0, |root| self.tables.leaf_tables(root))
    }

    fn mappings(&self, visit: &mut dyn FnMut(Mapping) -> Progress) -> Progress {
        let Some(root) = self.root else { return Progress::Continue(()) };
        let directory = self.directory.unwrap_or(GuestPhys(0));
        self.tables.visit(root, Part::Own, &mut |va, entry, table_flags| {
            visit(Mapping { number: 0, directory, va, entry, table_flags, shared: false })
        })
    }

    fn check(&self, host: &mut dyn PagingHost, found: &mut dyn FnMut(Defect)) {
        let _ = self.tables.check(host, found);
    }
}

#[linkme::distributed_slice(STRATEGIES)]
static TLB: StrategyEntry = StrategyEntry {
    name: "tlb",
    help: "one page directory, dropped at each CR3 load, as in a TLB",
    parameters: &[],
    formats: &[Paging::TwoLevel, Paging::Pae],
    build: |context, _| match (context.formats.guest, context.formats.shadow) {
        (Paging::TwoLevel, Paging::TwoLevel) => Tlb::<TwoLevel, TwoLevel>::build(context),
        (Paging::TwoLevel, Paging::Pae) => Tlb::<TwoLevel, Pae>::build(context),
        (Paging::Pae, _) => Tlb::<Pae, Pae>::build(context),
    },
};
