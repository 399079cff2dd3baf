//! What there is to choose from, for people.

use super::choice::{Found, sorted};
use super::entries::{CacheEntry, OF, POLICY, PolicyUse, WrapperEntry};
use super::presets;
use crate::parameter::Padded;
use core::fmt;

/// What there is, for people: a line for each strategy, and one for each of its parameters.
#[must_use]
pub fn catalogue() -> impl fmt::Display {
    Catalogue
}

struct Catalogue;

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in sorted(Found::all()) {
            writeln!(f, "{:<12} {}", found.name(), found.help())?;
            for parameter in found.parameters() {
                writeln!(f, "  {parameter}")?;
            }
            match found {
                Found::Wrapper(WrapperEntry { of, .. }) => {
                    let assignment = Padded(format_args!("{OF}={of}"));
                    writeln!(
                        f,
                        "  {assignment} the wrapped strategy, with parameters of its own; comes last"
                    )?;
                }
                Found::Cache(CacheEntry { policy: PolicyUse::Named(default), .. }) => {
                    let assignment = Padded(format_args!("{POLICY}={default}"));
                    writeln!(f, "  {assignment} the eviction policy, with parameters of its own")?;
                }
                Found::Policy(_) | Found::Cache(_) | Found::Strategy(_) => {}
            }
        }
        let mut presets = presets::all().peekable();
        if presets.peek().is_some() {
            writeln!(f, "short names:")?;
        }
        presets.try_for_each(|preset| writeln!(f, "  {:<14} {}", preset.name, preset.text))
    }
}
