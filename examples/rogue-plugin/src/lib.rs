//! Not an example to follow: strategies and policies that each do one thing wrong.
//!
//! A plug-in can at worst end its guest. What is here tries to do worse, in safe Rust; the scenario `rogue-plugin` runs
//! all of it in the module, the tests of `framework` some of it on a simulated host.
//!
//! | name | what it does wrong |
//! | --- | --- |
//! | `rogue` | wraps another strategy, and panics or answers nonsense in one method ([`strategy`]) |
//! | `rogue-hoarder` | a shadow cache that never evicts ([`hoarder`]) |
//! | `rogue-policy` | the same as `rogue` in a policy ([`policy`]) |

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod hoarder;
pub mod misdeed;
pub mod policy;
pub mod strategy;
