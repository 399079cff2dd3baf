//! What the audit, dumps and tests can see of a cache.

use super::ShadowCache;
use super::slots::Slot;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::PageFormat;
use core::ops::ControlFlow;
use framework::audit::Defect;
use framework::host::PagingHost;
use framework::inspect::{Inspect, Lookup, Mapping};
use framework::tables::Part;

impl<G: PageFormat, S: PageFormat> Inspect for ShadowCache<G, S> {
    fn lookup(&self, va: GuestVirt) -> Option<Lookup> {
        self.tables.lookup(self.slots.current_slot().root, va)
    }

    fn is_writable(&self, va: GuestVirt) -> bool {
        self.tables.is_writable(self.slots.current_slot().root, va)
    }

    fn is_linear(&self) -> bool {
        self.linear
    }

    fn directories(&self, visit: &mut dyn FnMut(GuestPhys, bool)) {
        for (index, slot) in self.slots.taken() {
            visit(slot.directory, index == self.slots.current());
        }
    }

    fn leaf_tables(&self, number: usize) -> usize {
        let slot = self.slots.taken().nth(number);
        slot.map_or(0, |(_, Slot { root, .. })| self.tables.leaf_tables(root))
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
