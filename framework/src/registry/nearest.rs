//! The name that somebody who has written another one probably meant.

use core::mem::replace;

/// Longer names are nobody's nearest.
const LONGEST: usize = 32;

/// The name that differs least from the one that was given, if a third of that or less is wrong; of several the first one.
pub(super) fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rated = names.filter(|name| name.len() <= LONGEST).map(|name| (edits(given, name), name));
    let (edits, name) = rated.min_by_key(|(edits, _)| *edits)?;
    (edits <= given.len().max(3) / 3).then_some(name)
}

/// How many letters must be changed, inserted, left out or swapped with the next one to make `name` of `given`, whose case
/// means nothing: the optimal string alignment distance. It is called in a kernel, and so allocates nothing.
fn edits(given: &str, name: &str) -> usize {
    let (given, name) = (given.as_bytes(), name.as_bytes());
    let same = |i: usize, j: usize| given[i].eq_ignore_ascii_case(&name[j]);
    // For the letters of `given` before the present one, and without the last of those: the edits to each begin of `name`.
    let mut last: [usize; LONGEST + 1] = core::array::from_fn(|j| j);
    let mut last_but_one = last;
    for i in 0..given.len() {
        let mut row = [i + 1; LONGEST + 1];
        for j in 0..name.len() {
            let changed = last[j] + usize::from(!same(i, j));
            let swaps = i > 0 && j > 0 && same(i, j - 1) && same(i - 1, j);
            let swapped = if swaps { last_but_one[j - 1] + 1 } else { usize::MAX };
            row[j + 1] = changed.min(swapped).min(last[j + 1] + 1).min(row[j] + 1);
        }
        last_but_one = replace(&mut last, row);
    }
    last[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let names = ["arc", "greedy-dual", "lguest", "lru", "lru-k", "shared-lirs"];
        for (given, name) in [
            ("lur", Some("lru")),
            ("LRU", Some("lru")),
            ("lrux", Some("lru")),
            ("lru-2", Some("lru-k")),
            ("lgest", Some("lguest")),
            ("lguets", Some("lguest")),
            ("greedydual", Some("greedy-dual")),
            ("greedy_dual", Some("greedy-dual")),
            ("shared-lisr", Some("shared-lirs")),
            // Nothing is like these.
            ("", None),
            ("x", None),
            ("NONSENSE", None),
            ("marc-polo", None),
        ] {
            assert_eq!(nearest(given, names.into_iter()), name, "{given}");
        }
        assert_eq!(nearest("lru", core::iter::empty()), None);
    }

    /// The pairs and distances of textbooks: W. J. Masek and M. S. Paterson's changes, insertions and deletions, and F. J. Damerau's swaps.
    #[test]
    fn distances() {
        for (given, name, count) in [
            ("kitten", "sitting", 3),
            ("saturday", "sunday", 3),
            ("ca", "ac", 1),
            ("ca", "abc", 3),
            ("", "abc", 3),
        ] {
            assert_eq!(edits(given, name), count, "{given} {name}");
            assert_eq!(edits(name, given), count, "{name} {given}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_passed_over() {
        let long = "a".repeat(LONGEST + 1);
        assert_eq!(nearest(&long, [&long[..], &long[..LONGEST]].into_iter()), Some(&long[..LONGEST]));
    }
}
