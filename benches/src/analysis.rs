//! What a sequence of page-directory loads is like, whatever policy it meets: how often directories are loaded again, after how
//! many others, how many are in use at a time, and LRU's misses for every number of slots.

use crate::stack_distance::Stack;
use arch_i386::addr::GuestPhys;
use std::collections::{HashMap, HashSet};

/// Reuse distances of the loads that are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distances {
    /// How many loads have each distance.
    pub counts: Vec<u64>,
    /// Loads of directories that had not been loaded before: compulsory misses.
    pub first: u64,
}

impl Distances {
    fn add(&mut self, distance: Option<usize>) {
        match distance {
            None => self.first += 1,
            Some(distance) => {
                if self.counts.len() <= distance {
                    self.counts.resize(distance + 1, 0);
                }
                self.counts[distance] += 1;
            }
        }
    }

    /// The distances that loads have, with how many.
    pub fn counted(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().copied().enumerate().filter(|&(_, loads)| loads > 0)
    }

    /// LRU's misses: for each number of slots at which they become fewer, from 1 on. Between two of them, and beyond the last,
    /// the misses stay the same.
    #[must_use]
    pub fn lru_misses(&self) -> Vec<(u64, u64)> {
        let mut misses = self.first + self.counts.iter().sum::<u64>();
        let mut curve = Vec::new();
        for (slots, &hits) in (1..).zip(&self.counts) {
            misses -= hits;
            if hits > 0 || slots == 1 {
                curve.push((slots, misses));
            }
        }
        if curve.is_empty() {
            curve.push((1, misses));
        }
        curve
    }

    /// The distances from one power of two up to the next, as texts, with the loads that have them; the last are first loads.
    #[must_use]
    pub fn buckets(&self) -> Vec<(String, u64)> {
        let mut buckets = Vec::new();
        let mut from = 0;
        while from < self.counts.len() {
            let to = (2 * from).max(1);
            let loads = self.counts.iter().take(to).skip(from).sum();
            buckets
                .push((if to == from + 1 { from.to_string() } else { format!("{from}–{}", to - 1) }, loads));
            from = to;
        }
        buckets.push(("first".to_owned(), self.first));
        buckets
    }
}

/// LRU's misses with some slots, counted or estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Misses {
    /// The number of slots.
    pub slots: u64,
    /// How many; nothing if they are estimated.
    pub misses: Option<u64>,
    /// Their share of the loads.
    pub ratio: f64,
    /// The share's lower bound; the share itself where misses were counted.
    pub low: f64,
    /// Its upper bound.
    pub high: f64,
}

/// LRU's misses with that many slots, from [`Distances::lru_misses`].
#[must_use]
pub fn misses_with(curve: &[(u64, u64)], slots: u64) -> u64 {
    let after = curve.partition_point(|&(at, _)| at <= slots);
    after.checked_sub(1).and_then(|at| curve.get(at)).map_or(0, |(_, misses)| *misses)
}

/// When each page directory is loaded first.
#[derive(Debug, Default)]
pub struct FirstLoads {
    loads: u64,
    seen: HashSet<GuestPhys>,
    /// The numbers of the loads that were first ones, from 0.
    first: Vec<u64>,
}

impl FirstLoads {
    /// Takes the next load.
    pub fn load(&mut self, directory: GuestPhys) {
        if self.seen.insert(directory) {
            self.first.push(self.loads);
        }
        self.loads += 1;
    }

    /// All loads.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.loads
    }

    /// How many page directories are loaded first after that many loads.
    #[must_use]
    pub fn after(&self, loads: u64) -> u64 {
        (self.first.len() - self.first.partition_point(|&first| first < loads)) as u64
    }
}

/// The loads of one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The number of the first load, from 0.
    pub from: u64,
    /// Loads; fewer than in other windows in the last.
    pub loads: u64,
    /// Different directories: the working set.
    pub directories: u64,
    /// Those of them that had not been loaded before.
    pub new: u64,
}

/// The working set over time: different directories in each interval of so many loads (P. J. Denning, "The working set model for
/// program behavior", Communications of the ACM 11(5), 1968, with intervals that do not overlap).
#[derive(Debug)]
pub struct WorkingSet {
    length: u64,
    /// In which window each directory was loaded last.
    last: HashMap<GuestPhys, usize>,
    windows: Vec<Window>,
    loads: u64,
}

