//! Where everything lies in the Switcher area.

use arch_i386::addr::{GuestVirt, PAGE_SIZE};
use arch_i386::paging::PageFormat;

/// Bytes from one virtual CPU's host context to the next.
pub(crate) const HOST_CONTEXT_SIZE: u32 = 32;

/// The area's place in the address space, the same for the host and every guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    base: GuestVirt,
    slots: u32,
}

/// Why an area cannot be where it was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadArea {
    /// The base is not the start of a page.
    Misaligned,
    /// The area is not within one page-table page's reach, so that one could not map it.
    CrossesTable,
    /// More slots than [`Area::MAX_SLOTS`].
    TooManySlots,
}

impl Area {
    /// Slots whose host contexts fit the one page that there is for them.
    pub const MAX_SLOTS: u32 = PAGE_SIZE / HOST_CONTEXT_SIZE;

    /// Pages before those of the slots: the text, and the host contexts.
    const COMMON: u32 = 2;

    /// Pages of an area with that many slots: the text, the host contexts, and two for each.
    #[must_use]
    pub const fn pages(slots: u32) -> u32 {
        Self::COMMON + 2 * slots
    }

    /// An area of `slots` slots at `base`.
    ///
    /// # Errors
    /// [`BadArea`].
    pub const fn new<F: PageFormat>(base: GuestVirt, slots: u32) -> Result<Self, BadArea> {
        if base.offset() != 0 {
            return Err(BadArea::Misaligned);
        }
        if slots > Self::MAX_SLOTS {
            return Err(BadArea::TooManySlots);
        }
        if Self::pages(slots) > (F::LEAF_SPAN - base.0 % F::LEAF_SPAN) / PAGE_SIZE {
            return Err(BadArea::CrossesTable);
        }
        Ok(Self { base, slots })
    }

    /// How many virtual CPUs it has room for.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// The Switcher's text.
    #[must_use]
    pub const fn text(&self) -> GuestVirt {
        self.base
    }

    /// The state page of a slot; its register page follows.
    ///
    /// # Panics
    /// When there is no such slot.
    #[must_use]
    pub const fn state(&self, slot: u32) -> GuestVirt {
        assert!(slot < self.slots, "no such slot in the Switcher area");
        GuestVirt(self.base.0 + Self::state_page(slot) * PAGE_SIZE)
    }

    /// The number of a slot's state page, counted from the area's base; its register page follows.
    #[must_use]
    pub const fn state_page(slot: u32) -> u32 {
        Self::COMMON + 2 * slot
    }

    /// A slot's [`HostContext`](crate::state::HostContext), which the host alone can reach.
    ///
    /// # Panics
    /// When there is no such slot.
    #[must_use]
    pub const fn host_context(&self, slot: u32) -> GuestVirt {
        assert!(slot < self.slots, "no such slot in the Switcher area");
        GuestVirt(self.base.0 + PAGE_SIZE + slot * HOST_CONTEXT_SIZE)
    }

    /// The first address that is not a guest's: the start of what one page-table page maps.
    #[must_use]
    pub const fn window<F: PageFormat>(&self) -> GuestVirt {
        GuestVirt(self.base.0 - self.base.0 % F::LEAF_SPAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arch_i386::paging::{Pae, TwoLevel};

    #[test]
    fn pages_follow_each_other() {
        let area = Area::new::<Pae>(GuestVirt(0xfe7c_0000), 3).unwrap();
        assert_eq!(Area::pages(3), 8);
        assert_eq!(area.text(), GuestVirt(0xfe7c_0000));
        assert_eq!(area.host_context(0), GuestVirt(0xfe7c_1000));
        assert_eq!(area.host_context(2), GuestVirt(0xfe7c_1040));
        assert_eq!(area.state(0), GuestVirt(0xfe7c_2000));
        assert_eq!(area.state(2), GuestVirt(0xfe7c_6000));
        assert_eq!(area.window::<Pae>(), GuestVirt(0xfe60_0000));
        assert_eq!(area.window::<TwoLevel>(), GuestVirt(0xfe40_0000));
    }

    #[test]
    fn an_area_fits_one_page_table() {
        // Eight pages up to the very end of a table's reach.
        assert!(Area::new::<Pae>(GuestVirt(0xfe7f_8000), 3).is_ok());
        assert_eq!(Area::new::<Pae>(GuestVirt(0xfe7f_9000), 3), Err(BadArea::CrossesTable));
        // 2 MiB further up the reach of a 2-level table ends as well; half-way only PAE's.
        assert_eq!(Area::new::<Pae>(GuestVirt(0xfe5f_9000), 3), Err(BadArea::CrossesTable));
        assert!(Area::new::<TwoLevel>(GuestVirt(0xfe5f_9000), 3).is_ok());
        // A page holds 128 contexts of 32 bytes.
        assert!(Area::new::<TwoLevel>(GuestVirt(0xfe00_0000), 128).is_ok());
        for slots in [129, u32::MAX] {
            assert_eq!(Area::new::<TwoLevel>(GuestVirt(0xfe00_0000), slots), Err(BadArea::TooManySlots));
        }
        assert_eq!(Area::new::<Pae>(GuestVirt(0xfe7c_0010), 3), Err(BadArea::Misaligned));
    }

    #[test]
    #[should_panic(expected = "no such slot")]
    fn a_slot_beyond_the_last_has_no_address() {
        let _ = Area::new::<Pae>(GuestVirt(0xfe7c_0000), 3).unwrap().state(3);
    }
}
