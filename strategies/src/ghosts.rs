//! Ghosts: page directories that were evicted lately, by name only.
//!
//! Policies that learn from their mistakes remember what they have thrown out. [`Ghosts`] gives each such
//! directory a number that no slot has, for [`Lists`](crate::lists::Lists) to keep in order. How many
//! there can be is fixed when they are made; nothing is allocated later.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use arch_i386::addr::GuestPhys;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// Evicted page directories and their numbers.
pub struct Ghosts {
    /// The first number; those below are slots.
    first: usize,
    directories: Box<[GuestPhys]>,
    numbers: HashMap<GuestPhys, usize, FxBuildHasher>,
    free: Vec<usize>,
}

impl Ghosts {
    /// Room for that many, with the numbers from `first` up.
    pub fn new(first: usize, room: usize) -> Self {
        Self {
            first,
            directories: vec![GuestPhys(0); room].into(),
            // A table that is at most half full makes room by tidying up, without allocating.
            numbers: HashMap::with_capacity_and_hasher(2 * (room + 1), FxBuildHasher),
            free: (first..first + room).rev().collect(),
        }
    }

    /// The number of a directory that is remembered.
    pub fn find(&self, directory: GuestPhys) -> Option<usize> {
        self.numbers.get(&directory).copied()
    }

    /// Whether another can be remembered.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Remembers a directory; the number that it had before, if any, is its number again. `None` when there is
    /// no room.
    pub fn remember(&mut self, directory: GuestPhys) -> Option<usize> {
        if let Some(number) = self.find(directory) {
            return Some(number);
        }
        let number = self.free.pop()?;
        self.directories[number - self.first] = directory;
        self.numbers.insert(directory, number);
        Some(number)
    }

    /// Forgets the directory of a number, which must be in use.
    pub fn forget(&mut self, number: usize) {
        self.numbers.remove(&self.directories[number - self.first]);
        self.free.push(number);
    }
}
