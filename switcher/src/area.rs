//! Where everything lies in the Switcher area.

use arch_i386::addr::{GuestVirt, PAGE_SIZE};
use arch_i386::paging::PageFormat;

/// Bytes from one virtual CPU's host context to the next.
pub(crate) const HOST_CONTEXT_SIZE: u32 = 32;

/// The area's place in the address space, the same for the host and every guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    base: GuestVirt,
    vcpus: u32,
}

/// Why an area cannot be at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadArea {
    /// The base is not the start of a page.
    Misaligned,
    /// The area is not within one page-table page's reach, so that one could not map it.
    CrossesTable,
    /// More virtual CPUs than [`Area::MAX_VCPUS`].
    TooManyVcpus,
}

impl Area {
    /// Virtual CPUs whose host contexts fit the one page that there is for them.
    pub const MAX_VCPUS: u32 = PAGE_SIZE / HOST_CONTEXT_SIZE;

    /// Pages before those of the virtual CPUs: the text, and the host contexts.
    const COMMON: u32 = 2;

    /// Pages of an area with that many virtual CPUs: the text, the host contexts, and two for each.
    #[must_use]
    pub const fn pages(vcpus: u32) -> u32 {
        Self::COMMON + 2 * vcpus
    }

    /// An area of `vcpus` virtual CPUs at `base`.
    ///
    /// # Errors
    /// [`BadArea`] when the base is not the start of a page, one page-table page cannot map all of it, or there are more than
    /// [`Area::MAX_VCPUS`].
    pub const fn new<F: PageFormat>(base: GuestVirt, vcpus: u32) -> Result<Self, BadArea> {
        if base.offset() != 0 {
            return Err(BadArea::Misaligned);
        }
        if vcpus > Self::MAX_VCPUS {
            return Err(BadArea::TooManyVcpus);
        }
        if Self::pages(vcpus) > (F::LEAF_SPAN - base.0 % F::LEAF_SPAN) / PAGE_SIZE {
            return Err(BadArea::CrossesTable);
        }
        Ok(Self { base, vcpus })
    }

    /// The number of its virtual CPUs.
    #[must_use]
    pub const fn vcpus(&self) -> u32 {
        self.vcpus
    }

    /// The Switcher's text.
    #[must_use]
    pub const fn text(&self) -> GuestVirt {
        self.base
    }

    /// The state page of a virtual CPU; its register page follows.
    ///
    /// # Panics
    /// When there is no such virtual CPU.
    #[must_use]
    pub const fn state(&self, vcpu: u32) -> GuestVirt {
        assert!(vcpu < self.vcpus, "no such virtual CPU in the Switcher area");
        GuestVirt(self.base.0 + Self::state_page(vcpu) * PAGE_SIZE)
    }

    /// The number of a virtual CPU's state page, counted from the area's base; its register page follows.
    #[must_use]
    pub const fn state_page(vcpu: u32) -> u32 {
        Self::COMMON + 2 * vcpu
    }

    /// A virtual CPU's [`HostContext`](crate::state::HostContext), which the host alone can reach.
    ///
    /// # Panics
    /// When there is no such virtual CPU.
    #[must_use]
    pub const fn host_context(&self, vcpu: u32) -> GuestVirt {
        assert!(vcpu < self.vcpus, "no such virtual CPU in the Switcher area");
        GuestVirt(self.base.0 + PAGE_SIZE + vcpu * HOST_CONTEXT_SIZE)
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
        for vcpus in [129, u32::MAX] {
            assert_eq!(Area::new::<TwoLevel>(GuestVirt(0xfe00_0000), vcpus), Err(BadArea::TooManyVcpus));
        }
        assert_eq!(Area::new::<Pae>(GuestVirt(0xfe7c_0010), 3), Err(BadArea::Misaligned));
    }

    #[test]
    #[should_panic(expected = "no such virtual CPU")]
    fn a_vcpu_beyond_the_last_has_no_address() {
        let _ = Area::new::<Pae>(GuestVirt(0xfe7c_0000), 3).unwrap().state(3);
    }
}
