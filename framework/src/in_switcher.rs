//! What the Switcher may do by itself on behalf of a strategy, and the account of what it has filled.

use arch_i386::addr::GuestPhys;

/// What the Switcher may do by itself while a guest runs on a shadow root, as far as the host has it do so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InSwitcher {
    /// The guest's page directory that the root stands for, by which it may reflect page faults; `None`: nothing at all.
    pub directory: Option<GuestPhys>,
    /// It may load the root by itself, in this run and later ones, until
    /// [`PagingHost::retract`](crate::host::PagingHost::retract), and in this run other roots that it may load.
    pub publish: bool,
    /// It may fill entries of the root's level-1 tables.
    pub fill: bool,
}

impl InSwitcher {
    /// Nothing.
    pub const NOTHING: Self = Self { directory: None, publish: false, fill: false };
}

/// Entries that the Switcher has filled by itself and that no tables have in their books yet; and how many SET_PTEs it has had beside
/// them that changed nothing.
///
/// A table is released by the entries that are known to be in use; so one that nobody has noted would stay in a page that is
/// given to another table. There is one way to get rid of this: [`Tables::note_fills`](crate::tables::Tables::note_fills).
///
/// ```compile_fail,E0451
/// # use framework::in_switcher::NotedFills;
/// let noted = NotedFills { faults: 1, set_ptes: 0 };
/// ```
#[derive(Debug)]
#[must_use = "the tables must note them"]
pub struct Fills {
    words: u32,
    idle_set_ptes: u32,
}

impl Fills {
    pub(crate) const fn new(words: u32, idle_set_ptes: u32) -> Self {
        Self { words, idle_set_ptes }
    }

    /// How many words there are of the account of them.
    pub(crate) const fn words(&self) -> u32 {
        self.words
    }

    /// They are in the books: so many for a page fault, and so many for a SET_PTE.
    pub(crate) const fn noted(self, faults: u32, set_ptes: u32) -> NotedFills {
        NotedFills { faults, set_ptes: set_ptes + self.idle_set_ptes }
    }
}

/// The same, noted.
#[derive(Debug)]
pub struct NotedFills {
    faults: u32,
    set_ptes: u32,
}

impl NotedFills {
    /// How many were for a page fault.
    #[must_use]
    pub const fn faults(&self) -> u32 {
        self.faults
    }

    /// How many were for a SET_PTE, and SET_PTEs that changed nothing.
    #[must_use]
    pub const fn set_ptes(&self) -> u32 {
        self.set_ptes
    }
}
