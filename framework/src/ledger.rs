//! What a host has given out to a guest's strategy, and takes back when the strategy does not return it (ARCHITECTURE.md,
//! invariants 4 and 12).
//!
//! A strategy in safe Rust can leak what it holds: by `mem::forget`, by `Box::leak`, or because it was ended in
//! the middle of something. None of that may cost the host a page. So every host keeps a [`Ledger`] of its own, which no
//! strategy sees:
//!
//! * each table page that is out, and whether its entries hold references on the guest's pages. A present entry of a
//!   level-1 table holds one, and nothing else does, since [`tables`](crate::tables) alone writes entries;
//! * the one page that is in transit: pinned, and in no table yet. Since that page borrows the host, there is no second one;
//!   a strategy that takes one while another is noted has leaked the other.
//!
//! When nothing is left of the strategy, the host goes through its ledger and takes back what is in it
//! ([`Host::reclaim`](crate::host::Host::reclaim)).

use alloc::vec::Vec;
use arch_i386::addr::HostFrame;
use arch_i386::paging::{Pae, PageFormat, Paging, TwoLevel};
use arch_i386::table::TablePage;
use core::fmt;
use fallible::OutOfMemory;

/// What a table page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Its entries lead to other tables.
    Directory,
    /// Each of its present entries, in this format, holds a reference on a page of the guest's.
    Level1(Paging),
}

impl TableKind {
    /// Visits every page that a table of this kind holds a reference on.
    pub fn references(self, table: &TablePage, visit: &mut dyn FnMut(HostFrame)) {
        match self {
            Self::Directory => {}
            Self::Level1(Paging::TwoLevel) => references::<TwoLevel>(table, visit),
            Self::Level1(Paging::Pae) => references::<Pae>(table, visit),
        }
    }
}

fn references<S: PageFormat>(table: &TablePage, visit: &mut dyn FnMut(HostFrame)) {
    for entry in (0..S::ENTRIES).map(|index| S::load(table, index)).filter(|entry| entry.present()) {
        visit(HostFrame(entry.frame() as u32));
    }
}

/// What a strategy has leaked, and the host has taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "what was forgotten is a mistake of the strategy's"]
pub struct Forgotten {
    /// Table pages.
    pub tables: u64,
    /// References on the guest's pages.
    pub references: u64,
}

impl Forgotten {
    /// Whether the strategy has given back everything itself.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.tables == 0 && self.references == 0
    }
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} table pages and {} references on the guest's pages", self.tables, self.references)
    }
}

/// A line of the ledger.
#[derive(Debug)]
enum Line {
    Out(TablePage, TableKind),
    /// Free; the next free one.
    Free(u32),
}

/// The end of the list of free lines.
const END: u32 = u32::MAX;

/// No page. (No processor has that many; this is shorter than an option where each page passes.)
const NOTHING: HostFrame = HostFrame(u32::MAX);

/// What one guest's strategy holds of the host's. The host keeps it up to date in the methods of
/// [`PagingHost`](crate::host::PagingHost).
#[derive(Debug)]
pub struct Ledger {
    lines: Vec<Line>,
    free: u32,
    /// [`NOTHING`] if there is none.
    in_transit: HostFrame,
    forgotten: Forgotten,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { lines: Vec::new(), free: END, in_transit: NOTHING, forgotten: Forgotten::default() }
    }
}

impl Ledger {
    /// Makes sure that the next [`Ledger::give_out`] needs no memory.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no memory for another line.
    pub fn reserve(&mut self) -> Result<(), OutOfMemory> {
        if self.free == END { self.lines.try_reserve(1).map_err(|_| OutOfMemory) } else { Ok(()) }
    }

    /// Notes that a table page goes out, after [`Ledger::reserve`]. `second` is a second handle of it. Returns the ticket
    /// that is to be set in the first.
    pub fn give_out(&mut self, second: TablePage, kind: TableKind) -> u32 {
        let line = Line::Out(second, kind);
        match self.lines.get_mut(self.free as usize) {
            Some(free) => {
                let ticket = self.free;
                if let Line::Free(next) = core::mem::replace(free, line) {
                    self.free = next;
                }
                ticket
            }
            None => {
                self.lines.push(line);
                self.lines.len() as u32 - 1
            }
        }
    }

    /// Notes that a table page has come back.
    ///
    /// # Panics
    /// When it was not out.
    pub fn take_back(&mut self, table: &TablePage) {
        let line = &mut self.lines[table.ticket() as usize];
        let Line::Out(second, _) = line else { panic!("{table:?} was not given out") };
        assert!(second.frame() == table.frame(), "{table:?} has the ticket of {second:?}");
        *line = Line::Free(self.free);
        self.free = table.ticket();
    }

    /// Notes that a page is in transit. Returns the one that was before, if it has been forgotten: its reference is to be
    /// given back.
    #[inline]
    #[must_use = "the reference on a page that has been forgotten is to be given back"]
    pub fn depart(&mut self, page: HostFrame) -> Option<HostFrame> {
        let before = self.reclaim_page();
        self.in_transit = page;
        before
    }

    /// Notes that nothing is in transit any more.
    #[inline]
    pub const fn settle(&mut self) {
        self.in_transit = NOTHING;
    }

    /// Takes out the page that is still in transit: its reference is to be given back.
    #[inline]
    #[must_use = "the reference is to be given back"]
    pub fn reclaim_page(&mut self) -> Option<HostFrame> {
        if self.in_transit == NOTHING {
            return None;
        }
        self.forgotten.references += 1;
        Some(core::mem::replace(&mut self.in_transit, NOTHING))
    }

    /// Takes out a table that is still out, by its second handle: the references that it holds are to be given back, then
    /// its page. Nobody may use the first handle any more. Each is found once, in one walk through the ledger.
    pub fn reclaim_table(&mut self) -> Option<(TablePage, TableKind)> {
        while let Some(line) = self.lines.pop() {
            if let Line::Out(table, kind) = line {
                self.forgotten.tables += 1;
                kind.references(&table, &mut |_| self.forgotten.references += 1);
                return Some((table, kind));
            }
        }
        self.free = END;
        None
    }

    /// What has been forgotten until now, which is counted anew from here.
    pub fn take_forgotten(&mut self) -> Forgotten {
        core::mem::take(&mut self.forgotten)
    }
}
