//! The shadow page tables themselves: a guest's table pages and how they hang together.
//!
//! What the processor walks is a tree of [`TablePage`]s. Beside it the pager keeps what it needs itself
//! and the processor does not, so that no physical address has ever to be turned back into a pointer,
//! and releasing a table touches only the entries in use:
//!
//! ```text
//!   Root ── leaves[va / LEAF_SPAN] ──▶ Leaf ── page[…] ──▶ a page of the guest's
//!    │                                  └ in_use, flags
//!    ├ page, and with PAE up to four middle pages: the directory entries that lead to each leaf
//!    └ one directory entry, the window's, leads to the Switcher's table: shared by all roots, no Leaf
//! ```
//!
//! Two page formats meet here: the shadow's, which is the host's, and that of the guest's tables, which
//! the shadow stands for. A root has one *place* for each level-1 table that it can have, 1024 with two
//! levels and 2048 with PAE; what an entry of the guest's covers is a number of places:
//!
//! | guest on host | root entry | level-1 table |
//! | --- | --- | --- |
//! | 2-level on 2-level | 1 | 1 |
//! | PAE on PAE | 512 | 1 |
//! | 2-level on PAE | 2 | 2 |
//!
//! (PAE on 2-level is not served: one level-1 table would stand for two, whose rights may differ.) The
//! middle pages of PAE appear and go with the leaves under them.

use crate::host::{OutOfMemory, PagingHost};
use crate::strategy::{Lookup, SwitcherWindow};
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch_i386::addr::{GuestVirt, HostFrame, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, PageFormat};
use arch_i386::table::TablePage;
use core::marker::PhantomData;
use core::ops::Range;

/// Names a shadow root of one guest's [`Tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootId(u16);

/// Names a level-1 table of one guest's [`Tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafId(u16);

impl LeafId {
    /// No table.
    const NONE: Self = Self(u16::MAX);
}

/// A set of numbers below `32 * WORDS`.
#[derive(Clone, Debug)]
struct InUse<const WORDS: usize>([u32; WORDS]);

impl<const WORDS: usize> InUse<WORDS> {
    const EMPTY: Self = Self([0; WORDS]);

    fn insert(&mut self, i: usize) {
        self.0[i / 32] |= 1 << (i % 32);
    }

    fn remove(&mut self, i: usize) {
        self.0[i / 32] &= !(1 << (i % 32));
    }

    /// The lowest member that is at least `from`.
    fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / 32;
        let mut bits = self.0.get(word)? & (u32::MAX << (from % 32));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some(word * 32 + bits.trailing_zeros() as usize)
    }
}

/// A level-1 table.
#[derive(Debug)]
struct Leaf {
    page: TablePage,
    /// The present entries.
    in_use: InUse<32>,
    /// Those of the directory entry that leads here.
    flags: Flags,
}

/// A shadow page directory.
#[derive(Debug)]
struct Root {
    page: TablePage,
    /// With PAE, the table behind each entry of `page`.
    middles: [Option<TablePage>; 4],
    /// For each [`PageFormat::LEAF_SPAN`] of address space, its table.
    leaves: Box<[LeafId]>,
    /// The places of `leaves` that have one.
    in_use: InUse<64>,
}

/// All shadow tables of one guest, in the format `S`, standing for tables in the format `G`.
#[derive(Debug)]
pub struct Tables<G, S> {
    roots: Vec<Option<Root>>,
    leaves: Vec<Option<Leaf>>,
    /// Unused places in `leaves`.
    free: Vec<LeafId>,
    window: SwitcherWindow,
    released: u64,
    formats: PhantomData<(G, S)>,
}

/// Flags of the entry that leads to the Switcher's table.
const WINDOW_FLAGS: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::ACCESSED);

/// The place of an address in [`Root::leaves`].
fn place<S: PageFormat>(va: GuestVirt) -> usize {
    (va.0 / S::LEAF_SPAN) as usize
}

/// The places of a root.
const fn places<S: PageFormat>() -> usize {
    ((u32::MAX / S::LEAF_SPAN) + 1) as usize
}

