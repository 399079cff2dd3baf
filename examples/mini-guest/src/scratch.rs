//! Kernel pages above RAM that every process verifies.
//!
//! They are mapped by their own page-table entries, in the half that all page directories share. Each time a
//! process looks, it finds every page as the last one left it, or the host has kept an outdated mapping;
//! then it changes one, in one of several ways that the host has to be notified of.

use crate::ram::Ram;
use crate::state::{Memory, kernel};
use crate::{attempt, console, host};
use arch_i386::addr::{GuestFrame, GuestVirt, PAGE_SIZE};
use arch_i386::hypercall::Hypercall;
use arch_i386::paging::Entry;
use mini_guest::layout::{SCRATCH_PAGES, scratch_base};
use mini_guest::page_tables::KERNEL_PAGE;
use mini_programs::abi::{KernelMapping, VMALLOC_PAGES};

/// Pages that processes verify; the selftests use those behind them.
const PAGES: usize = 24;
const _: () = assert!(PAGES + VMALLOC_PAGES <= SCRATCH_PAGES as usize);

const WORDS: u32 = PAGE_SIZE / 4;

/// What the pages have to hold.
pub struct Scratch {
    frames: [Option<GuestFrame>; PAGES],
    generation: [u32; PAGES],
    changes: u32,
}

impl Scratch {
    /// No pages yet.
    pub const fn new() -> Self {
        Self { frames: [None; PAGES], generation: [0; PAGES], changes: 0 }
    }
}

/// The address of a scratch page.
pub fn address(index: usize) -> u32 {
    scratch_base(kernel().memory().ram).0 + index as u32 * PAGE_SIZE
}

/// The first page that is the selftests'.
pub const SPARE: usize = PAGES;

/// What word `word` of page `index` holds at `generation`.
fn pattern(index: usize, generation: u32, word: u32) -> u32 {
    (index as u32) << 24 ^ generation.wrapping_mul(0x9e37_79b9) ^ word
}

/// Verifies the pages from the current process and changes one.
pub fn verify_and_change() -> bool {
    for index in 0..PAGES {
        let (frame, generation) = {
            let kernel = kernel();
            (kernel.scratch.frames[index], kernel.scratch.generation[index])
        };
        let at = address(index);
        match frame {
            None => {
                if let Ok(word) = attempt::load(at) {
                    console::print(format_args!("mini: unmapped kernel page {at:#x} holds {word:#x}"));
                    return false;
                }
            }
            Some(_) => {
                for word in [0, 1, WORDS / 2, WORDS - 1] {
                    let found = attempt::load(at + 4 * word);
                    let expected = pattern(index, generation, word);
                    if found != Ok(expected) {
                        let at = at + 4 * word;
                        console::print(format_args!(
                            "mini: the kernel's word at {at:#x} is {found:x?}, not {expected:#x}"
                        ));
                        return false;
                    }
                }
            }
        }
    }
    change()
}

/// Changes one page; `false` when writing to it traps.
fn change() -> bool {
    let (index, way) = {
        let mut kernel = kernel();
        let changes = kernel.scratch.changes;
        kernel.scratch.changes = changes.wrapping_add(1);
        (changes as usize * 7 % PAGES, changes / PAGES as u32 % 4)
    };
    match way {
        // New contents by the page's own address.
        0 if kernel().scratch.frames[index].is_some() => {}
        // Unmapped, for the next ones to find gone.
        2 => {
            unmap(index);
            return true;
        }
        // Another frame, reported by one entry or by a flush of everything.
        _ => map(index, way == 3),
    }
    let generation = kernel().scratch.generation[index].wrapping_add(1);
    kernel().scratch.generation[index] = generation;
    let at = address(index);
    (0..WORDS).all(|word| attempt::store(at + 4 * word, pattern(index, generation, word)).is_ok())
}

/// Maps a page to a frame that it did not have before.
fn map(index: usize, flush: bool) {
    let mut kernel = kernel();
    let kernel = &mut *kernel;
    let memory = kernel.memory.as_mut().expect("memory is there before the first process");
    let frame = memory.frames.allocate().unwrap_or_else(|error| panic!("a scratch page: {error}"));
    let old = kernel.scratch.frames[index].replace(frame);
    set(index, Entry::new(frame.0.into(), KERNEL_PAGE), memory, flush);
    if let Some(old) = old {
        // Whoever still reads it reads this.
        // SAFETY: the frame was the page's, which leads elsewhere by now.
        unsafe { Ram.page(old).write([0xdead_0000; WORDS as usize]) };
        memory.frames.release(old);
    }
}

fn unmap(index: usize) {
    let mut kernel = kernel();
    let kernel = &mut *kernel;
    let memory = kernel.memory.as_mut().expect("memory is there before the first process");
    if let Some(old) = kernel.scratch.frames[index].take() {
        set(index, Entry::EMPTY, memory, false);
        memory.frames.release(old);
    }
}

fn set(index: usize, entry: Entry, memory: &mut Memory, flush: bool) {
    let va = GuestVirt(scratch_base(memory.ram).0 + index as u32 * PAGE_SIZE);
    memory.tables.replace(&mut Ram, va, entry);
    if flush {
        host::call(Hypercall::FlushTlb, [1, 0, 0]);
    } else {
        let root = memory.tables.root();
        host::page_table_call(Hypercall::SetPte, host::set_pte_args(root, va.0, entry));
    }
}

/// Maps a spare page to `frame` with these flags, or unmaps it. The host is notified by `SET_PTE`, or by a flush
/// of everything.
pub fn set_spare(index: usize, entry: Entry, flush: bool) {
    debug_assert!((SPARE..SCRATCH_PAGES as usize).contains(&index));
    set(index, entry, kernel().memory(), flush);
}

/// Maps spare pages to fresh frames, writes to them, and gives them back.
pub fn map_for_a_moment(how: KernelMapping) {
    let pages = match how {
        KernelMapping::One => 1,
        KernelMapping::Many => VMALLOC_PAGES,
    };
    let mut kernel = kernel();
    let memory = kernel.memory();
    let base = scratch_base(memory.ram).0 + SPARE as u32 * PAGE_SIZE;
    for index in 0..pages {
        let frame = memory.frames.allocate().unwrap_or_else(|error| panic!("a kernel page: {error}"));
        set(SPARE + index, Entry::new(frame.0.into(), KERNEL_PAGE), memory, false);
        let at = core::ptr::with_exposed_provenance_mut::<u32>(base as usize + index * PAGE_SIZE as usize);
        // SAFETY: the page that has just been mapped to a frame of its own.
        unsafe { at.write_volatile(index as u32) };
    }
    for index in 0..pages {
        let va = GuestVirt(base + index as u32 * PAGE_SIZE);
        let entry = match how {
            KernelMapping::One => {
                let entry = memory.tables.entry(&Ram, va);
                set(SPARE + index, Entry::EMPTY, memory, false);
                entry
            }
            KernelMapping::Many => memory.tables.replace(&mut Ram, va, Entry::EMPTY),
        };
        memory.frames.release(GuestFrame(entry.frame() as u32));
    }
    if how == KernelMapping::Many {
        host::call(Hypercall::FlushTlb, [1, 0, 0]);
    }
}

/// The page-table entry of a spare page.
pub fn spare_entry(index: usize) -> Entry {
    let va = GuestVirt(address(index));
    kernel().memory().tables.entry(&Ram, va)
}
