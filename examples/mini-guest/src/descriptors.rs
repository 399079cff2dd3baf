//! Segments and gates, which the host keeps for the guest.

use crate::host;
use crate::traps;
use arch_i386::hypercall::Hypercall;
use arch_i386::segment::{Descriptor, GDT_ENTRIES, GUEST_CS, GUEST_PL, IDT_ENTRIES, index};
use arch_i386::trap;

/// The ring of programs.
pub const USER_PL: u32 = 3;
/// Selector of a program's code.
pub const USER_CS: u32 = (index::USER_CS * 8) as u32 | USER_PL;
/// Selector of a program's data and stack.
pub const USER_DS: u32 = (index::USER_DS * 8) as u32 | USER_PL;
/// Selector of the first thread-local-storage segment.
pub const TLS: u32 = (index::TLS_MIN * 8) as u32 | USER_PL;

/// Loads all of the GDT: flat segments for kernel and programs, everything else empty.
pub fn load_gdt() {
    for index in 0..GDT_ENTRIES {
        let descriptor = match index {
            index::KERNEL_CS => Descriptor::FLAT_CODE.with_dpl(GUEST_PL),
            index::KERNEL_DS => Descriptor::FLAT_DATA.with_dpl(GUEST_PL),
            index::USER_CS => Descriptor::FLAT_CODE.with_dpl(USER_PL),
            index::USER_DS => Descriptor::FLAT_DATA.with_dpl(USER_PL),
            _ => Descriptor::default(),
        };
        host::call(Hypercall::LoadGdtEntry, [index as u32, descriptor.low, descriptor.high]);
    }
}

/// A data segment of ring 3 that starts at `base` and ends at the end of the address space or later.
pub fn tls_descriptor(base: u32) -> Descriptor {
    let flat = Descriptor::FLAT_DATA.with_dpl(USER_PL);
    Descriptor { low: flat.low | base << 16, high: flat.high | base & 0xff00_0000 | base >> 16 & 0xff }
}

/// Loads all of the IDT.
///
/// Trap gates of vectors that the host has no use for lead straight from a program to the kernel:
/// division, invalid opcodes, overflow and system calls go that way here. The others, among them the
/// breakpoint, are interrupt gates, as they are in Linux, which the host delivers.
pub fn load_idt() {
    for vector in 0..IDT_ENTRIES {
        let descriptor = match vector as u8 {
            trap::SYSCALL | OVERFLOW => trap_gate(vector, USER_PL),
            trap::DIVIDE | INVALID_OPCODE => trap_gate(vector, GUEST_PL),
            BREAKPOINT => interrupt_gate(vector, USER_PL),
            trap::HYPERCALL => Descriptor::default(),
            0..trap::HYPERCALL | trap::FIRST_EXTERNAL..=LAST_EXTERNAL => interrupt_gate(vector, GUEST_PL),
            _ => Descriptor::default(),
        };
        load_gate(vector as u32, descriptor);
    }
}

/// Loads one gate.
pub fn load_gate(vector: u32, gate: Descriptor) {
    host::call(Hypercall::LoadIdtEntry, [vector, gate.low, gate.high]);
}

const BREAKPOINT: u8 = 3;
const OVERFLOW: u8 = 4;
const INVALID_OPCODE: u8 = 6;
/// The last of the 32 vectors of virtual interrupts.
const LAST_EXTERNAL: u8 = trap::FIRST_EXTERNAL + 31;

/// A gate to the vector's stub that disables interrupts.
pub fn interrupt_gate(vector: usize, dpl: u32) -> Descriptor {
    Descriptor::interrupt_gate(GUEST_CS, traps::stub(vector), dpl)
}

/// A gate to the vector's stub that leaves interrupts as they are: type 15 where the other has 14.
pub fn trap_gate(vector: usize, dpl: u32) -> Descriptor {
    let gate = interrupt_gate(vector, dpl);
    Descriptor { low: gate.low, high: gate.high | 0x100 }
}
