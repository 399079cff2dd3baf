//! The shadow page tables themselves: a guest's table pages and how they hang together.
//!
//! What the processor walks is a tree of [`TablePage`](arch_i386::table::TablePage)s. Beside it the pager
//! keeps what it needs itself and the processor does not, so that no physical address has ever to be
//! turned back into a pointer, and releasing a table touches only the entries in use:
//!
//! ```text
//!   Root ── leaves[va / LEAF_SPAN] ──▶ Leaf ── page[…] ──▶ a page of the guest's
//!    │                                  └ in_use, origin
//!    ├ page, and with PAE up to four middle pages: the directory entries that lead to each leaf
//!    └ one directory entry, the window's, leads to the Switcher's table: shared by all roots, no Leaf
//! ```
//!
//! Two page formats meet here: the shadow's, which is the host's, and that of the guest's tables, which
//! the shadow stands for. A root has one *leaf-table index* for each level-1 table that it can have, 1024 with two
//! levels and 2048 with PAE; what an entry of the guest's covers is a number of these:
//!
//! | guest on host | root entry | level-1 table |
//! | --- | --- | --- |
//! | 2-level on 2-level | 1 | 1 |
//! | PAE on PAE | 512 | 1 |
//! | 2-level on PAE | 2 | 2 |
//!
//! (PAE on 2-level is not served: one level-1 table would stand for two, whose rights may differ.) The
//! middle pages of PAE appear and go with the leaves under them.
//!
//! # The shared half
//! From [`Tables::share_from`] on, the upper root entries are the same in all roots. One more root, the
//! *owner*, which no processor ever walks from, holds what is under them; every other root has a copy of
//! its upper entries. With PAE the copies never change, as they lead to middle pages that stay; with two
//! levels a table that comes or goes is entered in each root, once for 4 MiB.
//!
//! # What a strategy cannot do
//! (Invariants 1, 2 and 4 of ARCHITECTURE.md.)
//!
//! Strategies are not trusted; these tables are. A strategy names roots and tables by numbers, and never has a table page
//! or a shadow entry in its hands that it could keep. Every root has the Switcher from the day it is made and
//! until it goes, every entry of a level-1 table comes from the one [conversion](ShadowEntry::new), every entry above leads
//! to a table of these with no flags but a table's, and what the world switch loads is [such a root](ShadowRoot). A number
//! that names nothing is a panic, and one that names another table of the same guest's harms that guest alone.

mod check;
mod entry;
mod ids;
mod kept;
mod leaf;
mod root;

use crate::counters::PagingCounters;
use crate::in_switcher::{Fills, NotedFills};
use crate::inspect::Lookup;
use crate::kill::Kill;
use crate::ledger::TableKind;
use crate::paging_host::{Capability, PagingHost, Progress, reschedule_point};
use crate::window::SwitcherWindow;
use alloc::vec::Vec;
use arch_i386::addr::{GuestFrame, GuestVirt, HostFrame, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, PageFormat};
use core::marker::PhantomData;
use core::ops::Range;
use fallible::OutOfMemory;
use ids::{leaf_index_of, leaf_indices, leaf_indices_per_entry};
use leaf::{Cleared, InUse, LeafTable};
use root::{MiddleCounts, Root};

pub use crate::shadow_root::ShadowRoot;
pub use crate::walk::Origin;
pub use entry::ShadowEntry;
pub use ids::{LeafId, RootId};

/// Who has what is at a leaf-table index: a root itself, or the owner of the shared half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Own(RootId),
    Shared,
}

/// A part of what is under a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is its own.
    Own,
    /// What all roots share.
    Shared,
}

/// All shadow tables of one guest, in the format `S`, standing for tables in the format `G`.
///
/// They are that guest's as long as they live: what is not `Send` cannot be put into a `static` by safe code, and there is
/// nothing else by which a strategy could carry them to another guest. (A strategy that leaks them has lost them; the host
/// takes their pages back.)
///
/// ```compile_fail,E0277
/// # use arch_i386::paging::TwoLevel;
/// # use framework::tables::Tables;
/// # use std::sync::Mutex;
/// static KEPT: Mutex<Option<Tables<TwoLevel, TwoLevel>>> = Mutex::new(None);
/// ```
///
/// What may be there is what has nothing of the host's:
///
/// ```
/// # use framework::tables::RootId;
/// # use std::sync::Mutex;
/// static KEPT: Mutex<Option<RootId>> = Mutex::new(None);
/// ```
#[derive(Debug)]
pub struct Tables<G, S> {
    roots: Vec<Option<Root>>,
    leaves: Vec<Option<LeafTable>>,
    /// Unused elements of `leaves`.
    free: Vec<LeafId>,
    /// What is shared by all roots, from the leaf-table index `shared_from` on.
    owner: Option<Root>,
    shared_from: usize,
    middle_counts: MiddleCounts,
    window: SwitcherWindow,
    /// The root page that the guest runs on.
    current: HostFrame,
    /// In which of the roots the Switcher has filled last, as far as known, by the lowest bits of the number of the root's frame.
    last_filled: [u16; LAST_FILLED],
    /// Table pages held, the window's not among them.
    pages: usize,
    /// Whether releasing a table goes by the entries in use, or through all.
    by_use: bool,
    released: u64,
    visited: u64,
    /// A raw pointer is not `Send`.
    formats: PhantomData<(G, S, *const ())>,
}

