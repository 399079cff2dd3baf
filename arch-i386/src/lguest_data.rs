//! `struct lguest_data`: the memory that a guest and its host share (lguest's `linux/lguest.h`).
//!
//! The guest places it anywhere in its memory and names its physical address in
//! [`Hypercall::LguestInit`](crate::hypercall::Hypercall::LguestInit). Both sides write to it while the
//! guest runs; the host reads each field by its [`offset`], once, and checks what it read.

use crate::hypercall::HypercallArgs;

/// Entries of the ring of asynchronous hypercalls.
pub const RING_SIZE: usize = 64;
/// Virtual interrupts a guest has; number 0 is the clock's.
pub const IRQS: u32 = 32;
/// The value of [`LguestData::irq_enabled`] when interrupts are on: EFLAGS.IF.
pub const IRQ_ENABLED: u32 = 0x200;
/// A ring entry's status when the host is done with it (or it was never used).
pub const RING_DONE: u8 = 0xff;
/// A ring entry's status when it waits for the host.
pub const RING_PENDING: u8 = 0;

/// Seconds and nanoseconds since the epoch, 32 bits each, as i386 Linux lays them out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Timespec {
    pub seconds: u32,
    pub nanoseconds: u32,
}

/// The shared structure. A guest keeps one; the host only ever uses [`offset`].
#[derive(Clone, Debug)]
#[repr(C)]
pub struct LguestData {
    /// [`IRQ_ENABLED`] or 0: the guest's interrupt flag, which is too busy for a hypercall.
    pub irq_enabled: u32,
    /// One bit for each virtual interrupt that the guest has masked.
    pub blocked_interrupts: u32,
    /// Written by the host: the address of the last page fault that it delivered.
    pub cr2: u32,
    /// Written by the host: the wall clock, at start and with each interrupt.
    pub time: Timespec,
    /// Written by the host: [`IRQ_ENABLED`] when an interrupt waits for the guest to enable them.
    pub irq_pending: u32,
    /// [`RING_PENDING`] or [`RING_DONE`] for each ring entry.
    pub hcall_status: [u8; RING_SIZE],
    /// The ring's calls.
    pub hcalls: [HypercallArgs; RING_SIZE],
    /// Written by the host: bytes at the top of the address space that the guest must leave alone.
    pub reserve_mem: u32,
    /// Written by the host: speed of the time-stamp counter in kHz, 0 when it cannot be relied on.
    pub tsc_khz: u32,
    /// Set by the guest: no interrupt is delivered while `noirq_start <= eip < noirq_end`. From Linux 4.1 on there is only
    /// `noirq_iret` here, the address of one instruction, and the two words after `noirq_end` are a word earlier.
    pub noirq_start: u32,
    /// See [`LguestData::noirq_start`].
    pub noirq_end: u32,
    /// Set by the guest: the virtual address above which all its page directories are alike.
    pub kernel_address: u32,
    /// Set by the guest: the vector of its system calls.
    pub syscall_vec: u32,
}

/// `size_of::<LguestData>()`.
pub const SIZE: u32 = core::mem::size_of::<LguestData>() as u32;

/// Byte offsets of the fields, as the host reads and writes them one by one.
#[allow(missing_docs)]
pub mod offset {
    use super::LguestData;
    use core::mem::offset_of;

    macro_rules! offsets {
        ($($name:ident: $field:ident),* $(,)?) => {
            $(pub const $name: u32 = offset_of!(LguestData, $field) as u32;)*
        };
    }
    offsets! {
        IRQ_ENABLED: irq_enabled, BLOCKED_INTERRUPTS: blocked_interrupts, CR2: cr2, TIME: time,
        IRQ_PENDING: irq_pending, HCALL_STATUS: hcall_status, HCALLS: hcalls,
        RESERVE_MEM: reserve_mem, TSC_KHZ: tsc_khz, NOIRQ_START: noirq_start, NOIRQ_END: noirq_end,
        KERNEL_ADDRESS: kernel_address, SYSCALL_VEC: syscall_vec,
    }
}

/// Offset of the status byte of the ring entry with this number, which is below [`RING_SIZE`].
#[must_use]
pub const fn ring_status(index: u32) -> u32 {
    offset::HCALL_STATUS + index
}

/// Offset of its call.
#[must_use]
pub const fn ring_call(index: u32) -> u32 {
    offset::HCALLS + index * size_of::<HypercallArgs>() as u32
}

// The layout that a 3.x guest was compiled with.
const _: () = {
    assert!(offset::HCALL_STATUS == 24);
    assert!(offset::HCALLS == 88);
    assert!(offset::RESERVE_MEM == 1368);
    assert!(SIZE == 1392);
};
