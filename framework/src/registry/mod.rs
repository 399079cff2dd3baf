//! Strategies and policies by name.
//!
//! A plug-in registers itself with one [`linkme`] line; the linker gathers the entries, so that one file
//! adds a strategy to the module, to replay, to the tests that run over every strategy and to the
//! benchmarks. Every policy is a strategy of the same name: the plain shadow cache with that policy.
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
//! /// Slots are evicted in turn.
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
//!     help: "slots are evicted in turn",
//!     parameters: &[],
//!     build: |config| Ok(boxed(RoundRobin { next: 0, slots: config.slots })?),
//! };
//!
//! assert!(framework::registry::catalogue().to_string().contains("round-robin"));
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `entries.rs` | what plug-ins register |
//! | `presets.rs` | short names that are registered at load |
//! | `choice.rs` | a strategy's text, and the strategy made of it |
//! | `nearest.rs` | the name that was probably meant |
//! | `check.rs` | what can be wrong with a registration |
//! | `catalogue.rs` | what there is to choose from, for people |

mod catalogue;
mod check;
mod choice;
mod entries;
mod nearest;
mod presets;

pub use crate::config_error::ConfigError;
pub use catalogue::{catalogue, summary};
pub use check::{RegistrationError, check};
pub use choice::{Choice, all_names, build, names};
pub use entries::*;
pub use presets::{MAX_PRESETS, Preset, TooManyPresets, add_preset, all as presets};
