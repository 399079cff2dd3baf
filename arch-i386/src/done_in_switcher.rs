//! What the Switcher has done for a guest by itself, without an exit, as the host takes it from the state page.

use crate::addr::{GuestVirt, HostFrame, PAGE_SHIFT};
use crate::paging::{Flags, PageFormat};
use crate::segment::{Descriptor, index::TLS_ENTRIES};

/// All of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoneInSwitcher {
    /// How many entries of shadow tables it has filled or cleared. Which ones is written down beside this.
    pub fills: u32,
    /// How many SET_PTEs it has found to change nothing, since their table is empty.
    pub idle_set_ptes: u32,
    /// How many other hypercalls in registers, and how many of the ring.
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

/// An entry of a level-1 shadow table that it has filled or cleared, as it writes that down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FilledInSwitcher {
    cr3: u32,
    page: u32,
}

impl FilledInSwitcher {
    /// None.
    pub const NONE: Self = Self { cr3: 0, page: 0 };
    /// In the word with the page: a present entry was there. It is that entry's own bit.
    pub const REPLACED: u32 = 1;
    /// In the word with the page: for a SET_PTE, not for a page fault.
    pub const BY_CALL: u32 = 8;
    /// In the word with the page: nothing is there now.
    pub const CLEARED: u32 = 16;

    /// The one that maps the page at `page` in the tables under this root, with those of [`FilledInSwitcher::REPLACED`],
    /// [`FilledInSwitcher::BY_CALL`] and [`FilledInSwitcher::CLEARED`] in `bits` that apply.
    #[must_use]
    pub const fn new(root: HostFrame, page: GuestVirt, bits: u32) -> Self {
        Self { cr3: root.0 << PAGE_SHIFT, page: page.page().0 | bits }
    }

    /// The shadow root's page.
    #[inline]
    #[must_use]
    pub const fn root(self) -> HostFrame {
        HostFrame(self.cr3 >> PAGE_SHIFT)
    }

    /// The start of the page that the entry maps.
    #[inline]
    #[must_use]
    pub const fn page(self) -> GuestVirt {
        GuestVirt(self.page).page()
    }

    /// Whether it was for a page fault, where no present entry was.
    #[inline]
    #[must_use]
    pub const fn is_new(self) -> bool {
        self.page & (Self::REPLACED | Self::BY_CALL | Self::CLEARED) == 0
    }

    /// Whether a present entry was there.
    #[inline]
    #[must_use]
    pub const fn replaced(self) -> bool {
        self.page & Self::REPLACED != 0
    }

    /// Whether it was for a SET_PTE, not for a page fault.
    #[inline]
    #[must_use]
    pub const fn by_call(self) -> bool {
        self.page & Self::BY_CALL != 0
    }

    /// Whether nothing is there now.
    #[inline]
    #[must_use]
    pub const fn cleared(self) -> bool {
        self.page & Self::CLEARED != 0
    }

    /// Whether both are in the same level-1 table of the format `S`.
    #[inline]
    #[must_use]
    pub const fn is_beside<S: PageFormat>(self, other: Self) -> bool {
        self.cr3 == other.cr3 && (self.page ^ other.page) < S::LEAF_SPAN
    }
}

const _: () = assert!(FilledInSwitcher::REPLACED as u64 == Flags::PRESENT.bits());