/// How many roots are remembered as those in which the Switcher has filled.
const LAST_FILLED: usize = 16;

/// No root.
const NO_ROOT: HostFrame = HostFrame(0);

/// Flags of the entry that leads to the Switcher's table.
const WINDOW_FLAGS: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::ACCESSED);

/// The flags of the directory entry that leads to a level-1 table: those of the guest's entry, and nothing that makes it
/// anything else than an entry for a table.
fn table_flags<S: PageFormat>(origin: Origin) -> Flags {
    origin.flags.intersection(S::DIRECTORY_FLAGS)
}

/// The root of that name: where more than that is to be changed, [`Tables::holder_mut`] would borrow all.
#[inline]
fn root_in(roots: &mut [Option<Root>], RootId(id): RootId) -> &mut Root {
    roots[usize::from(id)].as_mut().expect("a root's name is forgotten before the root")
}

/// The same of a level-1 table, and [`Tables::leaf_mut`].
#[inline]
fn leaf_in(leaves: &mut [Option<LeafTable>], id: LeafId) -> &mut LeafTable {
    leaves[id.number()].as_mut().expect("a table's name is forgotten before the table")
}

impl<G: PageFormat, S: PageFormat> Tables<G, S> {
    /// No tables yet. With `by_use`, releasing a table visits its entries in use; otherwise all of them, as in
    /// lguest.
    ///
    /// # Panics
    /// When the window does not start where a level-1 table's span does.
    #[must_use]
    pub fn new(window: SwitcherWindow, by_use: bool) -> Self {
        assert!(
            window.start().0.is_multiple_of(S::LEAF_SPAN),
            "the Switcher's window {window:?} must start at a multiple of {:#x}",
            S::LEAF_SPAN
        );
        Self {
            roots: Vec::new(),
            leaves: Vec::new(),
            free: Vec::new(),
            owner: None,
            shared_from: leaf_indices::<S>(),
            middle_counts: MiddleCounts::NONE,
            window,
            current: NO_ROOT,
            last_filled: [0; LAST_FILLED],
            pages: 0,
            by_use,
            released: 0,
            visited: 0,
            formats: PhantomData,
        }
    }

    /// Where the Switcher is.
    #[must_use]
    pub fn window(&self) -> SwitcherWindow {
        self.window
    }

