//! Parameters: what can be set in a strategy's text.
//!
//! A plug-in declares each parameter as a `static` of one of three types, lists it in its registry entry
//! and reads it from [`Values`] by that static, so that a misspelt name or a wrong type does not compile:
//!
//! ```
//! use framework::parameter::{Flag, Number, Parameter, Values};
//!
//! static AHEAD: Number = Number { name: "ahead", help: "pages filled ahead", default: 8, range: 0..=64 };
//! static EAGER: Flag = Flag { name: "eager", help: "fill before the first fault", default: false };
//! static PARAMETERS: [Parameter; 2] = [Parameter::Number(&AHEAD), Parameter::Flag(&EAGER)];
//!
//! let values = Values::parse("example", &PARAMETERS, "ahead=16").unwrap();
//! assert_eq!((values.number(&AHEAD), values.flag(&EAGER)), (16, false));
//! assert_eq!(values.to_string(), "ahead=16,eager=off");
//! ```

use crate::config_error::ConfigError;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::ops::RangeInclusive;
use fallible::{OutOfMemory, filled, text};

/// A whole number.
#[derive(Clone, Debug)]
pub struct Number {
    /// Its name; letters, digits and `-`.
    pub name: &'static str,
    /// One line of help, with the unit.
    pub help: &'static str,
    /// The value when the text does not set it; one of the range.
    pub default: u64,
    /// The values that make sense.
    pub range: RangeInclusive<u64>,
}

/// Something that is `on` or `off`.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Its name; letters, digits and `-`.
    pub name: &'static str,
    /// One line of help: what `on` does.
    pub help: &'static str,
    /// The value when the text does not set it.
    pub default: bool,
}

/// One of a few words.
#[derive(Clone, Debug)]
pub struct Word {
    /// Its name; letters, digits and `-`.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// What can be chosen, the default first; letters, digits and `-` each.
    pub words: &'static [&'static str],
}

/// A parameter of any type.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Parameter {
    Number(&'static Number),
    Flag(&'static Flag),
    Word(&'static Word),
}

/// What a parameter is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Flag(bool),
    Word(&'static str),
}

impl Parameter {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Number(Number { name, .. })
            | Self::Flag(Flag { name, .. })
            | Self::Word(Word { name, .. }) => name,
        }
    }

    /// One line of help.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Number(Number { help, .. })
            | Self::Flag(Flag { help, .. })
            | Self::Word(Word { help, .. }) => help,
        }
    }

    fn default(&self) -> Value {
        match self {
            Self::Number(number) => Value::Number(number.default),
            Self::Flag(flag) => Value::Flag(flag.default),
            Self::Word(word) => Value::Word(word.words.first().copied().unwrap_or_default()),
        }
    }

    /// Its name with its default, as it is written in a strategy's text.
    pub(crate) fn assignment(&self) -> impl fmt::Display {
        Assignment(self.name(), self.default())
    }

    fn value(&self, text: &str) -> Option<Value> {
        match self {
            Self::Number(number) => {
                let value = text.parse().ok().filter(|value| number.range.contains(value));
                value.map(Value::Number)
            }
            Self::Flag(_) => [("on", true), ("off", false)]
                .into_iter()
                .find_map(|(word, value)| (word == text).then_some(Value::Flag(value))),
            Self::Word(word) => word.words.iter().find(|known| **known == text).map(|word| Value::Word(word)),
        }
    }

    /// What can be written for it, as in "a whole number from 1 to 1024".
    #[must_use]
    pub fn wanted(&self) -> String {
        match self {
            Self::Number(Number { range, .. }) => {
                text(format_args!("a whole number from {} to {}", range.start(), range.end()))
            }
            Self::Flag(_) => text(format_args!("on or off")),
            Self::Word(word) => text(format_args!("one of {}", Joined(word.words.iter()))),
        }
    }

    /// What is wrong with it as it is declared, if anything.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let default_is_possible = match self {
            Self::Number(number) => number.range.contains(&number.default),
            Self::Flag(_) => true,
            Self::Word(word) => !word.words.is_empty() && word.words.iter().all(|word| is_name(word)),
        };
        if !is_name(self.name()) {
            Some("its name is not made of letters, digits and `-`")
        } else if !default_is_possible {
            Some("its default is not among the values that it can have")
        } else {
            None
        }
    }
}

