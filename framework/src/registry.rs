//! Strategies and policies by name.
//!
//! A plug-in registers itself with one [`linkme`] line; the linker gathers the entries, so that one file
//! adds a strategy to the module, to replay, to the tests that run over every strategy and to the
//! benchmarks. Every policy is a strategy of the same name: the shadow cache with that policy.
//!
//! A strategy is chosen by a text, `name[:parameter=value[,parameter=value…]]`, for example
//! `lru:slots=8`.
//!
//! ```
//! use arch_i386::addr::GuestPhys;
//! use framework::fallible::boxed;
//! use framework::policy::EvictionPolicy;
//! use framework::registry::{POLICIES, PolicyEntry};
//!
//! /// Slots give way in turn.
//! struct RoundRobin { next: usize, slots: usize }
//!
//! impl EvictionPolicy for RoundRobin {
//!     fn filled(&mut self, slot: usize, _: GuestPhys) { self.next = (slot + 1) % self.slots; }
//!     fn used(&mut self, _: usize, _: GuestPhys) {}
//!     fn victim(&mut self, _: GuestPhys) -> usize { self.next }
//! }
//!
//! #[linkme::distributed_slice(POLICIES)]
//! static ROUND_ROBIN: PolicyEntry = PolicyEntry {
//!     name: "round-robin",
//!     help: "slots give way in turn",
//!     parameters: &[],
//!     build: |config| Ok(boxed(RoundRobin { next: 0, slots: config.slots })?),
//! };
//!
//! assert!(framework::registry::catalogue().to_string().contains("round-robin"));
//! ```

use crate::cache::{self, Mends, Room};
use crate::pager::{Built, Pager};
use crate::parameter::{Joined, Number, Padded, Parameter, Values, is_name};
use crate::policy::EvictionPolicy;
use crate::strategy::{Formats, SwitcherWindow};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use arch_i386::paging::Paging;
use core::fmt;
use fallible::{OutOfMemory, boxed, text};

/// An eviction policy as it is registered.
#[derive(Clone, Copy, Debug)]
pub struct PolicyEntry {
    /// The name it is chosen by; letters, digits and `-`.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Its own parameters; [`SLOTS`] is added to them.
    pub parameters: &'static [Parameter],
    /// Makes one, for one guest.
    pub build: fn(&PolicyConfig<'_>) -> BuiltPolicy,
}

/// What a policy is made from.
#[derive(Clone, Copy, Debug)]
pub struct PolicyConfig<'a> {
    /// Slots it chooses among; at least 1.
    pub slots: usize,
    /// For everything random.
    pub seed: u64,
    /// The values of its parameters.
    pub values: &'a Values,
}

/// A strategy that is more than the shadow cache and a policy, as it is registered.
#[derive(Clone, Copy, Debug)]
pub struct StrategyEntry {
    /// The name it is chosen by; letters, digits and `-`.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    /// The page formats that its shadow tables can have.
    pub formats: &'static [Paging],
    /// Makes one, for one guest.
    pub build: fn(&BuildContext, &Values) -> BuiltStrategy,
}

/// A strategy that stands before another one and sees what is asked of it, as it is registered. Its text
/// ends with the other's, as in `record:touch=all,of=lru:slots=8`.
#[derive(Clone, Copy, Debug)]
pub struct WrapperEntry {
    /// The name it is chosen by; letters, digits and `-`.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Its own parameters, [`OF`] not among them.
    pub parameters: &'static [Parameter],
    /// The other strategy's text when this one's does not say.
    pub of: &'static str,
    /// Makes one before the other, for one guest.
    pub build: BuildWrapper,
}

/// Makes a strategy that stands before another.
pub type BuildWrapper = fn(&BuildContext, &Values, Box<dyn Pager>) -> BuiltWrapper;

/// A policy, if there was memory for it: [`boxed`].
pub type BuiltPolicy = Result<Box<dyn EvictionPolicy>, OutOfMemory>;

/// A strategy, likewise: [`Built::new`].
pub type BuiltStrategy = Result<Built, OutOfMemory>;

/// What stands before a strategy, likewise.
pub type BuiltWrapper = Result<Box<dyn Pager>, OutOfMemory>;

/// The word that the other strategy's text follows, in the text of a [`WrapperEntry`].
pub const OF: &str = "of";

/// What surrounds a strategy that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct BuildContext {
    /// The page formats of guest and host.
    pub formats: Formats,
    /// Where the Switcher is.
    pub window: SwitcherWindow,
    /// For everything random.
    pub seed: u64,
}

/// All policies.
#[linkme::distributed_slice]
pub static POLICIES: [PolicyEntry];

/// All strategies that are not a policy on the shadow cache.
#[linkme::distributed_slice]
pub static STRATEGIES: [StrategyEntry];

/// All strategies that stand before another one.
#[linkme::distributed_slice]
pub static WRAPPERS: [WrapperEntry];

/// The parameter that every policy has. Four is the original's number.
pub static SLOTS: Number =
    Number { name: "slots", help: "shadow page directories kept", default: 4, range: 1..=1024 };

