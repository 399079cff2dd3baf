//! `cargo xtask bench`: the same guest, the same work, several strategies, one table, one page of plots.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`matrix`] | what is to be run, and in which order |
//! | [`host`] | runs it in the host VM |
//! | [`native`] | runs it without a host, for the baseline |
//! | [`span`] | reads what was measured |
//! | [`profiles`] | counts whose the instructions are |
//! | [`results`], [`versions`], [`developer_machine`] | keeps it, with all that it depends on |
//! | [`statistics`] | medians, spreads, differences |
//! | [`rank_test`] | whether times on the wall's clock differ, and by how much |
//! | [`table`](mod@table) | shows it on the terminal |
//! | [`plots`], [`report`] | draws it, and puts all on one page |
//! | [`compare`] | `cargo xtask bench compare`: what changed from one file of results to another |
//! | [`command`] | `cargo xtask bench` itself |

pub mod command;
mod compare;
mod developer_machine;
mod host;
mod matrix;
mod native;
mod plots;
mod profiles;
mod rank_test;
mod report;
mod results;
mod span;
mod statistics;
mod table;
mod versions;
