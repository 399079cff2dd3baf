//! Misbehaviour in ring 1 that the Switcher meets when it reflects a program's page fault, or takes a kernel stack, by itself. The
//! program's part is in its own `hostile` module.

use crate::host;
use crate::ram::Ram;
use crate::state::kernel;
use arch_i386::addr::{GuestPhys, PAGE_SIZE};
use arch_i386::hypercall::Hypercall;
use arch_i386::segment::GUEST_DS;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};
use mini_guest::layout::KERNEL_BASE;
use mini_guest::page_tables::{AnyPageTables, Machine};
use mini_programs::abi::{FORGED, FORGED_ENTRIES};

/// Whether the current process's page directory is forged.
static IS_FORGED: AtomicBool = AtomicBool::new(false);

/// The current process's page directory, if there are no more levels than two.
fn current_directory() -> Option<GuestPhys> {
    let kernel = kernel();
    match kernel.tasks[kernel.processes.current()].tables.as_ref()? {
        AnyPageTables::TwoLevel(tables) => Some(tables.root()),
        AnyPageTables::Pae(_) => None,
    }
}

fn store(root: GuestPhys, entries: [u32; FORGED_ENTRIES as usize]) {
    for (entry, index) in entries.into_iter().zip(FORGED >> 22..) {
        Ram.write(GuestPhys(root.0 + 4 * index), entry);
    }
}

/// Forges entries of the current process's page directory. The last ones are those for which a host may kill.
pub fn directory() {
    let Some(directory) = current_directory() else { return };
    let (root, ram) = (directory.0, kernel().memory().ram);
    let own = host::physical(&raw const host::LGUEST_DATA).0 & !(PAGE_SIZE - 1);
    let entries: [u32; FORGED_ENTRIES as usize] = [
        // Itself, its last page of memory, and the page that is shared with the host, as tables.
        root | 0x67,
        root | 7,
        (ram - PAGE_SIZE) | 0x67,
        own | 0x67,
        0xffff_fffe,
        // Out of memory, by little, to where the kernel would see the Switcher, and by much.
        ram | 0x67,
        (host::reserved_from() - KERNEL_BASE) | 0x67,
        0xffff_f067,
        // A large page, and bits that no table has.
        root | 0xe7,
        root | 0x1b,
    ];
    store(directory, entries);
    IS_FORGED.store(true, Ordering::Relaxed);
}

/// Empties the forged entries, before the process ends and its tables are given back.
pub fn undo() {
    if IS_FORGED.swap(false, Ordering::Relaxed)
        && let Some(directory) = current_directory()
    {
        store(directory, [0; FORGED_ENTRIES as usize]);
    }
}

/// A kernel stack whose first two words lie in the Switcher's window.
pub fn stack_across_switcher() {
    host::call(Hypercall::SetStack, [GUEST_DS, host::reserved_from() + 8, 0]);
}

/// A kernel stack of so many pages that ends where the register page does.
pub fn stack_in_registers(pages: u32) {
    host::call(Hypercall::SetStack, [GUEST_DS, registers_end(), pages]);
}

/// The same of one page, with the page directory that is loaded already.
pub fn switch_to_registers() {
    let root = kernel().root();
    host::call(Hypercall::SwitchTo, [root.0, registers_end(), 1]);
}

/// The end of the register page, which follows the page that the GDT is in.
fn registers_end() -> u32 {
    let mut register = [0u8; 6];
    // SAFETY: stores 6 bytes.
    unsafe { asm!("sgdt [{}]", in(reg) &raw mut register, options(nostack)) };
    let [.., a, b, c, d] = register;
    let state = u32::from_le_bytes([a, b, c, d]) & !(PAGE_SIZE - 1);
    state.wrapping_add(2 * PAGE_SIZE)
}
