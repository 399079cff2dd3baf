//! Reuse distances: how many other page directories were loaded since a page directory was loaded last.
//!
//! They are the depths in LRU's stack, so that a load is a hit of LRU with `n` slots exactly if its distance is less than `n`:
//! one pass gives LRU's misses for every number of slots. R. L. Mattson, J. Gecsei, D. R. Slutz and I. L. Traiger, "Evaluation
//! techniques for storage hierarchies", IBM Systems Journal 9(2), 1970. The stack is kept as the times of the last loads, counted
//! by a tree, so that a load takes the logarithm of the number of keys (F. Olken, "Efficient methods for calculating the
//! success function of fixed space replacement policies", LBL-12370, 1981; the tree is that of P. M. Fenwick, "A new data
//! structure for cumulative frequency tables", Software: Practice and Experience 24(3), 1994).

use std::collections::HashMap;
use std::hash::Hash;

/// Times that the tree has at least.
const LEAST_TIMES: usize = 1024;

/// The keys that were loaded, by the times of their last loads.
#[derive(Clone, Debug)]
pub struct Stack<K> {
    last: HashMap<K, usize>,
    /// How many of the times up to each one are a key's last: a Fenwick tree, from 1.
    tree: Vec<u32>,
    now: usize,
}

impl<K> Default for Stack<K> {
    fn default() -> Self {
        Self { last: HashMap::new(), tree: vec![0; LEAST_TIMES + 1], now: 0 }
    }
}

impl<K: Copy + Eq + Hash> Stack<K> {
    /// Loads a key. Returns its reuse distance; `None` for its first load.
    pub fn load(&mut self, key: K) -> Option<usize> {
        if self.now + 1 == self.tree.len() {
            self.renumber();
        }
        self.now += 1;
        let before = self.last.insert(key, self.now);
        self.add(self.now, 1);
        let before = before?;
        let distance = self.last.len() - self.up_to(before);
        self.add(before, u32::MAX);
        Some(distance)
    }

    /// Forgets a key: it is between no two loads any more, and its next load is a first one.
    pub fn remove(&mut self, key: K) {
        if let Some(last) = self.last.remove(&key) {
            self.add(last, u32::MAX);
        }
    }

    /// Keys that have been loaded.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.last.len()
    }

    /// Gives the last loads the times from 1 on, in their order, and room for as many again.
    fn renumber(&mut self) {
        let mut times: Vec<&mut usize> = self.last.values_mut().collect();
        times.sort_unstable();
        self.now = times.len();
        self.tree = vec![0; (2 * self.now).max(LEAST_TIMES) + 1];
        for (time, last) in (1..).zip(times) {
            *last = time;
        }
        for time in 1..=self.now {
            self.add(time, 1);
        }
    }

    /// Adds to the count of a time; `u32::MAX` is −1.
    fn add(&mut self, mut time: usize, count: u32) {
        while let Some(sum) = self.tree.get_mut(time) {
            *sum = sum.wrapping_add(count);
            time += time & time.wrapping_neg();
        }
    }

    /// Keys whose last loads were at that time or before it; that of the key in question is counted, its new one is not.
    fn up_to(&self, mut time: usize) -> usize {
        let mut sum = 0;
        while time > 0 {
            sum += self.tree[time] as usize;
            time &= time - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distances(keys: &str) -> Vec<Option<usize>> {
        let mut stack = Stack::default();
        keys.chars().map(|key| stack.load(key)).collect()
    }

    /// Worked by hand: the other letters since the same letter was last.
    #[test]
    fn the_others_since_the_last_load_are_counted_once() {
        let none = None;
        assert_eq!(distances("aab"), [none, Some(0), none]);
        assert_eq!(distances("abcba"), [none, none, none, Some(1), Some(2)]);
        assert_eq!(distances("abbba"), [none, none, Some(0), Some(0), Some(1)]);
        assert_eq!(distances("abcabc"), [none, none, none, Some(2), Some(2), Some(2)]);
    }

    /// Worked by hand: without the b, only c is between the two loads of a.
    #[test]
    fn a_key_that_is_removed_is_between_no_two_loads() {
        let mut stack = Stack::default();
        let mut load = |keys: &str| keys.chars().map(|key| stack.load(key)).collect::<Vec<_>>();
        assert_eq!(load("abc"), [None; 3]);
        stack.remove('b');
        stack.remove('x');
        assert_eq!((stack.keys(), stack.load('a'), stack.load('b')), (2, Some(1), None));
    }

    /// The definition, over more loads than the tree has times at first.
    #[test]
    fn the_tree_counts_what_the_definition_does() {
        use rand_core::{Rng, SeedableRng};
        let mut generator = rand_xoshiro::Xoshiro128PlusPlus::seed_from_u64(1);
        let mut stack = Stack::default();
        let mut loaded: Vec<u32> = Vec::new();
        for _ in 0..4 * LEAST_TIMES {
            // Squared, so that some keys are loaded often and others seldom.
            let key = generator.next_u32() % 40 * (generator.next_u32() % 40);
            let since = loaded.iter().rev().take_while(|&&other| other != key);
            let others = since.collect::<std::collections::HashSet<_>>().len();
            let expected = loaded.contains(&key).then_some(others);
            assert_eq!(stack.load(key), expected);
            loaded.push(key);
        }
        assert!(stack.keys() > 100);
    }
}
