//! The page tables of a process, in both formats, and the notifications of changes to the host.
//!
//! The guest's tables are ordinary memory that the processor never sees: the host builds the real ones
//! from them. So every change is two steps, as in an i386 Linux guest: store the entry, then notify the host
//! which one changed. The notifications, by level:
//!
//! | what changed | 2-level | PAE |
//! | --- | --- | --- |
//! | an entry that maps a page | `SET_PTE` | `SET_PTE` |
//! | an entry that leads to a table of those | `SET_PGD` | `SET_PMD` |
//! | an entry of the four-entry root | – | `SET_PGD` |
//!
//! [`PageTables`] is written once for both formats; [`AnyPageTables`] chooses between them at run time, as
//! one kernel image serves both.
//!
//! The kernel's half is shared. Its level-1 tables are all made at boot and never change place, so with two
//! levels the root's upper entries are copied, and with PAE root entry 3 leads to the same directory.

use crate::frames::{Frames, OutOfFrames};
use crate::layout::{KERNEL_BASE, SCRATCH_PAGES, scratch_base};
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, PAGE_SHIFT, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags, Pae, PageFormat, Paging, TwoLevel};
use core::convert::Infallible;
use core::marker::PhantomData;
use core::ops::Range;

/// What page tables need from the machine: physical memory, and a host that is notified.
pub trait Machine {
    /// Reads an aligned word of RAM.
    fn read(&self, at: GuestPhys) -> u32;
    /// Writes an aligned word of RAM.
    fn write(&mut self, at: GuestPhys, word: u32);
    /// Makes a page zero.
    fn zero(&mut self, frame: GuestFrame);
    /// `SET_PTE`: in the page directory `root`, `va` is now mapped by `entry`.
    fn set_pte(&mut self, root: GuestPhys, va: GuestVirt, entry: Entry);
    /// `SET_PGD`: entry `index` of the root at `root` has changed.
    fn set_pgd(&mut self, root: GuestPhys, index: u32);
    /// `SET_PMD`: entry `index` of the middle directory at `directory` has changed.
    fn set_pmd(&mut self, directory: GuestPhys, index: u32);
}

/// Flags of a kernel page: accessed and dirty from the start, as Linux does, so that the host need not
/// find out.
pub const KERNEL_PAGE: Flags =
    Flags::PRESENT.union(Flags::WRITABLE).union(Flags::ACCESSED).union(Flags::DIRTY);

/// The page tables of one address space, owned: give them back with [`PageTables::free`].
#[derive(Debug)]
pub struct PageTables<F> {
    root: GuestFrame,
    /// Level-1 tables made since the lower half was empty. (Those of the kernel stay, and do not matter.)
    made: u32,
    format: PhantomData<F>,
}

impl<F: PageFormat> PageTables<F> {
    /// The kernel's own tables: all of `ram` bytes from [`KERNEL_BASE`] on, and tables for the scratch area.
    pub fn kernel(
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
        ram: u32,
    ) -> Result<Self, OutOfFrames> {
        let mut tables = Self::with_private_directories(machine, frames, true)?;
        for page in 0..ram >> PAGE_SHIFT {
            let va = GuestVirt(KERNEL_BASE + (page << PAGE_SHIFT));
            let at = tables.slot_or_new_table(machine, frames, va)?;
            store::<F>(machine, at, Entry::new(page.into(), KERNEL_PAGE));
        }
        for page in 0..SCRATCH_PAGES {
            let va = GuestVirt(scratch_base(ram).0 + (page << PAGE_SHIFT));
            tables.slot_or_new_table(machine, frames, va)?;
        }
        Ok(tables)
    }

    /// Tables with an empty lower half and the upper half of `kernel`.
    pub fn new(
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
        kernel: &Self,
    ) -> Result<Self, OutOfFrames> {
        let tables = Self::with_private_directories(machine, frames, false)?;
        let first_shared = F::index(GuestVirt(KERNEL_BASE), F::LEVELS);
        for index in first_shared..F::ROOT_ENTRIES {
            let entry = load::<F>(machine, entry_at::<F>(kernel.root, index));
            if entry.present() {
                store::<F>(machine, entry_at::<F>(tables.root, index), entry);
                machine.set_pgd(tables.root.start(), index as u32);
            }
        }
        Ok(tables)
    }

