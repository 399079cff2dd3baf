//! Physical memory as the kernel sees it, 3 GiB up, and what is reported to the host of changed page tables.

use crate::host;
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::hypercall::Hypercall;
use arch_i386::paging::Entry;
use core::arch::asm;
use mini_guest::layout::phys_to_virt;
use mini_guest::page_tables::Machine;

/// The guest's RAM and its host. There is one, with no state of its own.
///
/// Frames are handed in by the kernel's own allocator, so their addresses are RAM, which is mapped as a
/// whole.
#[derive(Clone, Copy)]
pub struct Ram;

/// Words of a page.
const WORDS: u32 = PAGE_SIZE / 4;

impl Ram {
    /// Where the kernel sees a frame.
    pub fn page(self, frame: GuestFrame) -> *mut [u32; WORDS as usize] {
        let GuestVirt(address) = phys_to_virt(frame.start());
        core::ptr::with_exposed_provenance_mut(address as usize)
    }

    /// Copies a page.
    pub fn copy(self, from: GuestFrame, to: GuestFrame) {
        assert!(from != to);
        // One instruction, where the compiler's library has a loop.
        // SAFETY: two different pages of RAM; no reference to either exists.
        unsafe {
            asm!("xchg {from}, esi", "rep movsd", "xchg {from}, esi", from = inout(reg) self.page(from) => _,
                inout("edi") self.page(to) => _, inout("ecx") WORDS => _, options(nostack));
        }
    }

    fn word(at: GuestPhys) -> *mut u32 {
        let GuestVirt(address) = phys_to_virt(at);
        core::ptr::with_exposed_provenance_mut(address as usize)
    }
}

impl Machine for Ram {
    // The host writes accessed and dirty bits into page tables while the guest does not run, so reads and
    // writes are volatile.
    fn read(&self, at: GuestPhys) -> u32 {
        // SAFETY: an aligned word of RAM.
        unsafe { Self::word(at).read_volatile() }
    }

    fn write(&mut self, at: GuestPhys, word: u32) {
        // SAFETY: an aligned word of RAM.
        unsafe { Self::word(at).write_volatile(word) };
    }

    fn zero(&mut self, frame: GuestFrame) {
        // SAFETY: a page of RAM; no reference to it exists.
        unsafe {
            asm!("rep stosd", in("eax") 0, inout("edi") self.page(frame) => _, inout("ecx") WORDS => _,
                options(nostack));
        }
    }

    fn set_pte(&mut self, root: GuestPhys, va: GuestVirt, entry: Entry) {
        host::page_table_call(Hypercall::SetPte, host::set_pte_args(root, va.0, entry));
    }

    fn set_pgd(&mut self, root: GuestPhys, index: u32) {
        host::page_table_call(Hypercall::SetPgd, [root.0, index, 0, 0]);
    }

    fn set_pmd(&mut self, directory: GuestPhys, index: u32) {
        host::page_table_call(Hypercall::SetPmd, [directory.0, index, 0, 0]);
    }
}
