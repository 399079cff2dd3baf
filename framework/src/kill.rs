//! Why a guest ends.
//!
//! A guest that breaks a rule is killed with a [`Kill`], whose text its launcher prints; a guest whose strategy panics
//! ends with the panic's words ([`Panicked`]); every other end is the guest's own request. Nothing a guest does may end in
//! anything else.

use crate::defect::Defect;
use crate::paging_host::{BadAddress, NoFrame};
use alloc::boxed::Box;
use alloc::string::String;
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt};
use arch_i386::hypercall::SHUTDOWN_MESSAGE;
use arch_i386::paging::Entry;
use core::fmt;
use fallible::{OutOfMemory, text};

/// A rule that a guest broke (or a host that ran out of memory on its behalf).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Kill {
    /// The guest, or one of its page tables, named memory it does not have.
    #[error("bad address: {0}")]
    Memory(#[from] BadAddress),
    /// A page could not be had for a shadow entry.
    #[error("failed to get a page: {0}")]
    NoFrame(#[from] NoFrame),
    /// No page for a shadow table.
    #[error(
        "no memory for shadow page tables: {0}, or the guest has reached its limit (the module's parameter paging_kib)"
    )]
    OutOfMemory(#[from] OutOfMemory),
    /// A page-table entry with the page-size bit, reserved bits or a frame beyond the guest's memory.
    #[error("bad page-table entry {:#x}: large pages, reserved bits and frames beyond memory are refused", .0.0)]
    PageTableEntry(Entry),
    /// Device memory where there must be memory: under a page table, the kernel stack, the shared page or code.
    #[error("guest page {0} is device memory, which the host cannot use as memory")]
    DeviceMemory(GuestFrame),
    /// Device memory is read or written by something that is no instruction that can be read.
    #[error("device memory at {at} is accessed at {eip}, where there is no instruction that can be read")]
    DeviceAccess { at: GuestPhys, eip: GuestVirt },
    /// The same one level up (PAE).
    #[error("bad page-middle-directory entry {:#x}: only P, W, U, A, D and a frame within memory", .0.0)]
    MiddleEntry(Entry),
    /// The same at the top.
    #[error("bad page-directory entry {:#x}: only the bits of a table and a frame within memory", .0.0)]
    DirectoryEntry(Entry),
    /// No memory for something else.
    #[error("the host has no memory for {0}")]
    NoMemory(&'static str),
    /// An address that the host had to translate is not mapped by the guest.
    #[error("guest-virtual address {0} is not mapped, but the host needs it")]
    Unmapped(GuestVirt),
    /// A page of the kernel stack is not mapped writable.
    #[error("bad stack page {0}: the kernel stack must be mapped writable")]
    StackPage(GuestVirt),
    #[error("bad stack segment {0:#x}: its privilege level must be 1")]
    StackSegment(u32),
    #[error("bad number of stack pages {0}: at most 2")]
    StackPages(u32),
    #[error("set_pte of {0}: addresses of the Switcher are not the guest's to map")]
    SwitcherEntry(GuestVirt),
    #[error("set_pgd of entry {index}: a page directory has {entries}")]
    DirectoryIndex { index: u32, entries: u32 },
    #[error("set_pmd of entry {index}: a page middle directory has {entries}")]
    MiddleIndex { index: u32, entries: u32 },
    #[error("set_pmd by a guest with 2-level page tables")]
    NoMiddleLevel,
    #[error("bad kernel address {0}: it lies in the Switcher's part of the address space")]
    KernelAddress(GuestVirt),
    /// The audit's; not the guest's fault.
    #[error("the audit has found a mistake of the host's: {0}")]
    Audit(Defect),
    #[error("bad hypercall {0}")]
    Hypercall(u32),
    #[error("hypercall {0} before LGUEST_INIT")]
    NotInitialised(u32),
    #[error("LGUEST_INIT a second time")]
    AlreadyInitialised,
    #[error("bad lguest_data address {0}")]
    LguestData(GuestPhys),
    #[error("bad system-call vector {0:#x}: only 0x80 is free")]
    SyscallVector(u32),
    #[error("bad descriptor index {0}: the GDT has 32")]
    DescriptorIndex(u32),
    #[error("bad IDT vector {0}: there are 256")]
    IdtVector(u32),
    #[error("bad gate type {0:#x} for vector {1}: interrupt (0xe) and trap (0xf) gates only")]
    GateType(u32, u32),
    #[error("unhandled trap {vector} at {eip} ({info:#x})")]
    UnhandledTrap { vector: u32, eip: GuestVirt, info: u32 },
    #[error(
        "trap {vector} at {eip}, {times} times, each in the handler of the one before: the guest makes no progress"
    )]
    NestedTraps { vector: u8, eip: GuestVirt, times: u32 },
    #[error(
        "trap {vector} in the Switcher: the guest left a segment register or stack that cannot be loaded (eip {eip})"
    )]
    SwitcherFault { vector: u32, eip: GuestVirt },
}

/// A panic in plug-in code, with its words.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("strategy panicked: {0}")]
pub struct Panicked(String);

impl Panicked {
    /// A panic with these words, which end with ` at FILE:LINE`. What there is no memory for is cut off.
    #[must_use]
    pub fn new(words: fmt::Arguments<'_>) -> Self {
        Self(text(words))
    }
}

impl fmt::Debug for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panicked({self})")
    }
}

/// How a guest ended.
#[derive(Clone, PartialEq, Eq)]
pub enum End {
    /// The host killed it.
    Killed(Kill),
    /// Its strategy panicked, or the policy in it.
    Panicked(Panicked),
    /// It shut itself down; its last words, up to a NUL.
    Shutdown(Box<[u8; SHUTDOWN_MESSAGE]>),
    /// It requested a restart.
    Restart,
}

impl From<Kill> for End {
    fn from(kill: Kill) -> Self {
        Self::Killed(kill)
    }
}

impl From<Panicked> for End {
    fn from(panicked: Panicked) -> Self {
        Self::Panicked(panicked)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(kill) => kill.fmt(f),
            Self::Panicked(panicked) => panicked.fmt(f),
            Self::Restart => f.write_str("restart"),
            Self::Shutdown(message) => {
                f.write_str("CRASH: ")?;
                let text = message.split(|&b| b == 0).next().unwrap_or_default();
                text.iter().try_for_each(|&b| write!(f, "{}", if b.is_ascii() { b as char } else { '?' }))
            }
        }
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "End({self})")
    }
}
