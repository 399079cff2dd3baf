//! Strategies without a machine: a simulated host, the paging trace, and its replay.
//!
//! What tests need of the laboratory, be they the tests of the framework, of the strategies, of a plug-in or the fuzz
//! targets. It depends on the framework and on what reads, compresses and generates traces. What shows results to people (a
//! command line, a table, a chart, a progress bar) never belongs here: that is the package `benches`, which
//! depends on this one. No strategy belongs here either: a crate that needs the built-in ones registered links
//! `strategies` itself.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`SimHost`] | a [`PagingHost`](framework::host::PagingHost) made of plain memory |
//! | [`trace`] | a guest's requests to its pager, in files of any form |
//! | [`keys`] | sequences of keys in the forms of cache simulators, as loads of page directories |
//! | [`input`] | either of them: what a program is given to replay |
//! | [`compression`] | LZ4 and Zstandard under all of them |
//! | [`replay`] | a trace run on a strategy, and what is reported of it |
//! | [`generate`] | loads that look real, from a seed |
//! | [`golden`] | how often another simulator's policies miss |
//! | [`panics`] | panics of plug-ins on the simulated host |
//! | [`policy_check`] | what must hold of every eviction policy, for the tests of plug-ins |

mod host;

pub mod compression;
pub mod generate;
pub mod golden;
pub mod input;
pub mod keys;
pub mod panics;
pub mod policy_check;
pub mod replay;
pub mod trace;

pub use host::SimHost;
