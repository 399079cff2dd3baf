//! What a replay has in its guest's memory at this point of the recording, as far as page tables go.

use alloc::boxed::Box;
use alloc::vec::Vec;
use arch_i386::addr::{GuestPhys, PAGE_SIZE};
use framework::fallible::{OutOfMemory, boxed, filled};

/// Bytes that are compared and kept at a time: 16 entries of 4 bytes, or 8 of 8.
pub const CHUNK: usize = 64;

/// Words of a chunk.
const WORDS: usize = CHUNK / 4;

/// The contents of a chunk, in words: what a 32-bit processor compares at a time.
pub type Chunk = [u32; WORDS];

/// Chunks of a page.
const CHUNKS: usize = PAGE_SIZE as usize / CHUNK;

/// The most pages that are kept, 4 MiB of them: the tables of a few hundred processes.
const MAX_PAGES: usize = 1024;

/// What is known of a page of guest memory.
#[derive(Debug)]
struct Page {
    /// The chunks that are, a bit each, in words of a 32-bit processor.
    known: [u32; CHUNKS / 32],
    /// All of them.
    chunks: Box<[Chunk]>,
}

/// What is known of guest memory, by its page frames.
#[derive(Debug)]
pub struct Known {
    /// Up to the highest frame that anything is known of.
    pages: Vec<Option<Box<Page>>>,
    /// How many of them there are.
    kept: usize,
    /// A page that is not here is all zeroes in the replay, as its memory is in the beginning.
    blank: bool,
}

impl Known {
    /// Nothing has been written yet.
    pub const fn new() -> Self {
        Self { pages: Vec::new(), kept: 0, blank: true }
    }

    /// The chunk that this byte is in, if the page is kept and the chunk known.
    #[inline]
    pub fn get_mut(&mut self, at: GuestPhys) -> Option<&mut Chunk> {
        let (frame, chunk) = place(at);
        let page = self.pages.get_mut(frame)?.as_mut()?;
        page.chunks.get_mut(chunk).filter(|_| page.known[chunk / 32] >> (chunk % 32) & 1 != 0)
    }

    /// What the replay has in a chunk of which nothing is kept; `None` when that is unknown.
    pub fn elsewhere(&self) -> Option<Chunk> {
        self.blank.then_some([0; WORDS])
    }

    /// Keeps a chunk that was not kept.
    pub fn insert(&mut self, at: GuestPhys, contents: Chunk) {
        let (frame, chunk) = place(at);
        if self.pages.get(frame).is_none_or(Option::is_none) {
            if self.kept >= MAX_PAGES {
                self.forget();
            }
            if self.add_page(frame).is_err() {
                // Not to be kept means to be written again.
                self.blank = false;
            }
        }
        if let Some(Some(page)) = self.pages.get_mut(frame) {
            page.known[chunk / 32] |= 1 << (chunk % 32);
            page.chunks[chunk] = contents;
        }
    }

    fn add_page(&mut self, frame: usize) -> Result<(), OutOfMemory> {
        let known = [if self.blank { u32::MAX } else { 0 }; _];
        let page = boxed(Page { known, chunks: filled([0; WORDS], CHUNKS)? })?;
        if frame >= self.pages.len() {
            self.pages.try_reserve(frame + 1 - self.pages.len())?;
            self.pages.resize_with(frame + 1, || None);
        }
        self.pages[frame] = Some(page);
        self.kept += 1;
        Ok(())
    }

    /// From now on it is unknown what the replay has.
    pub fn forget(&mut self) {
        self.pages.clear();
        self.kept = 0;
        self.blank = false;
    }
}

/// The frame of this byte, and which chunk of it.
const fn place(at: GuestPhys) -> (usize, usize) {
    ((at.0 / PAGE_SIZE) as usize, (at.0 % PAGE_SIZE) as usize / CHUNK)
}

/// The address of the chunk that this byte is in.
pub fn chunk_of(at: GuestPhys) -> GuestPhys {
    GuestPhys(at.0 & !(CHUNK as u32 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_blank_until_something_is_forgotten() {
        let mut known = Known::new();
        assert_eq!(known.get_mut(GuestPhys(0x1000)), None);
        assert_eq!(known.elsewhere(), Some([0; WORDS]));
        known.insert(GuestPhys(0x1000), [7; WORDS]);
        assert_eq!(known.get_mut(GuestPhys(0x103f)).copied(), Some([7; WORDS]));
        assert_eq!(known.get_mut(GuestPhys(0x1040)).copied(), Some([0; WORDS]), "of the same page");
        known.forget();
        assert_eq!(known.get_mut(GuestPhys(0x1000)), None);
        assert_eq!(known.elsewhere(), None);
        known.insert(GuestPhys(0x1000), [8; WORDS]);
        assert_eq!(known.get_mut(GuestPhys(0x1000)).copied(), Some([8; WORDS]));
        assert_eq!(known.get_mut(GuestPhys(0x1040)), None, "nobody knows the rest of the page");
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut known = Known::new();
        for frame in 0..=MAX_PAGES as u32 {
            known.insert(GuestPhys(frame * PAGE_SIZE), [1; WORDS]);
            assert!(known.kept <= MAX_PAGES);
        }
        assert_eq!(known.elsewhere(), None);
        assert_eq!(known.get_mut(GuestPhys(0)), None);
        assert!(known.get_mut(GuestPhys(MAX_PAGES as u32 * PAGE_SIZE)).is_some());
    }
}
