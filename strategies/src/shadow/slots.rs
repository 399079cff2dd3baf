//! The slots: which page directories are shadowed, and where.
//!
//! Two slots may have the same address, since the page directory that a guest begins with is known by address 0.
//! Then the lowest slot counts.

use alloc::vec::Vec;
use arch_i386::addr::GuestPhys;
use framework::audit::Defect;
use framework::fallible::{OutOfMemory, filled};
use framework::host::{PagingHost, Progress, reschedule_point};
use framework::tables::RootId;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// One cached shadow page directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The guest's page directory.
    pub(super) directory: GuestPhys,
    /// Its shadow.
    pub(super) root: RootId,
}

/// The capacity of the index for that many slots, so that it never allocates when one is filled: a hash table that is at
/// most half full rehashes in place.
const fn index_capacity(slots: usize) -> usize {
    2 * (slots + 1)
}

/// All slots of a guest.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Option<Slot>>,
    /// The lowest slot for each page directory.
    by_directory: HashMap<GuestPhys, usize, FxBuildHasher>,
    /// What [`Slots::by_directory`] has of some, each at one of its [places](places_of): a switch goes back and forth between a few.
    recent: [Option<(GuestPhys, usize)>; RECENT],
    current: usize,
}

/// How many page directories are found without a look at the index.
const RECENT: usize = 64;

/// Where that is noted of a page directory: in the first place, or the second if another has that. (Knuth's multiplicative hash: many
/// lie at a distance of the same power of two, and with PAE Linux has them in one page.)
const fn places_of(directory: GuestPhys) -> [usize; 2] {
    let place = (directory.0.wrapping_mul(0x9e37_79b1) >> (u32::BITS - RECENT.trailing_zeros())) as usize;
    [place, place ^ 1]
}

impl Slots {
    /// That many slots, none taken.
    pub(super) fn new(slots: usize) -> Result<Self, OutOfMemory> {
        let mut by_directory = HashMap::with_hasher(FxBuildHasher);
        by_directory.try_reserve(index_capacity(slots)).map_err(|_| OutOfMemory)?;
        Ok(Self { slots: filled(None, slots)?.into_vec(), by_directory, recent: [None; RECENT], current: 0 })
    }

    /// How many there are, taken or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Which slot the guest runs on.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// The slot that the guest runs on.
    ///
    /// # Panics
    /// When none was ever taken.
    #[inline]
    pub(super) fn current_slot(&self) -> Slot {
        self.slots[self.current].expect("set_up took a slot, and the current one is never given up")
    }

    /// The guest runs on this one from now on.
    pub(super) fn make_current(&mut self, index: usize) {
        self.current = index;
    }

    pub(super) fn get(&self, index: usize) -> Option<Slot> {
        self.slots.get(index).copied().flatten()
    }

    /// The slot that shadows a page directory.
    pub(super) fn of(&self, directory: GuestPhys) -> Option<usize> {
        self.by_directory.get(&directory).copied()
    }

    /// The same, for the page directory of a switch.
    #[inline]
    pub(super) fn of_loaded(&mut self, directory: GuestPhys) -> Option<usize> {
        for place in places_of(directory) {
            if let Some((recent, index)) = self.recent[place]
                && recent == directory
            {
                return Some(index);
            }
        }
        self.look_up(directory)
    }

    #[inline(never)] // The usual case is the other one.
    fn look_up(&mut self, directory: GuestPhys) -> Option<usize> {
        let index = self.of(directory)?;
        let [first, second] = places_of(directory);
        let place = if self.recent[first].is_none() { first } else { second };
        self.recent[place] = Some((directory, index));
        Some(index)
    }

