//! A strategy's text: which strategy, with which values, and the strategy made of it.

use super::entries::{
    BuildContext, CACHES, CacheEntry, ChosenPolicy, OF, PLAIN_CACHE, POLICIES, POLICY, PolicyEntry,
    PolicyUse, SLOTS, STRATEGIES, StrategyEntry, WRAPPERS, WrapperEntry,
};
use super::nearest::nearest;
use super::presets;
use crate::config_error::ConfigError;
use crate::pager::Pager;
use crate::parameter::{Joined, Number, Parameter, Values};
use crate::policy::EvictionPolicy;
use crate::strategy::Formats;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use arch_i386::paging::Paging;
use core::fmt;
use fallible::{OutOfMemory, boxed, text};

/// A strategy of any kind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    Policy(&'static PolicyEntry),
    Cache(&'static CacheEntry),
    Strategy(&'static StrategyEntry),
    Wrapper(&'static WrapperEntry),
}

impl Found {
    pub(super) fn all() -> impl Iterator<Item = Self> + Clone {
        let policies = POLICIES.iter().map(Found::Policy);
        let caches = CACHES.iter().map(Found::Cache);
        let others = STRATEGIES.iter().map(Found::Strategy);
        policies.chain(caches).chain(others).chain(WRAPPERS.iter().map(Found::Wrapper))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cache(entry) => entry.name,
            Self::Policy(entry) => entry.name,
            Self::Strategy(entry) => entry.name,
            Self::Wrapper(entry) => entry.name,
        }
    }

    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Cache(entry) => entry.help,
            Self::Policy(entry) => entry.help,
            Self::Strategy(entry) => entry.help,
            Self::Wrapper(entry) => entry.help,
        }
    }

    /// Its parameters, those of a policy that its text names not among them.
    pub(super) fn parameters(self) -> impl Iterator<Item = Parameter> + Clone {
        let (slots, own, of_policy): (_, _, &[Parameter]) = match self {
            Self::Strategy(entry) => (None, entry.parameters, &[]),
            Self::Wrapper(entry) => (None, entry.parameters, &[]),
            Self::Policy(entry) => (Some(Parameter::Number(&SLOTS)), &[][..], entry.parameters),
            Self::Cache(entry) => match entry.policy {
                PolicyUse::Fixed(policy) => (None, entry.parameters, policy.parameters),
                PolicyUse::Named(_) => (None, entry.parameters, &[]),
            },
        };
        slots.into_iter().chain(own.iter().chain(of_policy).copied())
    }

    pub(super) fn serves(self, paging: Paging) -> bool {
        match self {
            Self::Policy(_) | Self::Wrapper(_) => true,
            Self::Strategy(entry) => entry.formats.contains(&paging),
            Self::Cache(entry) => entry.formats.contains(&paging),
        }
    }
}

/// A parsed text of a strategy: which strategy, with which values.
#[derive(Clone, Debug)]
pub struct Choice {
    pub(super) found: Found,
    pub(super) values: Values,
    /// The policy of a cache.
    pub(super) policy: Option<&'static PolicyEntry>,
    /// The wrapped strategy.
    pub(super) of: Option<Box<Choice>>,
}

impl Choice {
    /// Parses a text such as `lru:slots=8`.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no such strategy or parameter, or a value is out of range; its text contains what would
    /// be right.
    pub fn parse(choice: &str) -> Result<Self, ConfigError> {
        let choice = choice.trim();
        let (name, rest) = choice.split_once(':').unwrap_or((choice, ""));
        if let Some(preset) = presets::named(name) {
            return Self::parse(&joined(preset.text, rest)?);
        }
        let mut candidates = Found::all().filter(|found| found.name() == name);
        let Some(found) = candidates.next() else {
            let all = sorted(Found::all()).map(Found::name).chain(presets::all().map(|preset| preset.name));
            return Err(ConfigError::UnknownStrategy {
                name: text(format_args!("{name}")),
                nearest: nearest(name, all),
                known: names(),
            });
        };
        if candidates.next().is_some() {
            return Err(ConfigError::DuplicateName(found.name()));
        }
        let (own, of) = match found {
            Found::Wrapper(entry) => {
                let (own, of) = split_of(rest);
                (own, Some(Self::parse_wrapped(entry, of.unwrap_or(entry.of))?))
            }
            Found::Policy(_) | Found::Cache(_) | Found::Strategy(_) => (rest, None),
        };
        let policy = match found {
            Found::Policy(entry) => Some(entry),
            Found::Cache(entry) => Some(policy_of(entry, own)?),
            Found::Strategy(_) | Found::Wrapper(_) => None,
        };
        let named = matches!(found, Found::Cache(CacheEntry { policy: PolicyUse::Named(_), .. }));
        let of_policy = policy.filter(|_| named).map_or(&[][..], |policy| policy.parameters);
        let parameters = found.parameters().chain(of_policy.iter().copied());
        let own = own.split(',').filter(|part| !(named && assigned(part, POLICY).is_some()));
        let values = Values::parse_all(found.name(), parameters, own)?;
        Ok(Self { found, values, policy, of: of.map(boxed).transpose()? })
    }

