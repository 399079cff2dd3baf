//! The most that can be kept: intervals with weights, of which no more than a number may have a point in common.
//!
//! A flow from the first point to the last, of as many units as intervals may overlap, in which a unit goes either from a
//! point to the next one or along an interval, which takes one and is worth its weight. The dearest flow of one unit more
//! comes from the one before by the dearest path that is left, so that all numbers are answered in one run. J. W. Suurballe
//! and R. E. Tarjan, "A quick method for finding shortest pairs of disjoint paths", Networks 14, 1984, find such paths by
//! Dijkstra's algorithm on lengths that are kept from being negative; M. C. Carlisle and E. L. Lloyd, "On the k-coloring of
//! intervals", Discrete Applied Mathematics 59, 1995, reduce these intervals to such a flow.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that is kept from one point up to another one, which is not part of it.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// Its first point.
    pub start: usize,
    /// The point after its last one.
    pub end: usize,
    /// What it is worth.
    pub weight: u64,
}

/// For 0, 1 and so on up to `most`: the greatest weight of intervals of which no more than so many have a point below
/// `points` in common.
#[must_use]
pub fn greatest_weights(intervals: &[Interval], points: usize, most: usize) -> Vec<u64> {
    let mut flow = Flow::new(intervals, points);
    let mut weights = vec![0];
    for _ in 0..most {
        let last = weights.last().copied().unwrap_or_default();
        weights.push(last + flow.add_unit());
    }
    weights
}

struct Flow<'a> {
    intervals: &'a [Interval],
    /// Which of them carry a unit.
    kept: Vec<bool>,
    /// Units on the way from each point to the next.
    along: Vec<u64>,
    /// For each point, the intervals that start or end there.
    at: Vec<Vec<usize>>,
    /// By how much the way from the first point to each is longer than nothing: lengths are measured from there.
    potential: Vec<i64>,
}

/// What a path goes along.
#[derive(Clone, Copy)]
enum Step {
    Next,
    Back,
    Interval(usize),
}

impl<'a> Flow<'a> {
    fn new(intervals: &'a [Interval], points: usize) -> Self {
        let mut at = vec![Vec::new(); points + 1];
        for (number, interval) in intervals.iter().enumerate() {
            at[interval.start].push(number);
            at[interval.end].push(number);
        }
        // All lead forward, so that one pass finds the first lengths, which are negative.
        let mut potential = vec![0; points + 1];
        for point in 0..=points {
            let here: i64 = potential[point];
            if let Some(next) = potential.get_mut(point + 1) {
                *next = here.min(*next);
            }
            for interval in at[point].iter().map(|&number| intervals[number]).filter(|i| i.start == point) {
                let end = &mut potential[interval.end];
                *end = (*end).min(here - interval.weight as i64);
            }
        }
        Self { intervals, kept: vec![false; intervals.len()], along: vec![0; points], at, potential }
    }

    /// The steps from a point that have room, where they lead, and their lengths: what an interval is worth is its length
    /// below zero.
    fn steps(&self, from: usize) -> impl Iterator<Item = (Step, usize, i64)> {
        let next = (from < self.along.len()).then_some((Step::Next, from + 1, 0));
        let back = from.checked_sub(1).filter(|&before| self.along[before] > 0);
        let intervals = self.at[from].iter().filter_map(move |&number| {
            let Interval { start, end, weight } = self.intervals[number];
            match (start == from, self.kept[number]) {
                (true, false) => Some((Step::Interval(number), end, -(weight as i64))),
                (false, true) => Some((Step::Interval(number), start, weight as i64)),
                _ => None,
            }
        });
        next.into_iter().chain(back.map(|before| (Step::Back, before, 0))).chain(intervals)
    }

    /// Sends a unit more on the best way that is left; returns what it adds.
    fn add_unit(&mut self) -> u64 {
        let points = self.along.len();
        let mut length = vec![i64::MAX; points + 1];
        let mut reached_by = vec![None; points + 1];
        let mut waiting = BinaryHeap::from([Reverse((0, 0))]);
        length[0] = 0;
        while let Some(Reverse((here, point))) = waiting.pop() {
            if here > length[point] {
                continue;
            }
            for (step, to, own) in self.steps(point) {
                let there = here + own + self.potential[point] - self.potential[to];
                if there < length[to] {
                    length[to] = there;
                    reached_by[to] = Some((step, point));
                    waiting.push(Reverse((there, to)));
                }
            }
        }
        self.potential.iter_mut().zip(&length).for_each(|(potential, length)| *potential += length);
        let mut at = points;
        while let Some((step, from)) = reached_by[at].filter(|_| at > 0) {
            match step {
                Step::Next => self.along[from] += 1,
                Step::Back => self.along[at] -= 1,
                Step::Interval(number) => self.kept[number] ^= true,
            }
            at = from;
        }
        self.potential[points].unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro128PlusPlus;

    const POINTS: usize = 7;

    /// By trying every choice.
    fn greatest(intervals: &[Interval], most: usize) -> u64 {
        let fits = |chosen: &u32| {
            let is_chosen = |number: usize| chosen >> number & 1 == 1;
            let at = |point: usize| {
                let mut all = intervals.iter().enumerate();
                all.by_ref().filter(|(n, i)| is_chosen(*n) && (i.start..i.end).contains(&point)).count()
            };
            (0..POINTS).all(|point| at(point) <= most)
        };
        let worth = |chosen: u32| {
            let all = intervals.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1);
            all.map(|(_, interval)| interval.weight).sum()
        };
        (0..1 << intervals.len()).filter(fits).map(worth).max().unwrap()
    }

    #[test]
    fn no_choice_is_worth_more() {
        let mut generator = Xoshiro128PlusPlus::seed_from_u64(1);
        let mut below = |bound: usize| generator.next_u32() as usize % bound;
        for _ in 0..200 {
            let mut interval = || {
                let start = below(POINTS);
                Interval { start, end: start + 1 + below(POINTS - start), weight: below(9) as u64 }
            };
            let intervals: Vec<_> = (0..9).map(|_| interval()).collect();
            let expected: Vec<_> = (0..=4).map(|most| greatest(&intervals, most)).collect();
            assert_eq!(greatest_weights(&intervals, POINTS, 4), expected, "{intervals:?}");
        }
    }
}
