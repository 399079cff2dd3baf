//! What of shadow tables is an agreement of the framework, where the reasons are, and the Switcher, which makes shadow entries by
//! itself.

use crate::paging::Flags;

/// What a level-1 entry must not have, whatever the format. ([`Flags::HUGE_PAGE`] is PAT at this level, the third of the bits
/// that select how a page is cached.)
pub const REFUSED: Flags = Flags::HUGE_PAGE;

/// What a guest may have in its own entries and the processor must not find in the shadow's.
pub const HIDDEN: Flags = Flags::GLOBAL.union(Flags::WRITE_THROUGH).union(Flags::NO_CACHE);

/// Of an entry that leads to a level-1 table: the table is empty, and whoever fills it must see whether the guest's entry still
/// gives the same rights. (One of the bits that the processor ignores: Intel SDM vol. 3A, table 4-5.)
pub const KEPT: Flags = Flags::BIT_9;

/// In the page of a shadow root with four entries (PAE), of which the processor reads no more than these: where a word for each
/// entry begins. It is the guest's own entry for the middle table that the shadow's middle table stands for, 0 for none, or
/// [`UNCLAIMED`].
pub const MIDDLE_ORIGINS: u32 = 32;

/// All level-1 tables under the shadow's middle table are empty: it stands for whichever of the guest's the first entry is filled
/// under. (No entry of a guest's has this flag at that level: Intel SDM vol. 3A, table 4-8.)
pub const UNCLAIMED: u32 = 2;
