//! Medians, their spread, and when a difference is one.

/// What several runs of the same thing came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// How many there are.
    pub runs: usize,
}

impl Summary {
    /// The summary of some values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&least, &greatest) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Summary { median, least, greatest, runs: values.len() })
    }

    /// How far the runs, which differ in their seeds, lie apart.
    pub fn spread(&self) -> f64 {
        self.greatest - self.least
    }

    /// The spread in percent of the median.
    pub fn spread_percent(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { 100.0 * self.spread() / self.median }
    }

    /// Whether the medians lie further apart than the runs of either with other seeds. One run shows nothing
    /// about noise, so with less than two of each there is no difference.
    pub fn differs(&self, other: &Summary) -> bool {
        let noise = self.spread().max(other.spread());
        self.runs.min(other.runs) >= 2 && (self.median - other.median).abs() > noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Summary {
        Summary::of(values.iter().copied()).unwrap()
    }

    #[test]
    fn medians_and_spreads() {
        let three = of(&[30.0, 10.0, 20.0]);
        assert_eq!((three.median, three.least, three.greatest, three.runs), (20.0, 10.0, 30.0, 3));
        assert_eq!((three.spread(), three.spread_percent()), (20.0, 100.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(of(&[7.0]).spread(), 0.0);
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn a_difference_is_greater_than_the_noise_of_both() {
        let noisy = of(&[100.0, 110.0, 120.0]);
        assert!(!noisy.differs(&of(&[129.0, 130.0, 131.0])), "20 apart, as the runs of one are");
        assert!(noisy.differs(&of(&[130.0, 131.0, 132.0])));
        assert!(of(&[1.0, 1.0]).differs(&of(&[2.0, 2.0])));
        assert!(!of(&[1.0]).differs(&of(&[2.0, 2.0])), "one run says nothing of the noise");
    }
}