impl Root {
    /// The page with the directory entries for a place, if it is there.
    fn directory<S: PageFormat>(&mut self, place: usize) -> Option<&mut TablePage> {
        match S::LEVELS {
            3 => self.middles[place / S::ENTRIES].as_mut(),
            _ => Some(&mut self.page),
        }
    }

    /// Makes the directory entry that leads to a level-1 table, and with PAE the table that it is in.
    fn link<S: PageFormat>(
        &mut self,
        host: &mut dyn PagingHost,
        place: usize,
        table: HostFrame,
        flags: Flags,
    ) -> Result<(), OutOfMemory> {
        if S::LEVELS == 3 {
            let index = place / S::ENTRIES;
            if self.middles[index].is_none() {
                let middle = host.alloc_table()?;
                S::store(&mut self.page, index, Entry::new(middle.frame().0.into(), S::ROOT_FLAGS));
                self.middles[index] = Some(middle);
            }
        }
        if let Some(page) = self.directory::<S>(place) {
            S::store(page, place % S::ENTRIES, Entry::new(table.0.into(), flags));
        }
        Ok(())
    }

    /// Gives the middle page of a root entry back.
    fn free_middle<S: PageFormat>(&mut self, host: &mut dyn PagingHost, index: usize) {
        if let Some(middle) = self.middles.get_mut(index).and_then(Option::take) {
            S::store(&mut self.page, index, Entry::EMPTY);
            host.free_table(middle);
        }
    }
}

impl Leaf {
    /// Puts an entry in the place of another; the old one is returned.
    fn replace<S: PageFormat>(&mut self, index: usize, entry: Entry) -> Entry {
        let old = S::load(&self.page, index);
        S::store(&mut self.page, index, entry);
        if entry.present() {
            self.in_use.insert(index);
        } else {
            self.in_use.remove(index);
        }
        old
    }
}

/// Lets go of the page that an entry mapped, if any; says how many that were.
fn release(host: &mut dyn PagingHost, entry: Entry) -> u64 {
    if entry.present() {
        host.unpin(HostFrame(entry.frame() as u32));
    }
    entry.present().into()
}

impl<G: PageFormat, S: PageFormat> Tables<G, S> {
    /// No tables yet.
    ///
    /// # Panics
    /// When the window does not start where a level-1 table's span does.
    #[must_use]
    pub fn new(window: SwitcherWindow) -> Self {
        assert!(
            window.start.0.is_multiple_of(S::LEAF_SPAN),
            "the Switcher's window {window:?} must start at a multiple of {:#x}",
            S::LEAF_SPAN
        );
        let (roots, leaves, free) = (Vec::new(), Vec::new(), Vec::new());
        Self { roots, leaves, free, window, released: 0, formats: PhantomData }
    }

    /// Where the Switcher is.
    #[must_use]
    pub fn window(&self) -> SwitcherWindow {
        self.window
    }

    /// How many shadow entries have been released, each with its page.
    #[must_use]
    pub fn released(&self) -> u64 {
        self.released
    }

    fn root(&self, id: RootId) -> &Root {
        self.roots[usize::from(id.0)].as_ref().expect("a root's name is forgotten before the root")
    }

    fn root_mut(&mut self, id: RootId) -> &mut Root {
        self.roots[usize::from(id.0)].as_mut().expect("a root's name is forgotten before the root")
    }

    fn leaf(&self, id: LeafId) -> &Leaf {
        self.leaves[usize::from(id.0)].as_ref().expect("a table's name is forgotten before the table")
    }

    fn leaf_mut(&mut self, id: LeafId) -> &mut Leaf {
        self.leaves[usize::from(id.0)].as_mut().expect("a table's name is forgotten before the table")
    }

    /// The page that CR3 is to point at.
    #[must_use]
    pub fn frame(&self, root: RootId) -> HostFrame {
        self.root(root).page.frame()
    }

