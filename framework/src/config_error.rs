//! Why a strategy's text is refused.

use alloc::string::String;
use arch_i386::paging::Paging;
use core::fmt;
use fallible::OutOfMemory;

/// A strategy's text that cannot be served. Where memory is short, texts in it are cut off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error("no strategy is named `{name}`{}; there are {known}", Meant(*.nearest))]
    UnknownStrategy { name: String, nearest: Option<&'static str>, known: String },
    #[error("two strategies are named `{0}`")]
    DuplicateName(&'static str),
    #[error("`{0}` is not a parameter: write name=value")]
    NotAParameter(String),
    #[error("strategy `{strategy}` has no parameter `{name}`; it has {known}")]
    UnknownParameter { strategy: &'static str, name: String, known: String },
    #[error("parameter {name} of strategy `{strategy}` is set twice")]
    SetTwice { strategy: &'static str, name: &'static str },
    #[error("parameter {name}={value}: the value must be {wanted}")]
    BadValue { name: &'static str, value: String, wanted: String },
    #[error("strategy `{strategy}` cannot serve {paging} page tables, which this host has")]
    Format { strategy: &'static str, paging: Paging },
    #[error("`{before}` takes the rest of the text: write {after} before it")]
    AfterOf { before: String, after: String },
    #[error("strategy `{outer}` cannot wrap `{inner}`, which wraps another itself")]
    Nested { outer: &'static str, inner: &'static str },
    #[error(
        "a guest with PAE page tables cannot run on a host with 2-level ones: take a 686-pae kernel for the host, or give the guest 2-level tables"
    )]
    PaeGuest,
    #[error("policy `{0}` has no shadow cache to run on: the crate `strategies` is not linked")]
    NoCache(&'static str),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

impl ConfigError {
    /// Whether a list of all strategies and their parameters shows what would be right.
    #[must_use]
    pub const fn is_of_a_name_or_value(&self) -> bool {
        match self {
            Self::UnknownStrategy { .. }
            | Self::NotAParameter(_)
            | Self::UnknownParameter { .. }
            | Self::BadValue { .. } => true,
            Self::DuplicateName(_)
            | Self::SetTwice { .. }
            | Self::Format { .. }
            | Self::AfterOf { .. }
            | Self::Nested { .. }
            | Self::PaeGuest
            | Self::NoCache(_)
            | Self::OutOfMemory(_) => false,
        }
    }
}

/// Displays the name that was probably meant.
struct Meant(Option<&'static str>);

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, " (is `{name}` meant?)"))
    }
}
