//! What a shadow cache can do better than lguest, each with its own switch.
//!
//! lguest's author lists most of these in the comments of `page_tables.c` as what is slow and why it was
//! left so.

/// The largest value of [`Optimizations::fault_around`].
pub const MAX_FAULT_AROUND: usize = 64;

/// Which optimizations are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Optimizations {
    /// A demand fault is fixed only if every level of the guest's tables allows the access, as on a processor.
    /// Not an optimization but a fix, which [`Optimizations::LGUEST`] alone lacks: lguest looks at the last level only, and
    /// a guest whose page directory forbids what its page table allows faults for ever there.
    pub rights_of_every_level: bool,
    /// The kernel's half is shadowed once, for all page directories: a change of a kernel mapping is one
    /// store, and a new page directory begins with all of it.
    ///
    /// LGUEST_INIT allows that: from the address named there up, all the guest's page directories are
    /// alike, and a SET_PTE there concerns them all. A Linux guest brings a directory's upper entries up
    /// to date only when it faults (`vmalloc_fault`); here it meets fewer such faults, as with global TLB
    /// entries. A guest whose kernel halves differ harms itself: it sees one where it meant another,
    /// but never a page that is not its own.
    pub shared_kernel: bool,
    /// SET_PGD and SET_PMD drop what they name and no more; see [`Tables`](framework::tables::Tables) for how
    /// that is found. lguest drops everything of all page directories at SET_PMD.
    pub precise: bool,
    /// Releasing a table goes by the entries in use, not through all of them.
    pub release_by_use: bool,
    /// Fault-around: on a demand fault, neighbours that the guest has marked accessed are filled too, this
    /// many pages (the missing one included) at most. 0 and 1 turn it off.
    pub fault_around: usize,
    /// An entry that SET_PTE marks as accessed is filled at once, in a new table if there is none. If the page directory is
    /// not shadowed, the page is remembered and filled when the guest loads it, as with [`Optimizations::refill`]. lguest
    /// fills the entry only if there is a table, so that the first page of each 4 MiB, and all that fork has made for a
    /// child, is missed once more.
    pub populate_on_set_pte: bool,
    /// When the guest flushes the user half, what that had mapped is filled again at once, up to
    /// [`Optimizations::refill`] pages: a guest flushes for the few entries that it has changed, and goes on with the
    /// others. In lguest all are missed again, one by one.
    pub refill_after_flush: bool,
    /// Fault-around and refilling after a flush are done only while trials show that they save more than they cost. Linux
    /// touches fresh pages in order, so that there are no neighbours to fill, and most of what it flushes has become
    /// copy-on-write and is missed again all the same.
    pub prefetch_on_trial: bool,
    /// The Switcher fills what is missed: a flush of the user half notes which middle tables the guest has then, since under others
    /// the Switcher fills nothing (PAE).
    pub for_switcher: bool,
    /// When a shadow page directory is evicted, so many of its pages are remembered (its evicted working set), and filled
    /// again at once when the guest comes back to it. 0 turns it off.
    pub refill: usize,
}

impl Optimizations {
    /// None: every request has lguest's answer. (Releasing goes by use, which no guest can see.)
    pub const LGUEST: Self = Self {
        rights_of_every_level: false,
        shared_kernel: false,
        precise: false,
        release_by_use: true,
        fault_around: 0,
        populate_on_set_pte: false,
        refill_after_flush: false,
        prefetch_on_trial: false,
        for_switcher: false,
        refill: 0,
    };

    /// No optimization, and rights as on a processor.
    pub const NONE: Self = Self { rights_of_every_level: true, ..Self::LGUEST };
}
