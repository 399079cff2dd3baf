//! What the Switcher has done for a guest by itself, without an exit, as the host takes it from the state page.

use crate::addr::{GuestVirt, HostFrame, PAGE_SHIFT};
use crate::paging::{Flags, PageFormat};
use crate::segment::{Descriptor, index::TLS_ENTRIES};

/// All of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoneInSwitcher {
    /// How many words there are of the account of the entries of shadow tables that it has filled or cleared, which is beside this.
    pub fill_words: u32,
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

/// A word of its account of the entries of level-1 shadow tables that it has filled or cleared: an entry, or the root that the
/// entries behind it are under, up to the next root. The first one is a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct FilledInSwitcher(u32);

impl FilledInSwitcher {
    /// None.
    pub const NONE: Self = Self(0);
    /// In the word of an entry: a present entry was there. It is that entry's own bit.
    pub const REPLACED: u32 = 1;
    /// In the word of an entry: for a SET_PTE, not for a page fault.
    pub const BY_CALL: u32 = 8;
    /// In the word of an entry: nothing is there now.
    pub const CLEARED: u32 = 16;
    /// The word is a root's: the address of its page, and this.
    pub const ROOT: u32 = 32;

    /// The entry that maps the page at `page`, with those of [`FilledInSwitcher::REPLACED`], [`FilledInSwitcher::BY_CALL`] and
    /// [`FilledInSwitcher::CLEARED`] in `bits` that apply.
    #[must_use]
    pub const fn new(page: GuestVirt, bits: u32) -> Self {
        Self(page.page().0 | bits)
    }

    /// The root whose page this is.
    #[must_use]
    pub const fn of_root(root: HostFrame) -> Self {
        Self(root.0 << PAGE_SHIFT | Self::ROOT)
    }

    /// The root's page, if it is a root.
    #[inline]
    #[must_use]
    pub const fn root(self) -> Option<HostFrame> {
        if self.0 & Self::ROOT != 0 { Some(HostFrame(self.0 >> PAGE_SHIFT)) } else { None }
    }

    /// The start of the page that the entry maps.
    #[inline]
    #[must_use]
    pub const fn page(self) -> GuestVirt {
        GuestVirt(self.0).page()
    }

    /// Whether a present entry was there.
    #[inline]
    #[must_use]
    pub const fn replaced(self) -> bool {
        self.0 & Self::REPLACED != 0
    }

    /// Whether it was for a SET_PTE, not for a page fault.
    #[inline]
    #[must_use]
    pub const fn by_call(self) -> bool {
        self.0 & Self::BY_CALL != 0
    }

    /// Whether nothing is there now.
    #[inline]
    #[must_use]
    pub const fn cleared(self) -> bool {
        self.0 & Self::CLEARED != 0
    }

    /// Whether this is an entry, too, in the same level-1 table of the format `S` as an entry of the same root.
    #[inline]
    #[must_use]
    pub const fn is_beside<S: PageFormat>(self, entry: Self) -> bool {
        self.is_in_table_of::<S>(entry, Self::ROOT)
    }

    /// The same, and whether it was for a page fault, where no present entry was.
    #[inline]
    #[must_use]
    pub const fn is_new_beside<S: PageFormat>(self, entry: Self) -> bool {
        self.is_in_table_of::<S>(entry, Self::REPLACED | Self::BY_CALL | Self::CLEARED | Self::ROOT)
    }

    /// Whether the address is in the reach of that entry's table, and the word has none of these bits.
    #[inline]
    const fn is_in_table_of<S: PageFormat>(self, entry: Self, none_of: u32) -> bool {
        // In one comparison, since nearly every entry is looked at by this.
        (self.0 ^ entry.page().0) & (!(S::LEAF_SPAN - 1) | none_of) == 0
    }
}

const _: () = assert!(FilledInSwitcher::REPLACED as u64 == Flags::PRESENT.bits());
