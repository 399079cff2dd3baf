//! The shadow page tables themselves: a guest's table pages and how they hang together.
//!
//! A shadow root is a tree of [`TablePage`]s that the processor walks. Beside each page a [`Node`] keeps
//! what the processor does not need and the pager does: which entries are in use (so that releasing a
//! table touches only those) and, for a table of tables, which node each entry leads to (so that no
//! physical address has ever to be turned back into a pointer).
//!
//! ```text
//!   root node ── entry i ──▶ node ── entry j ──▶ guest page       (2-level)
//!   root node ── entry i ──▶ node ── entry j ──▶ node ── … ──▶ guest page      (PAE)
//!        └────── the window's entry ──▶ the Switcher's table, not a node: shared by all roots
//! ```

use crate::host::{OutOfMemory, PagingHost};
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch_i386::addr::{GuestVirt, HostFrame};
use arch_i386::paging::{Entry, Flags, PageFormat};
use arch_i386::table::TablePage;
use core::marker::PhantomData;

use crate::strategy::{Lookup, SwitcherWindow};

/// Names a node of one guest's [`Tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u16);

impl NodeId {
    /// No node.
    const NONE: Self = Self(u16::MAX);
}

/// A set of entry numbers of one table.
#[derive(Clone, Debug, Default)]
struct InUse([u32; 32]);

impl InUse {
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

/// One table page and what is known about it.
#[derive(Debug)]
struct Node {
    page: TablePage,
    /// The present entries, the window's excepted.
    in_use: InUse,
    /// For a table of tables: where each entry leads. Empty for a level-1 table.
    children: Box<[NodeId]>,
}

/// All shadow tables of one guest, in one page format.
#[derive(Debug)]
pub struct Tables<F> {
    nodes: Vec<Option<Node>>,
    /// Unused places in `nodes`.
    free: Vec<NodeId>,
    window: SwitcherWindow,
    /// Shadow entries released since the count was last taken.
    released: u64,
    format: PhantomData<F>,
}

/// Flags of an entry that leads to a table which the processor may use for anything.
const TABLE_FLAGS: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::ACCESSED);

