//! LRU's miss curve from a sample of the keys (SHARDS), with bounds of its error.
//!
//! A key is in the sample if its hash is less than the rate's share of all hashes: all of its loads are, or none. Reuse distances
//! within the sample are shorter by the rate, and its misses are fewer by the rate. C. A. Waldspurger, N. Park, A. Garthwaite and
//! I. Ahmad, "Efficient MRC construction with SHARDS", FAST 2015, with a fixed rate. Misses are divided by the number of all loads, which
//! is that paper's SHARDS-adj: a popular key that is or is not in the sample does not change the loads.
//!
//! The paper measures its error; the bounds here are computed from the sample itself, for each number of slots, with two parts:
//!
//! * A load that has the distance `d` in the trace has a binomial distance of the mean `rate · d` in the sample. By Chernoff's
//!   inequality it lies beyond certain thresholds only with the probability [`TAIL`]; the misses of the sample at one
//!   threshold are too few, those at the other one too many.
//! * The sum over the sampled keys is a Horvitz–Thompson estimate, whose variance is estimated by the sum of the squares of
//!   the keys' own misses, since keys are drawn independently. [`DEVIATIONS`] standard deviations are added on either side.

use crate::stack_distance::Stack;
use arch_i386::addr::GuestPhys;
use std::collections::HashMap;

/// The probability with which a load is on the wrong side of a threshold.
pub const TAIL: f64 = 0.001;

/// Standard deviations of a normal distribution beyond which lies one in a hundred.
pub const DEVIATIONS: f64 = 2.576;

/// Keys that a sample must have, or its own variance says little.
pub const LEAST_KEYS: usize = 100;

/// A sample that is too small.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "a rate of {rate} leaves {keys} page directories in the sample; the bounds of the error need {LEAST_KEYS}: take a higher rate, or leave out --sample for the exact curve"
)]
pub struct SmallSample {
    /// The rate.
    pub rate: f64,
    /// Keys in the sample.
    pub keys: usize,
}

/// Takes a sample.
#[derive(Debug)]
pub struct Sampler {
    rate: f64,
    seed: u64,
    warmup: u64,
    stack: Stack<GuestPhys>,
    /// Numbers of the sampled keys.
    keys: HashMap<GuestPhys, usize>,
    /// For each load in the sample, its key and its distance there.
    loads: Vec<(usize, usize)>,
    all_loads: u64,
}

/// The distance of a first load, which misses with any number of slots.
const FIRST: usize = usize::MAX;

/// LRU's misses, as estimated.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The share of the keys that is sampled.
    pub rate: f64,
    /// Keys in the sample.
    pub keys: usize,
    /// Loads in the sample.
    pub loads: u64,
    /// All loads.
    pub all_loads: u64,
    /// Rising thresholds of the distance with what is at least as far.
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    distance: usize,
    misses: u64,
    /// The sum over the keys of their misses' squares.
    squares: f64,
}

/// The estimate for one number of slots, as shares of all loads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The number of slots.
    pub slots: u64,
    /// Misses.
    pub misses: f64,
    /// Their lower bound.
    pub low: f64,
    /// Their upper bound.
    pub high: f64,
}

