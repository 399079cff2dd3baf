//! Part 1, solved.

use arch_i386::paging::Entry;
use arch_i386::trap::PageFaultErrorCode;
use framework::walk::{WalkResult, until_dirty};

/// The entry that the shadow gets; `None` if the fault is the guest's own.
pub fn shadow_entry(found: &WalkResult, error: PageFaultErrorCode) -> Option<Entry> {
    found.allows(error).then(|| until_dirty(found.after_access(error)))
}
