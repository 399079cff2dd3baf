//! Evicted working sets: what page directories had mapped when they were evicted.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use arch_i386::addr::{GuestPhys, GuestVirt};

/// How many page directories are remembered.
const MAX_DIRECTORIES: usize = 128;

/// Pages below the kernel that are to be filled when the guest comes to a page directory that is not shadowed:
/// what was mapped when it was evicted, and what SET_PTE has named since.
#[derive(Debug, Default)]
pub(super) struct EvictedSets {
    /// The last ones at the back.
    directories: VecDeque<(GuestPhys, Vec<GuestVirt>)>,
}

impl EvictedSets {
    /// Takes out what is known of a page directory.
    #[inline(always)] // Most switches find nothing.
    pub(super) fn take(&mut self, directory: GuestPhys) -> Option<Vec<GuestVirt>> {
        let at = self.position(directory)?;
        self.directories.remove(at).map(|(_, pages)| pages)
    }

    fn position(&self, directory: GuestPhys) -> Option<usize> {
        self.directories.iter().rposition(|(known, _)| *known == directory)
    }

    /// Adds one page, if there are less than `limit` of its page directory.
    pub(super) fn add_page(&mut self, directory: GuestPhys, page: GuestVirt, limit: usize) {
        match self.position(directory) {
            Some(at) => {
                let (_, pages) = &mut self.directories[at];
                if pages.len() < limit && pages.last() != Some(&page) && pages.try_reserve(1).is_ok() {
                    pages.push(page);
                }
            }
            None => {
                let mut pages = Vec::new();
                if limit > 0 && pages.try_reserve(1).is_ok() {
                    pages.push(page);
                    self.add(directory, pages);
                }
            }
        }
    }

    pub(super) fn add(&mut self, directory: GuestPhys, pages: Vec<GuestVirt>) {
        self.take(directory);
        if pages.is_empty() {
            return;
        }
        if self.directories.len() >= MAX_DIRECTORIES {
            self.directories.pop_front();
        }
        if self.directories.try_reserve(1).is_ok() {
            self.directories.push_back((directory, pages));
        }
    }
}
