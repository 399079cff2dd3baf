//! The names of roots and level-1 tables, and where a root has which table.

use arch_i386::addr::GuestVirt;
use arch_i386::paging::PageFormat;

/// Names a shadow root of one guest's [`Tables`](super::Tables).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootId(pub(super) u16);

/// Names a level-1 table of one guest's [`Tables`](super::Tables).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafId(pub(super) u16);

impl LeafId {
    /// No table.
    pub(super) const NONE: Self = Self(u16::MAX);

    /// The bit of a table that is empty and kept for its leaf-table index (see [`Tables::empty_entries`]), and of no table.
    ///
    /// [`Tables::empty_entries`]: super::Tables::empty_entries
    const KEPT: u16 = 1 << 15;

    /// The name for a number; `None` when there are no more names.
    pub(super) fn new(number: usize) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| number & Self::KEPT == 0).map(Self)
    }

    /// Its number among all tables.
    #[inline]
    pub(super) const fn number(self) -> usize {
        (self.0 & !Self::KEPT) as usize
    }

    /// A table that is in use, not one that is kept, and not none.
    #[inline]
    pub(super) const fn is_used(self) -> bool {
        self.0 & Self::KEPT == 0
    }

    /// The same table, kept.
    pub(super) const fn kept(self) -> Self {
        Self(self.0 | Self::KEPT)
    }

    /// The same table, in use.
    pub(super) const fn used(self) -> Self {
        Self(self.0 & !Self::KEPT)
    }
}

/// The leaf-table index of an address.
pub(super) fn leaf_index_of<S: PageFormat>(va: GuestVirt) -> usize {
    (va.0 / S::LEAF_SPAN) as usize
}

/// How many leaf-table indices a root has.
pub(super) const fn leaf_indices<S: PageFormat>() -> usize {
    ((u32::MAX / S::LEAF_SPAN) + 1) as usize
}

/// How many leaf-table indices an entry of the shadow's root page covers: 1, or with PAE 512.
pub(super) const fn leaf_indices_per_entry<S: PageFormat>() -> usize {
    leaf_indices::<S>() / S::ROOT_ENTRIES
}
