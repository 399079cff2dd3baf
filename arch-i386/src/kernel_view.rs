//! What the Switcher must know of a guest to work on its memory by itself: where the guest's kernel sees it.
//!
//! The words lie on the virtual CPU's state page, which the guest cannot write. All addresses are the guest's own:
//! the Switcher reaches the guest's tables, its shared page and its kernel stack as the guest's kernel does, on the shadow
//! page tables, and never from the Switcher's window up.

use crate::addr::{GuestPhys, GuestVirt, PAGE_SHIFT};
use crate::lguest_data;
use crate::paging::Paging;

/// Bytes of the frame that a page fault of ring 3 pushes: the error code, EIP, CS, EFLAGS, ESP, SS (Intel SDM vol. 3A, 6.12.1).
pub const FRAME_SIZE: u32 = 6 * 4;

/// Bytes of the one that a page fault of ring 1 pushes: it has no ESP and no SS.
pub const KERNEL_FRAME_SIZE: u32 = 4 * 4;

/// How many page faults of ring 1 the Switcher reflects without an exit. The next one is the host's, which counts those that come within
/// each other.
pub const MOST_KERNEL_FAULTS: u32 = 2;

/// What is fixed as long as the guest does not load another gate for page faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct KernelView {
    /// Where the guest's handler of page faults begins, whose gate turns interrupts off; 0 when the Switcher must not reflect
    /// page faults to it.
    pub fault_handler: GuestVirt,
    /// Where the guest's kernel sees [`LguestData`](crate::lguest_data::LguestData).
    pub data: GuestVirt,
    /// Where the guest's kernel sees its memory, from guest-physical 0 on.
    pub kernel_address: GuestVirt,
    /// Bytes of guest-physical memory, from 0 on, that it can see there.
    pub low_memory: u32,
    /// The last address that a frame on the kernel's stack may begin at, counted from `kernel_address`.
    pub last_frame: u32,
    /// Bytes of an entry of the guest's page tables.
    pub entry_size: u32,
    /// Where the Switcher's window begins.
    pub window: GuestVirt,
}

impl KernelView {
    /// The words for a guest with page tables of a format, that many pages of memory, which its kernel sees from an address on, and
    /// the Switcher's window at `window`; `None` where the guest's kernel cannot see its shared page below the window.
    #[must_use]
    pub fn new(
        fault_handler: Option<GuestVirt>,
        format: Paging,
        data: GuestPhys,
        (kernel_address, pages): (GuestVirt, u32),
        window: GuestVirt,
    ) -> Option<Self> {
        let room = window.0.checked_sub(kernel_address.0)?;
        let low_memory = pages.min(room >> PAGE_SHIFT) << PAGE_SHIFT;
        let view = Self {
            fault_handler: fault_handler.unwrap_or(GuestVirt(0)),
            data: GuestVirt(kernel_address.0.wrapping_add(data.0)),
            kernel_address,
            low_memory,
            last_frame: room.checked_sub(FRAME_SIZE)?,
            entry_size: format.entry_size(),
            window,
        };
        view.sees(data, lguest_data::SIZE).then_some(view)
    }

    /// Where the guest's kernel sees `size` bytes of guest-physical memory; `None` when it does not.
    #[must_use]
    pub fn linear(&self, at: GuestPhys, size: u32) -> Option<GuestVirt> {
        self.sees(at, size).then(|| GuestVirt(self.kernel_address.0.wrapping_add(at.0)))
    }

    fn sees(&self, at: GuestPhys, size: u32) -> bool {
        at.0.checked_add(size).is_some_and(|end| end <= self.low_memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: GuestVirt = GuestVirt(0xc010_0000);
    const KERNEL: GuestVirt = GuestVirt(0xc000_0000);
    const WINDOW: GuestVirt = GuestVirt(0xff80_0000);

    fn view(data: u32, kernel_address: GuestVirt, pages: u32, window: GuestVirt) -> Option<KernelView> {
        KernelView::new(Some(HANDLER), Paging::Pae, GuestPhys(data), (kernel_address, pages), window)
    }

    #[test]
    fn a_guest_with_little_memory_is_seen_as_a_whole() {
        let found = view(0x5000, KERNEL, 0x1000, WINDOW).unwrap();
        let expected = KernelView {
            fault_handler: HANDLER,
            data: GuestVirt(0xc000_5000),
            kernel_address: KERNEL,
            low_memory: 0x100_0000,
            last_frame: 0x3f7f_ffe8,
            entry_size: 8,
            window: WINDOW,
        };
        assert_eq!(found, expected);
        // The highest frame ends where the window begins.
        assert_eq!(KERNEL.0 + found.last_frame + FRAME_SIZE, WINDOW.0);
    }

    #[test]
    fn memory_ends_where_the_window_begins() {
        let found = view(0x5000, KERNEL, 0xf_0000, WINDOW).unwrap();
        assert_eq!(found.low_memory, WINDOW.0 - KERNEL.0);
        assert_eq!(found.linear(GuestPhys(0x3f7f_f000), 4096), Some(GuestVirt(0xff7f_f000)));
        for at in [0x3f7f_f001, 0x3f80_0000, 0xffff_f000, u32::MAX] {
            assert_eq!(found.linear(GuestPhys(at), 4096), None, "{at:#x}");
        }
    }

    #[test]
    fn the_shared_page_must_be_seen() {
        let end = 0x100_0000;
        assert!(view(end - lguest_data::SIZE, KERNEL, 0x1000, WINDOW).is_some());
        for data in [end - lguest_data::SIZE + 1, end, u32::MAX] {
            assert_eq!(view(data, KERNEL, 0x1000, WINDOW), None, "{data:#x}");
        }
        for kernel_address in [WINDOW.0, WINDOW.0 - 4, WINDOW.0 + 4, u32::MAX] {
            assert_eq!(view(0, GuestVirt(kernel_address), 0x1000, WINDOW), None, "{kernel_address:#x}");
        }
    }
}