impl WorkingSet {
    /// With windows of that many loads.
    ///
    /// # Panics
    /// For none.
    #[must_use]
    pub fn new(length: u64) -> Self {
        assert!(length > 0, "a window has loads");
        Self { length, last: HashMap::new(), windows: Vec::new(), loads: 0 }
    }

    /// Takes the next load.
    pub fn load(&mut self, directory: GuestPhys) {
        if self.loads.is_multiple_of(self.length) {
            self.windows.push(Window { from: self.loads, ..Window::default() });
        }
        self.loads += 1;
        let now = self.windows.len();
        let window = self.windows.last_mut().expect("the first load makes one");
        window.loads += 1;
        let before = self.last.insert(directory, now);
        window.new += u64::from(before.is_none());
        window.directories += u64::from(before != Some(now));
    }

    /// All windows.
    #[must_use]
    pub fn finish(self) -> Vec<Window> {
        self.windows
    }
}

/// Reuse distances of a trace's loads, taken one by one.
#[derive(Debug)]
pub struct Reuse {
    stack: Stack<GuestPhys>,
    distances: Distances,
    /// Loads that are left of the warm-up.
    warmup: u64,
}

impl Reuse {
    /// With that many loads at the beginning that are not counted.
    #[must_use]
    pub fn new(warmup: u64) -> Self {
        Self { stack: Stack::default(), distances: Distances::default(), warmup }
    }

    /// Takes the next load.
    pub fn load(&mut self, directory: GuestPhys) {
        let distance = self.stack.load(directory);
        match self.warmup.checked_sub(1) {
            Some(left) => self.warmup = left,
            None => self.distances.add(distance),
        }
    }

    /// What was counted.
    #[must_use]
    pub fn finish(self) -> Distances {
        self.distances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(keys: &str) -> impl Iterator<Item = GuestPhys> {
        keys.bytes().map(|key| GuestPhys(u32::from(key) * 4096))
    }

    fn distances(keys: &str, warmup: u64) -> Distances {
        let mut reuse = Reuse::new(warmup);
        directories(keys).for_each(|directory| reuse.load(directory));
        reuse.finish()
    }

    /// a b c b a d: b is loaded again after one other, a after two.
    #[test]
    fn distances_are_counted_and_give_lrus_misses() {
        let counted = distances("abcbad", 0);
        assert_eq!(counted, Distances { counts: vec![0, 1, 1], first: 4 });
        // With one slot all six miss; with two, b hits; with three, a too.
        assert_eq!(counted.lru_misses(), [(1, 6), (2, 5), (3, 4)]);
        assert_eq!([1, 2, 3, 9].map(|slots| misses_with(&counted.lru_misses(), slots)), [6, 5, 4, 4]);
        assert_eq!(distances("abcbad", 3), Distances { counts: vec![0, 1, 1], first: 1 });
        assert_eq!(distances("abc", 0).lru_misses(), [(1, 3)]);
        assert_eq!(distances("", 0).lru_misses(), [(1, 0)]);
    }

    #[test]
    fn buckets_are_powers_of_two() {
        let distances = Distances { counts: vec![5, 4, 3, 2, 1], first: 7 };
        let expected = [("0", 5), ("1", 4), ("2–3", 5), ("4–7", 1), ("first", 7)];
        assert_eq!(distances.buckets(), expected.map(|(text, loads)| (text.to_owned(), loads)));
    }

    #[test]
    fn first_loads_are_counted_from_any_load_on() {
        let mut first = FirstLoads::default();
        directories("aabac").for_each(|directory| first.load(directory));
        assert_eq!(first.loads(), 5);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|loads| first.after(loads)), [3, 2, 2, 1, 1, 0]);
    }

    #[test]
    fn the_working_set_is_that_of_each_window() {
        let mut set = WorkingSet::new(3);
        directories("aabbcbda").for_each(|directory| set.load(directory));
        let window = |from, loads, directories, new| Window { from, loads, directories, new };
        assert_eq!(set.finish(), [window(0, 3, 2, 2), window(3, 3, 2, 1), window(6, 2, 2, 1)]);
    }
}
