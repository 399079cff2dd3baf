//! Lists of numbers on the command line, such as `1..64` or `2,4,8`; numbers of slots also as shares of a trace's page directories.

use framework::registry::SLOTS;
use std::ops::RangeInclusive;

/// Numbers in ascending order, each once.
#[derive(Clone, Debug)]
pub struct Numbers(pub Vec<u64>);

/// Numbers of slots, some of them as shares of the page directories that a trace loads.
#[derive(Clone, Debug, PartialEq)]
pub struct Slots {
    numbers: Vec<u64>,
    shares: Vec<f64>,
}

/// Numbers of slots.
pub fn slots(text: &str) -> Result<Slots, String> {
    let (shares, fixed): (Vec<&str>, Vec<&str>) =
        text.split(',').partition(|part| part.contains('.') && !part.contains(".."));
    let share = |text: &&str| {
        let share = text.trim().parse::<f64>().ok().filter(|share| *share > 0.0 && *share < 1.0);
        share.ok_or_else(|| {
            format!("`{text}` is no share of the trace's page directories; 0.1 would be one in ten")
        })
    };
    let shares = shares.iter().map(share).collect::<Result<Vec<_>, _>>()?;
    // Nothing but shares is a list too, but nothing at all is not.
    let numbers =
        if fixed.is_empty() { Vec::new() } else { numbers(&fixed.join(","), SLOTS.range.clone())?.0 };
    Ok(Slots { numbers, shares })
}

impl Slots {
    /// The numbers, for a trace whose page directories are counted only where there are shares of them. Shares are rounded down, to
    /// one slot at least.
    pub fn of<E: From<TooManySlots>>(
        &self,
        count_directories: impl FnOnce() -> Result<u64, E>,
    ) -> Result<Vec<u64>, E> {
        let mut all = self.numbers.clone();
        let directories = if self.shares.is_empty() { 0 } else { count_directories()? };
        for &share in &self.shares {
            // 0.29 of 100 are 29, though the nearest binary fraction is less than 0.29.
            let slots = ((share * directories as f64 + 1e-9) as u64).max(1);
            if !SLOTS.range.contains(&slots) {
                return Err(TooManySlots { share, directories, slots, most: *SLOTS.range.end() }.into());
            }
            all.push(slots);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }
}

/// A share that is too many slots.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{share} of {directories} page directories are {slots} slots; there can be {most}")]
pub struct TooManySlots {
    share: f64,
    directories: u64,
    slots: u64,
    most: u64,
}

/// Seeds.
pub fn seeds(text: &str) -> Result<Numbers, String> {
    numbers(text, 0..=u64::from(u32::MAX))
}

fn numbers(text: &str, range: RangeInclusive<u64>) -> Result<Numbers, String> {
    let wanted = || format!("write `A..B` or `A,B,C` with numbers from {} to {}", range.start(), range.end());
    let number = |text: &str| {
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("`{text}`: {}", wanted()))
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        match part.split_once("..") {
            Some((from, to)) => {
                let (from, to): (u64, u64) = (number(from)?, number(to.trim_start_matches('='))?);
                if from > to {
                    return Err(format!("`{part}` is empty: {}", wanted()));
                }
                all.extend(from..=to);
            }
            None => all.push(number(part)?),
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(Numbers(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_slots() {
        let slots = |text| slots(text).map(|slots| slots.of(|| Ok::<_, TooManySlots>(0)).unwrap());
        assert_eq!(slots("1..3").unwrap(), [1, 2, 3]);
        assert_eq!(slots("1..=3,8, 2").unwrap(), [1, 2, 3, 8]);
        for text in ["0..3", "3..1", "1..2000", "a", "", "1.."] {
            assert!(slots(text).unwrap_err().contains("from 1 to 1024"), "{text}");
        }
    }

    #[test]
    fn slots_as_shares_of_the_page_directories() {
        let of = |text, directories| slots(text).unwrap().of(|| Ok::<_, TooManySlots>(directories));
        assert_eq!(of("0.1,4..6,0.25", 49).unwrap(), [4, 5, 6, 12], "4.9 and 12.25, rounded down");
        assert_eq!(of("0.01", 49).unwrap(), [1], "at least one");
        assert_eq!(of("0.29", 100).unwrap(), [29]);
        let wrong = of("0.5", 4000).unwrap_err().to_string();
        assert!(wrong.contains("are 2000 slots; there can be 1024"), "{wrong}");
        for text in ["0.0", "1.0", "1.5", "-0.1", ".", "0.1.2"] {
            assert!(slots(text).unwrap_err().contains("0.1 would be one in ten"), "{text}");
        }
    }
}
