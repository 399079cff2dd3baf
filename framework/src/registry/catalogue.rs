//! What there is to choose from, for people.

use super::choice::{Found, sorted};
use super::entries::{CacheEntry, OF, POLICY, PolicyUse, SLOTS, WrapperEntry};
use super::presets;
use crate::parameter::{Padded, Parameter};
use core::fmt;

/// What there is, for people: a line for each strategy, and one for each of its parameters.
#[must_use]
pub fn catalogue() -> impl fmt::Display {
    Catalogue
}

struct Catalogue;

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_policy = |found: &Found| matches!(found, Found::Policy(_));
        writeln!(f, "eviction policies, each on a plain cache:\n  {}", Parameter::Number(&SLOTS))?;
        sorted(Found::all()).filter(is_policy).try_for_each(|found| describe(f, found))?;
        writeln!(f, "other strategies:")?;
        sorted(Found::all()).filter(|found| !is_policy(found)).try_for_each(|found| describe(f, found))?;
        if presets::all().next().is_some() {
            writeln!(f, "short names:")?;
            for (i, preset) in presets::all().enumerate() {
                write!(f, "{}{}={}", if i > 0 { " " } else { "  " }, preset.name, preset.text)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A line for one strategy, and one for each of its own parameters.
fn describe(f: &mut fmt::Formatter<'_>, found: Found) -> fmt::Result {
    writeln!(f, "{:<12} {}", found.name(), found.help())?;
    let shared = matches!(found, Found::Policy(_)).then_some(SLOTS.name);
    let own = found.parameters().filter(|parameter| Some(parameter.name()) != shared);
    for parameter in own {
        writeln!(f, "  {parameter}")?;
    }
    match found {
        Found::Wrapper(WrapperEntry { of, .. }) => {
            let assignment = Padded(format_args!("{OF}={of}"));
            writeln!(f, "  {assignment} the wrapped strategy, with parameters of its own; comes last")
        }
        Found::Cache(CacheEntry { policy: PolicyUse::Named(default), .. }) => {
            let assignment = Padded(format_args!("{POLICY}={default}"));
            writeln!(f, "  {assignment} the eviction policy, with parameters of its own")
        }
        Found::Policy(_) | Found::Cache(_) | Found::Strategy(_) => Ok(()),
    }
}
