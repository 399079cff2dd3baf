//! What the Switcher has done for a guest by itself, without an exit, as the host takes it from the state page.

use crate::addr::{GuestVirt, HostFrame};
use crate::segment::{Descriptor, index::TLS_ENTRIES};

/// All of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoneInSwitcher {
    /// How many entries of shadow tables it has filled or cleared. Which ones is written down beside this.
    pub fills: u32,
    /// How many hypercalls in registers, and how many of the ring.
    pub calls: u32,
    /// See [`DoneInSwitcher::calls`].
    pub ring_calls: u32,
    /// The ring entry that comes next.
    pub ring_next: u32,
    /// The guest's kernel stack now, in the same segment as before, and how many pages it has. They are mapped.
    pub esp1: GuestVirt,
    /// See [`DoneInSwitcher::esp1`].
    pub stack_pages: u32,
    /// How many page directories it has loaded. Which ones is written down beside this.
    pub loads: u32,
    /// The guest's thread-local-storage descriptors, if they were loaded.
    pub tls: Option<[Descriptor; TLS_ENTRIES]>,
}

/// An entry of a level-1 shadow table that it has filled or cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilledInSwitcher {
    /// The shadow root's page.
    pub root: HostFrame,
    /// The start of the page that the entry maps.
    pub page: GuestVirt,
    /// Whether a present entry was there.
    pub replaced: bool,
    /// For a SET_PTE, not for a page fault.
    pub by_call: bool,
    /// Whether nothing is there now.
    pub cleared: bool,
}
