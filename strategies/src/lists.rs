//! Ordered lists of slots, which most policies are made of.
//!
//! [`Lists`] are doubly linked through arrays that are as long as there are numbers, so that every change
//! takes a few stores and none allocates. A number is on one list at most.

use alloc::boxed::Box;
use framework::fallible::{OutOfMemory, collected, filled};

/// Several ordered lists over the numbers below a bound.
///
/// Lists are circles through a sentinel of their own, whose links are the list's front and back.
pub struct Lists {
    /// One for each number, then the sentinels.
    nodes: Box<[Node]>,
    lengths: Box<[u32]>,
    numbers: usize,
}

#[derive(Clone, Copy)]
struct Node {
    next: u32,
    previous: u32,
    /// The list that a number is on.
    list: u32,
}

/// Of a number that is on no list.
const NONE: u32 = u32::MAX;

impl Lists {
    /// That many empty lists over the numbers below `numbers`.
    pub fn new(lists: usize, numbers: usize) -> Result<Self, OutOfMemory> {
        let alone = |at| Node { next: at, previous: at, list: NONE };
        let nodes = collected((0..(numbers + lists) as u32).map(alone))?.into_boxed_slice();
        Ok(Self { nodes, lengths: filled(0, lists)?, numbers })
    }

    fn sentinel(&self, list: usize) -> usize {
        self.numbers + list
    }

    /// The list that a number is on.
    pub fn list_of(&self, number: usize) -> Option<usize> {
        let list = self.nodes[number].list;
        (list != NONE).then_some(list as usize)
    }

    /// How many numbers are on a list.
    pub fn len(&self, list: usize) -> usize {
        self.lengths[list] as usize
    }

    /// The last of a list.
    pub fn back(&self, list: usize) -> Option<usize> {
        self.in_front_of_link(self.sentinel(list))
    }

    /// The number in front of another on its list, unless it is the first.
    pub fn in_front_of(&self, number: usize) -> Option<usize> {
        self.in_front_of_link(number)
    }

    fn in_front_of_link(&self, link: usize) -> Option<usize> {
        let previous = self.nodes[link].previous as usize;
        (previous < self.numbers).then_some(previous)
    }

    /// Moves the last of a list to the front of another one, until no more than `room` are left.
    pub fn overflow(&mut self, from: usize, room: usize, to: usize) {
        while self.len(from) > room
            && let Some(last) = self.back(from)
        {
            self.push_front(to, last);
        }
    }

    /// Puts a number before all others of a list, wherever it was.
    pub fn push_front(&mut self, list: usize, number: usize) {
        let front = self.sentinel(list);
        let node = self.nodes[number];
        if node.list == list as u32 {
            // What an LRU list does at each hit, as often as not of the one in front.
            if node.previous as usize != front {
                self.unlink(number);
                self.link(front, number);
            }
        } else {
            self.remove(number);
            self.insert_after(front, list, number);
        }
    }

    /// Takes a number off its list, if it is on any.
    pub fn remove(&mut self, number: usize) {
        let Some(list) = self.list_of(number) else { return };
        self.unlink(number);
        self.nodes[number].list = NONE;
        self.lengths[list] -= 1;
    }

    /// Puts `new`, wherever it was, in the place of `old`, which is then on no list.
    pub fn replace(&mut self, old: usize, new: usize) {
        let Some(list) = self.list_of(old) else { return };
        self.remove(new);
        self.insert_after(old, list, new);
        self.remove(old);
    }

    fn insert_after(&mut self, link: usize, list: usize, number: usize) {
        self.link(link, number);
        self.nodes[number].list = list as u32;
        self.lengths[list] += 1;
    }

    fn link(&mut self, previous: usize, number: usize) {
        let next = core::mem::replace(&mut self.nodes[previous].next, number as u32);
        self.nodes[next as usize].previous = number as u32;
        let node = &mut self.nodes[number];
        (node.previous, node.next) = (previous as u32, next);
    }

    fn unlink(&mut self, number: usize) {
        let Node { previous, next, .. } = self.nodes[number];
        self.nodes[previous as usize].next = next;
        self.nodes[next as usize].previous = previous;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// A list from its back to its front, with every link checked in passing.
    fn backwards(lists: &Lists, list: usize) -> Vec<usize> {
        let mut numbers = Vec::new();
        let mut at = lists.back(list);
        while let Some(number) = at {
            assert_eq!(lists.list_of(number), Some(list));
            numbers.push(number);
            at = lists.in_front_of(number);
        }
        assert_eq!(numbers.len(), lists.len(list));
        numbers
    }

    #[test]
    fn numbers_move_between_lists() {
        let mut lists = Lists::new(2, 5).unwrap();
        (0..4).for_each(|number| lists.push_front(0, number));
        assert_eq!(backwards(&lists, 0), [0, 1, 2, 3]);
        lists.push_front(0, 1);
        lists.push_front(1, 2);
        assert_eq!((backwards(&lists, 0), backwards(&lists, 1)), (vec![0, 3, 1], vec![2]));
        lists.replace(3, 4);
        assert_eq!((backwards(&lists, 0), lists.list_of(3)), (vec![0, 4, 1], None));
        lists.replace(4, 2);
        assert_eq!((backwards(&lists, 0), backwards(&lists, 1)), (vec![0, 2, 1], vec![]));
        lists.remove(0);
        lists.remove(0);
        assert_eq!(backwards(&lists, 0), [2, 1]);
    }
}
