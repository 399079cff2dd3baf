//! `/dev/lguest`: what a launcher writes to it, and the device page it shows its guest.
//!
//! lguest's protocol (lguest's `linux/lguest_launcher.h`, Linux 3.11), so that a launcher written
//! for it still works: every write is a request word followed by its arguments, all 32 bits wide.
//!
//! * A `read` runs the guest until there is something to report: 4 bytes are the address of a
//!   [`Notify`](crate::hypercall::Hypercall::Notify), anything longer is the reason why the guest is
//!   dead, as text with a terminating NUL (a buffer of just 4 bytes gets `ENOENT` instead). `EINTR` (after
//!   a signal) and a read that is simply repeated go on running. After the guest requested a restart,
//!   reads fail with `ERESTART` (85).
//! * A `write` returns 12 for [`Request::Initialize`], 0 for [`Request::Irq`] and [`Request::Eventfd`], as
//!   it always has. No room for another guest is `ENOSPC`, a second guest `EBUSY`. The user who has opened the file may have no
//!   more guests: `EMFILE`. This user's guests may take no more memory: `EDQUOT`. A signal came while the guest was made:
//!   `EINTR`, which asks for the same request again.
//! * [`Request::Strategy`], [`Request::Counters`], [`Request::Paging`], [`Request::View`] and [`Request::Debug`] are this
//!   project's additions. Under a debugger a `read` may also return one byte (see [`debug`](crate::debug)).

use crate::lguest_data::IRQS;

/// The first word of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// `base, page limit, start`: the first (after [`Request::Strategy`]): where the guest's memory
    /// begins in the launcher, how many pages it has, and the first instruction's address.
    Initialize = 0,
    /// `irq`: raise this virtual interrupt. Any thread of the launcher may.
    Irq = 2,
    /// `address, fd`: a [`Notify`](crate::hypercall::Hypercall::Notify) of this address signals that
    /// eventfd, and no other, and no longer ends the read. `ENOSPC` when [`MAX_EVENTFDS`] addresses have one.
    Eventfd = 4,
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
            0x100 => Self::Strategy,
            0x101 => Self::Counters,
            0x102 => Self::Paging,
            0x103 => Self::View,
            0x104 => Self::Debug,
            _ => return None,
        })
    }
}

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
