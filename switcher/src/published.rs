//! The shadow roots that the Switcher may load by itself, and what it has done by itself so far: part of the state page.
//!
//! A guest's kernel that switches to another process passes the host a page directory, and a stack, and often
//! thread-local-storage descriptors. Where the shadow root of the directory is *published*, the Switcher does all of that
//! without leaving the guest (module `text`), and writes down what it did. The host takes that at the next exit,
//! before it does anything else.
//!
//! Whoever publishes a root promises that its page stays a shadow root of this guest's until it is retracted.

use arch_i386::addr::{GuestPhys, GuestVirt, HostFrame, PAGE_SHIFT};
use arch_i386::done_in_switcher::FilledInSwitcher;

/// Page directories that may be published under one hash, and how many hashes there are.
pub(crate) const WAYS: usize = 4;
const SETS: usize = 16;
/// What a page directory's address is multiplied with; the highest bits of the product are its hash. (Knuth, The Art of
/// Computer Programming, vol. 3, 6.4: 2³² over the golden ratio; and its powers.)
const HASH_FACTORS: [u32; 8] = {
    let mut factors = [0x9e37_79b1_u32; 8];
    let mut n = 1;
    while n < factors.len() {
        factors[n] = factors[n - 1].wrapping_mul(factors[0]);
        n += 1;
    }
    factors
};
pub(crate) const HASH_SHIFT: u32 = u32::BITS - SETS.trailing_zeros();

/// So many roots are spread by another factor where one finds no room. Of more, some set has too many by nearly any.
const MOST_SPREAD: usize = SETS * WAYS / 2;

/// Of so many roots for which there is no room, one takes the place of another.
const ATTEMPTS: u32 = 4;

/// Loads that the Switcher may do until the guest must be left.
pub(crate) const MOST_LOADS: usize = 64;

/// Words of the account of the entries that the Switcher fills.
const FILL_WORDS: usize = 128;

/// With so many of them in use the guest must be left before another entry is filled: that may take two, for a root and an entry.
#[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by the assembly"))]
pub(crate) const MOST_FILLS: usize = FILL_WORDS - 1;

/// A root that the Switcher may load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct PublishedRoot {
    /// The guest's page directory.
    pub(crate) directory: u32,
    /// What to load into CR3; 0 when nothing is published here.
    pub(crate) cr3: u32,
    /// Where the guest's kernel sees the page directory, if page faults may be reflected by it; 0 if not.
    pub(crate) linear: u32,
}

/// The roots, and what the Switcher writes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Published {
    /// A bit for each hypercall, by number, that the Switcher may do in this run.
    pub(crate) calls_allowed: u32,
    /// Pages of the guest's kernel stack.
    pub(crate) stack_pages: u32,
    /// The ring entry that comes next.
    pub(crate) ring_next: u32,
    /// Calls that were made in registers and that the Switcher has done, and those of the ring before them.
    pub(crate) calls: u32,
    pub(crate) ring_calls: u32,
    /// Whether it has stored thread-local-storage descriptors in the GDT: how often.
    pub(crate) tls_loads: u32,
    /// How many SET_PTEs have changed nothing, since their table is empty.
    pub(crate) idle_set_ptes: u32,
    /// How many page directories it has loaded, and which ones.
    pub(crate) loads: u32,
    pub(crate) loaded: [GuestPhys; MOST_LOADS],
    /// The account of the entries that it has filled: the last root in it, 0 for none yet; how many words there are; and they.
    pub(crate) fill_root: u32,
    pub(crate) fill_words: u32,
    pub(crate) filled: [FilledInSwitcher; FILL_WORDS],
    pub(crate) roots: [[PublishedRoot; WAYS]; SETS],
    /// One of [`HASH_FACTORS`].
    pub(crate) hash_factor: u32,
    /// How many roots have found no room since one took another's place.
    declined: u32,
}

/// Those that are published.
fn present(roots: &[[PublishedRoot; WAYS]; SETS]) -> impl Iterator<Item = &PublishedRoot> {
    roots.as_flattened().iter().filter(|root| root.cr3 != 0)
}

/// The set of a page directory's address.
const fn set_by(factor: u32, directory: u32) -> usize {
    (directory.wrapping_mul(factor) >> HASH_SHIFT) as usize
}

