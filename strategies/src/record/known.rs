//! What a replay has in its guest's memory at this point of the recording, as far as page tables go.

use arch_i386::addr::GuestPhys;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// Bytes that are compared and kept at a time: 16 entries of 4 bytes, or 8 of 8.
pub const CHUNK: usize = 64;

/// The contents of a chunk, in words: what a 32-bit processor compares at a time.
pub type Chunk = [u32; CHUNK / 4];

/// The most chunks that are kept, some 2 MiB of them: the tables of a few hundred processes.
const MAX_CHUNKS: usize = 1 << 15;

/// Chunks of guest memory by their addresses, which are multiples of [`CHUNK`].
#[derive(Debug)]
pub struct Known {
    chunks: HashMap<GuestPhys, Chunk, FxBuildHasher>,
    /// A chunk that is not here is all zeroes in the replay, as its memory is in the beginning.
    blank: bool,
}

impl Known {
    /// Nothing has been written yet.
    pub fn new() -> Self {
        Self { chunks: HashMap::default(), blank: true }
    }

    /// The chunk that this byte is in, if it is kept.
    pub fn get_mut(&mut self, at: GuestPhys) -> Option<&mut Chunk> {
        self.chunks.get_mut(&chunk_of(at))
    }

    /// What the replay has in a chunk that is not kept; `None` when nobody knows.
    pub fn elsewhere(&self) -> Option<Chunk> {
        self.blank.then_some([0; CHUNK / 4])
    }

    /// Keeps a chunk that was not kept.
    pub fn insert(&mut self, at: GuestPhys, contents: Chunk) {
        if self.chunks.len() >= MAX_CHUNKS {
            self.forget();
        }
        // Not to be kept means to be written again.
        match self.chunks.try_reserve(1) {
            Ok(()) => drop(self.chunks.insert(at, contents)),
            Err(_) => self.blank = false,
        }
    }

    /// From now on nobody knows what the replay has.
    pub fn forget(&mut self) {
        self.chunks.clear();
        self.blank = false;
    }
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
        known.insert(GuestPhys(0x1000), [7; CHUNK / 4]);
        assert_eq!(known.get_mut(GuestPhys(0x103f)).copied(), Some([7; CHUNK / 4]));
        assert_eq!(known.get_mut(GuestPhys(0x1040)), None);
        assert_eq!(known.elsewhere(), Some([0; CHUNK / 4]));
        known.forget();
        assert_eq!(known.get_mut(GuestPhys(0x1000)), None);
        assert_eq!(known.elsewhere(), None);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut known = Known::new();
        for i in 0..=MAX_CHUNKS as u32 {
            known.insert(GuestPhys(i * CHUNK as u32), [1; CHUNK / 4]);
            assert!(known.chunks.len() <= MAX_CHUNKS);
        }
        assert_eq!(known.elsewhere(), None);
        assert_eq!(known.get_mut(GuestPhys(0)), None);
        assert!(known.get_mut(GuestPhys((MAX_CHUNKS * CHUNK) as u32)).is_some());
    }
}