    /// A new root with nothing in it but the Switcher.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing is left behind.
    pub fn add_root(&mut self, host: &mut dyn PagingHost) -> Result<RootId, OutOfMemory> {
        let mut leaves = Vec::new();
        leaves.try_reserve_exact(places::<S>()).map_err(|_| OutOfMemory)?;
        leaves.resize(places::<S>(), LeafId::NONE);
        self.roots.try_reserve(1).map_err(|_| OutOfMemory)?;
        let id = RootId(u16::try_from(self.roots.len()).map_err(|_| OutOfMemory)?);

        let page = host.alloc_table()?;
        let leaves = leaves.into_boxed_slice();
        let mut root = Root { page, middles: [const { None }; 4], leaves, in_use: InUse::EMPTY };
        let window = self.window;
        if let Err(error) = root.link::<S>(host, place::<S>(window.start), window.leaf, WINDOW_FLAGS) {
            host.free_table(root.page);
            return Err(error);
        }
        self.roots.push(Some(root));
        Ok(id)
    }

    /// The level-1 table for an address below the window, if it is there.
    #[inline]
    fn find(&self, root: RootId, va: GuestVirt) -> Option<LeafId> {
        let leaf = self.root(root).leaves[place::<S>(va)];
        (leaf != LeafId::NONE).then_some(leaf)
    }

    /// The level-1 table for an address below the window; it is made if need be, and the directory
    /// entry that leads to it gets `flags`.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    #[inline]
    pub fn find_or_add(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        va: GuestVirt,
        flags: Flags,
    ) -> Result<LeafId, OutOfMemory> {
        debug_assert!(va < self.window.start);
        match self.find(root, va) {
            Some(leaf) => Ok(leaf),
            None => self.add_leaf(host, root, place::<S>(va), flags),
        }
    }

    fn add_leaf(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        place: usize,
        flags: Flags,
    ) -> Result<LeafId, OutOfMemory> {
        if self.free.is_empty() {
            let id = u16::try_from(self.leaves.len()).map_err(|_| OutOfMemory)?;
            if LeafId(id) == LeafId::NONE {
                return Err(OutOfMemory);
            }
            self.leaves.try_reserve(1).map_err(|_| OutOfMemory)?;
            // `free` may have to name every table one day, and that day must not need memory.
            self.free.try_reserve(self.leaves.capacity()).map_err(|_| OutOfMemory)?;
            self.leaves.push(None);
            self.free.push(LeafId(id));
        }
        let page = host.alloc_table()?;
        if let Err(error) = self.root_mut(root).link::<S>(host, place, page.frame(), flags) {
            host.free_table(page);
            return Err(error);
        }
        let leaf = Leaf { page, in_use: InUse::EMPTY, flags };
        let id = self.free.pop().expect("a place was made above");
        self.leaves[usize::from(id.0)] = Some(leaf);
        let root = self.root_mut(root);
        root.leaves[place] = id;
        root.in_use.insert(place);
        Ok(id)
    }

    /// The shadow entry for an address below the window, if its table is there.
    #[inline]
    #[must_use]
    pub fn entry(&self, root: RootId, va: GuestVirt) -> Option<Entry> {
        self.find(root, va).map(|leaf| S::load(&self.leaf(leaf).page, S::index(va, 1)))
    }

    /// Puts an entry (or nothing) in the place of another, whose page is released. The table must be
    /// the address's own; see [`Tables::find_or_add`].
    #[inline]
    pub fn replace(&mut self, host: &mut dyn PagingHost, leaf: LeafId, va: GuestVirt, entry: Entry) {
        let old = self.leaf_mut(leaf).replace::<S>(S::index(va, 1), entry);
        self.released += release(host, old);
    }

    /// As [`Tables::replace`], for an address whose guest's table may have no shadow: then nothing
    /// happens, and `entry` is not asked for.
    ///
    /// # Errors
    /// Whatever `entry` returns; the old entry is gone all the same.
    pub fn replace_if_tabled<E>(
        &mut self,
        host: &mut dyn PagingHost,
        root: RootId,
        va: GuestVirt,
        entry: impl FnOnce(&mut dyn PagingHost) -> Result<Entry, E>,
    ) -> Result<(), E> {
        let Some(leaf) = self.find_or_complete(host, root, va) else { return Ok(()) };
        let new = entry(host);
        self.replace(host, leaf, va, *new.as_ref().unwrap_or(&Entry::EMPTY));
        new.map(drop)
    }