/// A strategy's text that cannot be served. Where memory is short, texts in it are cut off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("no strategy is named `{name}`; there are {known}")]
    UnknownStrategy { name: String, known: String },
    #[error("two strategies are named `{0}`")]
    DuplicateName(&'static str),
    #[error("`{0}` is not a parameter: write name=value")]
    NotAParameter(String),
    #[error("strategy `{strategy}` has no parameter `{name}`; it has {known}")]
    UnknownParameter { strategy: &'static str, name: String, known: String },
    #[error("parameter {0} is set twice")]
    SetTwice(&'static str),
    #[error("parameter {name}={value}: the value must be {wanted}")]
    BadValue { name: &'static str, value: String, wanted: String },
    #[error("strategy `{strategy}` cannot serve {paging} page tables, which this host has")]
    Format { strategy: &'static str, paging: Paging },
    #[error("`{before}` takes the rest of the text: write {after} before it")]
    AfterOf { before: String, after: String },
    #[error("strategy `{outer}` cannot stand before `{inner}`, which stands before another itself")]
    Nested { outer: &'static str, inner: &'static str },
    #[error(
        "a guest with PAE page tables cannot run on a host with 2-level ones: take a 686-pae kernel for the host, or give the guest 2-level tables"
    )]
    PaeGuest,
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// A strategy of any kind.
#[derive(Clone, Copy, Debug)]
enum Found {
    Policy(&'static PolicyEntry),
    Strategy(&'static StrategyEntry),
    Wrapper(&'static WrapperEntry),
}

impl Found {
    fn all() -> impl Iterator<Item = Self> + Clone {
        let (policies, strategies) =
            (POLICIES.iter().map(Found::Policy), STRATEGIES.iter().map(Found::Strategy));
        policies.chain(strategies).chain(WRAPPERS.iter().map(Found::Wrapper))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Policy(entry) => entry.name,
            Self::Strategy(entry) => entry.name,
            Self::Wrapper(entry) => entry.name,
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Policy(entry) => entry.help,
            Self::Strategy(entry) => entry.help,
            Self::Wrapper(entry) => entry.help,
        }
    }

    fn parameters(self) -> impl Iterator<Item = Parameter> + Clone {
        let (slots, own) = match self {
            Self::Strategy(entry) => (None, entry.parameters),
            Self::Wrapper(entry) => (None, entry.parameters),
            Self::Policy(entry) => (Some(Parameter::Number(&SLOTS)), entry.parameters),
        };
        slots.into_iter().chain(own.iter().copied())
    }

    fn serves(self, paging: Paging) -> bool {
        match self {
            Self::Policy(_) | Self::Wrapper(_) => true,
            Self::Strategy(entry) => entry.formats.contains(&paging),
        }
    }
}

/// A strategy's text, understood: which strategy, with which values.
#[derive(Clone, Debug)]
pub struct Choice {
    found: Found,
    values: Values,
    /// What a wrapper stands before.
    of: Option<Box<Choice>>,
}

impl Choice {
    /// Understands a text such as `lru:slots=8`.
    ///
    /// # Errors
    /// [`ConfigError`], saying what would be right.
    pub fn parse(choice: &str) -> Result<Self, ConfigError> {
        let (name, rest) = choice.trim().split_once(':').unwrap_or((choice.trim(), ""));
        let mut candidates = Found::all().filter(|found| found.name() == name);
        let Some(found) = candidates.next() else {
            return Err(ConfigError::UnknownStrategy { name: text(format_args!("{name}")), known: names() });
        };
        if candidates.next().is_some() {
            return Err(ConfigError::DuplicateName(found.name()));
        }
        let (own, of) = match found {
            Found::Wrapper(entry) => {
                let (own, of) = split_of(rest);
                (own, Some(Self::parse_wrapped(entry, of.unwrap_or(entry.of))?))
            }
            Found::Policy(_) | Found::Strategy(_) => (rest, None),
        };
        let values = Values::parse_all(found.name(), found.parameters(), own)?;
        Ok(Self { found, values, of: of.map(boxed).transpose()? })
    }

    /// Understands what follows `of=` in a wrapper's text.
    fn parse_wrapped(wrapper: &WrapperEntry, choice: &str) -> Result<Self, ConfigError> {
        let name = choice.split(':').next().unwrap_or_default();
        if let Some((name, after)) = name.split_once(',') {
            let before = text(format_args!("{OF}={name}"));
            return Err(ConfigError::AfterOf { before, after: text(format_args!("{after}")) });
        }
        let choice = Self::parse(choice)?;
        match choice.found {
            Found::Wrapper(inner) => Err(ConfigError::Nested { outer: wrapper.name, inner: inner.name }),
            Found::Policy(_) | Found::Strategy(_) => Ok(choice),
        }
    }

    /// The strategy's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.found.name()
    }

    /// Says no where the strategy cannot serve these page formats.
    ///
    /// # Errors
    /// [`ConfigError::PaeGuest`], which holds of every strategy, or [`ConfigError::Format`].
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

    /// Makes the policy alone, and says for how many slots; `None` for a strategy that is no policy. This is for
    /// tests and tools.
    ///
    /// # Panics
    /// When memory is short.
    #[must_use]
    pub fn policy(&self, seed: u64) -> Option<(usize, Box<dyn EvictionPolicy>)> {
        match self.found {
            Found::Policy(entry) => {
                Some(self.build_policy(entry, seed).expect("a tool has memory for a policy"))
            }
            Found::Strategy(_) | Found::Wrapper(_) => None,
        }
    }

    fn build_policy(
        &self,
        entry: &PolicyEntry,
        seed: u64,
    ) -> Result<(usize, Box<dyn EvictionPolicy>), OutOfMemory> {
        let slots = self.values.number(&SLOTS) as usize;
        Ok((slots, (entry.build)(&PolicyConfig { slots, seed, values: &self.values })?))
    }

    /// Makes the strategy for one guest.
    ///
    /// # Errors
    /// As [`Choice::check_formats`], and [`ConfigError::OutOfMemory`].
    pub fn build(&self, context: &BuildContext) -> Result<Box<dyn Pager>, ConfigError> {
        self.check_formats(context.formats)?;
        Ok(match self.found {
            Found::Strategy(entry) => (entry.build)(context, &self.values)?.into_pager(),
            Found::Wrapper(entry) => {
                let of = self.of.as_ref().expect("a wrapper's text names what it stands before");
                (entry.build)(context, &self.values, of.build(context)?)?
            }
            Found::Policy(entry) => {
                let (slots, policy) = self.build_policy(entry, context.seed)?;
                cache::build(context.formats, Room::Slots(slots, policy), Mends::NONE, context.window)?
                    .into_pager()
            }
        })
    }
}

impl fmt::Display for Choice {
    /// The full text, every parameter named: `lru:slots=8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let mut separator = ':';
        if self.found.parameters().next().is_some() {
            write!(f, ":{}", self.values)?;
            separator = ',';
        }
        self.of.as_ref().map_or(Ok(()), |of| write!(f, "{separator}{OF}={of}"))
    }
}

/// Divides a wrapper's text into its own assignments and what follows `of=`, which is the rest.
fn split_of(text: &str) -> (&str, Option<&str>) {
    let starts = |part: &str| part.strip_prefix(OF).is_some_and(|rest| rest.starts_with('='));
    let mut from = 0;
    for part in text.split(',') {
        if starts(part) {
            return (&text[..from], Some(&text[from + OF.len() + 1..]));
        }
        from += part.len() + 1;
    }
    (text, None)
}

/// Understands a text and makes the strategy, for one guest.
///
/// # Errors
/// [`ConfigError`].
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
fn sorted(all: impl Iterator<Item = Found> + Clone) -> impl Iterator<Item = Found> + Clone {
    let mut last = None;
    core::iter::from_fn(move || {
        let keyed = all.clone().enumerate().map(|(i, found)| ((found.name(), i), found));
        let (key, next) = keyed.filter(|(key, _)| Some(*key) > last).min_by_key(|(key, _)| *key)?;
        last = Some(key);
        Some(next)
    })
}

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
    #[error(
        "plug-in `{plugin}` stands before `{of}` by default, which is no strategy that it can stand before"
    )]
    Of { plugin: &'static str, of: &'static str },
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Looks at all registrations. Whoever has a registry asks this once, before anything is chosen from it.
///
/// # Errors
/// The first [`RegistrationError`].
pub fn check() -> Result<(), RegistrationError> {
    check_all(Found::all())
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
        let parameters = found.parameters();
        for (i, declared) in parameters.clone().enumerate() {
            let parameter = declared.name();
            if parameters.clone().take(i).any(|other| other.name() == parameter) {
                return Err(RegistrationError::Parameter { plugin, parameter });
            }
            if let Some(flaw) = declared.flaw() {
                return Err(RegistrationError::Flaw { plugin, parameter, flaw });
            }
        }
    }
    Ok(())
}

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
            if let Found::Wrapper(WrapperEntry { of, .. }) = found {
                let assignment = Padded(format_args!("{OF}={of}"));
                writeln!(f, "  {assignment} the strategy itself, with parameters of its own; comes last")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_follows_of_is_the_rest() {
        assert_eq!(split_of("of=lru:slots=8,of=2"), ("", Some("lru:slots=8,of=2")));
        assert_eq!(split_of("a=1,of=lru,b=2"), ("a=1,", Some("lru,b=2")));
        assert_eq!(split_of("offset=1,a=of=2"), ("offset=1,a=of=2", None));
        assert_eq!(split_of(""), ("", None));
    }

    #[test]
    fn a_format_that_is_not_served_is_refused_with_the_reason() {
        let choice = Choice { found: Found::Strategy(&GOOD), values: Values::default(), of: None };
        assert!(choice.check_formats(Formats::both(Paging::Pae)).is_ok());
        assert_eq!(
            alloc::format!("{}", choice.check_formats(Formats::both(Paging::TwoLevel)).unwrap_err()),
            "strategy `good` cannot serve 2-level page tables, which this host has"
        );
    }
}
