//! How many shadow page directories a cache keeps.

/// The most shadow page directories that a budget is spent on.
const MAX_SLOTS: usize = 1024;

/// The capacity of a cache: which page directory is evicted beyond that is the policy's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// So many slots, at least one.
    Slots(usize),
    /// As many page directories as fit into so many table pages. The current one's tables may exceed it, when there is no
    /// other to evict.
    Budget(usize),
}

impl Capacity {
    /// The most slots that there can ever be: a policy is made for so many.
    #[must_use]
    pub fn slots(self) -> usize {
        match self {
            Self::Slots(slots) => slots.max(1),
            Self::Budget(pages) => pages.clamp(1, MAX_SLOTS),
        }
    }

    /// The slots that there are from the beginning; a budget makes more when they are needed.
    pub(super) fn slots_at_first(self) -> usize {
        match self {
            Self::Slots(_) => self.slots(),
            Self::Budget(_) => 1,
        }
    }
}
