//! Strategies without a machine: a simulated host, the paging trace, and its replay.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`sim`] | a [`PagingHost`](framework::host::PagingHost) made of plain memory |
//! | [`trace`] | what a guest asked of its pager, in files of any form |
//! | [`replay`] | a trace run on a strategy, and what is reported of it |
//! | [`chart`] | miss curves as a picture |
//! | [`palette`] | the colours of every plot |
//! | [`comparison`] | one trace on many strategies at once |
//! | [`optimum`] | the best that any policy could do |
//! | [`panics`] | panics of plug-ins on the simulated host |
//! | [`cost`] | a model of what a replay would have cost on a machine |
//! | [`generate`] | loads that look real, from a seed |
//! | [`hot_paths`] | single operations, to be timed or counted |
//! | [`policy_check`] | what must hold of every eviction policy, for the tests of plug-ins |
//!
//! `cargo bench -p benches` times the hot paths, `cargo xtask instructions` counts their instructions and compares them
//! with `instructions.json`; `cargo xtask instructions --renew` writes that file anew.
//!
//! [`cli`] is the command line over these, the program `replay`.

// Their registry entries are what is wanted of them.
use strategies as _;

pub mod chart;
pub mod cli;
pub mod comparison;
pub mod cost;
pub mod generate;
pub mod hot_paths;
pub mod optimum;
pub mod palette;
pub mod panics;
pub mod policy_check;
pub mod replay;
pub mod sim;
pub mod trace;
