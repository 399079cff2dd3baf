//! The built-in strategies, one file each.
//!
//! | name | what it does | file |
//! | --- | --- | --- |
//! | `lguest` | the original: four slots, a random one gives way, free or not | [`lguest`](mod@lguest) |
//! | `lru` | the slot that was switched to longest ago gives way | [`lru`](mod@lru) |
//! | `record` | stands before another strategy and writes a trace of what the guest asks of it | [`record`](mod@record) |
//!
//! A new eviction policy is a file here, an [`EvictionPolicy`](framework::policy::EvictionPolicy) in it,
//! and one `linkme` line. A crate that wants the strategies in its registry must refer to this one:
//! `use strategies as _;`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod lguest;
pub mod lru;
pub mod record;