impl<F: PageFormat> Tables<F> {
    /// No tables yet.
    #[must_use]
    pub fn new(window: SwitcherWindow) -> Self {
        assert!(
            window.start.0.is_multiple_of(F::LEAF_SPAN),
            "the Switcher's window {window:?} must start at a multiple of {:#x}",
            F::LEAF_SPAN
        );
        Self { nodes: Vec::new(), free: Vec::new(), window, released: 0, format: PhantomData }
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

    fn node(&self, id: NodeId) -> &Node {
        self.nodes[usize::from(id.0)].as_ref().expect("a node id outlives its node")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[usize::from(id.0)].as_mut().expect("a node id outlives its node")
    }

    /// The page that the processor walks.
    #[must_use]
    pub fn frame(&self, id: NodeId) -> HostFrame {
        self.node(id).page.frame()
    }

    /// Adds an empty table of `children` tables, or of pages when that is 0.
    fn add(&mut self, host: &mut dyn PagingHost, children: usize) -> Result<NodeId, OutOfMemory> {
        let mut links = Vec::new();
        links.try_reserve_exact(children).map_err(|_| OutOfMemory)?;
        links.resize(children, NodeId::NONE);
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = u16::try_from(self.nodes.len()).map_err(|_| OutOfMemory)?;
                if NodeId(id) == NodeId::NONE {
                    return Err(OutOfMemory);
                }
                // `free` may have to name every node one day, and that day must not need memory.
                self.nodes.try_reserve(1).map_err(|_| OutOfMemory)?;
                let capacity = self.nodes.capacity();
                self.free.try_reserve(capacity).map_err(|_| OutOfMemory)?;
                self.nodes.push(None);
                NodeId(id)
            }
        };
        match host.alloc_table() {
            Ok(page) => {
                let node = Node { page, in_use: InUse::default(), children: links.into_boxed_slice() };
                self.nodes[usize::from(id.0)] = Some(node);
                Ok(id)
            }
            Err(error) => {
                self.free.push(id);
                Err(error)
            }
        }
    }

    /// Adds a table that an entry of `parent` leads to.
    fn add_child(
        &mut self,
        host: &mut dyn PagingHost,
        parent: NodeId,
        index: usize,
        level: usize,
        flags: Flags,
    ) -> Result<NodeId, OutOfMemory> {
        let child = self.add(host, if level > 1 { F::ENTRIES } else { 0 })?;
        let frame = self.frame(child);
        let parent = self.node_mut(parent);
        F::store(&mut parent.page, index, Entry::new(frame.0.into(), flags));
        parent.in_use.insert(index);
        parent.children[index] = child;
        Ok(child)
    }

    /// The node that an entry leads to, if it is in use.
    fn child(&self, parent: NodeId, index: usize) -> Option<NodeId> {
        let child = self.node(parent).children[index];
        (child != NodeId::NONE).then_some(child)
    }

    /// A new root with nothing in it but the Switcher.
    ///
    /// # Errors
    /// [`OutOfMemory`]; nothing is left behind.
    pub fn add_root(&mut self, host: &mut dyn PagingHost) -> Result<NodeId, OutOfMemory> {
        let root = self.add(host, F::ROOT_ENTRIES)?;
        match self.map_window(host, root) {
            Ok(()) => Ok(root),
            Err(error) => {
                self.free_node(host, root);
                Err(error)
            }
        }
    }

    /// Leads the window's entry of a root to the Switcher's table. With PAE that takes a table between.
    fn map_window(&mut self, host: &mut dyn PagingHost, root: NodeId) -> Result<(), OutOfMemory> {
        let SwitcherWindow { start, leaf } = self.window;
        let mut table = root;
        for level in (3..=F::LEVELS).rev() {
            table = self.add_child(host, table, F::index(start, level), level - 1, F::ROOT_FLAGS)?;
        }
        let entry = Entry::new(leaf.0.into(), TABLE_FLAGS);
        F::store(&mut self.node_mut(table).page, F::index(start, 2), entry);
        Ok(())
    }

    /// The level-1 table for an address below the window, if it is there.
    fn leaf(&self, root: NodeId, va: GuestVirt) -> Option<NodeId> {
        let mut table = root;
        for level in (2..=F::LEVELS).rev() {
            table = self.child(table, F::index(va, level))?;
        }
        Some(table)
    }

    /// The level-1 table for an address below the window; missing levels are made, with the flags given
    /// for each, root first.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn leaf_or_add(
        &mut self,
        host: &mut dyn PagingHost,
        root: NodeId,
        va: GuestVirt,
        flags: [Flags; 2],
    ) -> Result<NodeId, OutOfMemory> {
        debug_assert!(va < self.window.start);
        let mut table = root;
        for (level, flags) in (2..=F::LEVELS).rev().zip(flags) {
            let index = F::index(va, level);
            table = match self.child(table, index) {
                Some(child) => child,
                None => self.add_child(host, table, index, level - 1, flags)?,
            };
        }
        Ok(table)
    }

    /// The shadow entry for an address below the window, if its table is there.
    #[must_use]
    pub fn entry(&self, root: NodeId, va: GuestVirt) -> Option<Entry> {
        let leaf = self.leaf(root, va)?;
        Some(F::load(&self.node(leaf).page, F::index(va, 1)))
    }

    /// Puts an entry (or nothing) in the place of another, whose page is released. The table must be
    /// the address's own; see [`Tables::leaf_or_add`].
    pub fn replace(&mut self, host: &mut dyn PagingHost, leaf: NodeId, va: GuestVirt, entry: Entry) {
        let index = F::index(va, 1);
        let node = self.node_mut(leaf);
        let old = F::load(&node.page, index);
        F::store(&mut node.page, index, entry);
        if entry.present() {
            node.in_use.insert(index);
        } else {
            node.in_use.remove(index);
        }
        if old.present() {
            self.released += 1;
            host.unpin(HostFrame(old.frame() as u32));
        }
    }

    /// As [`Tables::replace`], for an address whose table may not be there: then nothing happens. `entry`
    /// is asked for only if it is.
    ///
    /// # Errors
    /// Whatever `entry` returns; the old entry is gone all the same.
    pub fn replace_if_tabled<E>(
        &mut self,
        host: &mut dyn PagingHost,
        root: NodeId,
        va: GuestVirt,
        entry: impl FnOnce(&mut dyn PagingHost) -> Result<Entry, E>,
    ) -> Result<(), E> {
        let Some(leaf) = self.leaf(root, va) else { return Ok(()) };
        self.replace(host, leaf, va, Entry::EMPTY);
        let entry = entry(host)?;
        self.replace(host, leaf, va, entry);
        Ok(())
    }

    /// Releases all that the root's entries in this range map. The Switcher stays.
    pub fn release_range(
        &mut self,
        host: &mut dyn PagingHost,
        root: NodeId,
        indices: core::ops::Range<usize>,
    ) {
        self.release_children(host, root, indices, F::LEVELS);
    }

    /// Releases the children that some entries of a table lead to.
    fn release_children(
        &mut self,
        host: &mut dyn PagingHost,
        parent: NodeId,
        indices: core::ops::Range<usize>,
        level: usize,
    ) {
        let mut from = indices.start;
        while let Some(index) = self.node(parent).in_use.next(from).filter(|&i| i < indices.end) {
            from = index + 1;
            let child = self.node(parent).children[index];
            if level > 2 {
                self.release_children(host, child, 0..F::ENTRIES, level - 1);
            } else {
                self.release_pages(host, child);
            }
            // A table that leads to the Switcher stays, with only that in it.
            if level <= 2 || index != F::index(self.window.start, level) {
                let node = self.node_mut(parent);
                F::store(&mut node.page, index, Entry::EMPTY);
                node.in_use.remove(index);
                node.children[index] = NodeId::NONE;
                self.free_node(host, child);
            }
        }
    }

    /// Releases all pages that a level-1 table maps.
    fn release_pages(&mut self, host: &mut dyn PagingHost, leaf: NodeId) {
        let node = self.nodes[usize::from(leaf.0)].as_mut().expect("a node id outlives its node");
        let mut from = 0;
        while let Some(index) = node.in_use.next(from) {
            from = index + 1;
            let old = F::load(&node.page, index);
            F::store(&mut node.page, index, Entry::EMPTY);
            host.unpin(HostFrame(old.frame() as u32));
            self.released += 1;
        }
        node.in_use = InUse::default();
    }

    /// Gives a root and everything under it back.
    pub fn remove_root(&mut self, host: &mut dyn PagingHost, root: NodeId) {
        self.release_range(host, root, 0..F::ROOT_ENTRIES);
        for level in (3..=F::LEVELS).rev() {
            if let Some(table) = self.child(root, F::index(self.window.start, level)) {
                self.free_node(host, table);
            }
        }
        self.free_node(host, root);
    }

    fn free_node(&mut self, host: &mut dyn PagingHost, id: NodeId) {
        let node = self.nodes[usize::from(id.0)].take().expect("a node id outlives its node");
        self.free.push(id);
        host.free_table(node.page);
    }

    /// What a root holds for an address below the window, if every level is present.
    #[must_use]
    pub fn lookup(&self, root: NodeId, va: GuestVirt) -> Option<Lookup> {
        let (mut user, mut writable) = (true, true);
        let mut table = root;
        for level in (1..=F::LEVELS).rev() {
            let index = F::index(va, level);
            let entry = F::load(&self.node(table).page, index);
            if !entry.present() {
                return None;
            }
            // A PAE root entry has no rights to give.
            if level < 3 {
                user &= entry.has(Flags::USER_ACCESSIBLE);
                writable &= entry.has(Flags::WRITABLE);
            }
            if level == 1 {
                return Some(Lookup { entry, user, writable });
            }
            table = self.child(table, index)?;
        }
        None
    }

    /// Every present entry under a root, the Switcher's excepted, in address order.
    pub fn visit(&self, root: NodeId, visit: &mut dyn FnMut(GuestVirt, Entry)) {
        self.visit_node(root, F::LEVELS, 0, visit);
    }

    fn visit_node(&self, id: NodeId, level: usize, base: u32, visit: &mut dyn FnMut(GuestVirt, Entry)) {
        let node = self.node(id);
        let span = match level {
            1 => arch_i386::addr::PAGE_SIZE,
            2 => F::LEAF_SPAN,
            _ => F::LEAF_SPAN * F::ENTRIES as u32,
        };
        let mut from = 0;
        while let Some(index) = node.in_use.next(from) {
            from = index + 1;
            let start = base + span * index as u32;
            if level == 1 {
                visit(GuestVirt(start), F::load(&node.page, index));
            } else {
                self.visit_node(node.children[index], level - 1, start, visit);
            }
        }
    }
}
