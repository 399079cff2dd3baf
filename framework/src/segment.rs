//! The guest's descriptor tables.
//!
//! The processor never reads the tables that a guest hands over: they are checked here, kept here, and
//! copied into the guest's state page when something has changed. What decides about safety is short:
//!
//! * Segments: only code and data descriptors are kept, with privilege level 0 raised to 1 and the
//!   accessed bit set (the GDT that the processor uses is read-only to the guest, so the processor must not
//!   have to set it). Gates, TSS and LDT descriptors are dropped: through one of those a guest could reach
//!   ring 0. (lguest keeps them, with a bit changed.)
//! * Gates: only the handler's address, the privilege level and the type survive; the selector is
//!   always the guest kernel's.
//!
//! Sources: Intel SDM vol. 3A, 3.4.5, 5.8 and 6.11; lguest's `segments.c`, `interrupts_and_traps.c`.

use crate::kill::Kill;
use arch_i386::segment::{
    Descriptor, GDT_ENTRIES, GUEST_CS, GUEST_PL, GateType, IDT_ENTRIES, LGUEST_CS, USER_PL, index,
};
use arch_i386::trap;

/// What has changed since the tables were last copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Nothing,
    /// Only the thread-local-storage descriptors, as on every process switch.
    Tls,
    All,
}

/// A guest's GDT and IDT.
#[derive(Clone, Debug)]
pub struct Segments {
    gdt: [Descriptor; GDT_ENTRIES],
    idt: [Descriptor; IDT_ENTRIES],
    /// Breakpoints are for the host, of all rings.
    intercepts_breakpoints: bool,
    changed: Changed,
}

impl Default for Segments {
    fn default() -> Self {
        Self::new()
    }
}

/// Indices of descriptors that are the Switcher's own, or that no guest is trusted with.
const fn is_reserved(index: usize) -> bool {
    matches!(index, index::LGUEST_CS | index::LGUEST_DS | index::TSS | index::DOUBLE_FAULT_TSS)
}

/// Vectors that the guest never handles itself: they are the host's, or end the guest.
const fn is_reserved_vector(vector: u8) -> bool {
    matches!(vector, trap::NMI | trap::DOUBLE_FAULT | trap::SPURIOUS | trap::MACHINE_CHECK | trap::HYPERCALL)
}

/// Vectors that may go from ring 3 straight to the guest's kernel. The host must see page faults (for
/// shadow paging), general-protection faults (for emulation), device-not-available (for the lazy FPU),
/// debug exceptions (which leave their mark in the host's DR6) and hardware interrupts.
const fn may_go_direct(vector: u8) -> bool {
    if vector >= trap::FIRST_EXTERNAL {
        return vector == trap::SYSCALL;
    }
    !is_reserved_vector(vector)
        && !matches!(
            vector,
            trap::DEBUG | trap::PAGE_FAULT | trap::GENERAL_PROTECTION | trap::DEVICE_NOT_AVAILABLE
        )
}

/// A descriptor as it is kept.
fn accepted(descriptor: Descriptor) -> Descriptor {
    if !descriptor.is_code_or_data() {
        return Descriptor::default();
    }
    let descriptor = descriptor.with_accessed();
    if descriptor.dpl() == 0 { descriptor.with_dpl(GUEST_PL) } else { descriptor }
}

impl Segments {
    /// The tables a guest starts with: flat kernel code and data, no gates.
    #[must_use]
    pub fn new() -> Self {
        let mut gdt = [Descriptor::default(); GDT_ENTRIES];
        gdt[index::KERNEL_CS] = Descriptor::FLAT_CODE.with_dpl(GUEST_PL);
        gdt[index::KERNEL_DS] = Descriptor::FLAT_DATA.with_dpl(GUEST_PL);
        let idt = [Descriptor::default(); IDT_ENTRIES];
        Self { gdt, idt, intercepts_breakpoints: false, changed: Changed::All }
    }

    /// The guest's gate for a vector, if it has set one.
    #[must_use]
    pub fn gate(&self, vector: u8) -> Option<Descriptor> {
        Some(self.idt[usize::from(vector)]).filter(|gate| gate.present())
    }

    /// From now on breakpoints come to the host, whatever the guest's gate for them is; or as that says.
    pub(crate) fn intercept_breakpoints(&mut self, intercepts: bool) {
        if self.intercepts_breakpoints != intercepts {
            self.intercepts_breakpoints = intercepts;
            self.changed = Changed::All;
        }
    }

