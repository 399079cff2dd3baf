//! Whether two samples differ, and by how much, with no assumption about how the values are distributed.
//!
//! * The Mann–Whitney test (H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is stochastically larger
//!   than the other", Annals of Mathematical Statistics 18(1), 1947): how many of all ways to deal the values out would differ as much.
//!   All ways are counted for up to [`EXACT`] values, equal ones included; for more, the normal approximation is
//!   taken, with corrections for continuity and ties.
//! * The Hodges–Lehmann estimate of the shift, the median of all differences, and its confidence interval, which is made of
//!   those differences that the test would not reject (M. Hollander and D. A. Wolfe, "Nonparametric Statistical Methods", 2nd edition, 1999,
//!   sections 4.1 to 4.3).
//!
//! Nothing is drawn at random, so that the same values give the same answer.

/// The probability of a difference that is none.
pub const SIGNIFICANCE: f64 = 0.05;

/// The normal distribution's bound for [`SIGNIFICANCE`], on both sides.
const DEVIATIONS: f64 = 1.959_964;

/// As many values are tested by counting all ways.
const EXACT: usize = 60;

/// How two samples compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The probability of samples that differ at least as much if there is no difference.
    pub p: f64,
    /// By how much the second sample is greater.
    pub shift: f64,
    /// Between which bounds that lies, with a confidence of 1 - [`SIGNIFICANCE`]. Few values have no such bounds.
    pub interval: Option<(f64, f64)>,
}

/// Compares two samples; `None` if one is empty.
pub fn compare(before: &[f64], after: &[f64]) -> Option<Comparison> {
    let mut differences: Vec<f64> = after.iter().flat_map(|b| before.iter().map(move |a| b - a)).collect();
    if differences.is_empty() {
        return None;
    }
    differences.sort_by(f64::total_cmp);
    let middle = differences.len() / 2;
    let shift = match differences.len() % 2 {
        1 => differences[middle],
        _ => f64::midpoint(differences[middle - 1], differences[middle]),
    };
    let outside = outside(before.len(), after.len());
    let interval =
        (outside > 0).then(|| (differences[outside - 1], differences[differences.len() - outside]));
    Some(Comparison { p: p_value(before, after), shift, interval })
}

/// The least `p` that samples of these sizes can have.
pub fn least_p(before: usize, after: usize) -> f64 {
    // All of one sample are less than all of the other: one way out of all, on either side.
    let ways: f64 = (1..=before).map(|one| (after + one) as f64 / one as f64).product();
    (2.0 / ways).min(1.0)
}

/// The probability of two samples that differ at least as much in the sum of their ranks, in either direction.
fn p_value(before: &[f64], after: &[f64]) -> f64 {
    let ranks = doubled_ranks(before, after);
    let sum: usize = ranks[..before.len()].iter().sum();
    if ranks.len() > EXACT {
        return normal_p(before.len(), &ranks, sum);
    }
    let ways = ways_by_sum(&ranks, before.len());
    let all: f64 = ways.iter().sum();
    let (low, high): (f64, f64) = (ways[..=sum].iter().sum(), ways[sum..].iter().sum());
    (2.0 * low.min(high) / all).min(1.0)
}

/// Twice the rank of each value among all, those of `before` first. Equal values share the mean of their ranks.
fn doubled_ranks(before: &[f64], after: &[f64]) -> Vec<usize> {
    let all = || before.iter().chain(after);
    let rank = |value: &f64| {
        let less = all().filter(|other| *other < value).count();
        let equal = all().filter(|other| *other == value).count();
        2 * less + equal + 1
    };
    all().map(rank).collect()
}

/// In how many ways that many of the ranks have each sum.
fn ways_by_sum(ranks: &[usize], chosen: usize) -> Vec<f64> {
    let most: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0; most + 1]; chosen + 1];
    ways[0][0] = 1.0;
    for &rank in ranks {
        for number in (1..=chosen).rev() {
            for sum in rank..=most {
                ways[number][sum] += ways[number - 1][sum - rank];
            }
        }
    }
    ways.swap_remove(chosen)
}

/// The normal approximation, for doubled ranks with that sum among the first `chosen`.
fn normal_p(chosen: usize, ranks: &[usize], sum: usize) -> f64 {
    let (m, n) = (chosen as f64, (ranks.len() - chosen) as f64);
    let mean = m * (m + n + 1.0) / 2.0;
    // The variance of the ranks themselves has the correction for ties in it.
    let middle = (m + n + 1.0) / 2.0;
    let squares: f64 = ranks.iter().map(|&rank| (rank as f64 / 2.0 - middle).powi(2)).sum();
    let variance = m * n * squares / ((m + n) * (m + n - 1.0));
    if variance == 0.0 {
        return 1.0;
    }
    let deviation = ((sum as f64 / 2.0 - mean).abs() - 0.5).max(0.0) / variance.sqrt();
    normal_tails(deviation)
}

