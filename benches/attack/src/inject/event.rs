//! What is injected, and where.

use std::fmt;

use arch_i386::trap;
use iced_x86::Register;

use super::text::{Kind, Source, Text};

/// What happens to an instruction of the Switcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A non-maskable interrupt comes before it.
    Nmi,
    /// A machine check that software survives comes before it.
    MachineCheck,
    /// What it is about to load cannot be loaded.
    Fault(Fault),
    /// The page of the guest's that it is about to touch is not mapped.
    MissingPage,
    /// The TSS that it loads is in this state from the beginning of the way on which it lies.
    Tss(Tss),
    /// The guest's data segments begin elsewhere than at 0.
    Segments,
    /// The host requests by ESI that the processor's buffers are cleared before the guest runs.
    ClearBuffers,
}

/// Something that cannot be loaded, as a guest can at worst leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A data segment's selector is beyond the table.
    SegmentBeyond,
    /// A data segment's selector is that of a system descriptor.
    SegmentSystem,
    /// A data segment is not present.
    SegmentAbsent,
    /// The code segment's selector is beyond the table.
    CodeBeyond,
    /// The code segment's selector is null, but for its privilege level.
    CodeNull,
    /// The code segment is not present.
    CodeAbsent,
    /// The stack segment's selector is beyond the table.
    StackBeyond,
    /// The stack segment's selector is null, but for its privilege level.
    StackNull,
    /// The stack segment is not present.
    StackAbsent,
}

/// A state of one of the two task-state segments, as a machine check may leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Tss {
    HostBusy,
    HostAvailable,
    GuestBusy,
    GuestAvailable,
}

/// The columns of the report.
pub const COLUMNS: [&str; 9] = ["NMI", "MC", "#TS", "#NP", "#SS", "#GP", "#PF", "TSS", "DS"];

impl Fault {
    const OF_SEGMENT: [Fault; 3] = [Fault::SegmentBeyond, Fault::SegmentSystem, Fault::SegmentAbsent];
    const OF_RETURN: [Fault; 6] = [
        Fault::CodeBeyond,
        Fault::CodeNull,
        Fault::CodeAbsent,
        Fault::StackBeyond,
        Fault::StackNull,
        Fault::StackAbsent,
    ];

    /// The exception that the processor raises (SDM vol. 2A, `POP` and `IRET`); behind it what QEMU 7.2 raises instead.
    /// (QEMU looks at no limits, so that an EIP beyond one cannot be tried.)
    pub fn vectors(self) -> &'static [u8] {
        match self {
            Fault::SegmentAbsent | Fault::CodeAbsent => &[11],
            Fault::StackAbsent => &[12, 11],
            _ => &[trap::GENERAL_PROTECTION],
        }
    }
}

impl Tss {
    /// The states at the beginning of a way in. The guest's TSS is never busy there: that is looked after each pair.
    const INWARDS: [Tss; 3] = [Tss::HostBusy, Tss::HostAvailable, Tss::GuestAvailable];
    const OUTWARDS: [Tss; 4] = [Tss::HostBusy, Tss::HostAvailable, Tss::GuestBusy, Tss::GuestAvailable];

    /// Whether it is about the host's.
    pub fn is_hosts(self) -> bool {
        matches!(self, Tss::HostBusy | Tss::HostAvailable)
    }

    /// Whether the busy bit is set.
    pub fn is_busy(self) -> bool {
        matches!(self, Tss::HostBusy | Tss::GuestBusy)
    }
}

impl Event {
    /// The column of the report, from 0.
    pub fn column(self) -> usize {
        match self {
            Event::Nmi => 0,
            Event::MachineCheck => 1,
            Event::Fault(fault) => match fault.vectors()[0] {
                11 => 3,
                12 => 4,
                _ => 5,
            },
            Event::MissingPage => 6,
            Event::Tss(_) => 7,
            Event::Segments | Event::ClearBuffers => 8,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Event::Nmi => "NMI",
            Event::MachineCheck => "machine check",
            Event::Fault(Fault::SegmentBeyond) => "#GP, selector beyond the table",
            Event::Fault(Fault::SegmentSystem) => "#GP, selector of a TSS",
            Event::Fault(Fault::SegmentAbsent) => "#NP, segment not present",
            Event::Fault(Fault::CodeBeyond) => "#GP, CS beyond the table",
            Event::Fault(Fault::CodeNull) => "#GP, CS null",
            Event::Fault(Fault::CodeAbsent) => "#NP, CS not present",
            Event::Fault(Fault::StackBeyond) => "#GP, SS beyond the table",
            Event::Fault(Fault::StackNull) => "#GP, SS null",
            Event::Fault(Fault::StackAbsent) => "#SS, SS not present",
            Event::MissingPage => "#PF, page not mapped",
            Event::ClearBuffers => "buffers to be cleared",
            Event::Segments => "data segments with a base",
            Event::Tss(Tss::HostBusy) => "host's TSS busy",
            Event::Tss(Tss::HostAvailable) => "host's TSS available",
            Event::Tss(Tss::GuestBusy) => "guest's TSS busy",
            Event::Tss(Tss::GuestAvailable) => "guest's TSS available",
        })
    }
}

