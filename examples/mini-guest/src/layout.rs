//! The map of the address space.
//!
//! ```text
//!  0x00000000                    nothing: null pointers fault
//!  0x08048000  IMAGE_BASE        a process's program
//!  0x40000000  MMAP_BASE         its mmap area
//!  0xbfc00000  STACK_TOP         its stack ends here
//!  0xc0000000  KERNEL_BASE       all RAM, in order: the kernel is linked into it at 1 MiB
//!  scratch_base(ram)             64 pages that the kernel maps as it likes, 4 MiB above the end of RAM
//!  2^32 - reserve_mem            the host's Switcher, whose size the host reports at LGUEST_INIT
//! ```
//!
//! Everything from [`KERNEL_BASE`] up is the same in all page directories.

use arch_i386::addr::{GuestPhys, GuestVirt};

/// Where the kernel's half begins: `lguest_data.kernel_address`, and i386 Linux's `PAGE_OFFSET`.
pub const KERNEL_BASE: u32 = 0xc000_0000;

/// RAM beyond this is left alone, so that there is room above its mapping even under a host that
/// keeps the upper half of the kernel's gigabyte for itself.
pub const MAX_RAM: u32 = 256 << 20;

/// Pages of the scratch area.
pub const SCRATCH_PAGES: u32 = 64;

/// Address space that one level-1 table covers in the 2-level format; regions of the kernel's half that
/// are used for different things are kept apart by it.
const TABLE_SPAN: u32 = 4 << 20;

/// The first address of the scratch area of a guest with `ram` bytes, at most [`MAX_RAM`].
#[must_use]
pub const fn scratch_base(ram: u32) -> GuestVirt {
    GuestVirt(KERNEL_BASE + ram.next_multiple_of(TABLE_SPAN) + TABLE_SPAN)
}

/// Where the kernel sees a byte of RAM.
#[must_use]
pub const fn phys_to_virt(at: GuestPhys) -> GuestVirt {
    GuestVirt(KERNEL_BASE.wrapping_add(at.0))
}

/// Where a byte is that the kernel sees at `at`, which has to lie in the mapping of RAM.
#[must_use]
pub const fn virt_to_phys(at: GuestVirt) -> GuestPhys {
    GuestPhys(at.0.wrapping_sub(KERNEL_BASE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scratch_area_shares_no_table_with_ram() {
        for ram in [8 << 20, (8 << 20) + 4096, 33 << 20, MAX_RAM] {
            let scratch = scratch_base(ram).0;
            assert_eq!(scratch % TABLE_SPAN, 0);
            assert!(scratch >= KERNEL_BASE + ram + TABLE_SPAN);
        }
    }
}