    /// A root and, with PAE, the middle directories that are not shared. They are there from the start,
    /// because a processor reads a PAE root only when it is loaded.
    fn with_private_directories(
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
        kernel_half: bool,
    ) -> Result<Self, OutOfFrames> {
        let tables = Self { root: new_table(machine, frames)?, made: 0, format: PhantomData };
        if F::LEVELS > 2 {
            let private =
                if kernel_half { F::ROOT_ENTRIES } else { F::index(GuestVirt(KERNEL_BASE), F::LEVELS) };
            for index in 0..private {
                match new_table(machine, frames) {
                    Ok(directory) => {
                        let entry = Entry::new(directory.0.into(), F::ROOT_FLAGS);
                        store::<F>(machine, entry_at::<F>(tables.root, index), entry);
                        machine.set_pgd(tables.root.start(), index as u32);
                    }
                    Err(out) => {
                        tables.free(machine, frames);
                        return Err(out);
                    }
                }
            }
        }
        Ok(tables)
    }

    /// Where the root is: the argument of `NEW_PGTABLE`.
    #[must_use]
    pub fn root(&self) -> GuestPhys {
        self.root.start()
    }

    /// The entry that maps `va`; empty when there is not even a table for it.
    #[must_use]
    pub fn entry(&self, machine: &impl Machine, va: GuestVirt) -> Entry {
        self.leaf_table(machine, va).map_or(Entry::EMPTY, |table| load::<F>(machine, leaf_at::<F>(table, va)))
    }

    /// Maps `va` by `entry`, or unmaps it with an empty one, and notifies the host.
    pub fn set(
        &mut self,
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), OutOfFrames> {
        let at = self.slot_or_new_table(machine, frames, va)?;
        store::<F>(machine, at, entry);
        machine.set_pte(self.root(), va, entry);
        Ok(())
    }

    /// Changes the entry of `va` without notifying the host, and returns the old one: the caller notifies, or
    /// flushes. Where there is no table for `va`, nothing is mapped and nothing changes.
    pub fn replace(&self, machine: &mut impl Machine, va: GuestVirt, entry: Entry) -> Entry {
        let Some(table) = self.leaf_table(machine, va) else { return Entry::EMPTY };
        let at = leaf_at::<F>(table, va);
        let old = load::<F>(machine, at);
        store::<F>(machine, at, entry);
        old
    }

    /// Exchanges what lies under the entries of two addresses at `level`, 2 or above, and notifies the host of
    /// both entries: all pages there change places. Returns `false`, and does nothing, when there is no
    /// such level or no entry.
    pub fn exchange(&self, machine: &mut impl Machine, a: GuestVirt, b: GuestVirt, level: usize) -> bool {
        let place = |machine: &_, va| {
            let table = self.table(machine, va, level)?;
            let index = F::index(va, level);
            let at = entry_at::<F>(table, index);
            Some((table, index as u32, at, load::<F>(machine, at)))
        };
        let (Some(a), Some(b)) = (place(machine, a), place(machine, b)) else { return false };
        for ((table, index, at, _), (.., entry)) in [(a, b), (b, a)] {
            store::<F>(machine, at, entry);
            if level == F::LEVELS {
                machine.set_pgd(table.start(), index);
            } else {
                machine.set_pmd(table.start(), index);
            }
        }
        true
    }

    /// Gives the pages at `ranges` of the lower half to `child` too. Those that could be written are
    /// read-only in both from now on; each page gains a reference.
    pub fn share_with(
        &self,
        child: &mut Self,
        ranges: impl Iterator<Item = Range<u32>>,
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
    ) -> Result<(), OutOfFrames> {
        self.visit(machine, ranges, |machine, va, at, entry| {
            let shared = entry.without(Flags::WRITABLE);
            // The child's first: when there is no frame for its table, this page is as it was. Those
            // before it are read-only already; their owner gets its right back at its next write.
            child.set(machine, frames, va, shared.without(Flags::ACCESSED))?;
            frames.share(frame_of(entry));
            if shared != entry {
                store::<F>(machine, at, shared);
                machine.set_pte(self.root(), va, shared);
            }
            Ok(())
        })
    }

