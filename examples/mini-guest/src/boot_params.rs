//! What the launcher left at guest-physical 0: Linux's boot parameters.
//!
//! Offsets as in Linux's `Documentation/x86/boot.rst` and `zero-page.rst`.

use arch_i386::addr::GuestPhys;

/// Bytes of the structure that are looked at.
pub const SIZE: usize = 4096;

const E820_ENTRIES: usize = 0x1e8;
const RAMDISK_IMAGE: usize = 0x218;
const COMMAND_LINE: usize = 0x228;
const E820_MAP: usize = 0x2d0;
const E820_RAM: u32 = 1;

/// What this kernel reads of its boot parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootParams {
    /// The end of usable memory, in bytes: where RAM ends, or an initial RAM disk begins.
    pub memory_end: u32,
    /// Where the command line is, if there is one.
    pub command_line: Option<GuestPhys>,
}

/// Why boot parameters cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBootParams {
    /// The memory map has no RAM at address 0.
    #[error(
        "the boot parameters' memory map has no RAM at address 0; the launcher should enter one e820 range"
    )]
    NoRam,
}

impl BootParams {
    /// Reads them from the first page of memory.
    pub fn parse(page: &[u8; SIZE]) -> Result<Self, BadBootParams> {
        let word = |at: usize| {
            u32::from_le_bytes(*page[at..].first_chunk().expect("the offsets used lie inside the page"))
        };
        // Entries of 20 bytes: 64-bit start and size, 32-bit type. One map of 128 entries fits the page.
        let ram_at_zero = (0..usize::from(page[E820_ENTRIES]).min(128)).find_map(|i| {
            let entry = E820_MAP + 20 * i;
            let is_ram_at_zero = word(entry) == 0 && word(entry + 4) == 0 && word(entry + 16) == E820_RAM;
            let size = if word(entry + 12) > 0 { u32::MAX } else { word(entry + 8) };
            (is_ram_at_zero && size > 0).then_some(size)
        });
        let ram = ram_at_zero.ok_or(BadBootParams::NoRam)?;
        let ramdisk = word(RAMDISK_IMAGE);
        let command_line = word(COMMAND_LINE);
        Ok(Self {
            memory_end: if ramdisk > 0 { ram.min(ramdisk) } else { ram },
            command_line: (command_line > 0).then_some(GuestPhys(command_line)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(words: &[(usize, u32)]) -> [u8; SIZE] {
        let mut page = [0; SIZE];
        for &(at, word) in words {
            page[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        page
    }

    #[test]
    fn the_original_launchers_page_is_understood() {
        let page = page(&[(0x1e8, 1), (0x2d0 + 8, 32 << 20), (0x2d0 + 16, 1), (0x228, 0x1000)]);
        let expected = BootParams { memory_end: 32 << 20, command_line: Some(GuestPhys(0x1000)) };
        assert_eq!(BootParams::parse(&page), Ok(expected));
    }

    #[test]
    fn a_ram_disk_ends_usable_memory() {
        let page = page(&[(0x1e8, 1), (0x2d0 + 8, 32 << 20), (0x2d0 + 16, 1), (0x218, 30 << 20)]);
        let expected = BootParams { memory_end: 30 << 20, command_line: None };
        assert_eq!(BootParams::parse(&page), Ok(expected));
    }

    #[test]
    fn reserved_ranges_and_ranges_elsewhere_are_not_ram_at_zero() {
        let reserved = [(0x2d0 + 8, 4096), (0x2d0 + 16, 2)];
        let high = [(0x2d0 + 20, 1 << 20), (0x2d0 + 28, 4096), (0x2d0 + 36, 1)];
        let page = page(&[&[(0x1e8, 2)], &reserved[..], &high[..]].concat());
        assert_eq!(BootParams::parse(&page), Err(BadBootParams::NoRam));
    }
}
