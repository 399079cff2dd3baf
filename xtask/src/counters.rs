//! What a run of a guest cost: the counters that the launcher prints with `--counters`, one a line, as
//! `counter NAME VALUE`.

use std::collections::BTreeMap;

/// Counters by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Picks the counters out of what a step printed.
    pub fn from_output<'a>(lines: impl IntoIterator<Item = &'a String>) -> Counters {
        let one = |line: &String| {
            let mut words = line.trim().strip_prefix("counter ")?.split_whitespace();
            let counter = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            words.next().is_none().then_some(counter)
        };
        Counters(lines.into_iter().filter_map(one).collect())
    }

    /// The counter of this name, if it was printed.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Loads of a page directory that found a shadow in the cache.
    pub fn hits(&self) -> Option<u64> {
        self.get("page_directory_hits")
    }

    /// Loads that did not.
    pub fn misses(&self) -> Option<u64> {
        self.get("page_directory_loads")?.checked_sub(self.hits()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(text: &str) -> Counters {
        Counters::from_output(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn picks_counters_out_of_the_guests_console() {
        let found = counters(
            "hello from the guest\ncounter page_directory_loads 30\ncounter page_directory_hits 21\n\
             counter of things\ncounter strange 1 2\n  counter ticks 8589934592\n",
        );
        assert_eq!((found.hits(), found.misses()), (Some(21), Some(9)));
        assert_eq!(found.get("ticks"), Some(1 << 33));
        assert_eq!(found.get("strange"), None);
    }

    #[test]
    fn what_was_not_printed_is_not_zero() {
        let found = counters("counter page_directory_loads 30\n");
        assert_eq!((found.hits(), found.misses()), (None, None));
    }
}
