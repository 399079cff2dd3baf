//! What a host has given out to a guest's strategy, and takes back when the strategy does not return it (ARCHITECTURE.md,
//! invariants 4 and 12).
//!
//! A strategy in safe Rust can leak what it holds: by `mem::forget`, by `Box::leak`, or because it was ended in
//! the middle of something. None of that may cost the host a page. So every host keeps a [`Ledger`] of its own, which no
//! strategy sees:
//!
//! each table page that is out, and whether its entries map pages of the guest's.
//!
//! The ledger is also by what a host keeps shadow entries right without any strategy's help: when a frame no longer holds
//! a page of the guest's, the host [drops](Ledger::drop_stale) each entry of the frame in every level-1 table that is out.
//!
//! When nothing is left of the strategy, the host goes through its ledger and takes back what is in it
//! ([`Host::reclaim`](crate::host::Host::reclaim)).

use crate::stale::StaleSet;
use alloc::vec::Vec;
use arch_i386::addr::HostFrame;
use arch_i386::paging::{Entry, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::table::TablePage;
use core::fmt;
use fallible::OutOfMemory;

/// What a table page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Its entries lead to other tables, and CR3 may point at it.
    Root,
    /// Its entries lead to other tables.
    Directory,
    /// Each of its present entries, in this format, maps a page of the guest's.
    Level1(Paging),
}

/// Clears the entries of stale frames; returns how many there were.
fn drop_from<S: PageFormat>(table: &mut TablePage, stale: &StaleSet) -> u64 {
    let mut dropped = 0;
    for index in 0..S::ENTRIES {
        let entry = S::load(table, index);
        if entry.present() && stale.contains(HostFrame(entry.frame() as u32)) {
            S::store(table, index, Entry::EMPTY);
            dropped += 1;
        }
    }
    dropped
}

/// What a strategy has leaked, and the host has taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "what was forgotten is a mistake of the strategy's"]
pub struct Forgotten {
    /// Table pages.
    pub tables: u64,
}

impl Forgotten {
    /// Whether the strategy has given back everything itself.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.tables == 0
    }
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} table pages", self.tables)
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

/// What one guest's strategy holds of the host's. The host keeps it up to date in the methods of
/// [`PagingHost`](crate::host::PagingHost).
#[derive(Debug)]
pub struct Ledger {
    lines: Vec<Line>,
    free: u32,
    forgotten: Forgotten,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { lines: Vec::new(), free: END, forgotten: Forgotten::default() }
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

    /// Notes that a table page has come back, and returns what it was for.
    ///
    /// # Panics
    /// When it was not out.
    pub fn take_back(&mut self, table: &TablePage) -> TableKind {
        let line = &mut self.lines[table.ticket() as usize];
        let &mut Line::Out(ref second, kind) = line else { panic!("{table:?} was not given out") };
        assert!(second.frame() == table.frame(), "{table:?} has the ticket of {second:?}");
        *line = Line::Free(self.free);
        self.free = table.ticket();
        kind
    }

    /// Drops each entry of the tables that are out whose frame is stale, and returns how many there were. Nothing of the
    /// strategy is at work. `point` is called after each table.
    pub fn drop_stale(&mut self, stale: &StaleSet, mut point: impl FnMut()) -> u64 {
        let mut dropped = 0;
        for line in &mut self.lines {
            if let Line::Out(table, TableKind::Level1(format)) = line {
                dropped += match format {
                    Paging::TwoLevel => drop_from::<TwoLevel>(table, stale),
                    Paging::Pae => drop_from::<Pae>(table, stale),
                };
                point();
            }
        }
        dropped
    }

    /// How many table pages are out.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.lines.iter().filter(|line| matches!(line, Line::Out(..))).count()
    }

    /// How many entries map something in the tables that are out.
    #[must_use]
    pub fn entries(&self) -> usize {
        fn present<S: PageFormat>(table: &TablePage) -> usize {
            (0..S::ENTRIES).filter(|&index| S::load(table, index).present()).count()
        }
        let entries = self.lines.iter().map(|line| match line {
            Line::Out(table, TableKind::Level1(Paging::TwoLevel)) => present::<TwoLevel>(table),
            Line::Out(table, TableKind::Level1(Paging::Pae)) => present::<Pae>(table),
            Line::Out(_, TableKind::Root | TableKind::Directory) | Line::Free(_) => 0,
        });
        entries.sum()
    }

    /// Takes out a table that is still out, by its second handle, with what it was for. Nobody may use the first handle any more. Each is found
    /// once, in one walk through the ledger.
    pub fn reclaim_table(&mut self) -> Option<(TablePage, TableKind)> {
        while let Some(line) = self.lines.pop() {
            if let Line::Out(table, kind) = line {
                self.forgotten.tables += 1;
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