    /// LOAD_GDT_ENTRY.
    pub(crate) fn load_gdt_entry(&mut self, number: u32, descriptor: Descriptor) -> Result<(), Kill> {
        let entry = self.gdt.get_mut(number as usize).ok_or(Kill::DescriptorIndex(number))?;
        *entry = accepted(descriptor);
        self.changed = Changed::All;
        Ok(())
    }

    /// LOAD_TLS.
    pub(crate) fn load_tls(&mut self, tls: [Descriptor; index::TLS_ENTRIES]) {
        let entries = &mut self.gdt[index::TLS_MIN..][..index::TLS_ENTRIES];
        let tls = tls.map(accepted);
        if entries != tls {
            entries.copy_from_slice(&tls);
            self.changed = self.changed.max(Changed::Tls);
        }
    }

    /// LOAD_IDT_ENTRY. Vectors that are never the guest's are silently left alone, since every guest
    /// sets all of them.
    pub(crate) fn load_idt_entry(&mut self, vector: u32, gate: Descriptor) -> Result<(), Kill> {
        let number = u8::try_from(vector).map_err(|_| Kill::IdtVector(vector))?;
        if is_reserved_vector(number) {
            return Ok(());
        }
        let entry = if !gate.present() {
            Descriptor::default()
        } else if gate.gate_type().is_none() || gate.is_code_or_data() {
            return Err(Kill::GateType(gate.type_bits(), vector));
        } else {
            Descriptor { low: GUEST_CS << 16 | gate.low & 0xffff, high: gate.high & 0xffff_ef00 }
        };
        self.idt[usize::from(number)] = entry;
        self.changed = Changed::All;
        Ok(())
    }

    /// Brings the tables that the processor reads up to date with what has changed since the last call.
    /// `stub` gives the address of the Switcher's code for a vector.
    ///
    /// Only trap gates can go to the guest without the host: an interrupt gate would have to turn off
    /// interrupts, which a guest may not.
    pub fn sync(
        &mut self,
        gdt: &mut [Descriptor; GDT_ENTRIES],
        idt: &mut [Descriptor; IDT_ENTRIES],
        stub: impl Fn(u8) -> u32,
    ) {
        match core::mem::replace(&mut self.changed, Changed::Nothing) {
            Changed::Nothing => {}
            Changed::Tls => {
                let tls = index::TLS_MIN..index::TLS_MIN + index::TLS_ENTRIES;
                gdt[tls.clone()].copy_from_slice(&self.gdt[tls]);
            }
            Changed::All => self.copy_all(gdt, idt, stub),
        }
    }