    /// Empties the lower half, in which pages are mapped at `ranges` only: they lose a reference, and the
    /// tables are freed. The host is not notified, and has to be before the memory is used again: by
    /// `FLUSH_TLB` while these tables are current.
    pub fn clear_user(
        &mut self,
        ranges: impl Iterator<Item = Range<u32>> + Clone,
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
    ) {
        let Ok(()) = self.visit(machine, ranges.clone(), |_, _, _, entry| -> Result<(), Infallible> {
            frames.release(frame_of(entry));
            Ok(())
        });
        // The rest are tables of what was mapped once.
        for range in ranges.chain(core::iter::once(0..KERNEL_BASE)) {
            let first = range.start & !(F::LEAF_SPAN - 1);
            for va in (first..range.end).step_by(F::LEAF_SPAN as usize).map(GuestVirt) {
                if self.made == 0 {
                    return;
                }
                self.drop_table(machine, frames, va);
            }
        }
    }

    /// Takes the level-1 table of `va` out, if there is one, without notifying the host.
    fn drop_table(&mut self, machine: &mut impl Machine, frames: &mut Frames<'_>, va: GuestVirt) {
        let Some((directory, index)) = self.directory(machine, va) else { return };
        let at = entry_at::<F>(directory, index);
        let to_table = load::<F>(machine, at);
        if to_table.present() {
            store::<F>(machine, at, Entry::EMPTY);
            frames.release(frame_of(to_table));
            self.made -= 1;
        }
    }

    /// Calls `page` for each mapped page of the ranges, with its address, the place of its entry, and the
    /// entry, until it fails.
    fn visit<M: Machine, E>(
        &self,
        machine: &mut M,
        ranges: impl Iterator<Item = Range<u32>>,
        mut page: impl FnMut(&mut M, GuestVirt, GuestPhys, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        for range in ranges {
            let mut start = range.start;
            while start < range.end {
                let end = range.end.min((start & !(F::LEAF_SPAN - 1)) + F::LEAF_SPAN);
                if let Some(table) = self.leaf_table(machine, GuestVirt(start)) {
                    for va in (start..end).step_by(PAGE_SIZE as usize).map(GuestVirt) {
                        let at = leaf_at::<F>(table, va);
                        let entry = load::<F>(machine, at);
                        if entry.present() {
                            page(machine, va, at, entry)?;
                        }
                    }
                }
                start = end;
            }
        }
        Ok(())
    }

    /// Gives everything back but the shared half. These tables must not be current any more, and their
    /// lower half has to be empty.
    pub fn free(self, machine: &mut impl Machine, frames: &mut Frames<'_>) {
        if F::LEVELS > 2 {
            for index in 0..F::index(GuestVirt(KERNEL_BASE), F::LEVELS) {
                let entry = load::<F>(machine, entry_at::<F>(self.root, index));
                if entry.present() {
                    frames.release(frame_of(entry));
                }
            }
        }
        frames.release(self.root);
    }

    /// The table of this level that `va` leads through.
    fn table(&self, machine: &impl Machine, va: GuestVirt, level: usize) -> Option<GuestFrame> {
        let mut table = self.root;
        if level > F::LEVELS {
            return None;
        }
        for above in (level + 1..=F::LEVELS).rev() {
            let entry = load::<F>(machine, entry_at::<F>(table, F::index(va, above)));
            if !entry.present() {
                return None;
            }
            table = frame_of(entry);
        }
        Some(table)
    }

    /// The directory and the index in it of the entry that leads to the level-1 table of `va`.
    fn directory(&self, machine: &impl Machine, va: GuestVirt) -> Option<(GuestFrame, usize)> {
        Some((self.table(machine, va, 2)?, F::index(va, 2)))
    }

    fn leaf_table(&self, machine: &impl Machine, va: GuestVirt) -> Option<GuestFrame> {
        self.table(machine, va, 1)
    }

    /// Where the entry of `va` is, after a table for it was made if there was none.
    fn slot_or_new_table(
        &mut self,
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
        va: GuestVirt,
    ) -> Result<GuestPhys, OutOfFrames> {
        let (directory, index) =
            self.directory(machine, va).expect("middle directories are made together with the root");
        let at = entry_at::<F>(directory, index);
        let entry = load::<F>(machine, at);
        let table = if entry.present() {
            frame_of(entry)
        } else {
            let table = new_table(machine, frames)?;
            self.made += 1;
            let flags = if F::LEVELS > 2 { F::DIRECTORY_FLAGS } else { F::ROOT_FLAGS };
            store::<F>(machine, at, Entry::new(table.0.into(), flags));
            if F::LEVELS > 2 {
                machine.set_pmd(directory.start(), index as u32);
            } else {
                machine.set_pgd(directory.start(), index as u32);
            }
            table
        };
        Ok(leaf_at::<F>(table, va))
    }
}

fn new_table(machine: &mut impl Machine, frames: &mut Frames<'_>) -> Result<GuestFrame, OutOfFrames> {
    let table = frames.allocate()?;
    machine.zero(table);
    Ok(table)
}

/// The frame that an entry leads to. The kernel stores only entries whose frames fit.
fn frame_of(entry: Entry) -> GuestFrame {
    GuestFrame(entry.frame() as u32)
}

fn entry_at<F: PageFormat>(table: GuestFrame, index: usize) -> GuestPhys {
    GuestPhys(table.start().0 + index as u32 * F::ENTRY_SIZE)
}

fn leaf_at<F: PageFormat>(table: GuestFrame, va: GuestVirt) -> GuestPhys {
    entry_at::<F>(table, F::index(va, 1))
}

fn load<F: PageFormat>(machine: &impl Machine, at: GuestPhys) -> Entry {
    let low = machine.read(at).into();
    Entry(match F::PAGING {
        Paging::TwoLevel => low,
        Paging::Pae => low | u64::from(machine.read(GuestPhys(at.0 + 4))) << 32,
    })
}

/// The half with the present bit is written last when the entry appears, and first when it goes.
fn store<F: PageFormat>(machine: &mut impl Machine, at: GuestPhys, entry: Entry) {
    let (low, high) = (entry.0 as u32, (entry.0 >> 32) as u32);
    match F::PAGING {
        Paging::TwoLevel => machine.write(at, low),
        Paging::Pae => {
            if !entry.present() {
                machine.write(at, low);
            }
            machine.write(GuestPhys(at.0 + 4), high);
            machine.write(at, low);
        }
    }
}

/// Page tables of whichever format the host has.
#[derive(Debug)]
pub enum AnyPageTables {
    /// Two levels.
    TwoLevel(PageTables<TwoLevel>),
    /// Three levels.
    Pae(PageTables<Pae>),
}

/// The same expression for either format.
macro_rules! either {
    ($any:expr, $tables:ident => $expression:expr) => {
        match $any {
            Self::TwoLevel($tables) => $expression,
            Self::Pae($tables) => $expression,
        }
    };
}

impl AnyPageTables {
    /// See [`PageTables::kernel`].
    pub fn kernel(
        paging: Paging,
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
        ram: u32,
    ) -> Result<Self, OutOfFrames> {
        Ok(match paging {
            Paging::TwoLevel => Self::TwoLevel(PageTables::kernel(machine, frames, ram)?),
            Paging::Pae => Self::Pae(PageTables::kernel(machine, frames, ram)?),
        })
    }

