//! `/dev/lguest`: what a launcher writes to it, and the device page it shows its guest.
//!
//! lguest's protocol (lguest's `linux/lguest_launcher.h`, Linux 3.11 and 4.1), so that a launcher written
//! for it still works: every write is a request word followed by its arguments, all 32 bits wide.
//!
//! * A `read` runs the guest until there is something to report: 4 bytes are the address of a
//!   [`Notify`](crate::hypercall::Hypercall::Notify), or the register that a [`Request::GetRegister`] has
//!   requested. What begins with [`IO_PORT`] or [`DEVICE_MEMORY`] is an [`Emulation`], which the launcher has to do
//!   before it reads again. Anything else is the reason why the guest is dead, as text with a terminating NUL, which
//!   begins with neither (a buffer of no more than [`Emulation::SHORT`] bytes gets `ENOENT` instead). `EINTR` (after
//!   a signal) and a read that is simply repeated go on running. After the guest requested a restart,
//!   reads fail with `ERESTART` (85).
//! * A `write` returns 12 for [`Request::Initialize`] and [`Request::SetRegister`], 8 for [`Request::GetRegister`],
//!   0 for [`Request::Irq`], [`Request::Eventfd`] and [`Request::Trap`]. No room for another guest is `ENOSPC`, a second guest `EBUSY`. The user who has opened the file may have no
//!   more guests: `EMFILE`. This user's guests may take no more memory: `EDQUOT`. A signal came while the guest was made:
//!   `EINTR`, which asks for the same request again.
//! * [`Request::Strategy`], [`Request::Counters`], [`Request::Paging`], [`Request::View`] and [`Request::Debug`] are this
//!   project's additions. Under a debugger a `read` may also return one byte (see [`debug`](crate::debug)).

use crate::addr::GuestPhys;
use crate::lguest_data::IRQS;
use crate::regs::Regs;
use crate::trap;
use core::ops::Range;

/// The first word of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// `base, page limit, start`, and perhaps `device limit`: the first (after [`Request::Strategy`]): where the
    /// guest's memory begins in the launcher, how many pages it has, and the first instruction's address. Pages from
    /// the page limit up to the device limit are device memory: every access to them is an [`Emulation`], and so are
    /// those to [`PCI_PORTS`] then. Without a device limit there is none, as with launchers of Linux before 4.1.
    Initialize = 0,
    /// `irq`: raise this virtual interrupt. Any thread of the launcher may.
    Irq = 2,
    /// `address, fd`: a [`Notify`](crate::hypercall::Hypercall::Notify) of this address signals that
    /// eventfd, and no other, and no longer ends the read. `ENOSPC` when [`MAX_EVENTFDS`] addresses have one.
    Eventfd = 4,
    /// `offset`: the next read returns this register of the guest's, and does not run it; see [`register`].
    GetRegister = 5,
    /// `offset, value`: sets one of the general registers, or the address of the next instruction.
    SetRegister = 6,
    /// `vector`: the instruction at which the guest stands ends in this trap. `EINVAL` when the guest has no handler.
    Trap = 7,
    /// `length, bytes…`: choose this guest's strategy, `name[:key=value,…]`, before `Initialize`. A bad
    /// one is refused with `EINVAL` and the reason in the kernel's log.
    Strategy = 0x100,
    /// `address, length`: store the guest's counters there as text, a `name value` pair a line. The
    /// write returns the number of bytes stored; `ERANGE` when they do not fit, `EBUSY` while the guest
    /// runs.
    Counters = 0x101,
    /// `levels`: the guest's page tables have 2 levels or 3 (PAE), before `Initialize`. Without it, a
    /// guest has its host's format. 3 on a host with 2 is refused with `EINVAL` and the reason
    /// in the kernel's log.
    Paging = 0x102,
    /// `view, address, length`: store a [`View`] of the guest there as text. The write returns as that of
    /// [`Request::Counters`], whose errors it has; and `EINTR` when the launcher is being killed.
    View = 0x103,
    /// [`operation`](crate::debug::Operation)`, …`: for a debugger in the launcher. `EBUSY` while the guest runs.
    Debug = 0x104,
}

/// What [`Request::View`] stores, as debugfs has it, but for the host's frames, which are for root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum View {
    /// The page directories that are shadowed, a line each, under a line with the columns' names.
    Directories = 1,
    /// Every present shadow entry, a line each, under a line with the columns' names.
    Tables = 2,
}

impl View {
    /// The view with this number.
    #[must_use]
    pub const fn from_number(n: u32) -> Option<Self> {
        Some(match n {
            1 => Self::Directories,
            2 => Self::Tables,
            _ => return None,
        })
    }
}

impl Request {
    /// The request with this number.
    #[must_use]
    pub const fn from_number(n: u32) -> Option<Self> {
        Some(match n {
            0 => Self::Initialize,
            2 => Self::Irq,
            4 => Self::Eventfd,
            5 => Self::GetRegister,
            6 => Self::SetRegister,
            7 => Self::Trap,
            0x100 => Self::Strategy,
            0x101 => Self::Counters,
            0x102 => Self::Paging,
            0x103 => Self::View,
            0x104 => Self::Debug,
            _ => return None,
        })
    }
}

/// The ports of PCI's configuration cycles: address and data (PCI Local Bus Specification 3.0, 3.2.2.3.2).
pub const PCI_PORTS: Range<u16> = 0xcf8..0xd00;

/// The first byte of an [`Emulation`] of an instruction that reads or writes an I/O port.
pub const IO_PORT: u8 = trap::GENERAL_PROTECTION;
/// The first byte of an [`Emulation`] of an instruction that reads or writes device memory.
pub const DEVICE_MEMORY: u8 = trap::PAGE_FAULT;

