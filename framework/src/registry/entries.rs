//! What plug-ins register.

use crate::pager::{Built, Pager};
use crate::parameter::{Number, Parameter, Values};
use crate::policy::EvictionPolicy;
use crate::strategy::{Formats, SwitcherWindow};
use alloc::boxed::Box;
use arch_i386::paging::Paging;
use fallible::OutOfMemory;

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

/// A strategy that caches shadow page directories and evicts those that an [`EvictionPolicy`] selects, as registered.
#[derive(Clone, Copy, Debug)]
pub struct CacheEntry {
    /// The name it is chosen by; letters, digits and `-`.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Its parameters, the policy's not among them.
    pub parameters: &'static [Parameter],
    /// The page formats that its shadow tables can have.
    pub formats: &'static [Paging],
    /// Which policy it uses.
    pub policy: PolicyUse,
    /// Makes one, for one guest.
    pub build: BuildCache,
}

/// Makes a cache that uses the chosen policy.
pub type BuildCache = fn(&BuildContext, &Values, &ChosenPolicy<'_>) -> BuiltStrategy;

/// Which policy a cache uses.
#[derive(Clone, Copy, Debug)]
pub enum PolicyUse {
    /// Always this one, whether it is in [`POLICIES`] or not.
    Fixed(&'static PolicyEntry),
    /// The one that the strategy's text names by [`POLICY`], with parameters of its own; this one if it names none.
    Named(&'static str),
}

/// The word by which a cache's text names a policy.
pub const POLICY: &str = "policy";

/// The policy that a strategy is to have.
#[derive(Clone, Copy, Debug)]
pub struct ChosenPolicy<'a> {
    pub(super) entry: &'static PolicyEntry,
    pub(super) seed: u64,
    pub(super) values: &'a Values,
}

impl ChosenPolicy<'_> {
    /// Makes one for so many slots.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no memory for the policy.
    pub fn build(&self, slots: usize) -> BuiltPolicy {
        (self.entry.build)(&PolicyConfig { slots, seed: self.seed, values: self.values })
    }
}

/// A strategy without an eviction policy, as it is registered.
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

/// A strategy that wraps another one and sees the requests to it, as it is registered. Its text
/// ends with the wrapped one's, as in `record:touch=all,of=lru:slots=8`.
#[derive(Clone, Copy, Debug)]
pub struct WrapperEntry {
    /// The name it is chosen by; letters, digits and `-`.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Its own parameters, [`OF`] not among them.
    pub parameters: &'static [Parameter],
    /// The wrapped strategy's text when this one's has no `of=`.
    pub of: &'static str,
    /// Makes one around the wrapped strategy, for one guest.
    pub build: BuildWrapper,
}

/// Makes a strategy that wraps another.
pub type BuildWrapper = fn(&BuildContext, &Values, Box<dyn Pager>) -> BuiltWrapper;

/// A policy, if there was memory for it: [`boxed`](fallible::boxed).
pub type BuiltPolicy = Result<Box<dyn EvictionPolicy>, OutOfMemory>;

/// A strategy, likewise: [`Built::new`].
pub type BuiltStrategy = Result<Built, OutOfMemory>;

/// A wrapper, likewise.
pub type BuiltWrapper = Result<Box<dyn Pager>, OutOfMemory>;

/// The word that the wrapped strategy's text follows, in the text of a [`WrapperEntry`].
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
    /// Demand faults cost no more than what would be filled ahead of them: the Switcher handles most by itself, if the strategy
    /// [lets it](crate::strategy::PagingStrategy::lets_switcher_fill).
    pub switcher_fills: bool,
}

/// All policies.
#[linkme::distributed_slice]
pub static POLICIES: [PolicyEntry];

/// All caches that are more than a policy on the plain one.
#[linkme::distributed_slice]
pub static CACHES: [CacheEntry];

/// The plain cache, on which each policy is a strategy of its own name. There must be exactly one.
#[linkme::distributed_slice]
pub static PLAIN_CACHE: [BuildCache];

/// All strategies without an eviction policy.
#[linkme::distributed_slice]
pub static STRATEGIES: [StrategyEntry];

/// All wrappers.
#[linkme::distributed_slice]
pub static WRAPPERS: [WrapperEntry];

/// The parameter that every policy has. Four is lguest's number.
pub static SLOTS: Number =
    Number { name: "slots", help: "shadow page directories kept", default: 4, range: 1..=1024 };
