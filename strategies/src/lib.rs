//! The built-in strategies, one file each.
//!
//! | name | what it does | file |
//! | --- | --- | --- |
//! | `lguest` | the original: four slots, a random one gives way, free or not | [`lguest`](mod@lguest) |
//! | `fifo` | the slot that was filled longest ago gives way | [`fifo`](mod@fifo) |
//! | `lru` | the slot that was switched to longest ago | [`lru`](mod@lru) |
//! | `clock` | a hand goes round and lets off what was used since it last passed | [`clock`](mod@clock) |
//! | `sieve` | as `clock`, with new slots at the front of the queue | [`sieve`](mod@sieve) |
//! | `lfu` | the slot that was switched to least often | [`lfu`](mod@lfu) |
//! | `slru` | LRU in two segments, one for slots that were used again | [`slru`](mod@slru) |
//! | `2q` | a queue for new directories, LRU for those that came back | [`two_q`](mod@two_q) |
//! | `arc` | two lists, for recency and frequency, at a balance that adjusts itself | [`arc`](mod@arc) |
//! | `lirs` | by how many others ran between the last two uses | [`lirs`](mod@lirs) |
//! | `s3-fifo` | three queues, with counts of uses | [`s3_fifo`](mod@s3_fifo) |
//! | `shared` | the kernel's half shadowed once, and the original's other flaws mended | [`shared`](mod@shared) |
//! | `pae` | `lru` for PAE hosts, with a SET_PMD that drops what it names | [`shared`](mod@shared) |
//! | `audit` | stands before another strategy and proves its shadow tables right | [`audit`](mod@audit) |
//! | `record` | stands before another strategy and writes a trace of what the guest asks of it | [`record`](mod@record) |
//!
//! A new eviction policy is a file here, an [`EvictionPolicy`](framework::policy::EvictionPolicy) in it,
//! and one `linkme` line. [`lists`] and [`ghosts`] are what most of them are made of. A crate that wants the
//! strategies in its registry must refer to this one: `use strategies as _;`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arc;
pub mod audit;
pub mod clock;
pub mod fifo;
pub mod ghosts;
pub mod lfu;
pub mod lguest;
pub mod lirs;
pub mod lists;
pub mod lru;
pub mod record;
pub mod s3_fifo;
pub mod shared;
pub mod sieve;
pub mod slru;
pub mod two_q;
