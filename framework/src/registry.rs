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
//!     slots: 4,
//!     parameters: &[],
//!     build: |config| Box::new(RoundRobin { next: 0, slots: config.slots }),
//! };
//!
//! assert!(framework::registry::catalogue().to_string().contains("round-robin"));
//! ```

use crate::cache::ShadowCache;
use crate::policy::EvictionPolicy;
use crate::strategy::{PagingStrategy, SwitcherWindow};
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arch_i386::paging::{Pae, Paging, TwoLevel};
use core::fmt;
use core::ops::RangeInclusive;

/// A number that can be set in a strategy's text.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The value when the text does not say.
    pub default: u64,
    /// The values that make sense.
    pub range: RangeInclusive<u64>,
}

/// An eviction policy as it is registered.
#[derive(Clone, Copy, Debug)]
pub struct PolicyEntry {
    /// The name it is chosen by; letters, digits and `-`.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// How many slots it has by default; the parameter `slots` changes that.
    pub slots: u64,
    /// Its own parameters, `slots` not among them.
    pub parameters: &'static [Parameter],
    /// Makes one, for one guest.
    pub build: fn(&PolicyConfig<'_>) -> Box<dyn EvictionPolicy>,
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
    /// The page formats that it can serve.
    pub formats: &'static [Paging],
    /// Makes one, for one guest.
    pub build: fn(&BuildContext, &Values) -> Box<dyn PagingStrategy>,
}

/// What surrounds a strategy that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct BuildContext {
    /// The page format of the host and its guest.
    pub paging: Paging,
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

/// The most slots a shadow cache can have.
pub const MAX_SLOTS: u64 = 1024;

/// A strategy's text that cannot be served.
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
    #[error("parameter {name}={value}: the value must be a whole number from {} to {}", .range.start(), .range.end())]
    BadValue { name: &'static str, value: String, range: RangeInclusive<u64> },
    #[error("strategy `{strategy}` cannot serve {paging} page tables, which this host has")]
    Format { strategy: &'static str, paging: Paging },
}

/// A strategy of either kind.
#[derive(Clone, Copy, Debug)]
enum Found {
    Policy(&'static PolicyEntry),
    Strategy(&'static StrategyEntry),
}

impl Found {
    fn all() -> impl Iterator<Item = Self> {
        POLICIES.iter().map(Found::Policy).chain(STRATEGIES.iter().map(Found::Strategy))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Policy(entry) => entry.name,
            Self::Strategy(entry) => entry.name,
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Policy(entry) => entry.help,
            Self::Strategy(entry) => entry.help,
        }
    }

    fn parameters(self) -> Vec<Parameter> {
        match self {
            Self::Strategy(entry) => entry.parameters.to_vec(),
            Self::Policy(entry) => {
                let slots = Parameter {
                    name: "slots",
                    help: "shadow page directories kept",
                    default: entry.slots,
                    range: 1..=MAX_SLOTS,
                };
                core::iter::once(slots).chain(entry.parameters.iter().cloned()).collect()
            }
        }
    }

    const fn serves(self, paging: Paging) -> bool {
        let Self::Strategy(entry) = self else { return true };
        let mut i = 0;
        while i < entry.formats.len() {
            if entry.formats[i].levels() == paging.levels() {
                return true;
            }
            i += 1;
        }
        false
    }
}

/// The values of a strategy's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<(&'static str, u64)>);

impl Values {
    /// The value of a parameter, as the text or the default gives it.
    ///
    /// # Panics
    /// When the plug-in did not register a parameter of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("the plug-in asks for `{name}`, which it did not register")).1
    }
}

/// A strategy's text, understood: which strategy, with which values.
#[derive(Clone, Debug)]
pub struct Choice {
    found: Found,
    values: Values,
}

impl Choice {
    /// Understands a text such as `lru:slots=8`.
    ///
    /// # Errors
    /// [`ConfigError`], saying what would be right.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (name, rest) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        let mut candidates = Found::all().filter(|found| found.name() == name);
        let Some(found) = candidates.next() else {
            return Err(ConfigError::UnknownStrategy { name: name.to_owned(), known: names() });
        };
        if candidates.next().is_some() {
            return Err(ConfigError::DuplicateName(found.name()));
        }
        let parameters = found.parameters();
        let mut values: Vec<_> = parameters.iter().map(|p| (p.name, p.default)).collect();
        for assignment in rest.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = assignment
                .split_once('=')
                .ok_or_else(|| ConfigError::NotAParameter(assignment.to_owned()))?;
            let Some(i) = parameters.iter().position(|p| p.name == name) else {
                let known = join(parameters.iter().map(|p| p.name));
                return Err(ConfigError::UnknownParameter {
                    strategy: found.name(),
                    name: name.to_owned(),
                    known,
                });
            };
            let Parameter { name, ref range, .. } = parameters[i];
            let number = value.parse().ok().filter(|number| range.contains(number));
            values[i].1 = number.ok_or_else(|| ConfigError::BadValue {
                name,
                value: value.to_owned(),
                range: range.clone(),
            })?;
        }
        Ok(Self { found, values: Values(values) })
    }

