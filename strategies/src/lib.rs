//! The built-in strategies, one file each.
//!
//! | name | what it does | file |
//! | --- | --- | --- |
//! | `lguest` | lguest's own: four slots, a random one is evicted, free or not | [`lguest`](mod@lguest) |
//! | `random` | a random slot is evicted | [`random`](mod@random) |
//! | `fifo` | the slot that was filled longest ago | [`fifo`](mod@fifo) |
//! | `lru` | the slot that was switched to longest ago | [`lru`](mod@lru) |
//! | `clock` | a hand goes round and gives what was used since it last passed a second chance | [`clock`](mod@clock) |
//! | `sieve` | as `clock`, with new slots at the front of the queue | [`sieve`](mod@sieve) |
//! | `lfu` | the slot that was switched to least often | [`lfu`](mod@lfu) |
//! | `slru` | LRU in two segments, one for slots that were used again | [`slru`](mod@slru) |
//! | `2q` | a queue for new directories, LRU for those that came back | [`two_q`](mod@two_q) |
//! | `arc` | two lists, for recency and frequency, at a balance that adjusts itself | [`arc`](mod@arc) |
//! | `lirs` | by how many others ran between the last two uses | [`lirs`](mod@lirs) |
//! | `s3-fifo` | three queues, with counts of uses | [`s3_fifo`](mod@s3_fifo) |
//! | `clock-pro` | LIRS on a clock, which adjusts the share of cold directories | [`clock_pro`](mod@clock_pro) |
//! | `lru-k` | by the last use but K - 1 | [`lru_k`](mod@lru_k) |
//! | `mq` | LRU queues by number of uses | [`mq`](mod@mq) |
//! | `w-tinylfu` | a small window, and a sketch of loads that admits what leaves it | [`w_tiny_lfu`](mod@w_tiny_lfu) |
//! | `lecar` | LRU or LFU by lot, at odds that are learnt | [`lecar`](mod@lecar) |
//! | `hyperbolic` | by uses for the time in the cache | [`hyperbolic`](mod@hyperbolic) |
//! | `irg` | by when it is expected back, from the gaps between its uses, and what an eviction costs | [`irg`](mod@irg) |
//! | `greedy-dual` `gdsf` | by what an eviction costs, and by that times the uses | [`greedy_dual`](mod@greedy_dual) |
//! | `shared` | any policy, with the kernel's half shadowed once and every other optimization | [`shared`](mod@shared) |
//! | `pae` | any policy, for PAE hosts, where SET_PMD drops only what it names | [`shared`](mod@shared) |
//! | `tlb` | one page directory, dropped at each CR3 load | [`tlb`](mod@tlb) |
//! | `audit` | wraps another strategy and checks its shadow tables | [`audit`](mod@audit) |
//! | `record` | wraps another strategy and writes a trace of the guest's requests to it | [`record`](mod@record) |
//!
//! All but the last three are the [shadow cache](shadow) with an eviction policy; those from `random` to `gdsf` on the
//! plain one.
//!
//! A new eviction policy is a file here, an [`EvictionPolicy`](framework::policy::EvictionPolicy) in it,
//! and one `linkme` line. [`lists`], [`ghosts`], [`slot_set`], [`fixed`] and [`share`] are what most of them are made of. A
//! crate that needs the strategies in its registry must refer to this one: `use strategies as _;`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

// Its constructors are to be linked.
use presets as _;

pub mod arc;
pub mod audit;
pub mod clock;
pub mod clock_pro;
pub mod fifo;
pub mod fixed;
pub mod ghosts;
pub mod greedy_dual;
pub mod hyperbolic;
pub mod irg;
pub mod lecar;
pub mod lfu;
pub mod lguest;
pub mod lirs;
pub mod lists;
pub mod lru;
pub mod lru_k;
pub mod mq;
mod plain;
pub mod random;
pub mod record;
pub mod s3_fifo;
pub mod shadow;
pub mod share;
pub mod shared;
pub mod sieve;
pub mod sketch;
pub mod slot_set;
pub mod slru;
pub mod tlb;
pub mod two_q;
pub mod w_tiny_lfu;