/// Whether a text can be a name: the separators of a strategy's text are not in it.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl fmt::Display for Parameter {
    /// One line: `name=default`, the help, what can be written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Padded(format_args!("{}", self.assignment())).fmt(f)?;
        write!(f, " {} (", self.help())?;
        match self {
            Self::Number(Number { range, .. }) => write!(f, "{} to {}", range.start(), range.end())?,
            Self::Flag(_) => f.write_str("on, off")?,
            Self::Word(word) => Joined(word.words.iter()).fmt(f)?,
        }
        f.write_str(")")
    }
}

/// Displays `name=value`.
struct Assignment(&'static str, Value);

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.0, self.1)
    }
}

/// Displays things with commas between them.
pub(crate) struct Joined<I>(pub(crate) I);

impl<I: Iterator<Item: fmt::Display> + Clone> fmt::Display for Joined<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.clone().enumerate() {
            write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// Displays something followed by spaces up to the column where the help begins.
pub(crate) struct Padded<'a>(pub(crate) fmt::Arguments<'a>);

impl fmt::Display for Padded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut length = Length(0);
        length.write_fmt(self.0)?;
        write!(f, "{}{:width$}", self.0, "", width = 12_usize.saturating_sub(length.0))
    }
}

/// Counts the characters that are written.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0 += piece.chars().count();
        Ok(())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => write!(f, "{value}"),
            Self::Flag(value) => f.write_str(if *value { "on" } else { "off" }),
            Self::Word(value) => f.write_str(value),
        }
    }
}

/// The values of a strategy's parameters: those that its text sets, and the defaults of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<(&'static str, Value)>);

impl Values {
    /// Parses `name=value[,name=value…]` for a strategy that has these parameters.
    ///
    /// # Errors
    /// [`ConfigError`] when an assignment is not `name=value`, names no parameter or one that is set already, or has a value
    /// that is out of range; its text contains what would be right.
    pub fn parse(
        strategy: &'static str,
        parameters: &[Parameter],
        assignments: &str,
    ) -> Result<Self, ConfigError> {
        Self::parse_all(strategy, parameters.iter().copied(), assignments.split(','))
    }