    /// Tells of the last use of each of these page directories, which the guest has switched to one after the other: of the slot and
    /// the page directory, in the order of those uses. Returns the slot of the last, or `None`, with nothing told, if one of them is not
    /// in any of the first slots, 32 for each of `WORDS`, of which there are at most 8.
    #[inline]
    pub(super) fn last_uses<const WORDS: usize>(
        &mut self,
        directories: &[GuestPhys],
        mut used: impl FnMut(usize, GuestPhys),
    ) -> Option<usize> {
        let (mut left, mut count) = ([0_u32; WORDS], 0);
        for &directory in directories {
            let index = self.of_loaded(directory)?;
            let (word, bit) = (left.get_mut(index / 32)?, 1 << (index % 32));
            count += usize::from(*word & bit == 0);
            *word |= bit;
        }
        // From the last one back, each is come to once.
        let (mut order, mut found) = ([[0_u8; 32]; WORDS], 0);
        let order = order.as_flattened_mut();
        for &directory in directories.iter().rev() {
            let index = self.of_loaded(directory)?;
            let (word, bit) = (left.get_mut(index / 32)?, 1 << (index % 32));
            if *word & bit != 0 {
                *word ^= bit;
                order[found] = index as u8;
                found += 1;
                if found == count {
                    break;
                }
            }
        }
        for index in order[..found].iter().rev().map(|index| usize::from(*index)) {
            used(index, self.slots[index]?.directory);
        }
        order[..found].first().map(|index| usize::from(*index))
    }

    /// [`Slots::of`] with what is in the slot.
    pub(super) fn slot_of(&self, directory: GuestPhys) -> Option<Slot> {
        self.get(self.of(directory)?)
    }

    /// All that are taken, in order.
    pub(super) fn taken(&self) -> impl Iterator<Item = (usize, Slot)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, (*slot)?)))
    }

    /// One that is not taken.
    pub(super) fn free(&self) -> Option<usize> {
        self.slots.iter().position(Option::is_none)
    }

    /// One that is not taken, up to that many; `None` also when memory is short.
    pub(super) fn free_up_to(&mut self, limit: usize) -> Option<usize> {
        let index = self.free().unwrap_or(self.slots.len());
        if index == self.slots.len() {
            let more = index_capacity(index + 1).saturating_sub(self.by_directory.len());
            let fits = index < limit
                && self.slots.try_reserve(1).is_ok()
                && self.by_directory.try_reserve(more).is_ok();
            if !fits {
                return None;
            }
            self.slots.push(None);
        }
        Some(index)
    }

    /// This one if it is taken, or else the next one that is, in a circle.
    pub(super) fn taken_from(&self, index: usize) -> Option<usize> {
        let from = index.min(self.slots.len());
        (from..self.slots.len()).chain(0..from).find(|&index| self.slots[index].is_some())
    }

    fn forget_recent(&mut self, directory: GuestPhys) {
        for place in places_of(directory) {
            self.recent[place].take_if(|(recent, _)| *recent == directory);
        }
    }

    /// Notes that a slot shadows this page directory from now on, by this root.
    pub(super) fn fill(&mut self, index: usize, directory: GuestPhys, root: RootId) {
        self.forget_directory(index);
        self.slots[index] = Some(Slot { directory, root });
        self.forget_recent(directory);
        let lowest = self.by_directory.entry(directory).or_insert(index);
        *lowest = index.min(*lowest);
    }

    /// Empties a slot.
    pub(super) fn empty(&mut self, index: usize) -> Option<Slot> {
        self.forget_directory(index);
        self.slots[index].take()
    }

    /// Whether the index names the lowest slot of each page directory, for the audit.
    pub(super) fn check(&self, host: &mut dyn PagingHost, found: &mut dyn FnMut(Defect)) -> Progress {
        for (_, slot) in self.taken() {
            reschedule_point(host)?;
            let lowest = self.taken().find(|(_, other)| other.directory == slot.directory);
            if lowest.map(|(index, _)| index) != self.of(slot.directory) {
                found(Defect::Index { directory: slot.directory });
            }
        }
        let recent = self.recent.iter().flatten().map(|(directory, index)| (directory, index));
        for (&directory, &index) in self.by_directory.iter().chain(recent) {
            if self.get(index).is_none_or(|slot| slot.directory != directory) {
                found(Defect::Index { directory });
            }
        }
        Progress::Continue(())
    }

    /// Takes a slot's page directory out of the index.
    fn forget_directory(&mut self, index: usize) {
        let Some(Slot { directory, .. }) = self.slots[index] else { return };
        self.forget_recent(directory);
        if self.by_directory.get(&directory) != Some(&index) {
            return;
        }
        let other = self.taken().find(|(i, slot)| *i != index && slot.directory == directory);
        match other {
            Some((other, _)) => self.by_directory.insert(directory, other),
            None => self.by_directory.remove(&directory),
        };
    }
}
