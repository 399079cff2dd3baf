//! What can be wrong with a guest's shadow tables: what the [audit](crate::audit) finds.

use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, HostFrame};
use arch_i386::paging::Flags;

/// What is wrong with a guest's shadow tables. All of them are mistakes of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Defect {
    #[error("{va} of page directory {directory} is shadowed, but the guest's tables do not map it")]
    Unmapped { directory: GuestPhys, va: GuestVirt },
    #[error(
        "{va} of page directory {directory} leads to page {shadow}, which does not hold guest page {guest}"
    )]
    Frame { directory: GuestPhys, va: GuestVirt, shadow: HostFrame, guest: GuestFrame },
    #[error(
        "{va} of page directory {directory} is shadowed with rights that the guest does not give: {extra:?}"
    )]
    Rights { directory: GuestPhys, va: GuestVirt, extra: Flags },
    #[error(
        "{va} of page directory {directory} can be used without a trace in the guest's entry, which lacks {missing:?}"
    )]
    Unseen { directory: GuestPhys, va: GuestVirt, missing: Flags },
    #[error("{va} of page directory {directory} is global, and would outlive the world switch")]
    Global { directory: GuestPhys, va: GuestVirt },
    #[error(
        "{va} of page directory {directory} leads to page {shadow}, which is not known to hold any page of the guest's"
    )]
    Unknown { directory: GuestPhys, va: GuestVirt, shadow: HostFrame },
    #[error(
        "{va} of page directory {directory} is writable and leads to page {shadow}, which others have as well"
    )]
    Shared { directory: GuestPhys, va: GuestVirt, shadow: HostFrame },
    #[error("the root in page {root} does not lead to the Switcher")]
    Window { root: HostFrame },
    #[error("entry {index} of the table in page {table} does not lead where it should")]
    Link { table: HostFrame, index: usize },
    #[error("entry {index} of the table in page {table} is present and not known")]
    InUse { table: HostFrame, index: usize },
    #[error("{counted} table pages are counted and {held} held")]
    Pages { counted: usize, held: usize },
    #[error("the index of page directories is wrong about {directory}")]
    Index { directory: GuestPhys },
}
