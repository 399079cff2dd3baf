//! What happens to a guest, for those who watch it while it runs.
//!
//! A host that can pass events on ([`PagingHost::observe`](crate::paging_host::PagingHost::observe)) names those that somebody
//! watches ([`PagingHost::observes`](crate::paging_host::PagingHost::observes)); the others are never made. The run loop makes
//! most of them, around its calls of the strategy, so that strategies and policies have no part in it; what has been evicted only
//! the shadow cache knows, and the host knows its own table pages.
//!
//! What the Switcher does by itself is no event of its own when it happens. It is reported as one [`Event::InSwitcher`] with the
//! numbers, when the guest comes back for something else. The loads among it are reported one by one, as all others are.

use crate::ledger::TableKind;
use arch_i386::addr::{GuestPhys, GuestVirt, HostFrame};
use arch_i386::hypercall::HypercallArgs;
use arch_i386::trap::{self, PageFaultErrorCode};

/// A set of kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events(u32);

impl Events {
    /// [`Event::Exit`].
    pub const EXIT: Self = Self(1);
    /// [`Event::Hypercall`].
    pub const HYPERCALL: Self = Self(1 << 1);
    /// [`Event::Fault`].
    pub const FAULT: Self = Self(1 << 2);
    /// [`Event::Load`].
    pub const LOAD: Self = Self(1 << 3);
    /// [`Event::Eviction`].
    pub const EVICTION: Self = Self(1 << 4);
    /// [`Event::Flush`].
    pub const FLUSH: Self = Self(1 << 5);
    /// [`Event::TableAllocated`].
    pub const TABLE_ALLOCATED: Self = Self(1 << 6);
    /// [`Event::TableFreed`].
    pub const TABLE_FREED: Self = Self(1 << 7);
    /// [`Event::InSwitcher`].
    pub const IN_SWITCHER: Self = Self(1 << 8);
    /// None.
    pub const NONE: Self = Self(0);
    /// Those that an exit may be: one look at each exit does for both.
    pub(crate) const AT_EXIT: Self = Self(Self::EXIT.0 | Self::HYPERCALL.0);

    /// A bit for each kind.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// Why the guest was left, as far as that is known from the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ExitKind {
    /// `int $0x1f`.
    Hypercall,
    /// A page fault that the Switcher has neither reflected nor fixed.
    PageFault,
    /// A general-protection fault: an instruction to emulate, or one that the guest may not execute.
    GeneralProtection,
    /// The guest uses the FPU while it is not to.
    DeviceNotAvailable,
    /// Another trap of the guest's own.
    Trap,
    /// The host has something else to do: a hardware interrupt, an NMI, a machine check, or what looked like one before the
    /// guest ran.
    Interrupt,
    /// The Switcher has faulted on what the guest had left in its registers: the guest's end.
    Switcher,
}

impl ExitKind {
    /// Of the vector that [`Exit::vector`](crate::host::Exit::vector) is.
    #[must_use]
    pub const fn of(vector: u32) -> Self {
        const SYSCALL: u32 = trap::SYSCALL as u32;
        const FIRST_EXTERNAL: u32 = trap::FIRST_EXTERNAL as u32;
        if vector == trap::EVENTS_ONLY {
            return Self::Interrupt;
        }
        if vector & trap::IN_SWITCHER != 0 {
            return Self::Switcher;
        }
        match vector as u8 {
            trap::HYPERCALL => Self::Hypercall,
            trap::PAGE_FAULT => Self::PageFault,
            trap::GENERAL_PROTECTION => Self::GeneralProtection,
            trap::DEVICE_NOT_AVAILABLE => Self::DeviceNotAvailable,
            trap::NMI | trap::MACHINE_CHECK => Self::Interrupt,
            _ if vector >= FIRST_EXTERNAL && vector != SYSCALL => Self::Interrupt,
            _ => Self::Trap,
        }
    }
}

/// What became of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FaultOutcome {
    /// The shadow tables had not caught up; the guest can go on.
    Fixed,
    /// The fault goes to the guest's page-fault handler.
    Reflected,
    /// It was the guest's end.
    Killed,
    /// It was an access to device memory, for the launcher to emulate.
    PassedOn,
}

/// Which entries a flush is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Flush {
    /// Those of the user half of the current page directory.
    User,
    /// All.
    All,
}

/// Something that has happened to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest was left, once for each entry into it.
    Exit {
        /// Why.
        kind: ExitKind,
        /// The vector.
        vector: u32,
        /// Where the guest goes on.
        eip: GuestVirt,
    },
    /// A hypercall that the Switcher has not done: one in registers when the guest comes back with it, one of the ring when its
    /// turn has come.
    Hypercall {
        /// The call.
        call: HypercallArgs,
        /// It was in the ring.
        ring: bool,
    },
    /// A page fault that the Switcher has neither reflected nor fixed.
    Fault {
        /// The address.
        va: GuestVirt,
        /// What the processor reports of the access.
        error: PageFaultErrorCode,
        /// What became of it.
        outcome: FaultOutcome,
    },
    /// The guest has loaded a page directory.
    Load {
        /// Which.
        directory: GuestPhys,
        /// It was shadowed.
        hit: bool,
    },
    /// A shadowed page directory was evicted.
    Eviction {
        /// Which.
        victim: GuestPhys,
        /// For which other one: the one that is being loaded, or the one whose tables have grown.
        incoming: GuestPhys,
    },
    /// The guest has flushed.
    Flush(Flush),
    /// A page was given out for a shadow table.
    TableAllocated {
        /// Which page of the host's.
        frame: HostFrame,
        /// What for.
        kind: TableKind,
    },
    /// The page of a shadow table has come back.
    TableFreed {
        /// Which page of the host's.
        frame: HostFrame,
        /// What it was for.
        kind: TableKind,
    },
    /// The Switcher has done so much by itself since the last time.
    InSwitcher {
        /// Hypercalls in registers, SET_PTE among them.
        calls: u32,
        /// Hypercalls of the ring.
        ring_calls: u32,
        /// Page faults that were reflected, as far as the guest has not forged their number.
        reflected: u32,
        /// Demand faults.
        fills: u32,
    },
}

impl Event {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Events {
        match self {
            Self::Exit { .. } => Events::EXIT,
            Self::Hypercall { .. } => Events::HYPERCALL,
            Self::Fault { .. } => Events::FAULT,
            Self::Load { .. } => Events::LOAD,
            Self::Eviction { .. } => Events::EVICTION,
            Self::Flush(_) => Events::FLUSH,
            Self::TableAllocated { .. } => Events::TABLE_ALLOCATED,
            Self::TableFreed { .. } => Events::TABLE_FREED,
            Self::InSwitcher { .. } => Events::IN_SWITCHER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_is_of_a_kind() {
        for (vector, kind) in [
            (0, ExitKind::Trap),
            (2, ExitKind::Interrupt),
            (7, ExitKind::DeviceNotAvailable),
            (13, ExitKind::GeneralProtection),
            (14, ExitKind::PageFault),
            (18, ExitKind::Interrupt),
            (0x1f, ExitKind::Hypercall),
            (0x20, ExitKind::Interrupt),
            (0x80, ExitKind::Trap),
            (0xff, ExitKind::Interrupt),
            (0x10d, ExitKind::Switcher),
            (0x200, ExitKind::Interrupt),
        ] {
            assert_eq!(ExitKind::of(vector), kind, "{vector:#x}");
        }
    }
}
