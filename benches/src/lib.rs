//! Comparisons of strategies without a machine: the program `replay`, its tables and charts, and benchmarks.
//!
//! What shows to people what strategies do on a trace, and what times or counts single operations. What tests need
//! (the simulated host, the forms of traces, the replay of one trace, the check of policies) never belongs here, so
//! that no test builds a plotting library: it is in [`sim`].
//!
//! | module | what it is |
//! | --- | --- |
//! | [`cli`] | the command line, the program `replay` |
//! | [`palette`], [`table`] | the colours of every plot, and how every table looks |
//! | [`comparison`] | one trace on many strategies at once |
//! | [`analysis`] | what a trace's loads are like: reuse distances, working set, LRU's whole miss curve |
//! | [`stack_distance`] | the reuse distance of each load |
//! | [`shards`] | LRU's miss curve from a sample, with bounds of its error |
//! | [`chart`] | miss curves as a picture |
//! | [`optimum`] | the best that any policy could do |
//! | [`bound`] | what no policy could cost less than |
//! | [`packing`] | the most that can be kept with so many slots |
//! | [`cost`] | a model of what a replay would have cost on a machine |
//! | [`hot_paths`] | single operations, to be timed or counted |
//!
//! `cargo bench -p benches` times the hot paths, `cargo xtask instructions` counts their instructions and compares them
//! with `instructions.json`; `cargo xtask instructions --renew` writes that file anew.

// Their registry entries are what is wanted of them.
use strategies as _;

pub mod analysis;
pub mod bound;
pub mod chart;
pub mod cli;
pub mod comparison;
pub mod cost;
pub mod hot_paths;
pub mod optimum;
pub mod packing;
pub mod palette;
pub mod shards;
pub mod stack_distance;
pub mod table;
