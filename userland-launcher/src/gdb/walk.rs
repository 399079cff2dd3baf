//! Where a guest's address is in its memory: by its page tables, or, before it has any, by its kernel's file.

use crate::guest_memory::GuestMemory;
use crate::kernel::Image;
use arch_i386::addr::{GuestVirt, PAGE_SHIFT, PAGE_SIZE};
use arch_i386::debug::{LEVELS_NONE, Registers};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, TwoLevel};

/// The guest-physical address of `va` as the guest of these registers has it mapped; `None` if it has not. Nothing is asked of
/// its rights: a debugger may do more than the guest.
pub fn translate(memory: &GuestMemory, registers: &Registers, kernel: &[Image], va: u32) -> Option<u32> {
    let mapped = match registers.levels {
        LEVELS_NONE => (u64::from(va) < memory.len() as u64).then_some(va),
        2 => by_tables::<TwoLevel>(memory, registers.directory & !(PAGE_SIZE - 1), va),
        // CR3 may be within a page.
        3 => by_tables::<Pae>(memory, registers.directory & !0x1f, va),
        _ => None,
    };
    // A kernel is where its file says before it maps itself there.
    let by_file = || {
        let image = kernel.iter().find(|image| va.wrapping_sub(image.virt) < image.len)?;
        Some(image.physical.wrapping_add(va.wrapping_sub(image.virt)))
    };
    mapped.or_else(|| if registers.levels == LEVELS_NONE { by_file() } else { None })
}

fn by_tables<F: PageFormat>(memory: &GuestMemory, directory: u32, va: u32) -> Option<u32> {
    let size = F::ENTRY_SIZE as usize;
    let mut table = u64::from(directory);
    for level in (1..=F::LEVELS).rev() {
        let at = table + (F::index(GuestVirt(va), level) * size) as u64;
        let mut entry = [0; 8];
        if memory.slice(at, size as u64).ok()?.copy_to(&mut entry[..size]) < size {
            return None;
        }
        let entry = Entry(u64::from_le_bytes(entry));
        // No guest has larger pages; in the last level the bit has another meaning.
        if !entry.present() || (level > 1 && entry.has(Flags::HUGE_PAGE)) {
            return None;
        }
        table = entry.frame() << PAGE_SHIFT;
    }
    u32::try_from(table).ok().map(|page| page | va & (PAGE_SIZE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(words: &[(u32, u32)]) -> GuestMemory {
        let memory = GuestMemory::map(0x10_000).unwrap();
        for &(at, word) in words {
            assert_eq!(memory.slice(at.into(), 4).unwrap().copy_from(&word.to_le_bytes()), 4);
        }
        memory
    }

    const KERNEL: [Image; 1] = [Image { virt: 0xc010_0000, physical: 0x1000, len: 0x20 }];

    #[test]
    fn two_levels() {
        // Intel SDM vol. 3A, 4.3: bits 31 to 22, bits 21 to 12.
        let memory = memory(&[(0x1000 + 0x301 * 4, 0x2067), (0x2000 + 0x45 * 4, 0x3001), (0x1004, 0x0083)]);
        let registers = Registers { directory: 0x1000, levels: 2, ..Registers::default() };
        let at = |va| translate(&memory, &registers, &KERNEL, va);
        assert_eq!(at(0xc044_5678), Some(0x3678));
        assert_eq!(at(0xc044_4678), None, "not present");
        assert_eq!(at(0x0040_0000), None, "a large page");
        assert_eq!(at(0xc010_0000), None, "the kernel's file does not count any more");
    }

    #[test]
    fn three_levels() {
        // Intel SDM vol. 3A, 4.4: bits 31 and 30, bits 29 to 21, bits 20 to 12. With NX in the last entry.
        let memory = memory(&[
            (0x1020 + 3 * 8, 0x2001),
            (0x2000 + 2 * 8, 0x3067),
            (0x3000 + 0x45 * 8, 0x4081),
            (0x3000 + 0x45 * 8 + 4, 0x8000_0000),
        ]);
        let registers = Registers { directory: 0x1020, levels: 3, ..Registers::default() };
        let at = |va| translate(&memory, &registers, &KERNEL, va);
        assert_eq!(at(0xc044_5678), Some(0x4678));
        assert_eq!(at(0xc044_6678), None);
        assert_eq!(at(0x0044_5678), None);
    }

    #[test]
    fn before_there_are_tables_a_kernel_is_where_its_file_says() {
        let memory = memory(&[]);
        let registers = Registers::default();
        let at = |va| translate(&memory, &registers, &KERNEL, va);
        assert_eq!(at(0x5678), Some(0x5678));
        assert_eq!(at(0xc010_001f), Some(0x101f));
        assert_eq!(at(0xc010_0020), None);
    }

    #[test]
    fn tables_outside_memory_map_nothing() {
        let memory = memory(&[(0x1000, 0xffff_f001)]);
        let registers = Registers { directory: 0x1000, levels: 2, ..Registers::default() };
        assert_eq!(translate(&memory, &registers, &[], 0), None);
        let registers = Registers { directory: 0xffff_f000, ..registers };
        assert_eq!(translate(&memory, &registers, &[], 0), None);
    }
}
