//! What can be wrong with a plug-in's registration.

use super::choice::{Choice, Found, sorted};
use super::entries::{PLAIN_CACHE, POLICIES, POLICY, PolicyUse};
use super::presets::{self, Preset};
use crate::config_error::ConfigError;
use crate::parameter::is_name;
use arch_i386::paging::Paging;
use fallible::OutOfMemory;

/// What is wrong with a plug-in's registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RegistrationError {
    #[error("two plug-ins are named `{0}`: rename one, or leave it out")]
    Name(&'static str),
    #[error("the name `{0}` of a plug-in is not made of letters, digits and `-`")]
    NotAName(&'static str),
    #[error("plug-in `{plugin}` has two parameters named `{parameter}`")]
    Parameter { plugin: &'static str, parameter: &'static str },
    #[error("parameter `{parameter}` of plug-in `{plugin}`: {flaw}")]
    Flaw { plugin: &'static str, parameter: &'static str, flaw: &'static str },
    #[error("plug-in `{0}` serves no page format")]
    NoFormat(&'static str),
    #[error("plug-in `{plugin}` wraps `{of}` by default, which is no strategy that it can wrap")]
    Of { plugin: &'static str, of: &'static str },
    #[error("plug-in `{plugin}` takes the policy `{policy}` by default, which there is not")]
    Policy { plugin: &'static str, policy: &'static str },
    #[error("preset `{name}` stands for `{text}`, which is no strategy's text")]
    Preset { name: &'static str, text: &'static str },
    #[error("there are {0} plain caches for the policies, not one")]
    PlainCaches(usize),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Checks all registrations. A program with a registry must call this once, before anything is chosen from it.
///
/// # Errors
/// The first [`RegistrationError`] that is found.
pub fn check() -> Result<(), RegistrationError> {
    if !POLICIES.is_empty() && PLAIN_CACHE.len() != 1 {
        return Err(RegistrationError::PlainCaches(PLAIN_CACHE.len()));
    }
    check_all(Found::all())?;
    presets::all().try_for_each(check_preset)
}

fn check_preset(preset: &Preset) -> Result<(), RegistrationError> {
    let Preset { name, text } = *preset;
    let names = Found::all().map(Found::name).chain(presets::all().map(|other| other.name));
    if names.filter(|other| *other == name).count() > 1 {
        return Err(RegistrationError::Name(name));
    }
    if !is_name(name) {
        return Err(RegistrationError::NotAName(name));
    }
    match Choice::parse(text) {
        Ok(_) => Ok(()),
        Err(ConfigError::OutOfMemory(error)) => Err(error.into()),
        Err(_) => Err(RegistrationError::Preset { name, text }),
    }
}

fn check_all(all: impl Iterator<Item = Found> + Clone) -> Result<(), RegistrationError> {
    let sorted = sorted(all);
    let mut pairs = sorted.clone().zip(sorted.clone().skip(1));
    if let Some((first, _)) = pairs.find(|(first, second)| first.name() == second.name()) {
        return Err(RegistrationError::Name(first.name()));
    }
    for found in sorted {
        let plugin = found.name();
        if !is_name(plugin) {
            return Err(RegistrationError::NotAName(plugin));
        }
        if !found.serves(Paging::TwoLevel) && !found.serves(Paging::Pae) {
            return Err(RegistrationError::NoFormat(plugin));
        }
        if let Found::Wrapper(entry) = found
            && let Err(error) = Choice::parse_wrapped(entry, entry.of)
        {
            return Err(match error {
                ConfigError::OutOfMemory(error) => error.into(),
                _ => RegistrationError::Of { plugin, of: entry.of },
            });
        }
        if let Found::Cache(entry) = found
            && let PolicyUse::Named(policy) = entry.policy
            && !POLICIES.iter().any(|known| known.name == policy)
        {
            return Err(RegistrationError::Policy { plugin, policy });
        }
        let parameters = found.parameters();
        for (i, declared) in parameters.clone().enumerate() {
            let parameter = declared.name();
            if parameters.clone().take(i).any(|other| other.name() == parameter) {
                return Err(RegistrationError::Parameter { plugin, parameter });
            }
            // A cache's text may have parameters of any policy among its own.
            if let Found::Cache(entry) = found
                && matches!(entry.policy, PolicyUse::Named(_))
                && (parameter == POLICY
                    || POLICIES.iter().any(|policy| policy.parameters.iter().any(|p| p.name() == parameter)))
            {
                return Err(RegistrationError::Parameter { plugin, parameter });
            }
            if let Some(flaw) = declared.flaw() {
                return Err(RegistrationError::Flaw { plugin, parameter, flaw });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::{Number, Parameter, Values};
    use crate::registry::entries::{BuildContext, SLOTS, StrategyEntry, WrapperEntry};
    use crate::strategy::Formats;

    const fn strategy(name: &'static str, parameters: &'static [Parameter]) -> StrategyEntry {
        let build = |_: &BuildContext, _: &Values| unreachable!("never built");
        StrategyEntry { name, help: "", parameters, formats: &[Paging::Pae], build }
    }

    static LARGE: Number = Number { name: "large", help: "", default: 7, range: 0..=3 };

    static GOOD: StrategyEntry = strategy("good", &[Parameter::Number(&SLOTS)]);
    static SAME: StrategyEntry = strategy("good", &[]);
    static SPACED: StrategyEntry = strategy("not good", &[]);
    static TWICE: StrategyEntry = strategy("twice", &[Parameter::Number(&SLOTS), Parameter::Number(&SLOTS)]);
    static FLAWED: StrategyEntry = strategy("flawed", &[Parameter::Number(&LARGE)]);
    static USELESS: StrategyEntry = StrategyEntry { formats: &[], ..strategy("useless", &[]) };
    static LOST: WrapperEntry = WrapperEntry {
        name: "lost",
        help: "",
        parameters: &[],
        of: "nobody",
        build: |_, _, _| unreachable!("never built"),
    };

    #[test]
    fn each_flaw_of_a_registration_is_named() {
        let check = |entries: &[&'static StrategyEntry]| {
            check_all(entries.iter().map(|entry| Found::Strategy(entry)))
                .map_err(|error| alloc::format!("{error}"))
        };
        assert_eq!(check(&[&GOOD]), Ok(()));
        for (entries, message) in [
            (&[&GOOD, &SAME][..], "two plug-ins are named `good`: rename one, or leave it out"),
            (&[&SPACED], "the name `not good` of a plug-in is not made of letters, digits and `-`"),
            (&[&TWICE], "plug-in `twice` has two parameters named `slots`"),
            (
                &[&FLAWED],
                "parameter `large` of plug-in `flawed`: its default is not among the values that it can have",
            ),
            (&[&USELESS], "plug-in `useless` serves no page format"),
        ] {
            assert_eq!(check(entries).unwrap_err(), message);
        }
        assert_eq!(
            check_all(core::iter::once(Found::Wrapper(&LOST))).unwrap_err(),
            RegistrationError::Of { plugin: "lost", of: "nobody" }
        );
    }

    #[test]
    fn a_format_that_is_not_served_is_refused_with_the_reason() {
        let choice =
            Choice { found: Found::Strategy(&GOOD), values: Values::default(), policy: None, of: None };
        assert!(choice.check_formats(Formats::both(Paging::Pae)).is_ok());
        assert_eq!(
            alloc::format!("{}", choice.check_formats(Formats::both(Paging::TwoLevel)).unwrap_err()),
            "strategy `good` cannot serve 2-level page tables, which this host has"
        );
    }
}
