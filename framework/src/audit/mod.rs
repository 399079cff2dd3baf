//! The audit: every shadow entry compared with the guest's own tables (ARCHITECTURE.md, invariants 2, 4, 6 and 7).
//!
//! # What can be proved, and when
//! A shadow entry is a cached copy, as a TLB's. A guest changes its tables first and makes the request later,
//! perhaps in a batch; until then an entry may be older than the table it came from. So the audit proves
//! two kinds of things:
//!
//! * **At any time**: the tables that the processor walks are what the strategy's bookkeeping records
//!   ([`Inspect::check`](crate::inspect::Inspect::check)), the Switcher's window is in every root, the frame of every
//!   entry is known to hold a page of the guest's, and known as writable if the entry is (unless frames have gone of which
//!   entries are yet to be dropped), no entry is global.
//! * **Of what the last operation covers** ([`Coverage`]): the operation dropped what was there, so that each entry that
//!   is there now was made from the tables as they are now. The entry leads to the guest's page; it gives no right that the
//!   guest's entries do not give on every level; the access shows in the guest's entry, and the write too if the entry is
//!   writable. (An entry that comes with SET_PTE is mapped as it is once the guest has marked it accessed or dirty, either
//!   of which means that the guest does not depend on a bit that the host would set.)
//!
//! An entry that no operation has covered since its change, and that disagrees, is *stale*: counted, and legal. So is one
//! that disagrees because the launcher has changed its guest's memory meanwhile (`seen.rs` describes how that is known). A
//! guest that makes a request for every change, as the tests' guests do, can be checked with [`Coverage::Everything`]
//! after each of its operations.
//!
//! [`Audited`] does all that to a guest while it runs.

mod audited;
mod entries;
mod frames;
mod seen;

pub use crate::defect::Defect;
pub use audited::Audited;
pub use entries::{Coverage, Report, audit};