impl Published {
    pub(crate) const NONE: Self = Self {
        calls_allowed: 0,
        stack_pages: 0,
        ring_next: 0,
        calls: 0,
        ring_calls: 0,
        tls_loads: 0,
        idle_set_ptes: 0,
        loads: 0,
        loaded: [GuestPhys(0); MOST_LOADS],
        fill_root: 0,
        fill_words: 0,
        filled: [FilledInSwitcher::NONE; FILL_WORDS],
        roots: [[PublishedRoot { directory: 0, cr3: 0, linear: 0 }; WAYS]; SETS],
        hash_factor: HASH_FACTORS[0],
        declined: 0,
    };

    fn set_of(&mut self, directory: GuestPhys) -> &mut [PublishedRoot; WAYS] {
        &mut self.roots[set_by(self.hash_factor, directory.0)]
    }

    /// Puts these in, by the first factor by which each finds room; returns whether there is one.
    fn spread(&mut self, new: PublishedRoot) -> bool {
        let all = || present(&self.roots).chain([&new]);
        if all().count() > MOST_SPREAD {
            return false;
        }
        let fits = |&factor: &u32| {
            let mut taken = [0; SETS];
            all().all(|root| {
                let taken = &mut taken[set_by(factor, root.directory)];
                *taken += 1;
                *taken <= WAYS
            })
        };
        let Some(factor) = HASH_FACTORS.into_iter().find(fits) else { return false };
        let before = core::mem::replace(&mut self.roots, Self::NONE.roots);
        self.hash_factor = factor;
        for &root in present(&before).chain([&new]) {
            let set = self.set_of(GuestPhys(root.directory));
            let free = set.iter_mut().find(|place| place.cr3 == 0);
            *free.expect("each set has been counted") = root;
        }
        true
    }

    /// Publishes a root. Where its set is full, all are [spread](Self::spread) anew. If that cannot be, the set takes one of
    /// [`ATTEMPTS`], at the place that more bits of its hash name: of page directories that
    /// are loaded in turn, one more than a set has room for, nearly all stay so, where none would if the one published first went.
    pub(crate) fn publish(&mut self, directory: GuestPhys, root: HostFrame, linear: Option<GuestVirt>) {
        let new = PublishedRoot {
            directory: directory.0,
            cr3: root.0 << PAGE_SHIFT,
            linear: linear.map_or(0, |at| at.0),
        };
        let set = self.set_of(directory);
        let place = set.iter().position(|root| root.cr3 != 0 && root.directory == directory.0);
        if let Some(place) = place.or_else(|| set.iter().position(|root| root.cr3 == 0)) {
            set[place] = new;
        } else if self.spread(new) {
            // It is in.
        } else if self.declined < ATTEMPTS - 1 {
            self.declined += 1;
        } else {
            self.declined = 0;
            let hash = directory.0.wrapping_mul(self.hash_factor) << SETS.trailing_zeros();
            let way = hash >> (u32::BITS - WAYS.trailing_zeros());
            self.set_of(directory)[way as usize] = new;
        }
    }

    /// Retracts the root of a page directory.
    pub(crate) fn retract(&mut self, directory: GuestPhys) {
        for root in self.set_of(directory).iter_mut().filter(|root| root.directory == directory.0) {
            *root = PublishedRoot::default();
        }
    }

    /// Retracts a root, whatever it was published for.
    pub(crate) fn retract_root(&mut self, root: HostFrame) {
        let cr3 = root.0 << PAGE_SHIFT;
        for root in self.roots.as_flattened_mut().iter_mut().filter(|root| root.cr3 == cr3) {
            *root = PublishedRoot::default();
        }
    }

    /// Retracts all.
    pub(crate) fn retract_all(&mut self) {
        self.roots = Self::NONE.roots;
    }