    #[cold]
    fn copy_all(
        &self,
        gdt: &mut [Descriptor; GDT_ENTRIES],
        idt: &mut [Descriptor; IDT_ENTRIES],
        stub: impl Fn(u8) -> u32,
    ) {
        for (i, (to, from)) in gdt.iter_mut().zip(&self.gdt).enumerate() {
            if !is_reserved(i) {
                *to = *from;
            }
        }
        for (vector, (to, gate)) in (0..=u8::MAX).zip(idt.iter_mut().zip(&self.idt)) {
            let intercepted = self.intercepts_breakpoints && vector == trap::BREAKPOINT;
            let direct = may_go_direct(vector) && !intercepted && gate.gate_type() == Some(GateType::Trap);
            *to = if direct {
                *gate
            } else {
                // The guest's privilege level is kept where it may have software interrupts.
                let dpl = match vector {
                    trap::HYPERCALL => GUEST_PL,
                    _ if intercepted => USER_PL,
                    _ if may_go_direct(vector) => gate.dpl(),
                    _ => 0,
                };
                Descriptor::interrupt_gate(LGUEST_CS, stub(vector), dpl)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced(segments: &mut Segments) -> ([Descriptor; GDT_ENTRIES], [Descriptor; IDT_ENTRIES]) {
        let mut gdt = [Descriptor { low: 0xdead, high: 0xbeef }; GDT_ENTRIES];
        let mut idt = [Descriptor::default(); IDT_ENTRIES];
        segments.sync(&mut gdt, &mut idt, |vector| 0xff80_0000 + u32::from(vector) * 8);
        (gdt, idt)
    }

    #[test]
    fn system_descriptors_are_dropped() {
        let mut segments = Segments::new();
        // Call gate to the Switcher's code segment, available TSS, LDT, task gate.
        for high in [0xec00, 0x8900, 0x8200, 0x8500] {
            segments.load_gdt_entry(20, Descriptor { low: LGUEST_CS << 16, high }).unwrap();
            assert_eq!(synced(&mut segments).0[20], Descriptor::default());
        }
    }

    #[test]
    fn ring_0_segments_become_ring_1_and_are_marked_accessed() {
        let mut segments = Segments::new();
        segments.load_gdt_entry(26, Descriptor { low: 0xffff, high: 0x00cf_9200 }).unwrap();
        let kept = synced(&mut segments).0[26];
        assert_eq!((kept.dpl(), kept.high & 0x100), (1, 0x100));
    }

    #[test]
    fn reserved_descriptors_stay_the_switchers() {
        let mut segments = Segments::new();
        for index in 0..GDT_ENTRIES as u32 {
            segments.load_gdt_entry(index, Descriptor::FLAT_CODE).unwrap();
        }
        let (gdt, _) = synced(&mut segments);
        for reserved in [10, 11, 16, 31] {
            assert_eq!(gdt[reserved], Descriptor { low: 0xdead, high: 0xbeef });
        }
        assert_eq!(segments.load_gdt_entry(32, Descriptor::FLAT_CODE), Err(Kill::DescriptorIndex(32)));
    }

    #[test]
    fn only_trap_gates_of_harmless_vectors_go_direct() {
        let mut segments = Segments::new();
        let trap_gate = Descriptor { low: 0x0060_1234, high: 0xc010_ef00 };
        for vector in 0..256 {
            segments.load_idt_entry(vector, trap_gate).unwrap();
        }
        let (_, idt) = synced(&mut segments);
        for vector in 0..=u8::MAX {
            let gate = idt[usize::from(vector)];
            let direct = gate.low >> 16 == GUEST_CS;
            let expected = matches!(vector, 0x80 | 0 | 3..=6 | 9..=12 | 16 | 17 | 19..=30);
            assert_eq!(direct, expected, "vector {vector}");
            assert!(direct || gate.low >> 16 == LGUEST_CS);
            let dpl = if direct {
                3
            } else if vector == 0x1f {
                1
            } else {
                0
            };
            assert_eq!(gate.dpl(), dpl, "vector {vector}");
        }
        assert_eq!(segments.load_idt_entry(256, trap_gate), Err(Kill::IdtVector(256)));
        let task_gate = Descriptor { low: 0, high: 0x8500 };
        assert_eq!(segments.load_idt_entry(3, task_gate), Err(Kill::GateType(5, 3)));
    }

    #[test]
    fn intercepted_breakpoints_come_to_the_host_from_all_rings() {
        let mut segments = Segments::new();
        let stub = Descriptor::interrupt_gate(LGUEST_CS, 0xff80_0018, 3);
        // Whether the guest has a gate or not.
        for gate in [Descriptor::default(), Descriptor { low: 0x0060_1234, high: 0xc010_ef00 }] {
            segments.load_idt_entry(3, gate).unwrap();
            let own = synced(&mut segments).1[3];
            assert_ne!(own, stub);
            segments.intercept_breakpoints(true);
            let (_, idt) = synced(&mut segments);
            assert_eq!(idt[3], stub);
            assert_eq!(idt[4].dpl(), 0, "no other gate changes");
            segments.intercept_breakpoints(false);
            assert_eq!(synced(&mut segments).1[3], own);
        }
    }

    #[test]
    fn a_tls_change_copies_three_descriptors_only() {
        let mut segments = Segments::new();
        synced(&mut segments);
        let tls = Descriptor { low: 0x1234_ffff, high: 0x00cf_f200 };
        segments.load_tls([tls; 3]);
        let (gdt, _) = synced(&mut segments);
        assert_eq!(gdt[5], Descriptor { low: 0xdead, high: 0xbeef });
        assert_eq!(gdt[6..9], [tls.with_accessed(); 3]);
        segments.load_tls([tls; 3]);
        assert_eq!(synced(&mut segments).0[6], Descriptor { low: 0xdead, high: 0xbeef });
    }
}