    /// An address space of its own beside this one, which is the kernel's; see [`PageTables::new`].
    pub fn beside(&self, machine: &mut impl Machine, frames: &mut Frames<'_>) -> Result<Self, OutOfFrames> {
        Ok(match self {
            Self::TwoLevel(kernel) => Self::TwoLevel(PageTables::new(machine, frames, kernel)?),
            Self::Pae(kernel) => Self::Pae(PageTables::new(machine, frames, kernel)?),
        })
    }

    /// See [`PageTables::root`].
    #[must_use]
    pub fn root(&self) -> GuestPhys {
        either!(self, tables => tables.root())
    }

    /// See [`PageTables::entry`].
    #[must_use]
    pub fn entry(&self, machine: &impl Machine, va: GuestVirt) -> Entry {
        either!(self, tables => tables.entry(machine, va))
    }

    /// See [`PageTables::set`].
    pub fn set(
        &mut self,
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
        va: GuestVirt,
        entry: Entry,
    ) -> Result<(), OutOfFrames> {
        either!(self, tables => tables.set(machine, frames, va, entry))
    }

    /// See [`PageTables::replace`].
    pub fn replace(&self, machine: &mut impl Machine, va: GuestVirt, entry: Entry) -> Entry {
        either!(self, tables => tables.replace(machine, va, entry))
    }

