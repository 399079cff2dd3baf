//! Fuzz targets: each takes any bytes, and panics where something does not hold that must hold of any bytes.
//!
//! | target | what the bytes are |
//! | --- | --- |
//! | [`traces`] | a paging trace, text, binary or compressed |
//! | [`keys`] | a sequence of keys, in any of its forms |
//! | [`kernels`] | a guest's kernel file |
//! | [`virtqueues`] | a virtqueue in guest memory, with what its descriptors name |
//! | [`requests`] | a request written to `/dev/lguest` |
//! | [`choices`] | the description of a strategy |
//! | [`pagers`] | a guest's requests to its pager, on each strategy under audit |
//! | [`guests`] | a guest's life: hypercalls, ring, faults and traps on a scripted machine, under audit |
//!
//! `cargo xtask fuzz` runs them with coverage to guide it (`guided.rs`, by libFuzzer); `cargo test` runs those inputs
//! in `corpus` that once found something or reach far, and a bounded number of random ones.

// Their registry entries are what is wanted of them.
use strategies as _;

use std::sync::atomic::{AtomicU64, Ordering};

mod bytes;
mod formats;
mod machine;
mod paging;
// The module's own parser of requests, which uses nothing of the kernel.
#[path = "../../../kmod/src/request.rs"]
#[allow(dead_code)]
mod request;

pub use formats::{choices, kernels, keys, requests, traces, virtqueues};
pub use machine::guests;
pub use paging::pagers;

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("traces", traces),
    ("keys", keys),
    ("kernels", kernels),
    ("virtqueues", virtqueues),
    ("requests", requests),
    ("choices", choices),
    ("pagers", pagers),
    ("guests", guests),
];

/// Operations of guests that [`pagers`] and [`guests`] have simulated, and inputs of the other targets.
pub static OPERATIONS: AtomicU64 = AtomicU64::new(0);

fn count(operations: u64) {
    OPERATIONS.fetch_add(operations, Ordering::Relaxed);
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|target| target.0 == name).map(|target| target.1)
}