/// How much of a normal distribution lies that many standard deviations away or more, on both sides: the complementary error
/// function by the rational approximation 7.1.26 of M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions", 1964, whose error is
/// below 1.5e-7.
fn normal_tails(deviations: f64) -> f64 {
    let x = deviations / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let terms = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    sum * (-x * x).exp()
}

/// How many of the differences on either side are outside of the confidence interval, the bound itself counted.
fn outside(before: usize, after: usize) -> usize {
    let pairs = before * after;
    if before + after > EXACT {
        let (m, n) = (before as f64, after as f64);
        let deviation = (m * n * (m + n + 1.0) / 12.0).sqrt();
        return (m * n / 2.0 - DEVIATIONS * deviation).max(0.0) as usize;
    }
    // The ranks of values that all differ, by the number of pairs that are in the wrong order.
    let ranks: Vec<usize> = (0..before + after).collect();
    let ways = ways_by_sum(&ranks, before);
    let least: usize = ranks[..before].iter().sum();
    let all: f64 = ways.iter().sum();
    let mut tail = 0.0;
    (0..pairs / 2)
        .take_while(|wrong| {
            tail += ways[least + wrong] / all;
            tail <= SIGNIFICANCE / 2.0
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    /// Hollander and Wolfe's example 4.1, the water permeability of membranes. The estimate 0.305 and the interval from -0.15 to
    /// 0.76 are theirs; `p` is by `scipy.stats.mannwhitneyu(x, y, method='exact')`, whose statistic is their 35.
    #[test]
    fn a_published_example() {
        let term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let weeks_12_to_26 = [1.15, 0.88, 0.90, 0.74, 1.21];
        let found = compare(&weeks_12_to_26, &term).unwrap();
        assert!(close(found.p, 0.254_412_254_412_254_4), "{found:?}");
        let (low, high) = found.interval.unwrap();
        assert!(close(found.shift, 0.305) && close(low, -0.15) && close(high, 0.76), "{found:?}");
        let other_way = compare(&term, &weeks_12_to_26).unwrap();
        assert!(close(other_way.p, found.p) && close(other_way.shift, -0.305), "{other_way:?}");
    }

    /// By `scipy.stats.permutation_test((a, b), U, n_resamples=np.inf)` with the rank sum of `a` for `U`, which tries all ways.
    #[test]
    fn equal_values_are_counted_exactly() {
        let found = compare(&[1.0, 2.0, 2.0, 3.0, 5.0], &[2.0, 4.0, 5.0, 5.0, 6.0, 7.0]).unwrap();
        assert!(close(found.p, 0.082_251_082_251_082_26), "{found:?}");
        assert!(close(compare(&[3.0; 5], &[3.0; 5]).unwrap().p, 1.0));
    }

    /// Mann and Whitney's table: with four values each, the least sum comes once in 70 ways; with three, once in 20, which
    /// is too often.
    #[test]
    fn few_values_show_little() {
        let found = compare(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]).unwrap();
        assert!(close(found.p, 2.0 / 70.0) && found.interval == Some((1.0, 7.0)), "{found:?}");
        let found = compare(&[1.0, 2.0, 3.0], &[5.0, 6.0, 7.0]).unwrap();
        assert!(close(found.p, 2.0 / 20.0) && found.interval.is_none(), "{found:?}");
        assert!(close(least_p(4, 4), 2.0 / 70.0) && close(least_p(3, 3), 0.1) && close(least_p(1, 1), 1.0));
        assert_eq!(compare(&[], &[1.0]), None);
    }

    /// By `scipy.stats.mannwhitneyu(a, b, method='asymptotic')`.
    #[test]
    fn many_values_are_approximated() {
        let a: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 101)).collect();
        let b: Vec<f64> = (0..40).map(|i| f64::from(i * 13 % 101 + 8)).collect();
        let found = compare(&a, &b).unwrap();
        assert!((found.p - 0.099_851_570_325_896_63).abs() < 1e-6, "{found:?}");
        let (low, high) = found.interval.unwrap();
        assert!(low < found.shift && found.shift < high && low < 0.0, "{found:?}");
    }

    /// A sample against itself, moved: the interval has the shift in it, and excludes 0 exactly if the test rejects.
    #[test]
    fn the_interval_is_what_the_test_does_not_reject() {
        let values = [10.3, 11.1, 9.2, 10.8, 10.1, 12.4, 9.9];
        for shift in [0.0, 0.5, 1.0, 1.7, 2.5, 4.0] {
            let moved: Vec<f64> = values.iter().map(|value| value + shift).collect();
            let found = compare(&values, &moved).unwrap();
            let (low, high) = found.interval.unwrap();
            assert!(low <= shift && shift <= high && (found.shift - shift).abs() < 1.0, "{shift}: {found:?}");
            assert_eq!(low > 0.0, found.p <= SIGNIFICANCE, "{shift}: {found:?}");
        }
    }
}
