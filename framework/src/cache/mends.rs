//! What a shadow cache does better than the original, each on its own switch.
//!
//! lguest's author lists most of these in the comments of `page_tables.c` as what is slow and why it was
//! left so. With [`Mends::NONE`] a cache answers every request as the original does.

use crate::policy::EvictionPolicy;
use alloc::boxed::Box;

/// Which mends are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mends {
    /// The kernel's half is shadowed once, for all page directories: a change of a kernel mapping is one
    /// store, and a new page directory begins with all of it.
    ///
    /// LGUEST_INIT allows that: from the address named there up, all the guest's page directories are
    /// alike, and a SET_PTE there concerns them all. A Linux guest brings a directory's upper entries up
    /// to date only when it faults (`vmalloc_fault`); here it meets fewer such faults, as with global TLB
    /// entries. A guest whose kernel halves differ harms itself: it sees one where it meant another,
    /// but never a page that is not its own.
    pub shared_kernel: bool,
    /// SET_PGD and SET_PMD drop what they name and no more; see [`Tables`](crate::tables::Tables) for how
    /// that is found. The original, told of a middle entry, drops everything of all page directories.
    pub precise: bool,
    /// Releasing a table goes by the entries in use, not through all of them.
    pub by_use: bool,
    /// Fault-around: on a demand fault, neighbours that the guest has marked accessed are filled too, this
    /// many pages (the missing one included) at most. 0 and 1 turn it off. It rests while the guest flushes everything
    /// again and again, before what was filled can have been used.
    pub around: usize,
    /// What the guest announces by SET_PTE as accessed is filled, whatever that takes: a table of its own; and
    /// if the page directory is not shadowed, at the latest when the guest comes to it, as [`Mends::refill`]
    /// has it. The original fills it only where it finds a table, so that every first page of 4 MiB, and
    /// all that fork has made for a child, is missed once more.
    pub announced: bool,
    /// When the guest flushes the user half, what that had mapped is filled again at once, up to
    /// [`Mends::refill`] pages: a guest flushes for the few entries that it has changed, and goes on with the
    /// others. In the original all are missed again, one by one.
    pub flushed: bool,
    /// When a shadow page directory is given up, so many of its pages are remembered, and filled again at
    /// once when the guest comes back to it. 0 turns it off.
    pub refill: usize,
}

impl Mends {
    /// As the original does, save that releasing goes by use, which nobody can see.
    pub const NONE: Self = Self {
        shared_kernel: false,
        precise: false,
        by_use: true,
        around: 0,
        announced: false,
        flushed: false,
        refill: 0,
    };
}

/// How many shadow page directories a cache keeps.
pub enum Room {
    /// As many as that; a policy says which gives way.
    Slots(usize, Box<dyn EvictionPolicy>),
    /// As many as fit into that many table pages; the one used longest ago gives way. The current one's
    /// tables may exceed it, when there is no other to give up.
    Pages(usize),
}
