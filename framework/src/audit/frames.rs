//! Whether shadow entries lead to frames that hold pages of the guest's (ARCHITECTURE.md, invariants 4 and 15).

use crate::defect::Defect;
use crate::inspect::Mapping;
use crate::paging_host::{KnownFrame, PagingHost};
use crate::stale::StaleSet;
use alloc::boxed::Box;
use arch_i386::addr::{GuestFrame, HostFrame};
use arch_i386::paging::Flags;
use fallible::boxed_with;

/// The frames that are known to hold pages of the guest's, and those of them to which it may write: of each the low bits,
/// so that not every entry of another frame is found.
#[derive(Debug)]
pub(super) struct Frames {
    known: StaleSet,
    writable: StaleSet,
}

impl Frames {
    /// As they are now, where they were kept the last time; `None` when memory is short.
    pub(super) fn known(host: &dyn PagingHost, kept: Option<Box<Self>>) -> Option<Box<Self>> {
        let mut frames = match kept {
            Some(frames) => frames,
            None => boxed_with(|| Self { known: StaleSet::new(), writable: StaleSet::new() }).ok()?,
        };
        frames.known.clear();
        frames.writable.clear();
        for page in 0..host.page_limit() {
            if let Some(KnownFrame { frame, writable }) = host.known(GuestFrame(page)) {
                frames.known.insert(frame);
                if writable {
                    frames.writable.insert(frame);
                }
            }
        }
        Some(frames)
    }

    /// What is wrong with an entry, unless its frame has gone meanwhile and it is yet to be dropped.
    pub(super) fn check(&self, host: &dyn PagingHost, mapping: &Mapping) -> Option<Defect> {
        let Mapping { directory, va, entry, .. } = *mapping;
        let shadow = HostFrame(entry.frame() as u32);
        if !self.known.contains(shadow) && !host.has_stale() {
            return Some(Defect::Unknown { directory, va, shadow });
        }
        if entry.has(Flags::WRITABLE) && !self.writable.contains(shadow) && !host.has_stale() {
            return Some(Defect::Shared { directory, va, shadow });
        }
        None
    }
}
