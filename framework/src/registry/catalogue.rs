//! What there is to choose from, for people.

use super::choice::{Found, sorted};
use super::entries::{CacheEntry, OF, POLICY, PolicyUse, SLOTS, WrapperEntry};
use super::presets;
use crate::parameter::{Padded, Parameter};
use core::fmt;

/// What there is, for people: a line for each strategy, and one for each of its parameters.
#[must_use]
pub fn catalogue() -> impl fmt::Display {
    List(Detail::Everything)
}

/// The same in short, for where there is little room: a line for each strategy, and one for the defaults of its parameters.
#[must_use]
pub fn summary() -> impl fmt::Display {
    List(Detail::Defaults)
}

struct List(Detail);

/// What is shown of parameters and presets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// A line each, with help and what can be written; what a preset stands for.
    Everything,
    /// Names and defaults; names.
    Defaults,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_policy = |found: &Found| matches!(found, Found::Policy(_));
        writeln!(f, "eviction policies, each on a plain cache:")?;
        self.0.parameter(f, Parameter::Number(&SLOTS))?;
        self.0.end_parameters(f)?;
        sorted(Found::all()).filter(is_policy).try_for_each(|found| self.0.describe(f, found))?;
        writeln!(f, "other strategies:")?;
        sorted(Found::all())
            .filter(|found| !is_policy(found))
            .try_for_each(|found| self.0.describe(f, found))?;
        if presets::all().next().is_some() {
            writeln!(f, "short names:")?;
            for (i, preset) in presets::all().enumerate() {
                write!(f, "{}{}", if i > 0 { " " } else { "  " }, preset.name)?;
                if self.0 == Detail::Everything {
                    write!(f, "={}", preset.text)?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Detail {
    fn describe(self, f: &mut fmt::Formatter<'_>, found: Found) -> fmt::Result {
        writeln!(f, "{:<12} {}", found.name(), found.help())?;
        let shared = matches!(found, Found::Policy(_)).then_some(SLOTS.name);
        let mut own = found.parameters().filter(|parameter| Some(parameter.name()) != shared).peekable();
        let last = match found {
            Found::Wrapper(WrapperEntry { of, .. }) => {
                Some((OF, *of, "the wrapped strategy, with parameters of its own; comes last"))
            }
            Found::Cache(CacheEntry { policy: PolicyUse::Named(default), .. }) => {
                Some((POLICY, *default, "the eviction policy, with parameters of its own"))
            }
            Found::Policy(_) | Found::Cache(_) | Found::Strategy(_) => None,
        };
        let any = own.peek().is_some() || last.is_some();
        own.try_for_each(|parameter| self.parameter(f, parameter))?;
        if let Some((name, default, help)) = last {
            let assignment = Padded(format_args!("{name}={default}"));
            match self {
                Self::Everything => writeln!(f, "  {assignment} {help}")?,
                Self::Defaults => write!(f, "  {name}={default}")?,
            }
        }
        if any { self.end_parameters(f) } else { Ok(()) }
    }

    fn parameter(self, f: &mut fmt::Formatter<'_>, parameter: Parameter) -> fmt::Result {
        match self {
            Self::Everything => writeln!(f, "  {parameter}"),
            Self::Defaults => write!(f, "  {}", parameter.assignment()),
        }
    }

    fn end_parameters(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self == Self::Defaults { writeln!(f) } else { Ok(()) }
    }
}
