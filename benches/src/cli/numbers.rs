//! Lists of numbers on the command line, such as `1..64` or `2,4,8`.

use framework::registry::SLOTS;
use std::ops::RangeInclusive;

/// Numbers in ascending order, each once.
#[derive(Clone, Debug)]
pub struct Numbers(pub Vec<u64>);

/// Numbers of slots.
pub fn slots(text: &str) -> Result<Numbers, String> {
    numbers(text, SLOTS.range.clone())
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
        let slots = |text| slots(text).map(|slots| slots.0);
        assert_eq!(slots("1..3").unwrap(), [1, 2, 3]);
        assert_eq!(slots("1..=3,8, 2").unwrap(), [1, 2, 3, 8]);
        for text in ["0..3", "3..1", "1..2000", "a", "", "1.."] {
            assert!(slots(text).unwrap_err().contains("from 1 to 1024"), "{text}");
        }
    }
}