    /// See [`PageTables::exchange`].
    pub fn exchange(&self, machine: &mut impl Machine, a: GuestVirt, b: GuestVirt, level: usize) -> bool {
        either!(self, tables => tables.exchange(machine, a, b, level))
    }

    /// See [`PageTables::share_with`].
    ///
    /// # Panics
    /// When the two are of different formats.
    pub fn share_with(
        &self,
        child: &mut Self,
        ranges: impl Iterator<Item = Range<u32>>,
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
    ) -> Result<(), OutOfFrames> {
        match (self, child) {
            (Self::TwoLevel(parent), Self::TwoLevel(child)) => {
                parent.share_with(child, ranges, machine, frames)
            }
            (Self::Pae(parent), Self::Pae(child)) => parent.share_with(child, ranges, machine, frames),
            _ => panic!("a guest has page tables of one format only"),
        }
    }

    /// See [`PageTables::clear_user`].
    pub fn clear_user(
        &mut self,
        ranges: impl Iterator<Item = Range<u32>> + Clone,
        machine: &mut impl Machine,
        frames: &mut Frames<'_>,
    ) {
        either!(self, tables => tables.clear_user(ranges, machine, frames));
    }

    /// See [`PageTables::free`].
    pub fn free(self, machine: &mut impl Machine, frames: &mut Frames<'_>) {
        either!(self, tables => tables.free(machine, frames));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Slot;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const RAM: u32 = 8 << 20;
    const FIRST_FREE: u32 = 16;

    /// RAM, and the calls that a host would have got.
    struct Recorder {
        ram: Vec<u32>,
        ptes: Vec<(u32, u32, u64)>,
        pgds: Vec<(u32, u32)>,
        pmds: Vec<(u32, u32)>,
    }

    impl Machine for Recorder {
        fn read(&self, at: GuestPhys) -> u32 {
            assert!(at.0.is_multiple_of(4) && at.0 < RAM, "{at:?} is no word of RAM");
            self.ram[at.0 as usize / 4]
        }

        fn write(&mut self, at: GuestPhys, word: u32) {
            assert!(at.0.is_multiple_of(4) && at.0 < RAM, "{at:?} is no word of RAM");
            self.ram[at.0 as usize / 4] = word;
        }

        fn zero(&mut self, frame: GuestFrame) {
            let first = frame.start().0 as usize / 4;
            self.ram[first..first + 1024].fill(0);
        }

        fn set_pte(&mut self, root: GuestPhys, va: GuestVirt, entry: Entry) {
            self.ptes.push((root.0, va.0, entry.0));
        }

        fn set_pgd(&mut self, root: GuestPhys, index: u32) {
            self.pgds.push((root.0, index));
        }

        fn set_pmd(&mut self, directory: GuestPhys, index: u32) {
            self.pmds.push((directory.0, index));
        }
    }

    /// The processor's walk, written independently of the code under test.
    fn walk(machine: &Recorder, paging: Paging, root: GuestPhys, va: u32) -> Option<(u32, u32)> {
        let word = |at: u32| machine.read(GuestPhys(at));
        let entry = match paging {
            Paging::TwoLevel => {
                let directory = word(root.0 + 4 * (va >> 22));
                if directory & 1 == 0 {
                    return None;
                }
                word((directory & !0xfff) + 4 * (va >> 12 & 0x3ff))
            }
            Paging::Pae => {
                let pointer = word(root.0 + 8 * (va >> 30));
                assert_eq!(pointer & 0x1e6, 0, "reserved bits of a PAE root entry");
                if pointer & 1 == 0 {
                    return None;
                }
                let directory = word((pointer & !0xfff) + 8 * (va >> 21 & 0x1ff));
                if directory & 1 == 0 {
                    return None;
                }
                let at = (directory & !0xfff) + 8 * (va >> 12 & 0x1ff);
                assert_eq!(word(at + 4), 0, "no frame is above 4 GiB");
                word(at)
            }
        };
        (entry & 1 != 0).then_some((entry >> 12, entry & 0xfff))
    }

    fn with_machine(test: impl FnOnce(&mut Recorder, &mut Frames<'_>)) {
        let mut slots = vec![Slot::default(); (RAM >> PAGE_SHIFT) as usize - FIRST_FREE as usize];
        let mut frames = Frames::new(GuestFrame(FIRST_FREE), &mut slots);
        let ram = vec![0xdead_beef; RAM as usize / 4];
        test(&mut Recorder { ram, ptes: Vec::new(), pgds: Vec::new(), pmds: Vec::new() }, &mut frames);
    }

    const BOTH: [Paging; 2] = [Paging::TwoLevel, Paging::Pae];

    const USER_PAGE: Flags = KERNEL_PAGE.union(Flags::USER_ACCESSIBLE);

    #[test]
    fn every_address_space_has_the_kernels_half() {
        for paging in BOTH {
            with_machine(|machine, frames| {
                let mut kernel = AnyPageTables::kernel(paging, machine, frames, RAM).unwrap();
                let process = kernel.beside(machine, frames).unwrap();
                for root in [kernel.root(), process.root()] {
                    for page in [0, 1, 511, 512, 1024, RAM / 4096 - 1] {
                        let va = KERNEL_BASE + page * 4096;
                        assert_eq!(walk(machine, paging, root, va), Some((page, 0x63)), "{paging} {va:#x}");
                    }
                    assert_eq!(walk(machine, paging, root, KERNEL_BASE + RAM), None);
                    assert_eq!(walk(machine, paging, root, 0), None);
                }
                // Made once, a scratch mapping is there in every address space.
                let scratch = scratch_base(RAM);
                kernel.set(machine, frames, scratch, Entry::new(5, KERNEL_PAGE)).unwrap();
                assert_eq!(walk(machine, paging, process.root(), scratch.0), Some((5, 0x63)));
                assert_eq!(machine.ptes.last(), Some(&(kernel.root().0, scratch.0, 0x5063)));
            });
        }
    }

    #[test]
    fn the_host_is_told_of_each_level() {
        with_machine(|machine, frames| {
            let kernel = AnyPageTables::kernel(Paging::TwoLevel, machine, frames, RAM).unwrap();
            let mut process = kernel.beside(machine, frames).unwrap();
            machine.pgds.clear();
            process.set(machine, frames, GuestVirt(0x0840_0000), Entry::new(9, USER_PAGE)).unwrap();
            process.set(machine, frames, GuestVirt(0x0840_1000), Entry::new(9, USER_PAGE)).unwrap();
            assert_eq!(machine.pgds, [(process.root().0, 0x21)], "one new table");
            assert_eq!(machine.ptes.len(), 2);
            assert!(machine.pmds.is_empty());
        });
        with_machine(|machine, frames| {
            let kernel = AnyPageTables::kernel(Paging::Pae, machine, frames, RAM).unwrap();
            machine.pgds.clear();
            let mut process = kernel.beside(machine, frames).unwrap();
            let root = process.root().0;
            assert_eq!(machine.pgds, [(root, 0), (root, 1), (root, 2), (root, 3)]);
            machine.pmds.clear();
            process.set(machine, frames, GuestVirt(0x4840_0000), Entry::new(9, USER_PAGE)).unwrap();
            let directory = machine.read(GuestPhys(root + 8)) & !0xfff;
            assert_eq!(machine.pmds, [(directory, 0x42)]);
            assert_eq!(machine.pgds.len(), 4, "a processor would not notice a change of its PAE root");
        });
    }

    #[test]
    fn exchanged_tables_take_their_pages_along() {
        for (paging, level, b) in
            [(Paging::TwoLevel, 2, 0x3040_0000), (Paging::Pae, 2, 0x3020_0000), (Paging::Pae, 3, 0x7000_0000)]
        {
            with_machine(|machine, frames| {
                let a = 0x3000_0000;
                let kernel = AnyPageTables::kernel(paging, machine, frames, RAM).unwrap();
                let mut process = kernel.beside(machine, frames).unwrap();
                let [flags, root] = [USER_PAGE.bits() as u32, process.root().0];
                process.set(machine, frames, GuestVirt(a), Entry::new(7, USER_PAGE)).unwrap();
                process.set(machine, frames, GuestVirt(b), Entry::new(8, USER_PAGE)).unwrap();
                let told = |machine: &Recorder| {
                    let calls = if level == paging.levels() as usize { &machine.pgds } else { &machine.pmds };
                    calls.iter().rev().take(2).map(|&(_, index)| index).collect::<Vec<_>>()
                };
                assert!(!process.exchange(machine, GuestVirt(a), GuestVirt(b), 4), "there is no level 4");
                assert!(process.exchange(machine, GuestVirt(a), GuestVirt(b), level));
                assert_eq!(walk(machine, paging, GuestPhys(root), a), Some((8, flags)));
                assert_eq!(walk(machine, paging, GuestPhys(root), b), Some((7, flags)));
                let bits = if paging == Paging::Pae { 9 } else { 10 };
                let index = |va: u32| va >> (12 + bits * (level - 1)) & ((1 << bits) - 1);
                assert_eq!(told(machine), [index(b), index(a)]);
            });
        }
    }

    #[test]
    fn running_out_of_frames_leaves_nothing_behind() {
        for paging in BOTH {
            with_machine(|machine, frames| {
                let kernel = AnyPageTables::kernel(paging, machine, frames, RAM).unwrap();
                let mut taken = Vec::new();
                while frames.free_count() > 0 {
                    taken.push(frames.allocate().unwrap());
                }
                for free in 0..4 {
                    if free > 0 {
                        frames.release(taken.pop().unwrap());
                    }
                    match kernel.beside(machine, frames) {
                        Ok(process) => process.free(machine, frames),
                        Err(OutOfFrames) => assert!(free < if paging == Paging::Pae { 4 } else { 1 }),
                    }
                    assert_eq!(frames.free_count(), free);
                }
            });
        }
    }

    proptest! {
        /// Two address spaces against a model that is a map: set, take, fork, clear.
        #[test]
        fn mappings_agree_with_a_model(
            pae: bool,
            pages in prop::collection::btree_map(0..KERNEL_BASE >> 12, any::<bool>(), 1..40),
            taken in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let paging = if pae { Paging::Pae } else { Paging::TwoLevel };
            with_machine(|machine, frames| {
                let kernel = AnyPageTables::kernel(paging, machine, frames, RAM).unwrap();
                let before = frames.free_count();
                let mut parent = kernel.beside(machine, frames).unwrap();
                let mut model = BTreeMap::new();
                for (&page, &writable) in &pages {
                    let frame = frames.allocate().unwrap();
                    let flags = if writable { USER_PAGE } else { USER_PAGE - Flags::WRITABLE };
                    parent.set(machine, frames, GuestVirt(page << 12), Entry::new(frame.0.into(), flags)).unwrap();
                    model.insert(page, (frame, flags));
                }
                let all: Vec<_> = pages.keys().copied().collect();
                for index in taken {
                    let page = *index.get(&all);
                    let entry = parent.replace(machine, GuestVirt(page << 12), Entry::EMPTY);
                    assert_eq!(entry.present(), model.contains_key(&page));
                    if let Some((frame, flags)) = model.remove(&page) {
                        assert_eq!(entry, Entry::new(frame.0.into(), flags));
                        frames.release(frame);
                    }
                }
                for &page in &all {
                    let expected = model.get(&page).map(|(frame, flags)| (frame.0, flags.bits() as u32));
                    assert_eq!(walk(machine, paging, parent.root(), page << 12), expected);
                }
                machine.ptes.clear();
                let mut child = kernel.beside(machine, frames).unwrap();
                let ranges = || model.keys().map(|page| page << 12..(page + 1) << 12);
                parent.share_with(&mut child, ranges(), machine, frames).unwrap();
                for (&page, &(frame, flags)) in &model {
                    let va = page << 12;
                    let shared = flags - Flags::WRITABLE;
                    let bits = shared.bits() as u32;
                    assert_eq!(walk(machine, paging, parent.root(), va), Some((frame.0, bits)));
                    let old = bits & !(Flags::ACCESSED.bits() as u32);
                    assert_eq!(walk(machine, paging, child.root(), va), Some((frame.0, old)));
                    assert_eq!(frames.references(frame), 2);
                    // A right that was taken away has to be reported; an entry that stays as it was need not be.
                    let told = machine.ptes.iter().any(|&(root, at, _)| (root, at) == (parent.root().0, va));
                    assert_eq!(told, flags.contains(Flags::WRITABLE));
                }
                for mut tables in [parent, child] {
                    // One range with holes is as good as many without.
                    tables.clear_user(std::iter::once(0..KERNEL_BASE), machine, frames);
                    for &page in &all {
                        assert_eq!(walk(machine, paging, tables.root(), page << 12), None);
                    }
                    tables.free(machine, frames);
                }
                assert_eq!(frames.free_count(), before);
            });
        }
    }
}