    /// Parses what follows `of=` in a wrapper's text.
    pub(super) fn parse_wrapped(wrapper: &WrapperEntry, choice: &str) -> Result<Self, ConfigError> {
        let name = choice.split(':').next().unwrap_or_default();
        if let Some((name, after)) = name.split_once(',') {
            let before = text(format_args!("{OF}={name}"));
            return Err(ConfigError::AfterOf { before, after: text(format_args!("{after}")) });
        }
        let choice = Self::parse(choice)?;
        match choice.found {
            Found::Wrapper(inner) => Err(ConfigError::Nested { outer: wrapper.name, inner: inner.name }),
            Found::Policy(_) | Found::Cache(_) | Found::Strategy(_) => Ok(choice),
        }
    }

    /// The strategy's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.found.name()
    }

    /// Checks that the strategy can serve these page formats.
    ///
    /// # Errors
    /// [`ConfigError::PaeGuest`] for a PAE guest on 2-level shadows, which no strategy serves; [`ConfigError::Format`] for
    /// shadows in a format that this strategy does not serve.
    pub fn check_formats(&self, formats: Formats) -> Result<(), ConfigError> {
        if !Formats::SERVED.contains(&formats) {
            Err(ConfigError::PaeGuest)
        } else if self.found.serves(formats.shadow) {
            self.of.as_ref().map_or(Ok(()), |of| of.check_formats(formats))
        } else {
            Err(ConfigError::Format { strategy: self.name(), paging: formats.shadow })
        }
    }

    /// Whether the strategy has a parameter of that name.
    #[must_use]
    pub fn has_parameter(&self, name: &str) -> bool {
        self.found.parameters().any(|parameter| parameter.name() == name)
    }

    /// What a number is set to, for a strategy that has this parameter.
    #[must_use]
    pub fn number(&self, parameter: &Number) -> Option<u64> {
        self.has_parameter(parameter.name).then(|| self.values.number(parameter))
    }

    /// The wrapped strategy, for a wrapper.
    #[must_use]
    pub fn wrapped(&self) -> Option<&Self> {
        self.of.as_deref()
    }

    /// Makes the policy alone, and returns for how many slots; `None` for a strategy that is more than a policy on the plain
    /// cache, or has none. This is for tests and tools.
    ///
    /// # Panics
    /// When memory is short.
    #[must_use]
    pub fn policy(&self, seed: u64) -> Option<(usize, Box<dyn EvictionPolicy>)> {
        let is_one = match self.found {
            Found::Policy(_) => true,
            Found::Cache(entry) => matches!(entry.policy, PolicyUse::Fixed(_)),
            Found::Strategy(_) | Found::Wrapper(_) => false,
        };
        let policy = self.chosen_policy(seed).filter(|_| is_one)?;
        let slots = self.values.number(&SLOTS) as usize;
        Some((slots, policy.build(slots).expect("a tool has memory for a policy")))
    }

    fn chosen_policy(&self, seed: u64) -> Option<ChosenPolicy<'_>> {
        self.policy.map(|entry| ChosenPolicy { entry, seed, values: &self.values })
    }

    /// Makes the strategy for one guest.
    ///
    /// # Errors
    /// As [`Choice::check_formats`], and [`ConfigError::OutOfMemory`] when there is no memory for the strategy.
    pub fn build(&self, context: &BuildContext) -> Result<Box<dyn Pager>, ConfigError> {
        self.check_formats(context.formats)?;
        let build_cache = match self.found {
            Found::Strategy(entry) => return Ok((entry.build)(context, &self.values)?.into_pager()),
            Found::Wrapper(entry) => {
                let of = self.of.as_ref().expect("a wrapper's text names what it wraps");
                // A wrapper sees every fault.
                let wrapped = of.build(&BuildContext { switcher_fills: false, ..*context })?;
                return Ok((entry.build)(context, &self.values, wrapped)?);
            }
            Found::Cache(entry) => entry.build,
            Found::Policy(_) => *PLAIN_CACHE.first().ok_or(ConfigError::NoCache(self.name()))?,
        };
        let policy = self.chosen_policy(context.seed).expect("a cache has a policy");
        Ok(build_cache(context, &self.values, &policy)?.into_pager())
    }
}