/// What an instruction can raise apart from the two events that come from outside.
#[derive(Debug, Default)]
pub struct Faults {
    /// What is injected.
    pub possible: Vec<Event>,
    /// Columns of what the processor's manual lists for such an instruction, which nothing that a guest or a process
    /// decides on raises here, and why.
    pub impossible: Vec<(usize, Reason)>,
}

/// Why a fault that the manual lists for an instruction cannot come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The selector is the text's, and its descriptor is not the guest's to set.
    Constant,
    /// The value is what the host's kernel had in the register, or what the Switcher was interrupted with.
    Host,
    /// The memory is mapped for the guest's whole life, by flat segments.
    Mapped,
    /// `iret` switches tasks only with NT set, which gates clear.
    NestedTask,
    /// The machine check before has not been answered: the processor shuts down, whoever is at work.
    SecondMachineCheck,
}

impl Reason {
    /// All, in the order of their letters.
    pub const ALL: [Reason; 5] =
        [Reason::Constant, Reason::Host, Reason::Mapped, Reason::NestedTask, Reason::SecondMachineCheck];

    /// The letter that stands for it in the report.
    pub fn letter(self) -> char {
        match self {
            Reason::Constant => 'c',
            Reason::Host => 'h',
            Reason::Mapped => 'm',
            Reason::NestedTask => 't',
            Reason::SecondMachineCheck => 's',
        }
    }

    /// The reason in words.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Constant => {
                "the selector is a constant of the text; its descriptor is neither a guest's nor a process's"
            }
            Reason::Host => "the value is what the host's kernel, or the Switcher itself, had there",
            Reason::Mapped => "flat segments, and pages that stay mapped as long as the guest lives",
            Reason::NestedTask => "only with NT set, which every gate clears",
            Reason::SecondMachineCheck => {
                "reached only while a machine check is being answered: a second one shuts any processor down"
            }
        }
    }
}

/// What the instruction at `offset` can raise.
pub fn faults(text: &Text, offset: u32) -> Faults {
    const TS: usize = 2;
    const NP: usize = 3;
    const SS: usize = 4;
    const GP: usize = 5;
    const PF: usize = 6;
    let mut faults = Faults::default();
    let mut never = |reason: Reason, columns: &[usize]| {
        faults.impossible.extend(columns.iter().map(|&column| (column, reason)));
    };
    let inwards = text.is_inwards(offset);
    match text.kind(offset) {
        Kind::Segment(register, source) => {
            if source == Source::Stack {
                never(Reason::Mapped, &[SS, PF]);
            }
            // On the way out only %gs is a process's.
            if source == Source::Constant {
                never(Reason::Constant, &[NP, GP]);
            } else if inwards || register == Register::GS {
                faults.possible.extend(Fault::OF_SEGMENT.map(Event::Fault));
            } else {
                never(Reason::Host, &[NP, GP]);
            }
        }
        Kind::TaskRegister(_) => {
            never(Reason::Constant, &[NP, GP]);
            let states = if inwards { &Tss::INWARDS[..] } else { &Tss::OUTWARDS[..] };
            faults.possible.extend(states.iter().copied().map(Event::Tss));
        }
        Kind::LocalTable(source) => {
            let reason = if source == Source::Constant { Reason::Constant } else { Reason::Host };
            never(reason, &[NP, GP]);
        }
        Kind::InterruptReturn => {
            never(Reason::Mapped, &[PF]);
            never(Reason::NestedTask, &[TS]);
            if inwards {
                faults.possible.extend(Fault::OF_RETURN.map(Event::Fault));
            } else {
                never(Reason::Host, &[NP, SS, GP]);
            }
        }
        Kind::GuestMemory => {
            never(Reason::Mapped, &[SS, GP]);
            faults.possible.push(Event::MissingPage);
        }
        Kind::Stack => never(Reason::Mapped, &[SS, PF]),
        Kind::Memory => never(Reason::Mapped, &[SS, GP, PF]),
        Kind::Plain => {}
    }
    faults
}