/// An instruction of the guest's that its launcher has to emulate: to do what it does, and to move the guest on to
/// the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulation {
    /// [`IO_PORT`] or [`DEVICE_MEMORY`].
    pub trap: u8,
    /// The instruction; all that could be read of the longest one that there can be, and zeroes.
    pub instruction: [u8; INSTRUCTION_MAX],
    /// Where in guest-physical memory it reads or writes; 0 for an I/O port.
    pub address: GuestPhys,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI as instructions number them, and EIP.
    pub registers: [u32; 9],
}

impl Emulation {
    /// Bytes of it as lguest's launchers have it (`struct lguest_pending`): seven bytes of the instruction, and no
    /// registers. A read with a buffer of this size gets it so.
    pub const SHORT: usize = 12;
    /// Bytes of all of it.
    pub const LONG: usize = 1 + INSTRUCTION_MAX + 4 + 9 * 4;

    /// As a read with a buffer of [`Emulation::SHORT`] bytes stores it.
    #[must_use]
    pub fn short(&self) -> [u8; Self::SHORT] {
        let mut bytes = [0; Self::SHORT];
        bytes[0] = self.trap;
        bytes[1..8].copy_from_slice(&self.instruction[..7]);
        bytes[8..].copy_from_slice(&self.address.0.to_le_bytes());
        bytes
    }

    /// As a read with a larger buffer stores it.
    #[must_use]
    pub fn long(&self) -> [u8; Self::LONG] {
        let mut bytes = [0; Self::LONG];
        bytes[0] = self.trap;
        bytes[1..=INSTRUCTION_MAX].copy_from_slice(&self.instruction);
        let words = core::iter::once(self.address.0).chain(self.registers);
        for (to, word) in bytes[1 + INSTRUCTION_MAX..].chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// What [`Emulation::long`] has stored; `None` for another answer.
    #[must_use]
    pub fn from_long(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LONG] = bytes.try_into().ok()?;
        let (&trap, rest) = bytes.split_first()?;
        let (instruction, words) = rest.split_first_chunk()?;
        let mut words = words.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        let address = GuestPhys(words.next()?);
        let mut registers = [0; 9];
        registers.iter_mut().zip(words).for_each(|(to, word)| *to = word);
        matches!(trap, IO_PORT | DEVICE_MEMORY).then_some(Self {
            trap,
            instruction: *instruction,
            address,
            registers,
        })
    }
}

/// The longest instruction that a processor executes, in bytes.
pub const INSTRUCTION_MAX: usize = 15;

/// The register at this offset of Linux's `struct pt_regs`, by which [`Request::GetRegister`] and
/// [`Request::SetRegister`] name them, and whether a launcher may set it: not the selectors and the flags.
#[must_use]
pub fn register(regs: &mut Regs, offset: u32) -> Option<(&mut u32, bool)> {
    Some(match offset {
        0 => (&mut regs.ebx, true),
        4 => (&mut regs.ecx, true),
        8 => (&mut regs.edx, true),
        12 => (&mut regs.esi, true),
        16 => (&mut regs.edi, true),
        20 => (&mut regs.ebp, true),
        24 => (&mut regs.eax, true),
        28 => (&mut regs.ds, false),
        32 => (&mut regs.es, false),
        36 => (&mut regs.fs, false),
        40 => (&mut regs.gs, false),
        EIP => (&mut regs.eip, true),
        52 => (&mut regs.cs, false),
        56 => (&mut regs.eflags, false),
        60 => (&mut regs.esp, true),
        64 => (&mut regs.ss, false),
        _ => return None,
    })
}

/// The offset of EIP; see [`register`].
pub const EIP: u32 = 48;
/// The offsets of the general registers as instructions number them; see [`register`].
pub const GENERAL: [u32; 8] = [24, 4, 8, 0, 60, 20, 12, 16];

/// The errno of a read after the guest requested a restart.
pub const ERESTART: i32 = 85;

/// The name of the ELF notes in which a kernel describes itself to its launcher.
pub const NOTE_NAME: &str = "lguest";
/// The type of the note that lists the formats that the kernel's page tables can have: one word, with a bit
/// for each of them.
pub const NOTE_PAGING: u32 = 1;
/// See [`NOTE_PAGING`].
pub const NOTE_PAGING_2_LEVEL: u32 = 1;
/// See [`NOTE_PAGING`].
pub const NOTE_PAGING_PAE: u32 = 2;

/// How many addresses of a guest can have an eventfd: twice as many as it has interrupts, one of which each virtqueue
/// takes.
pub const MAX_EVENTFDS: usize = 2 * IRQS as usize;

/// The longest text that [`Request::Strategy`] takes, in bytes.
pub const STRATEGY_MAX: usize = 256;

/// One device on the lguest bus: a list of these, each followed by its `config` bytes, starts at the
/// first page above the guest's ordinary memory; `kind` 0 ends it.
///
/// `config` holds `num_vq` [`VirtqueueConfig`]s, then `feature_len` bytes of offered features, as many of
/// accepted ones, then `config_len` bytes of the device's own configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DeviceDesc {
    /// The virtio device id (1 network, 2 block, 3 console, 4 entropy).
    pub kind: u8,
    /// How many virtqueues.
    pub num_vq: u8,
    /// Bytes of feature bits, once.
    pub feature_len: u8,
    /// Bytes of device configuration.
    pub config_len: u8,
    /// The virtio status byte, written by the guest.
    pub status: u8,
}

/// Where one virtqueue is (`struct lguest_vqconfig`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VirtqueueConfig {
    /// Entries, a power of two.
    pub num: u16,
    /// The virtual interrupt that notifies the guest of used buffers.
    pub irq: u16,
    /// The first page of the ring (legacy virtio layout, 4096-byte alignment).
    pub pfn: u32,
}
