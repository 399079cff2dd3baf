//! What guests have done between two looks, per second.

use crate::guest_views::{Counters, GuestName};
use std::collections::BTreeMap;
use std::time::Duration;

/// A counter, and how much it grows.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// The counter.
    pub name: String,
    /// Its value at the second look.
    pub total: u64,
    /// What it has grown by, per second; below 0 for one that can fall, such as the number of known frames.
    pub per_second: f64,
}

/// The rates of one guest, in the module's order.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestRates {
    /// Which guest.
    pub name: GuestName,
    /// Its counters.
    pub rates: Vec<Rate>,
}

impl GuestRates {
    /// A counter's growth per second; 0 for one that the module does not have.
    #[must_use]
    pub fn per_second(&self, counter: &str) -> f64 {
        self.rates.iter().find(|rate| rate.name == counter).map_or(0.0, |rate| rate.per_second)
    }
}

/// The rates of the guests that were there at both looks, `elapsed` apart.
#[must_use]
pub fn between(
    before: &BTreeMap<GuestName, Counters>,
    after: &BTreeMap<GuestName, Counters>,
    elapsed: Duration,
) -> Vec<GuestRates> {
    let both = after.iter().filter_map(|(&name, after)| Some((name, before.get(&name)?, after)));
    both.map(|(name, before, after)| {
        let rate = |(name, total): &(String, u64)| {
            let earlier = before.iter().find(|(other, _)| other == name).map_or(0, |(_, value)| *value);
            let growth = i128::from(*total) - i128::from(earlier);
            Rate { name: name.clone(), total: *total, per_second: growth as f64 / elapsed.as_secs_f64() }
        };
        GuestRates { name, rates: after.iter().map(rate).collect() }
    })
    .collect()
}

/// The sums over guests, the fastest first; of equal ones the larger first, then the one that the module has first.
#[must_use]
pub fn sums(guests: &[GuestRates]) -> Vec<Rate> {
    let mut sums: Vec<Rate> = Vec::new();
    for rate in guests.iter().flat_map(|guest| &guest.rates) {
        match sums.iter_mut().find(|sum| sum.name == rate.name) {
            Some(sum) => {
                sum.total += rate.total;
                sum.per_second += rate.per_second;
            }
            None => sums.push(rate.clone()),
        }
    }
    sums.sort_by(|a, b| b.per_second.total_cmp(&a.per_second).then(b.total.cmp(&a.total)));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(guests: &[(u32, &[(&str, u64)])]) -> BTreeMap<GuestName, Counters> {
        let counters =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        guests.iter().map(|(pid, pairs)| (GuestName { pid: *pid, number: 0 }, counters(pairs))).collect()
    }

    #[test]
    fn rates_are_per_second_and_sorted() {
        let before =
            look(&[(1, &[("slow", 10), ("fast", 100), ("known", 9)]), (2, &[("slow", 1), ("fast", 1)])]);
        let after = look(&[
            (1, &[("slow", 12), ("fast", 300), ("known", 5)]),
            (2, &[("slow", 1), ("fast", 101)]),
            // It was not there before.
            (3, &[("slow", 1000), ("fast", 1000)]),
        ]);
        let guests = between(&before, &after, Duration::from_secs(2));
        assert_eq!(guests.len(), 2);
        assert_eq!((guests[0].per_second("fast"), guests[0].per_second("known")), (100.0, -2.0));
        assert_eq!((guests[1].per_second("fast"), guests[1].per_second("nosuch")), (50.0, 0.0));
        let sums: Vec<_> =
            sums(&guests).into_iter().map(|sum| (sum.name, sum.total, sum.per_second)).collect();
        assert_eq!(sums, [("fast".into(), 401, 150.0), ("slow".into(), 13, 1.0), ("known".into(), 5, -2.0)]);
    }
}
