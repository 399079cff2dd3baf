//! Part 1, demand faults: from a walk of the guest's tables to the shadow entry.

use arch_i386::paging::Entry;
use arch_i386::trap::PageFaultErrorCode;
use framework::walk::WalkResult;

/// The entry that the shadow gets after a fault with this error code; `None` if the fault is the guest's own and is
/// reflected to its handler.
///
/// The hole: every access is allowed here, and a page may be written before the guest's dirty bit is set. `WalkResult` and
/// the functions beside it (`framework/src/walk.rs`) have all that is needed.
pub fn shadow_entry(found: &WalkResult, _error: PageFaultErrorCode) -> Option<Entry> {
    Some(found.entry)
}
