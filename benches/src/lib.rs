//! Strategies without a machine: a simulated host, the paging trace, and its replay.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`sim`] | a [`PagingHost`](framework::host::PagingHost) made of plain memory |
//! | [`trace`] | what a guest asked of its pager, in files of any form |
//! | [`replay`] | a trace run on a strategy, and what is reported of it |
//! | [`policy_check`] | what must hold of every eviction policy, for the tests of plug-ins |
//!
//! The program `replay` (`src/bin/replay.rs`) is the command line over these.

// Their registry entries are what is wanted of them.
use strategies as _;

pub mod policy_check;
pub mod replay;
pub mod sim;
pub mod trace;
