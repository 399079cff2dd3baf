//! What can be read of a guest while it lives: its counters, the page directories that are shadowed, and its shadow tables.
//!
//! A view is text, written while the guest stands still between two entries; so all of it is of one moment. Nothing here needs
//! memory, and nothing changes what the guest or its strategy does.

use crate::inspect::{Inspect, Mapping};
use crate::paging_host::{PagingHost, Progress};
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::Flags;
use core::fmt::{self, Write};
use core::ops::{ControlFlow, Range};

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum View {
    /// A `name value` pair a line.
    Counters,
    /// The page directories that are shadowed, a line each, under a line with the columns' names.
    Directories,
    /// Every present shadow entry, a line each, under a line with the columns' names.
    Tables,
    /// The same without the host's frames, which are not for everybody.
    TablesWithoutFrames,
}

impl View {
    /// All, by their numbers.
    pub const ALL: [Self; 4] = [Self::Counters, Self::Directories, Self::Tables, Self::TablesWithoutFrames];
}

/// How many entries are gone through before the host may run something else.
const ENTRIES_AT_ONCE: u32 = 1024;

/// Lets the host run something else after every so many entries.
struct Pauses<'a> {
    host: &'a mut dyn PagingHost,
    entries: u32,
}

impl Pauses<'_> {
    fn after_entry(&mut self) -> Progress {
        self.entries = (self.entries + 1) % ENTRIES_AT_ONCE;
        if self.entries == 0 && self.host.reschedule_point() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// The pages of a kernel stack of so many pages, the last one that of the byte below `esp1`: those that the pager keeps mapped.
pub(crate) fn stack_range(esp1: GuestVirt, pages: u32) -> Range<u32> {
    let end = GuestVirt(esp1.0.wrapping_sub(1)).page().0.saturating_add(PAGE_SIZE);
    end.saturating_sub(pages * PAGE_SIZE)..end
}

/// What is counted of one page directory.
#[derive(Default)]
struct Sums {
    entries: u32,
    shared_entries: u32,
    /// Pages of the kernel stack that are mapped writable.
    stack_pages: u32,
}

/// The lines of [`View::Directories`], as far as they are written.
struct Rows<'a> {
    inspect: &'a dyn Inspect,
    out: &'a mut dyn Write,
    stack: Range<u32>,
    /// The directory that comes next, and what has been counted of it.
    number: usize,
    sums: Sums,
    result: fmt::Result,
}

impl Rows<'_> {
    fn count(&mut self, mapping: &Mapping) {
        while self.number < mapping.number {
            self.end_row();
        }
        if mapping.shared {
            self.sums.shared_entries += 1;
        } else {
            self.sums.entries += 1;
        }
        let writable = mapping.entry.has(Flags::WRITABLE) && mapping.table_flags.contains(Flags::WRITABLE);
        self.sums.stack_pages += u32::from(writable && self.stack.contains(&mapping.va.0));
    }

    fn end_row(&mut self) {
        let Sums { entries, shared_entries, stack_pages } = core::mem::take(&mut self.sums);
        let (mut number, mut found) = (0, None);
        self.inspect.directories(&mut |directory, current| {
            if number == self.number {
                found = Some((directory, current));
            }
            number += 1;
        });
        if let (Some((directory, current)), Ok(())) = (found, self.result) {
            let yes = |yes: bool| if yes { "yes" } else { "no" };
            let tables = self.inspect.leaf_tables(self.number);
            let stack = stack_pages > 0 && stack_pages * PAGE_SIZE == self.stack.end - self.stack.start;
            self.result = writeln!(
                self.out,
                "{:#010x} {} {} {tables} {entries} {shared_entries}",
                directory.0,
                yes(current),
                yes(stack),
            );
        }
        self.number += 1;
    }
}

/// Writes [`View::Directories`].
pub(crate) fn write_directories(
    inspect: &dyn Inspect,
    host: &mut dyn PagingHost,
    stack: Range<u32>,
    out: &mut dyn Write,
) -> fmt::Result {
    writeln!(out, "directory current kernel_stack leaf_tables entries shared_entries")?;
    let mut count = 0;
    inspect.directories(&mut |_, _| count += 1);
    let mut rows = Rows { inspect, out, stack, number: 0, sums: Sums::default(), result: Ok(()) };
    let mut pauses = Pauses { host, entries: 0 };
    let progress = inspect.mappings(&mut |mapping| {
        rows.count(&mapping);
        if rows.result.is_err() { ControlFlow::Break(()) } else { pauses.after_entry() }
    });
    while progress.is_continue() && rows.number < count {
        rows.end_row();
    }
    if progress.is_break() { Err(fmt::Error) } else { rows.result }
}

/// Writes [`View::Tables`], or without the frames.
pub(crate) fn write_tables(
    inspect: &dyn Inspect,
    host: &mut dyn PagingHost,
    with_frames: bool,
    out: &mut dyn Write,
) -> fmt::Result {
    writeln!(out, "directory page {}rights accessed dirty", if with_frames { "frame " } else { "" })?;
    let mut pauses = Pauses { host, entries: 0 };
    let progress = inspect.mappings(&mut |mapping| {
        // What all page directories share is listed once.
        if mapping.shared && mapping.number > 0 {
            return pauses.after_entry();
        }
        match write_entry(&mapping, with_frames, out) {
            Ok(()) => pauses.after_entry(),
            Err(fmt::Error) => ControlFlow::Break(()),
        }
    });
    if progress.is_break() { Err(fmt::Error) } else { Ok(()) }
}

fn write_entry(mapping: &Mapping, with_frame: bool, out: &mut dyn Write) -> fmt::Result {
    let Mapping { directory: GuestPhys(directory), va, entry, table_flags, .. } = *mapping;
    if mapping.shared {
        out.write_str("shared")?;
    } else {
        write!(out, "{directory:#010x}")?;
    }
    write!(out, " {:#010x} ", va.0)?;
    if with_frame {
        write!(out, "{:#x} ", entry.frame())?;
    }
    let both = |flag: Flags| entry.has(flag) && table_flags.contains(flag);
    writeln!(
        out,
        "{}{}{} {} {}",
        if both(Flags::WRITABLE) { "rw" } else { "r-" },
        // Where the bit is a reserved one, no entry has it.
        if entry.has(Flags::NO_EXECUTE) { "-" } else { "x" },
        if both(Flags::USER_ACCESSIBLE) { "u" } else { "-" },
        u8::from(entry.has(Flags::ACCESSED)),
        u8::from(entry.has(Flags::DIRTY)),
    )
}
