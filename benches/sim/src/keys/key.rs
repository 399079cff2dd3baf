//! A key, as a cache simulator's trace names an object.

use std::fmt;

/// A key. Two are the same object if their texts are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A number as decimal digits without leading zeros give it.
    Number(u64),
    /// Any other word.
    Text(String),
}

impl Key {
    /// The key of a text. A number with leading zeros stays a text, so that `7` and `07` remain two keys.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
        match text.parse() {
            Ok(number) if canonical => Self::Number(number),
            _ => Self::Text(text.to_owned()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_their_texts() {
        for (text, number) in [("0", Some(0)), ("42", Some(42)), ("18446744073709551615", Some(u64::MAX))] {
            assert_eq!(Key::of(text), Key::Number(number.unwrap()));
        }
        for text in ["07", "+7", "-7", "0x10", "18446744073709551616", "a"] {
            assert_eq!(Key::of(text), Key::Text(text.to_owned()));
            assert_eq!(Key::of(text).to_string(), text);
        }
    }
}