    /// How many shadow entries have been released.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.released
    }

    /// What the tables have counted, for a strategy's [`counters`](crate::strategy::PagingStrategy::counters).
    #[must_use]
    pub fn counters(&self) -> PagingCounters {
        PagingCounters {
            released_entries: self.released,
            visited_entries: self.visited,
            ..PagingCounters::default()
        }
    }

    /// Table pages held, the Switcher's not among them.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// The most pages that one more page directory and its first table can take.
    pub const NEW_DIRECTORY_PAGES: usize = S::LEVELS + 1;

    fn root(&self, id: RootId) -> &Root {
        self.roots[usize::from(id.0)].as_ref().expect("a root's name is forgotten before the root")
    }

    #[inline]
    fn holder_of(&self, root: RootId, leaf_index: usize) -> Holder {
        if leaf_index < self.shared_from { Holder::Own(root) } else { Holder::Shared }
    }

    #[inline]
    fn holder(&self, holder: Holder) -> Option<&Root> {
        match holder {
            Holder::Own(RootId(id)) => self.roots[usize::from(id)].as_ref(),
            Holder::Shared => self.owner.as_ref(),
        }
    }

    fn holder_mut(&mut self, holder: Holder) -> &mut Root {
        match holder {
            Holder::Own(id) => root_in(&mut self.roots, id),
            Holder::Shared => self.owner.as_mut().expect("what is shared has an owner"),
        }
    }

    #[inline]
    fn leaf(&self, id: LeafId) -> &LeafTable {
        self.leaves[id.number()].as_ref().expect("a table's name is forgotten before the table")
    }

    #[inline]
    fn leaf_mut(&mut self, id: LeafId) -> &mut LeafTable {
        leaf_in(&mut self.leaves, id)
    }

    /// The guest runs on this root from now on.
    pub fn make_current(&mut self, root: RootId) {
        self.current = self.root(root).page.frame();
    }

    /// The root that the guest runs on.
    ///
    /// # Panics
    /// When there is none: none was made current, or the one that was is removed.
    #[inline]
    #[must_use]
    pub fn current_root(&self) -> ShadowRoot<'_> {
        assert!(self.current != NO_ROOT, "no root is the current one");
        ShadowRoot::new(self.current)
    }

    /// A root with nothing in it but the Switcher.
    fn root_with_window(&self, host: &mut dyn PagingHost) -> Result<Root, OutOfMemory> {
        let mut root = Root::new::<S>(host)?;
        let (start, leaf) = (self.window.start(), self.window.leaf());
        match root.link::<S>(host, leaf_index_of::<S>(start), leaf, WINDOW_FLAGS) {
            Ok(()) => Ok(root),
            Err(error) => {
                host.free_table(root.page, Capability::new());
                Err(error)
            }
        }
    }

    /// A new root with nothing in it but the Switcher and the shared half.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no page for it; nothing is left behind.
    pub fn add_root(&mut self, host: &mut dyn PagingHost) -> Result<RootId, OutOfMemory> {
        let unused = self.roots.iter().position(Option::is_none);
        if unused.is_none() {
            self.roots.try_reserve(1).map_err(|_| OutOfMemory)?;
        }
        let index = unused.unwrap_or(self.roots.len());
        let id = RootId(u16::try_from(index).map_err(|_| OutOfMemory)?);
        let root = match &self.owner {
            None => self.root_with_window(host)?,
            Some(owner) => {
                let mut root = Root::new::<S>(host)?;
                root.copy_entries::<S>(
                    owner,
                    self.shared_from / leaf_indices_per_entry::<S>()..S::ROOT_ENTRIES,
                );
                root
            }
        };
        self.pages += root.pages();
        if unused.is_none() {
            self.roots.push(None);
        }
        self.roots[index] = Some(root);
        Ok(id)
    }

    /// From now on the tables from `kernel` up are the same in all roots, as far as whole root entries
    /// go. Nothing may be mapped there. Where that would leave out the Switcher, nothing is shared.
    ///
    /// # Errors
    /// [`OutOfMemory`] when the host has no page for it; nothing is shared then.
    ///
    /// # Panics
    /// When a table is there.
    pub fn share_from(&mut self, host: &mut dyn PagingHost, kernel: GuestVirt) -> Result<(), OutOfMemory> {
        let first = (kernel.0 as usize).div_ceil(leaf_indices_per_entry::<S>() * S::LEAF_SPAN as usize);
        let shared_from = first * leaf_indices_per_entry::<S>();
        if self.owner.is_some() || shared_from > leaf_index_of::<S>(self.window.start()) {
            return Ok(());
        }
        for root in self.roots.iter().flatten() {
            assert!(root.in_use.next(shared_from).is_none(), "what is to be shared has a table already");
        }
        let mut owner = self.root_with_window(host)?;
        // All the middle pages at once: the copies in the roots need not change later.
        for index in if S::LEVELS == 3 { first..S::ROOT_ENTRIES } else { 0..0 } {
            if let Err(error) = owner.add_middle::<S>(host, index) {
                self.free_pages(host, owner);
                return Err(error);
            }
        }
        self.pages += owner.pages();
        let window = leaf_index_of::<S>(self.window.start());
        for root in self.roots.iter_mut().flatten() {
            self.pages -= root.pages();
            root.unlink::<S>(window);
            root.free_middles::<S>(host, &mut self.middle_counts, first..S::ROOT_ENTRIES);
            self.pages += root.pages();
            root.copy_entries::<S>(&owner, first..S::ROOT_ENTRIES);
        }
        (self.owner, self.shared_from) = (Some(owner), shared_from);
        Ok(())
    }

    /// The level-1 table at a leaf-table index, if it is there.
    #[inline]
    fn find(&self, root: RootId, leaf_index: usize) -> Option<LeafId> {
        let leaf = self.holder(self.holder_of(root, leaf_index))?.leaves[leaf_index];
        leaf.is_used().then_some(leaf)
    }

    /// The level-1 table for an address below the window, if it is there.
    #[inline]
    #[must_use]
    pub fn table(&self, root: RootId, va: GuestVirt) -> Option<LeafId> {
        self.find(root, leaf_index_of::<S>(va))
    }

    /// The level-1 table for an address below the window, standing for `origin`; it is made if need be.
    /// One that is there already may stand for another of the guest's tables; see
    /// [`Tables::release_if_moved`].
    ///
    /// # Errors
    /// [`OutOfMemory`] when the table is not there and the host has no page for it.
    ///
    /// # Panics
    /// For an address in the window or above.
    #[inline]
    pub fn find_or_add(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        va: GuestVirt,
        origin: Origin,
    ) -> Result<LeafId, OutOfMemory> {
        match self.table(root, va) {
            Some(leaf) => Ok(leaf),
            None => self.add_leaf(host, root, leaf_index_of::<S>(va), origin),
        }
    }

    fn add_leaf(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        leaf_index: usize,
        origin: Origin,
    ) -> Result<LeafId, OutOfMemory> {
        // There is none to be found in the window, so that nothing takes the Switcher's place.
        assert!(
            leaf_index < ids::leaf_index_of::<S>(self.window.start()),
            "leaf-table index {leaf_index} is not the guest's"
        );
        if let Some(kept) = self.take_up(root, leaf_index, origin) {
            return Ok(kept);
        }
        if self.free.is_empty() {
            let id = LeafId::new(self.leaves.len()).ok_or(OutOfMemory)?;
            self.leaves.try_reserve(1).map_err(|_| OutOfMemory)?;
            // `free` may have to name every table one day, and that day must not need memory.
            self.free.try_reserve(self.leaves.capacity()).map_err(|_| OutOfMemory)?;
            self.leaves.push(None);
            self.free.push(id);
        }
        let page = host.alloc_table(TableKind::Level1(S::PAGING), Capability::new())?;
        let holder = self.holder_of(root, leaf_index);
        let holder = self.holder_mut(holder);
        let before = holder.pages();
        if let Err(error) = holder.link::<S>(host, leaf_index, page.frame(), table_flags::<S>(origin)) {
            host.free_table(page, Capability::new());
            return Err(error);
        }
        let pages = 1 + holder.pages() - before;
        self.pages += pages;
        self.note_middle_origin(root, leaf_index, origin.middle);
        let id = self.free.pop().expect("one was made above");
        self.leaves[id.number()] = Some(LeafTable { page, in_use: InUse::EMPTY, idle_flushes: 0, origin });
        let holder = self.holder_of(root, leaf_index);
        let holder = self.holder_mut(holder);
        holder.leaves[leaf_index] = id;
        holder.in_use.insert(leaf_index);
        self.enter_in_roots(leaf_index);
        Ok(id)
    }

    /// Notes which middle table of the guest's leads to what is at a leaf-table index (PAE).
    fn note_middle_origin(&mut self, root: RootId, leaf_index: usize, middle: Option<GuestFrame>) {
        if S::LEVELS == 2 {
            return;
        }
        let (index, holder) = (leaf_index / S::ENTRIES, self.holder_of(root, leaf_index));
        let root = match holder {
            Holder::Own(RootId(id)) => self.roots[usize::from(id)].as_mut(),
            Holder::Shared => self.owner.as_mut(),
        };
        let root = root.expect("a root's name is forgotten before the root");
        if root.middle_origins[index] == middle {
            return;
        }
        root.set_middle_origin(&mut self.middle_counts, index, middle);
        if let (Holder::Shared, Some(owner)) = (holder, &self.owner) {
            for root in self.roots.iter_mut().flatten() {
                root.copy_entries::<S>(owner, index..index + 1);
            }
        }
    }

    /// Enters what the owner has at an index of the shared half in every root.
    fn enter_in_roots(&mut self, leaf_index: usize) {
        if S::LEVELS == 2
            && leaf_index >= self.shared_from
            && let Some(owner) = &self.owner
        {
            for root in self.roots.iter_mut().flatten() {
                root.copy_entries::<S>(owner, leaf_index..leaf_index + 1);
            }
        }
    }

    /// The shadow entry for an address below the window, if its table is there.
    #[inline]
    #[must_use]
    pub fn entry(&self, root: RootId, va: GuestVirt) -> Option<Entry> {
        self.table(root, va).map(|leaf| self.entry_in(leaf, va))
    }

    /// The shadow entry for an address in its table.
    #[inline]
    #[must_use]
    pub fn entry_in(&self, leaf: LeafId, va: GuestVirt) -> Entry {
        S::load(&self.leaf(leaf).page, S::index(va, 1))
    }

    /// Puts an entry in the place of another. The table should be the address's own; see [`Tables::find_or_add`].
    #[inline(always)] // As with the entry's conversion.
    pub fn replace(&mut self, leaf: LeafId, va: GuestVirt, entry: ShadowEntry<'_>) {
        let old = self.leaf_mut(leaf).replace::<S>(S::index(va, 1), entry.entry());
        self.released += u64::from(old.present());
    }

    /// Puts the shadow of this entry of the guest's, which the guest has not missed yet, where nothing is. Returns whether
    /// it is there now; what is wrong with the guest's entry comes out when the guest uses it.
    #[inline(always)] // As with the entry's conversion.
    pub fn fill(&mut self, host: &mut dyn PagingHost, leaf: LeafId, va: GuestVirt, guest: Entry) -> bool {
        let (leaf, index) = (self.leaf_mut(leaf), S::index(va, 1));
        if S::load(&leaf.page, index).present() {
            return false;
        }
        let Ok(entry) = ShadowEntry::ahead(host, guest) else { return false };
        leaf.put::<S>(index, entry.entry());
        true
    }

    /// Notes the entries that the Switcher has filled by itself, in level-1 tables of these. Those that the guest has missed below
    /// `end` are [counted](Tables::count_fills).
    ///
    /// # Panics
    /// When one is in no table of these.
    pub fn note_fills(&mut self, host: &dyn PagingHost, fills: Fills, end: GuestVirt) -> NotedFills {
        let mut account = &host.filled_in_switcher(Capability::new())[..fills.words() as usize];
        let (mut faults, mut set_ptes) = (0, 0);
        while let Some((&first, behind)) = account.split_first() {
            let id = self.filled_root(first.root().expect("what is filled is under a root"));
            account = behind;
            // One root and its tables at a time, so that each is looked up once.
            let Self { roots, leaves, owner, shared_from, middle_counts, released, .. } = self;
            let root = root_in(roots, id);
            while let Some(&first) = account.first()
                && first.root().is_none()
            {
                let leaf_index = leaf_index_of::<S>(first.page());
                let leaf = if leaf_index < *shared_from {
                    root.leaves[leaf_index]
                } else {
                    owner.as_ref().map_or(LeafId::NONE, |owner| owner.leaves[leaf_index])
                };
                assert!(leaf != LeafId::NONE, "the Switcher makes no tables");
                let table = leaf_in(leaves, leaf);
                if !leaf.is_used() {
                    // It has taken up one that was kept.
                    table.idle_flushes = 0;
                    root.leaves[leaf_index] = leaf.used();
                    if S::LEVELS == 3 {
                        root.note_claimed_middle(middle_counts, leaf_index / S::ENTRIES);
                    }
                }
                let all_below = first.page().0 | (S::LEAF_SPAN - 1) < end.0;
                // As a rule many in a row are in one table, and new.
                while let Some(filled) = account.first()
                    && filled.is_beside::<S>(first)
                {
                    if filled.is_new_beside::<S>(first) {
                        let new = table.note_new::<S>(first, account);
                        let below = || account[..new].iter().filter(|filled| filled.page() < end).count();
                        root.fills += if all_below { new } else { below() } as u64;
                        faults += new as u32;
                        account = &account[new..];
                        continue;
                    }
                    let index = S::index(filled.page(), 1);
                    if filled.cleared() {
                        table.in_use.remove(index);
                    } else {
                        table.in_use.insert(index);
                    }
                    *released += u64::from(filled.replaced());
                    if filled.by_call() {
                        set_ptes += 1;
                    } else {
                        faults += 1;
                        root.fills += u64::from(filled.page() < end);
                    }
                    account = &account[1..];
                }
            }
        }
        fills.noted(faults, set_ptes)
    }

    /// The root whose page this is.
    fn filled_root(&mut self, page: HostFrame) -> RootId {
        let is = |of: &Option<Root>| of.as_ref().is_some_and(|of| of.page.frame() == page);
        let last = &mut self.last_filled[page.0 as usize % LAST_FILLED];
        if !self.roots.get(usize::from(*last)).is_some_and(is) {
            let found = self.roots.iter().position(is).expect("the Switcher fills tables of these roots");
            *last = found as u16;
        }
        RootId(*last)
    }

    /// Counts so many fills of entries under a root. Which are counted is the strategy's choice.
    #[inline]
    pub fn count_fills(&mut self, root: RootId, count: u32) {
        self.holder_mut(Holder::Own(root)).fills += u64::from(count);
    }

    /// How many fills have been counted under a root since it was made or [`Tables::restart_fills`].
    #[must_use]
    pub fn fills(&self, root: RootId) -> usize {
        usize::try_from(self.root(root).fills).unwrap_or(usize::MAX)
    }

    /// Counts the fills under a root from 0 again: it is the shadow of another page directory from now on.
    pub fn restart_fills(&mut self, root: RootId) {
        self.holder_mut(Holder::Own(root)).fills = 0;
    }

    /// Takes an entry out.
    #[inline]
    pub fn clear(&mut self, leaf: LeafId, va: GuestVirt) {
        let old = self.leaf_mut(leaf).replace::<S>(S::index(va, 1), Entry::EMPTY);
        self.released += u64::from(old.present());
    }

    /// Puts the shadow of this entry of the guest's, or nothing, in the place of what is there for an address. Where
    /// the guest's table has no shadow, nothing happens. Device memory has none.
    ///
    /// # Errors
    /// As [`ShadowEntry::new`], except for device memory; the old entry is gone all the same.
    pub fn replace_if_tabled(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        va: GuestVirt,
        guest: Option<Entry>,
    ) -> Result<(), Kill> {
        let Some(leaf) = self.find_or_complete(host, root, va) else { return Ok(()) };
        let failed = match guest.map(|guest| ShadowEntry::new(host, guest)) {
            Some(Ok(entry)) => {
                self.replace(leaf, va, entry);
                return Ok(());
            }
            // Every access to it is to be seen.
            Some(Err(Kill::DeviceMemory(_))) | None => Ok(()),
            Some(Err(kill)) => Err(kill),
        };
        self.clear(leaf, va);
        failed
    }

    /// The level-1 table for an address below the window, if the guest's table for it has a shadow. Where
    /// that takes two tables and only the other is there, this one is made (memory permitting), so that
    /// the guest sees no difference between the formats.
    fn find_or_complete(&mut self, host: &mut dyn PagingHost, root: RootId, va: GuestVirt) -> Option<LeafId> {
        let leaf_index = leaf_index_of::<S>(va);
        let found = self.find(root, leaf_index);
        if G::LEAF_SPAN <= S::LEAF_SPAN || found.is_some() {
            return found;
        }
        let origin = self.leaf(self.find(root, leaf_index ^ 1)?).origin;
        self.add_leaf(host, root, leaf_index, origin).ok()
    }

    /// The leaf-table indices that an entry of the guest's root covers.
    fn leaf_indices_of(index: usize) -> Range<usize> {
        let each = leaf_indices::<S>() / G::ROOT_ENTRIES;
        index * each..(index + 1) * each
    }

    /// Releases all that these entries of the guest's root map; of the shared half, for all roots. The
    /// Switcher stays. Returns whether all is released: not when the host has required to leave it undone.
    pub fn release_entries(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        indices: Range<usize>,
    ) -> Progress {
        let start = Self::leaf_indices_of(indices.start).start;
        let end = Self::leaf_indices_of(indices.end).start;
        self.release_leaves(host, root, start..end)?;
        self.free_unused_middles(host, root, start..end);
        Progress::Continue(())
    }

    /// Gives a root's own middle tables back whose leaf-table indices are all among these, and under which nothing is (PAE).
    fn free_unused_middles(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        Range { start, end }: Range<usize>,
    ) {
        if S::LEVELS == 2 {
            return;
        }
        let shared = self.shared_from / S::ENTRIES;
        let window = leaf_index_of::<S>(self.window.start()) / S::ENTRIES;
        let root = root_in(&mut self.roots, root);
        for index in start.div_ceil(S::ENTRIES)..(end / S::ENTRIES).min(shared) {
            let is_used = index == window || root.in_use.has_any(index * S::ENTRIES, S::ENTRIES);
            if root.middles[index].is_some() && !is_used {
                root.free_middles::<S>(host, &mut self.middle_counts, index..index + 1);
                self.pages -= 1;
            }
        }
    }

    /// Releases the level-1 tables at these indices; those of the shared half are released for all roots.
    fn release_leaves(&mut self, host: &mut dyn PagingHost, root: RootId, range: Range<usize>) -> Progress {
        self.release_in(host, Holder::Own(root), range.start..range.end.min(self.shared_from))?;
        self.release_in(host, Holder::Shared, range.start.max(self.shared_from)..range.end)
    }

    fn release_in(&mut self, host: &mut dyn PagingHost, holder: Holder, range: Range<usize>) -> Progress {
        let mut from = range.start;
        while let Some(leaf_index) = self.holder(holder).and_then(|root| root.in_use.next(from))
            && leaf_index < range.end
        {
            from = leaf_index + 1;
            self.remove_leaf(host, holder, leaf_index);
            reschedule_point(host)?;
        }
        Progress::Continue(())
    }

    /// Releases all that a level-1 table maps, and the table.
    fn remove_leaf(&mut self, host: &mut dyn PagingHost, holder: Holder, leaf_index: usize) {
        let id = self.holder_mut(holder).unlink::<S>(leaf_index);
        self.enter_in_roots(leaf_index);
        let mut table = self.leaves[id.number()].take().expect("a table is forgotten once");
        self.free.push(id.used());
        // One that is kept is empty.
        if id.is_used() {
            let cleared = table.empty::<S>(self.by_use);
            self.count(cleared);
        }
        self.pages -= 1;
        host.free_zeroed_table(table.page, Capability::new());
    }

    #[inline]
    fn count(&mut self, Cleared { visited, released }: Cleared) {
        self.visited += u64::from(visited);
        self.released += u64::from(released);
    }

    /// Whether the entry of this index in the guest's root is in the shared half.
    #[must_use]
    pub fn is_shared(&self, index: usize) -> bool {
        self.owner.is_some() && Self::leaf_indices_of(index).start >= self.shared_from
    }

    /// What the shared half's shadow of an entry of the guest's root stands for: the frame that the entry
    /// led to, and with two levels its flags. `None` when nothing under it is shadowed.
    #[must_use]
    pub fn shared_target(&self, index: usize) -> Option<(GuestFrame, Option<Flags>)> {
        let owner = self.owner.as_ref()?;
        let indices = Self::leaf_indices_of(index);
        if G::LEVELS == 3 {
            let used = owner.in_use.next(indices.start).is_some_and(|leaf_index| leaf_index < indices.end);
            return owner.middle_origins[index].filter(|_| used).map(|middle| (middle, None));
        }
        let leaf = indices.map(|leaf_index| owner.leaves[leaf_index]).find(|&leaf| leaf != LeafId::NONE)?;
        let Origin { table, flags, .. } = self.leaf(leaf).origin;
        Some((table, Some(flags)))
    }

    /// Releases what stands for another table than the guest has at this address now, so that no table
    /// ever stands for two: the level-1 table, or with PAE all that came through another middle table.
    pub fn release_if_moved(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        va: GuestVirt,
        now: Origin,
    ) -> Progress {
        let leaf_index = leaf_index_of::<S>(va);
        if G::LEVELS == 3 {
            let entry = leaf_index / S::ENTRIES;
            let then =
                self.holder(self.holder_of(root, leaf_index)).and_then(|root| root.middle_origins[entry]);
            if then.is_some() && then != now.middle {
                return self.release_leaves(host, root, entry * S::ENTRIES..(entry + 1) * S::ENTRIES);
            }
        }
        if let Some(leaf) = self.find(root, leaf_index)
            && self.leaf(leaf).origin != now
        {
            self.release_leaves(host, root, leaf_index..leaf_index + 1)?;
        }
        Progress::Continue(())
    }

    /// Releases what came through this entry of the guest's middle table, wherever that is (PAE guests).
    pub fn release_middle_entry(
        &mut self,
        host: &mut dyn PagingHost,
        middle: GuestFrame,
        index: usize,
    ) -> Progress {
        if !self.middle_counts.may_have(middle) {
            return Progress::Continue(());
        }
        let roots = self.roots.len() as u16;
        for holder in (0..roots).map(|id| Holder::Own(RootId(id))).chain([Holder::Shared]) {
            for entry in 0..S::ROOT_ENTRIES.min(4) {
                if self.holder(holder).is_some_and(|root| root.middle_origins[entry] == Some(middle)) {
                    let leaf_index = entry * S::ENTRIES + index;
                    self.release_in(host, holder, leaf_index..leaf_index + 1)?;
                }
            }
        }
        Progress::Continue(())
    }

    /// Releases everything under a root, the shared half excepted.
    pub fn release_own(&mut self, host: &mut dyn PagingHost, id: RootId) -> Progress {
        self.release_in(host, Holder::Own(id), 0..leaf_indices::<S>())
    }

    /// Gives a root and everything under it back, the shared half excepted, to the end.
    pub fn remove_root(&mut self, host: &mut dyn PagingHost, id: RootId) {
        while self.release_own(host, id).is_break() {}
        let root = self.roots[usize::from(id.0)].take().expect("a root is removed once");
        if self.current == root.page.frame() {
            self.current = NO_ROOT;
        }
        self.free_root(host, root);
    }

    /// Gives everything back, to the end.
    pub fn remove_all(&mut self, host: &mut dyn PagingHost) {
        // The roots first, which lead to what they share.
        for index in 0..self.roots.len() {
            if self.roots[index].is_some() {
                self.remove_root(host, RootId(index as u16));
            }
        }
        while self.release_in(host, Holder::Shared, 0..leaf_indices::<S>()).is_break() {}
        if let Some(owner) = self.owner.take() {
            self.shared_from = leaf_indices::<S>();
            self.free_root(host, owner);
        }
    }

    fn free_root(&mut self, host: &mut dyn PagingHost, root: Root) {
        self.pages -= root.pages();
        self.free_pages(host, root);
    }

    /// Gives back what a root without tables under it consists of.
    fn free_pages(&mut self, host: &mut dyn PagingHost, mut root: Root) {
        root.unlink::<S>(leaf_index_of::<S>(self.window.start()));
        root.free_middles::<S>(host, &mut self.middle_counts, 0..S::ROOT_ENTRIES);
        host.free_table(root.page, Capability::new());
    }

    /// What a root holds for an address below the window, if every level is present.
    #[inline]
    #[must_use]
    pub fn lookup(&self, root: RootId, va: GuestVirt) -> Option<Lookup> {
        let leaf = self.leaf(self.table(root, va)?);
        let entry = S::load(&leaf.page, S::index(va, 1));
        entry.present().then(|| Lookup {
            entry,
            user: leaf.origin.flags.contains(Flags::USER_ACCESSIBLE) && entry.has(Flags::USER_ACCESSIBLE),
            writable: leaf.origin.flags.contains(Flags::WRITABLE) && entry.has(Flags::WRITABLE),
        })
    }

    /// Whether the level-1 entry for an address below the window is present and writable.
    #[inline]
    #[must_use]
    pub fn is_writable(&self, root: RootId, va: GuestVirt) -> bool {
        let leaf = self.table(root, va).map(|leaf| self.leaf(leaf));
        leaf.is_some_and(|leaf| S::load(&leaf.page, S::index(va, 1)).has(Flags::PRESENT | Flags::WRITABLE))
    }

    /// Adds the pages below `end` that are mapped under a root, the shared half excepted, in address order, until there
    /// are `limit` of them or `pages` is full.
    pub fn list_pages(&self, root: RootId, end: GuestVirt, limit: usize, pages: &mut Vec<GuestVirt>) {
        let root = self.root(root);
        let limit = limit.min(pages.capacity());
        for leaf_index in root.in_use.iter() {
            for index in self.leaf(root.leaves[leaf_index]).in_use.iter() {
                let va = GuestVirt(leaf_index as u32 * S::LEAF_SPAN + index as u32 * PAGE_SIZE);
                if va >= end || pages.len() >= limit {
                    return;
                }
                pages.push(va);
            }
        }
    }

    /// How many pages of the tables below `end` were mapped under a root, the shared half excepted, and in how many tables.
    #[must_use]
    pub fn count_pages(&self, root: RootId, end: GuestVirt) -> (usize, usize) {
        let root = self.root(root);
        let below = root.in_use.iter().take_while(|&leaf_index| leaf_index < leaf_index_of::<S>(end));
        let used = below.map(|leaf_index| root.leaves[leaf_index]).filter(|leaf| leaf.is_used());
        used.fold((0, 0), |(pages, tables), leaf| (pages + self.leaf(leaf).in_use.len(), tables + 1))
    }

    /// How many level-1 tables a root has, those of the shared half and the Switcher's excepted.
    #[must_use]
    pub fn leaf_tables(&self, root: RootId) -> usize {
        self.root(root).in_use.len()
    }

    /// Every present entry under a root, the Switcher's excepted, in address order, with the flags of the
    /// directory entry that leads to it, until `visit` has seen enough.
    pub fn visit(
        &self,
        root: RootId,
        part: Part,
        visit: &mut dyn FnMut(GuestVirt, Entry, Flags) -> Progress,
    ) -> Progress {
        let holder = match part {
            Part::Own => self.root(root),
            Part::Shared => match &self.owner {
                Some(owner) => owner,
                None => return Progress::Continue(()),
            },
        };
        for leaf_index in holder.in_use.iter() {
            let leaf = self.leaf(holder.leaves[leaf_index]);
            for index in leaf.in_use.iter() {
                let va = leaf_index as u32 * S::LEAF_SPAN + index as u32 * PAGE_SIZE;
                let entry = S::load(&leaf.page, index);
                // The host may have dropped it.
                if entry.present() {
                    visit(GuestVirt(va), entry, leaf.origin.flags)?;
                }
            }
        }
        Progress::Continue(())
    }
}
