//! Ghosts: page directories that were evicted lately, by name only.
//!
//! Adaptive policies remember what they have evicted. [`Ghosts`] gives each such directory a number that no slot has, for
//! [`Lists`] to keep in order. How many there can be is fixed when they are made; nothing is allocated later.

use crate::lists::Lists;
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch_i386::addr::GuestPhys;
use framework::fallible::{OutOfMemory, collected, filled};
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
    /// A capacity of that many, with the numbers from `first` up.
    pub fn new(first: usize, capacity: usize) -> Result<Self, OutOfMemory> {
        let mut numbers = HashMap::with_hasher(FxBuildHasher);
        // A table that is at most half full makes room by tidying up, without allocating.
        numbers.try_reserve(2 * (capacity + 1)).map_err(|_| OutOfMemory)?;
        let free = collected((first..first + capacity).rev())?;
        Ok(Self { first, directories: filled(GuestPhys(0), capacity)?, numbers, free })
    }

    /// The number of a directory that is remembered.
    pub fn find(&self, directory: GuestPhys) -> Option<usize> {
        self.numbers.get(&directory).copied()
    }

    /// Whether another can be remembered.
    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Remembers a directory; the number that it had before, if any, is its number again. `None` when they
    /// are full.
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

    /// Forgets a directory that comes back, and takes it off its list; returns whether it was remembered.
    pub fn take_off(&mut self, lists: &mut Lists, directory: GuestPhys) -> bool {
        let ghost = self.find(directory);
        if let Some(ghost) = ghost {
            lists.remove(ghost);
            self.forget(ghost);
        }
        ghost.is_some()
    }

    /// Remembers a directory in front of a list; if the ghosts are full, the list's oldest is forgotten for it.
    pub fn put_on(&mut self, lists: &mut Lists, list: usize, directory: GuestPhys) {
        if !self.has_free() {
            self.forget_oldest(lists, list);
        }
        if let Some(ghost) = self.remember(directory) {
            lists.push_front(list, ghost);
        }
    }

    /// Forgets the oldest of a list of ghosts.
    pub fn forget_oldest(&mut self, lists: &mut Lists, list: usize) {
        if let Some(ghost) = lists.back(list) {
            lists.remove(ghost);
            self.forget(ghost);
        }
    }
}
