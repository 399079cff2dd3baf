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
}

/// The leaf-table index of an address in a root.
pub(super) fn place<S: PageFormat>(va: GuestVirt) -> usize {
    (va.0 / S::LEAF_SPAN) as usize
}

/// The number of leaf-table indices of a root.
pub(super) const fn places<S: PageFormat>() -> usize {
    ((u32::MAX / S::LEAF_SPAN) + 1) as usize
}

/// How many leaf-table indices an entry of the shadow's root page covers: 1, or with PAE 512.
pub(super) const fn places_per_entry<S: PageFormat>() -> usize {
    places::<S>() / S::ROOT_ENTRIES
}
