//! What evictions cost, for policies that ask.

use super::slots::{Slot, Slots};
use super::{Capacity, ShadowCache};
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::paging::PageFormat;
use framework::policy::Costs;
use framework::tables::{RootId, Tables};

/// What there is to drop in each slot: what is mapped below the kernel. The kernel's half stays with the root.
struct SlotCosts<'a, G, S> {
    slots: &'a Slots,
    tables: &'a Tables<G, S>,
    kernel_address: GuestVirt,
    capacity: Capacity,
}

impl<G: PageFormat, S: PageFormat> SlotCosts<'_, G, S> {
    /// The pages that are mapped, and the tables for them.
    fn count(&self, slot: usize) -> (usize, usize) {
        let taken = self.slots.get(slot);
        taken.map_or((0, 0), |Slot { root, .. }| self.tables.count_pages(root, self.kernel_address))
    }
}

impl<G: PageFormat, S: PageFormat> Costs for SlotCosts<'_, G, S> {
    fn entries(&self, slot: usize) -> usize {
        self.count(slot).0
    }

    fn refills(&self, slot: usize) -> usize {
        self.slots.get(slot).map_or(0, |Slot { root, .. }| self.tables.fills(root))
    }

    fn size(&self, slot: usize) -> usize {
        match self.capacity {
            Capacity::Slots(_) => 1,
            Capacity::Budget(_) => Tables::<G, S>::NEW_DIRECTORY_PAGES + self.count(slot).1,
        }
    }
}

impl<G: PageFormat, S: PageFormat> ShadowCache<G, S> {
    /// An entry for `va` has been filled under the current root, because the guest has missed it or will. Of the kernel's half
    /// an eviction drops nothing.
    #[inline]
    pub(super) fn count_fill(&mut self, root: RootId, va: GuestVirt) {
        if va < self.kernel_address {
            self.tables.count_fills(root, 1);
        }
    }

    /// What the policy answers, which may be no slot.
    pub(super) fn ask_policy(&mut self, incoming: GuestPhys) -> usize {
        let Self { slots, tables, kernel_address, capacity, policy, .. } = self;
        let costs = SlotCosts { slots, tables, kernel_address: *kernel_address, capacity: *capacity };
        policy.victim_by_cost(incoming, &costs)
    }
}