    /// What is published for a page directory.
    #[cfg(test)]
    fn root_of(&mut self, directory: GuestPhys) -> Option<PublishedRoot> {
        self.set_of(directory).iter().copied().find(|root| root.cr3 != 0 && root.directory == directory.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: Option<GuestVirt> = Some(GuestVirt(0xc000_2000));

    fn root(directory: u32, cr3: u32) -> PublishedRoot {
        PublishedRoot { directory, cr3, linear: 0xc000_2000 }
    }

    /// Page directories of the same set as address 0x2000, one more than it has room for, by trying all.
    fn same_set() -> [GuestPhys; 5] {
        let hash = |page: u32| (page << 12).wrapping_mul(0x9e37_79b1) >> 28;
        let mut found = (2..).filter(|&page| hash(page) == hash(2)).map(|page| GuestPhys(page << 12));
        core::array::from_fn(|_| found.next().unwrap())
    }

    #[test]
    fn what_was_published_is_found_until_it_is_retracted() {
        let mut published = Published::NONE;
        assert_eq!(published.root_of(GuestPhys(0)), None, "an empty place stands for nothing");
        published.publish(GuestPhys(0x2000), HostFrame(0x77), LINEAR);
        published.publish(GuestPhys(0x3000), HostFrame(0x78), LINEAR);
        assert_eq!(published.root_of(GuestPhys(0x2000)), Some(root(0x2000, 0x7_7000)));
        published.publish(GuestPhys(0x2000), HostFrame(0x79), LINEAR);
        assert_eq!(published.root_of(GuestPhys(0x2000)), Some(root(0x2000, 0x7_9000)));
        published.retract(GuestPhys(0x2000));
        assert_eq!(published.root_of(GuestPhys(0x2000)), None);
        assert_eq!(published.root_of(GuestPhys(0x3000)), Some(root(0x3000, 0x7_8000)));
        published.retract_root(HostFrame(0x78));
        assert_eq!(published.root_of(GuestPhys(0x3000)), None);
    }

    #[test]
    fn one_root_may_stand_for_several_directories() {
        let mut published = Published::NONE;
        for directory in [0x2000, 0x3000, 0x9000] {
            published.publish(GuestPhys(directory), HostFrame(0x77), None);
        }
        published.retract_root(HostFrame(0x77));
        assert!(published.roots.as_flattened().iter().all(|root| *root == PublishedRoot::default()));
    }

    #[test]
    fn those_of_one_set_are_spread() {
        let mut published = Published::NONE;
        let all = same_set();
        for (directory, frame) in all.into_iter().zip(1..) {
            published.publish(directory, HostFrame(frame), None);
        }
        for (directory, frame) in all.into_iter().zip(1..) {
            let expected = PublishedRoot { directory: directory.0, cr3: frame << 12, linear: 0 };
            assert_eq!(published.root_of(directory), Some(expected));
        }
        published.retract(all[2]);
        assert_eq!(published.root_of(all[2]), None);
        assert_eq!(present(&published.roots).count(), 4);
    }

    #[test]
    fn one_of_a_full_set_makes_room() {
        let mut published = Published::NONE;
        let all = same_set();
        // With the other sets full, there are too many to be spread.
        for page in 0x1000..0x1100 {
            let other = GuestPhys(page << 12);
            let set = published.set_of(other);
            if let Some(free) = set.iter_mut().find(|root| root.cr3 == 0) {
                *free = root(other.0, 0x1000);
            }
        }
        *published.set_of(all[0]) = [PublishedRoot::default(); WAYS];
        for (directory, frame) in all.into_iter().zip(1..=4) {
            published.publish(directory, HostFrame(frame), None);
        }
        // Published again, it is so once only.
        published.publish(all[0], HostFrame(5), None);
        let found = |published: &mut Published| {
            all.map(|directory| published.root_of(directory).map(|root| root.cr3))
        };
        let mut expected = [Some(0x5000), Some(0x2000), Some(0x3000), Some(0x4000), None];
        for _ in 0..3 {
            published.publish(all[4], HostFrame(6), None);
            assert_eq!(found(&mut published), expected);
        }
        published.publish(all[4], HostFrame(6), None);
        expected[4] = Some(0x6000);
        // The two bits below the four of the hash.
        let way = all[4].0.wrapping_mul(0x9e37_79b1) >> 26 & 3;
        expected[way as usize] = None;
        assert_eq!(found(&mut published), expected);
        // What is retracted leaves room for another, whichever is published.
        published.retract(all[4]);
        published.publish(all[way as usize], HostFrame(7), None);
        expected[way as usize] = Some(0x7000);
        expected[4] = None;
        assert_eq!(found(&mut published), expected);
        published.publish(all[4], HostFrame(8), None);
        assert_eq!(found(&mut published), expected, "again, it takes four");
    }
}
