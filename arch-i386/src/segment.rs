//! Segment and gate descriptors, and the selectors that host and guest have agreed on.
//!
//! Descriptors are two words (Intel SDM vol. 3A, 3.4.5 for segments, 6.11 for gates):
//!
//! ```text
//!  high: base 31:24 | G D/B L AVL | limit 19:16 | P DPL S type | base 23:16      (segment)
//!        offset 31:16            |               P DPL 0 type | 0               (gate)
//!  low:  base 15:0               | limit 15:0                                    (segment)
//!        selector                | offset 15:0                                   (gate)
//! ```

/// Entries of a guest's IDT.
pub const IDT_ENTRIES: usize = 256;
/// Entries of a guest's GDT, as many as i386 Linux has.
pub const GDT_ENTRIES: usize = 32;

/// The ring a guest's kernel runs in.
pub const GUEST_PL: u32 = 1;
/// The privilege level of programs.
pub const USER_PL: u32 = 3;

/// Descriptor indices with a fixed meaning: i386 Linux's, which the guest shares, and the Switcher's two, which
/// Linux leaves free (`asm/segment.h`, `asm/lguest.h`).
pub mod index {
    /// First of the three thread-local-storage descriptors.
    pub const TLS_MIN: usize = 6;
    /// Thread-local-storage descriptors.
    pub const TLS_ENTRIES: usize = 3;
    /// The Switcher's code segment.
    pub const LGUEST_CS: usize = 10;
    /// The Switcher's data and stack segment.
    pub const LGUEST_DS: usize = 11;
    /// The kernel's code segment.
    pub const KERNEL_CS: usize = 12;
    /// The kernel's data segment.
    pub const KERNEL_DS: usize = 13;
    /// User code.
    pub const USER_CS: usize = 14;
    /// User data.
    pub const USER_DS: usize = 15;
    /// The task-state segment: never the guest's to set.
    pub const TSS: usize = 16;
    /// Linux's double-fault task: never the guest's to set.
    pub const DOUBLE_FAULT_TSS: usize = 31;
}

/// Selector of the Switcher's code segment, ring 0, valid in the host's and in a guest's GDT.
pub const LGUEST_CS: u32 = (index::LGUEST_CS * 8) as u32;
/// Selector of the Switcher's data segment.
pub const LGUEST_DS: u32 = (index::LGUEST_DS * 8) as u32;
/// Selector of the TSS, the same in the host's and in a guest's GDT.
pub const TSS: u32 = (index::TSS * 8) as u32;
/// Selector of a guest kernel's code.
pub const GUEST_CS: u32 = (index::KERNEL_CS * 8) as u32 | GUEST_PL;
/// Selector of a guest kernel's data and stack.
pub const GUEST_DS: u32 = (index::KERNEL_DS * 8) as u32 | GUEST_PL;

const DPL_SHIFT: u32 = 13;
const DPL_MASK: u32 = 3 << DPL_SHIFT;

/// One descriptor, in the processor's two words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Descriptor {
    pub low: u32,
    pub high: u32,
}

/// The gate types that lguest lets a guest use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateType {
    /// Type 14: interrupts are off on entry.
    Interrupt,
    /// Type 15: interrupts stay as they were.
    Trap,
}

impl Descriptor {
    /// Flat 4 GiB code, readable, accessed, ring 0.
    pub const FLAT_CODE: Self = Self { low: 0x0000_ffff, high: 0x00cf_9b00 };
    /// Flat 4 GiB data, writable, accessed, ring 0.
    pub const FLAT_DATA: Self = Self { low: 0x0000_ffff, high: 0x00cf_9300 };

    /// A present interrupt gate into ring 0 that rings up to `dpl` may use by `int`.
    #[must_use]
    pub const fn interrupt_gate(selector: u32, offset: u32, dpl: u32) -> Self {
        Self { low: selector << 16 | offset & 0xffff, high: offset & 0xffff_0000 | 0x8e00 | dpl << DPL_SHIFT }
    }

    /// An available 32-bit TSS of `limit + 1` bytes at `base`.
    #[must_use]
    pub const fn tss(base: u32, limit: u32) -> Self {
        Self {
            low: base << 16 | limit & 0xffff,
            high: base & 0xff00_0000 | 0x8900 | limit & 0xf_0000 | base >> 16 & 0xff,
        }
    }

    /// The P bit.
    #[must_use]
    pub const fn present(self) -> bool {
        self.high & 0x8000 != 0
    }

    /// The descriptor privilege level, 0 to 3.
    #[must_use]
    pub const fn dpl(self) -> u32 {
        (self.high & DPL_MASK) >> DPL_SHIFT
    }

    /// The same descriptor with another privilege level.
    #[must_use]
    pub const fn with_dpl(self, dpl: u32) -> Self {
        Self { low: self.low, high: self.high & !DPL_MASK | dpl << DPL_SHIFT }
    }

    /// The S bit: code or data, as opposed to a system segment or gate.
    #[must_use]
    pub const fn is_code_or_data(self) -> bool {
        self.high & 0x1000 != 0
    }

    /// The same descriptor with the accessed bit of a code or data segment set.
    #[must_use]
    pub const fn with_accessed(self) -> Self {
        Self { low: self.low, high: self.high | 0x100 }
    }

    /// The address that a gate leads to.
    #[must_use]
    pub const fn gate_offset(self) -> u32 {
        self.low & 0xffff | self.high & 0xffff_0000
    }

    /// The four type bits.
    #[must_use]
    pub const fn type_bits(self) -> u32 {
        self.high >> 8 & 0xf
    }

    /// What kind of 32-bit gate this is, if it is one that a guest may use.
    #[must_use]
    pub const fn gate_type(self) -> Option<GateType> {
        match self.type_bits() {
            0xe => Some(GateType::Interrupt),
            0xf => Some(GateType::Trap),
            _ => None,
        }
    }
}