impl fmt::Display for Choice {
    /// The full text, every parameter named: `lru:slots=8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let mut separator = ':';
        if let (Found::Cache(CacheEntry { policy: PolicyUse::Named(_), .. }), Some(policy)) =
            (self.found, self.policy)
        {
            write!(f, ":{POLICY}={}", policy.name)?;
            separator = ',';
        }
        if !self.values.is_empty() {
            write!(f, "{separator}{}", self.values)?;
            separator = ',';
        }
        self.of.as_ref().map_or(Ok(()), |of| write!(f, "{separator}{OF}={of}"))
    }
}

/// A strategy's text with more assignments behind it. (Never cut off: half a number is another number.)
fn joined(choice: &str, assignments: &str) -> Result<String, OutOfMemory> {
    let separator = match (assignments.is_empty(), choice.contains(':')) {
        (true, _) => "",
        (false, true) => ",",
        (false, false) => ":",
    };
    let parts = [choice, separator, assignments];
    let mut joined = String::new();
    joined.try_reserve_exact(parts.iter().map(|part| part.len()).sum()).map_err(|_| OutOfMemory)?;
    parts.iter().for_each(|part| joined.push_str(part));
    Ok(joined)
}

/// What a part of a text assigns to a word, if it does.
fn assigned<'a>(part: &'a str, word: &str) -> Option<&'a str> {
    part.strip_prefix(word)?.strip_prefix('=')
}

/// The policy of a cache with this text.
fn policy_of(cache: &CacheEntry, own: &str) -> Result<&'static PolicyEntry, ConfigError> {
    let default = match cache.policy {
        PolicyUse::Fixed(entry) => return Ok(entry),
        PolicyUse::Named(default) => default,
    };
    let mut named = own.split(',').filter_map(|part| assigned(part, POLICY));
    let name = named.next().unwrap_or(default);
    if named.next().is_some() {
        return Err(ConfigError::SetTwice { strategy: cache.name, name: POLICY });
    }
    POLICIES.iter().find(|policy| policy.name == name).ok_or_else(|| ConfigError::BadValue {
        name: POLICY,
        value: text(format_args!("{name}")),
        wanted: text(format_args!(
            "one of {}",
            Joined(sorted(POLICIES.iter().map(Found::Policy)).map(Found::name))
        )),
    })
}

/// Divides a wrapper's text into its own assignments and what follows `of=`, which is the rest.
fn split_of(text: &str) -> (&str, Option<&str>) {
    let mut from = 0;
    for part in text.split(',') {
        if assigned(part, OF).is_some() {
            return (&text[..from], Some(&text[from + OF.len() + 1..]));
        }
        from += part.len() + 1;
    }
    (text, None)
}

/// Parses a text and makes the strategy, for one guest.
///
/// # Errors
/// As [`Choice::parse`] and [`Choice::build`].
pub fn build(choice: &str, context: &BuildContext) -> Result<Box<dyn Pager>, ConfigError> {
    Choice::parse(choice)?.build(context)
}

/// The names of all strategies, in order.
#[must_use]
pub fn names() -> String {
    text(format_args!("{}", Joined(sorted(Found::all()).map(Found::name))))
}

/// The names of all strategies, in order, one by one. This is for tests and tools: it is not for a kernel, which may be
/// short of memory.
#[must_use]
pub fn all_names() -> Vec<&'static str> {
    sorted(Found::all()).map(Found::name).collect()
}

/// Strategies in the order of their names; a few, so that the next one may be looked for among all.
pub(super) fn sorted(all: impl Iterator<Item = Found> + Clone) -> impl Iterator<Item = Found> + Clone {
    let mut last = None;
    core::iter::from_fn(move || {
        let keyed = all.clone().enumerate().map(|(i, found)| ((found.name(), i), found));
        let (key, next) = keyed.filter(|(key, _)| Some(*key) > last).min_by_key(|(key, _)| *key)?;
        last = Some(key);
        Some(next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_of_is_the_rest() {
        assert_eq!(split_of("of=lru:slots=8,of=2"), ("", Some("lru:slots=8,of=2")));
        assert_eq!(split_of("a=1,of=lru,b=2"), ("a=1,", Some("lru,b=2")));
        assert_eq!(split_of("offset=1,a=of=2"), ("offset=1,a=of=2", None));
        assert_eq!(split_of(""), ("", None));
    }
}
