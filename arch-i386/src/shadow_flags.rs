//! Which flags of a guest's level-1 entry its shadow has: an agreement of the framework's conversion, where the reasons are, and
//! the Switcher, which makes shadow entries by itself.

use crate::paging::Flags;

/// What a level-1 entry must not have, whatever the format. ([`Flags::HUGE_PAGE`] is PAT at this level, the third of the bits
/// that select how a page is cached.)
pub const REFUSED: Flags = Flags::HUGE_PAGE;

/// What a guest may have in its own entries and the processor must not find in the shadow's.
pub const HIDDEN: Flags = Flags::GLOBAL.union(Flags::WRITE_THROUGH).union(Flags::NO_CACHE);