    /// The strategy's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.found.name()
    }

    /// Says no where the strategy cannot serve this page format.
    ///
    /// # Errors
    /// [`ConfigError::Format`].
    pub const fn check_format(&self, paging: Paging) -> Result<(), ConfigError> {
        if self.found.serves(paging) {
            Ok(())
        } else {
            Err(ConfigError::Format { strategy: self.name(), paging })
        }
    }

    /// Makes the strategy for one guest.
    ///
    /// # Errors
    /// [`ConfigError::Format`].
    pub fn build(&self, context: &BuildContext) -> Result<Box<dyn PagingStrategy>, ConfigError> {
        self.check_format(context.paging)?;
        Ok(match self.found {
            Found::Strategy(entry) => (entry.build)(context, &self.values),
            Found::Policy(entry) => {
                let slots = self.values.get("slots") as usize;
                let config = PolicyConfig { slots, seed: context.seed, values: &self.values };
                let policy = (entry.build)(&config);
                match context.paging {
                    Paging::TwoLevel => Box::new(ShadowCache::<TwoLevel>::new(slots, policy, context.window)),
                    Paging::Pae => Box::new(ShadowCache::<Pae>::new(slots, policy, context.window)),
                }
            }
        })
    }
}

impl fmt::Display for Choice {
    /// The full text, every parameter named: `lru:slots=8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        for (i, (name, value)) in self.values.0.iter().enumerate() {
            write!(f, "{}{name}={value}", if i == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

/// Understands a text and makes the strategy, for one guest.
///
/// # Errors
/// [`ConfigError`].
pub fn build(text: &str, context: &BuildContext) -> Result<Box<dyn PagingStrategy>, ConfigError> {
    Choice::parse(text)?.build(context)
}

/// The names of all strategies, in order.
#[must_use]
pub fn names() -> String {
    join(all_names().into_iter())
}

/// The names of all strategies, in order, one by one.
#[must_use]
pub fn all_names() -> Vec<&'static str> {
    let mut names: Vec<_> = Found::all().map(Found::name).collect();
    names.sort_unstable();
    names
}

fn join(names: impl Iterator<Item = &'static str>) -> String {
    let quoted: Vec<String> = names.map(ToString::to_string).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

/// What there is, for people: a line for each strategy, and one for each of its parameters.
#[must_use]
pub fn catalogue() -> impl fmt::Display {
    Catalogue
}

struct Catalogue;

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<Found> = Found::all().collect();
        all.sort_unstable_by_key(|found| found.name());
        for found in all {
            writeln!(f, "{:<12} {}", found.name(), found.help())?;
            for Parameter { name, help, default, range } in found.parameters() {
                let (from, to) = (range.start(), range.end());
                writeln!(f, "  {name}={default:<8} {help} ({from} to {to})")?;
            }
        }
        Ok(())
    }
}