    /// The level-1 table for an address below the window, if the guest's table for it has a shadow. Where
    /// that takes two tables and only the other is there, this one is made (memory permitting), so that
    /// the guest sees no difference between the formats.
    fn find_or_complete(&mut self, host: &mut dyn PagingHost, root: RootId, va: GuestVirt) -> Option<LeafId> {
        let found = self.find(root, va);
        if G::LEAF_SPAN <= S::LEAF_SPAN || found.is_some() {
            return found;
        }
        let (place, other) = (place::<S>(va), self.find(root, GuestVirt(va.0 ^ S::LEAF_SPAN))?);
        let flags = self.leaf(other).flags;
        self.add_leaf(host, root, place, flags).ok()
    }

    /// Releases all that these entries of the guest's root map. The Switcher stays.
    pub fn release_entries(&mut self, host: &mut dyn PagingHost, root: RootId, indices: Range<usize>) {
        let per_entry = places::<S>() / G::ROOT_ENTRIES;
        let end = indices.end * per_entry;
        let start = indices.start * per_entry;
        let mut from = start;
        while let Some(place) = self.root(root).in_use.next(from).filter(|&place| place < end) {
            from = place + 1;
            self.remove_leaf(host, root, place);
        }
        if S::LEVELS == 3 {
            let window = place::<S>(self.window.start) / S::ENTRIES;
            let whole = start.div_ceil(S::ENTRIES)..end / S::ENTRIES;
            for index in whole.filter(|&index| index != window) {
                self.root_mut(root).free_middle::<S>(host, index);
            }
        }
    }

    /// Releases all that a level-1 table maps, and the table.
    fn remove_leaf(&mut self, host: &mut dyn PagingHost, root: RootId, place: usize) {
        let root = self.root_mut(root);
        if let Some(page) = root.directory::<S>(place) {
            S::store(page, place % S::ENTRIES, Entry::EMPTY);
        }
        root.in_use.remove(place);
        let id = core::mem::replace(&mut root.leaves[place], LeafId::NONE);
        let leaf = self.leaves[usize::from(id.0)].take().expect("a table is forgotten once");
        self.free.push(id);

        let mut from = 0;
        while let Some(index) = leaf.in_use.next(from) {
            from = index + 1;
            self.released += release(host, S::load(&leaf.page, index));
        }
        host.free_table(leaf.page);
    }

    /// Gives a root and everything under it back.
    pub fn remove_root(&mut self, host: &mut dyn PagingHost, id: RootId) {
        self.release_entries(host, id, 0..G::ROOT_ENTRIES);
        let mut root = self.roots[usize::from(id.0)].take().expect("a root is removed once");
        // The window's is left.
        for index in 0..root.middles.len() {
            root.free_middle::<S>(host, index);
        }
        host.free_table(root.page);
    }

    /// What a root holds for an address below the window, if every level is present.
    #[inline]
    #[must_use]
    pub fn lookup(&self, root: RootId, va: GuestVirt) -> Option<Lookup> {
        let leaf = self.leaf(self.find(root, va)?);
        let entry = S::load(&leaf.page, S::index(va, 1));
        entry.present().then(|| Lookup {
            entry,
            user: leaf.flags.contains(Flags::USER_ACCESSIBLE) && entry.has(Flags::USER_ACCESSIBLE),
            writable: leaf.flags.contains(Flags::WRITABLE) && entry.has(Flags::WRITABLE),
        })
    }

    /// Every present entry under a root, the Switcher's excepted, in address order.
    pub fn visit(&self, root: RootId, visit: &mut dyn FnMut(GuestVirt, Entry)) {
        let root = self.root(root);
        let mut from = 0;
        while let Some(place) = root.in_use.next(from) {
            from = place + 1;
            let leaf = self.leaf(root.leaves[place]);
            let mut from = 0;
            while let Some(index) = leaf.in_use.next(from) {
                from = index + 1;
                let va = place as u32 * S::LEAF_SPAN + index as u32 * PAGE_SIZE;
                visit(GuestVirt(va), S::load(&leaf.page, index));
            }
        }
    }
}