    /// The same for parameters that are not in one slice, and assignments one by one.
    pub(crate) fn parse_all<'a>(
        strategy: &'static str,
        parameters: impl Iterator<Item = Parameter> + Clone,
        assignments: impl Iterator<Item = &'a str>,
    ) -> Result<Self, ConfigError> {
        let mut values = Vec::new();
        values.try_reserve_exact(parameters.clone().count()).map_err(|_| OutOfMemory)?;
        values.extend(parameters.clone().map(|p| (p.name(), p.default())));
        let mut set = filled(false, values.len())?;
        for assignment in assignments.filter(|part| !part.is_empty()) {
            let (name, value) = assignment
                .split_once('=')
                .ok_or_else(|| ConfigError::NotAParameter(text(format_args!("{assignment}"))))?;
            let found = parameters.clone().enumerate().find(|(_, parameter)| parameter.name() == name);
            let Some((i, parameter)) = found else {
                let names = parameters.map(|parameter| parameter.name());
                let known = if values.is_empty() {
                    text(format_args!("none"))
                } else {
                    text(format_args!("{}", Joined(names)))
                };
                return Err(ConfigError::UnknownParameter {
                    strategy,
                    name: text(format_args!("{name}")),
                    known,
                });
            };
            if core::mem::replace(&mut set[i], true) {
                return Err(ConfigError::SetTwice { strategy, name: parameter.name() });
            }
            values[i].1 = parameter.value(value).ok_or_else(|| ConfigError::BadValue {
                name: parameter.name(),
                value: text(format_args!("{value}")),
                wanted: parameter.wanted(),
            })?;
        }
        Ok(Self(values))
    }

    /// Whether there are no parameters.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, name: &str) -> Option<Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// What a number is set to; its default, if the plug-in has not registered it.
    #[must_use]
    pub fn number(&self, parameter: &Number) -> u64 {
        match self.get(parameter.name) {
            Some(Value::Number(value)) => value,
            _ => parameter.default,
        }
    }

    /// What a flag is set to; its default, if the plug-in has not registered it.
    #[must_use]
    pub fn flag(&self, parameter: &Flag) -> bool {
        match self.get(parameter.name) {
            Some(Value::Flag(value)) => value,
            _ => parameter.default,
        }
    }

    /// What a word is set to; its default, if the plug-in has not registered it.
    #[must_use]
    pub fn word(&self, parameter: &Word) -> &'static str {
        match self.get(parameter.name) {
            Some(Value::Word(value)) => value,
            _ => parameter.words.first().copied().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Values {
    /// Every parameter named: `slots=8,eager=off`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            write!(f, "{}{name}={value}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    static SLOTS: Number = Number { name: "slots", help: "how many", default: 4, range: 1..=1024 };
    static EAGER: Flag = Flag { name: "eager", help: "at once", default: true };
    static ORDER: Word = Word { name: "order", help: "which first", words: &["old", "new"] };
    static ALL: [Parameter; 3] =
        [Parameter::Number(&SLOTS), Parameter::Flag(&EAGER), Parameter::Word(&ORDER)];

    fn parse(text: &str) -> Result<Values, ConfigError> {
        Values::parse("s", &ALL, text)
    }

    #[test]
    fn each_type_is_read_and_written() {
        let values = parse("order=new,slots=1024,eager=off").unwrap();
        assert_eq!(values.number(&SLOTS), 1024);
        assert!(!values.flag(&EAGER));
        assert_eq!(values.word(&ORDER), "new");
        assert_eq!(values.to_string(), "slots=1024,eager=off,order=new");
        assert_eq!(parse("").unwrap().to_string(), "slots=4,eager=on,order=old");
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_right() {
        for (text, message) in [
            ("slots", "`slots` is not a parameter: write name=value"),
            ("slots=0", "parameter slots=0: the value must be a whole number from 1 to 1024"),
            ("slots=-1", "parameter slots=-1: the value must be a whole number from 1 to 1024"),
            ("eager=yes", "parameter eager=yes: the value must be on or off"),
            ("order=odd", "parameter order=odd: the value must be one of old, new"),
            ("pages=3", "strategy `s` has no parameter `pages`; it has slots, eager, order"),
            ("slots=3,slots=4", "parameter slots of strategy `s` is set twice"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
        let none = Values::parse("s", &[], "slots=3").unwrap_err().to_string();
        assert_eq!(none, "strategy `s` has no parameter `slots`; it has none");
    }

    #[test]
    fn a_parameter_that_was_not_registered_has_its_default() {
        let values = Values::parse("s", &[], "").unwrap();
        assert_eq!((values.number(&SLOTS), values.flag(&EAGER), values.word(&ORDER)), (4, true, "old"));
    }

    #[test]
    fn flaws_of_a_declaration_are_found() {
        static NAMELESS: Number = Number { name: "a=b", help: "", default: 1, range: 0..=1 };
        static OUTSIDE: Number = Number { name: "n", help: "", default: 9, range: 0..=1 };
        static EMPTY: Word = Word { name: "w", help: "", words: &[] };
        assert!(Parameter::Number(&NAMELESS).flaw().unwrap().contains("name"));
        assert!(Parameter::Number(&OUTSIDE).flaw().unwrap().contains("default"));
        assert!(Parameter::Word(&EMPTY).flaw().unwrap().contains("default"));
        assert!(ALL.iter().all(|parameter| parameter.flaw().is_none()));
    }

    #[test]
    fn help_is_one_line() {
        assert_eq!(Parameter::Number(&SLOTS).to_string(), "slots=4      how many (1 to 1024)");
        assert_eq!(Parameter::Flag(&EAGER).to_string(), "eager=on     at once (on, off)");
        assert_eq!(Parameter::Word(&ORDER).to_string(), "order=old    which first (old, new)");
    }
}
