//! The programs' ELF file, which the kernel carries inside itself.
//!
//! A program's pages are read from it when they are first touched. A page that nobody has changed is
//! shared by all processes, and the kernel keeps it.

use crate::ram::Ram;
use arch_i386::addr::{GuestFrame, PAGE_SIZE};
use core::ops::Range;
use elf::ElfBytes;
use elf::endian::LittleEndian;
use mini_guest::frames::{Frames, OutOfFrames};
use mini_guest::page_tables::Machine;
use mini_guest::regions::{Backing, Region, Regions};
use mini_programs::abi::{STACK_SIZE, STACK_TOP};

/// Pages of the image, at most.
const MAX_PAGES: usize = 64;

#[repr(align(4))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("MINI_PROGRAMS")));

/// One loadable segment.
struct Segment {
    /// Whole pages of address space.
    pages: Range<u32>,
    /// The address of its first byte, and its bytes in the file; the rest of its pages is zero.
    start: u32,
    bytes: &'static [u8],
    writable: bool,
}

fn file() -> ElfBytes<'static, LittleEndian> {
    ElfBytes::minimal_parse(&FILE.0).unwrap_or_else(|error| panic!("the programs' ELF file: {error}"))
}

fn segments() -> impl Iterator<Item = Segment> {
    let file = file();
    let headers = file.segments().into_iter().flatten();
    headers.filter(|header| header.p_type == elf::abi::PT_LOAD).map(move |header| {
        let bytes = file.segment_data(&header).unwrap_or_else(|error| panic!("a segment's data: {error}"));
        let (start, end) = (header.p_vaddr as u32, (header.p_vaddr + header.p_memsz) as u32);
        Segment {
            pages: start & !(PAGE_SIZE - 1)..end.next_multiple_of(PAGE_SIZE),
            start,
            bytes,
            writable: header.p_flags & elf::abi::PF_W != 0,
        }
    })
}

/// Panics early and with a reason if the file is not what the rest expects.
pub fn check() {
    let pages: u32 = segments().map(|segment| segment.pages.len() as u32 / PAGE_SIZE).sum();
    assert!(
        pages > 0 && pages as usize <= MAX_PAGES,
        "the programs have {pages} pages, not 1 to {MAX_PAGES}"
    );
}

/// Where programs start.
pub fn entry() -> u32 {
    file().ehdr.e_entry as u32
}

/// The regions of a fresh program: its image and its stack.
pub fn regions() -> Regions {
    let mut regions = Regions::new();
    let mut first_page = 0;
    let stack = Region { range: STACK_TOP - STACK_SIZE..STACK_TOP, writable: true, backing: Backing::Zero };
    let image = segments().map(|Segment { pages, writable, .. }| {
        let backing = Backing::Image(first_page);
        first_page += pages.len() as u32 / PAGE_SIZE;
        Region { range: pages, writable, backing }
    });
    for region in image.chain([stack]) {
        regions.add(region).unwrap_or_else(|error| panic!("the programs' regions: {error}"));
    }
    regions
}

/// The pages that have been read.
pub struct ImageCache {
    pages: [Option<GuestFrame>; MAX_PAGES],
}

impl ImageCache {
    /// None yet.
    pub const fn new() -> Self {
        Self { pages: [None; MAX_PAGES] }
    }

    /// The frame of a page; the cache keeps its own reference.
    pub fn page(&mut self, frames: &mut Frames<'_>, index: u32) -> Result<GuestFrame, OutOfFrames> {
        let slot = &mut self.pages[index as usize];
        if let Some(frame) = *slot {
            return Ok(frame);
        }
        let frame = frames.allocate()?;
        Ram.zero(frame);
        let (segment, address) = locate(index);
        // The part of the segment's bytes that lies in this page.
        let from = address.max(segment.start);
        let end = (address + PAGE_SIZE).min(segment.start + segment.bytes.len() as u32);
        if from < end {
            let bytes = &segment.bytes[(from - segment.start) as usize..(end - segment.start) as usize];
            // SAFETY: `bytes` lie in the kernel's image and the page was just allocated; they fit behind
            // their offset in it, as both ends were cut to the page.
            unsafe {
                let to = Ram.page(frame).cast::<u8>().add((from - address) as usize);
                to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
        *slot = Some(frame);
        Ok(frame)
    }
}

/// The segment and the address of an image page.
fn locate(index: u32) -> (Segment, u32) {
    let mut skip = index;
    for segment in segments() {
        let pages = segment.pages.len() as u32 / PAGE_SIZE;
        match skip.checked_sub(pages) {
            Some(rest) => skip = rest,
            None => {
                let address = segment.pages.start + skip * PAGE_SIZE;
                return (segment, address);
            }
        }
    }
    panic!("the programs have no page {index}")
}