/// The finalizer of SplitMix64 (G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014), which makes hashes of numbers that are next to each other independent.
const fn hash(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

impl Sampler {
    /// A sample of that share of the keys, from 0 to 1. Another seed draws other keys.
    #[must_use]
    pub fn new(rate: f64, seed: u64, warmup: u64) -> Self {
        let (stack, keys) = (Stack::default(), HashMap::new());
        Self { rate, seed: hash(seed), warmup, stack, keys, loads: Vec::new(), all_loads: 0 }
    }

    /// Takes the next load.
    pub fn load(&mut self, directory: GuestPhys) {
        self.all_loads += 1;
        if hash(self.seed ^ u64::from(directory.0)) as f64 >= self.rate * 2f64.powi(64) {
            return;
        }
        let new = self.keys.len();
        let key = *self.keys.entry(directory).or_insert(new);
        let distance = self.stack.load(directory).unwrap_or(FIRST);
        if self.all_loads > self.warmup {
            self.loads.push((key, distance));
        }
    }

    /// The estimate.
    ///
    /// # Errors
    /// [`SmallSample`].
    pub fn finish(mut self) -> Result<Estimate, SmallSample> {
        let keys = self.keys.len();
        if keys < LEAST_KEYS {
            return Err(SmallSample { rate: self.rate, keys });
        }
        self.loads.sort_unstable_by_key(|&(_, distance)| std::cmp::Reverse(distance));
        let mut steps: Vec<Step> = Vec::new();
        let mut by_key = vec![0_u64; keys];
        let (mut misses, mut squares) = (0, 0.0);
        for &(key, distance) in &self.loads {
            misses += 1;
            squares += (2 * by_key[key] + 1) as f64;
            by_key[key] += 1;
            let step = Step { distance, misses, squares };
            match steps.last_mut() {
                Some(last) if last.distance == distance => *last = step,
                _ => steps.push(step),
            }
        }
        steps.reverse();
        Ok(Estimate {
            rate: self.rate,
            keys,
            loads: self.loads.len() as u64,
            all_loads: self.all_loads.saturating_sub(self.warmup),
            steps,
        })
    }
}

/// Where a binomial variable of that mean is improbable: no threshold up to the first, and none from the second on, is crossed with
/// more than [`TAIL`].
fn thresholds(mean: f64) -> (usize, usize) {
    // Chernoff: P(X ≤ t) for t < mean, and P(X ≥ t) for t > mean, are at most exp(-(t ln(t / mean) - t + mean)).
    let improbable = |t: f64| {
        let exponent = if t > 0.0 { t * (t / mean).ln() - t + mean } else { mean };
        (-exponent).exp() <= TAIL
    };
    let at_mean = mean.floor() as usize;
    let low = (0..=at_mean).rev().find(|&t| (t as f64) < mean && improbable(t as f64)).map_or(0, |t| t + 1);
    let high = (at_mean + 1..).find(|&t| improbable(t as f64)).expect("a tail has an end");
    (low, high)
}

impl Estimate {
    /// What is at least that far: misses, and the standard deviation of their estimate, as shares of all loads.
    fn at_least(&self, distance: usize) -> (f64, f64) {
        let step = self.steps.partition_point(|step| step.distance < distance);
        let Some(step) = self.steps.get(step) else { return (0.0, 0.0) };
        let scale = self.rate * self.all_loads as f64;
        (step.misses as f64 / scale, (step.squares * (1.0 - self.rate)).sqrt() / scale)
    }

    /// LRU's misses with that many slots, as a share of the loads.
    #[must_use]
    pub fn misses(&self, slots: u64) -> Point {
        let mean = self.rate * slots as f64;
        let (least, most) = if self.rate < 1.0 { thresholds(mean) } else { (slots as usize, slots as usize) };
        let share = |value: f64| value.clamp(0.0, 1.0);
        let misses = share(self.at_least(mean.ceil() as usize).0);
        let slack = if self.rate < 1.0 { TAIL } else { 0.0 };
        let low = {
            let (misses, deviation) = self.at_least(most);
            share(misses - DEVIATIONS * deviation - slack)
        };
        let high = match least {
            0 => 1.0,
            _ => {
                let (misses, deviation) = self.at_least(least);
                share(misses + DEVIATIONS * deviation + slack)
            }
        };
        Point { slots, misses, low: low.min(misses), high: high.max(misses) }
    }

    /// The curve: each number of slots up to 32 and then steps of a sixteenth, until nothing but first loads misses.
    #[must_use]
    pub fn curve(&self) -> Vec<Point> {
        let farthest = self.steps.iter().rev().map(|step| step.distance).find(|&distance| distance != FIRST);
        let end = ((farthest.unwrap_or(0) + 1) as f64 / self.rate).ceil() as u64;
        let slots = std::iter::successors(Some(1_u64), |&slots| Some(slots + (slots / 16).max(1)));
        slots.take_while(|&slots| slots < end).chain([end]).map(|slots| self.misses(slots)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Distances, Reuse, misses_with};
    use rand_core::{Rng, SeedableRng};

    /// Loads of keys whose popularity is that of Zipf: the n-th is drawn in proportion to n to the power of -`exponent`.
    fn zipf(keys: u32, exponent: f64, loads: usize, seed: u64) -> Vec<GuestPhys> {
        let mut generator = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut sum = 0.0;
        let sums: Vec<f64> = (1..=keys)
            .map(|key| {
                sum += f64::from(key).powf(-exponent);
                sum
            })
            .collect();
        let draw = |_| {
            let at = generator.next_u64() as f64 / 2f64.powi(64) * sum;
            GuestPhys(32 * (1 + sums.partition_point(|&sum| sum <= at) as u32))
        };
        (0..loads).map(draw).collect()
    }

    fn exact(loads: &[GuestPhys], warmup: u64) -> Distances {
        let mut reuse = Reuse::new(warmup);
        loads.iter().for_each(|&load| reuse.load(load));
        reuse.finish()
    }

    fn estimate(loads: &[GuestPhys], rate: f64, seed: u64, warmup: u64) -> Result<Estimate, SmallSample> {
        let mut sampler = Sampler::new(rate, seed, warmup);
        loads.iter().for_each(|&load| sampler.load(load));
        sampler.finish()
    }

    /// Bounds for one in a hundred points cannot be held at each point for every sample; for these seeds they are.
    #[test]
    fn the_error_on_zipf_loads_is_within_its_bounds() {
        let loads_of_each = 200_000;
        let (mut errors, mut widths, mut points) = (0.0, 0.0, 0.0);
        for (exponent, seed) in [(0.6, 1), (0.8, 2), (1.0, 3), (1.2, 4)] {
            let loads = zipf(20_000, exponent, loads_of_each, seed);
            let curve = exact(&loads, 0).lru_misses();
            for (rate, seed) in [(0.05, 10), (0.05, 11), (0.1, 12), (0.3, 13)] {
                for point in estimate(&loads, rate, seed, 0).unwrap().curve() {
                    let misses = misses_with(&curve, point.slots) as f64 / loads.len() as f64;
                    assert!(
                        (point.low..=point.high).contains(&misses),
                        "exponent {exponent}, rate {rate}, seed {seed}: {misses} is not in {point:?}"
                    );
                    // Distances of a few keys are not resolved by a sample, as the bounds there say.
                    if point.slots as f64 * rate >= 10.0 {
                        errors += (point.misses - misses).abs();
                        widths += point.high - point.low;
                        points += 1.0;
                    }
                }
            }
        }
        let (error, width) = (errors / points, widths / points);
        assert!(error < 0.03, "the mean error is {error}");
        assert!(width < 0.2, "bounds that are {width} apart say nothing");
    }

    /// A sample of all is exact, and so are its bounds.
    #[test]
    fn the_rate_1_is_the_exact_curve() {
        let loads = zipf(500, 0.9, 20_000, 5);
        let curve = exact(&loads, 1000).lru_misses();
        for point in estimate(&loads, 1.0, 1, 1000).unwrap().curve() {
            let misses = misses_with(&curve, point.slots) as f64 / (loads.len() - 1000) as f64;
            // But for the last bit, which the x87 rounds otherwise.
            for share in [point.misses, point.low, point.high] {
                assert!((share - misses).abs() < 1e-12, "{misses} is not {point:?}");
            }
        }
    }

    #[test]
    fn a_sample_of_few_keys_is_refused() {
        let small = estimate(&zipf(500, 0.9, 20_000, 5), 0.1, 1, 0).unwrap_err();
        assert!(small.keys < LEAST_KEYS && small.to_string().contains("a rate of 0.1 leaves"), "{small}");
    }

    /// By Chernoff's inequality for the mean 100: P(X ≤ 66) ≤ exp(-(66 ln 0.66 - 66 + 100)) = 0.0014, P(X ≤ 65) ≤ 0.00091;
    /// P(X ≥ 139) ≤ exp(-(139 ln 1.39 - 139 + 100)) = 0.0011, P(X ≥ 140) ≤ 0.00081.
    #[test]
    fn thresholds_are_where_a_tail_is_improbable() {
        assert_eq!(thresholds(100.0), (66, 140));
        assert_eq!(thresholds(0.5).0, 0, "with a mean of a half, nothing is a probable distance");
    }
}
