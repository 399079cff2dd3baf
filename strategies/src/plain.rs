//! The plain cache, on which each eviction policy is a strategy of its own name: a fixed number of slots and no
//! optimizations.

use crate::shadow::{self, Capacity, Optimizations};
use framework::registry::{BuildCache, PLAIN_CACHE, SLOTS};

#[linkme::distributed_slice(PLAIN_CACHE)]
static PLAIN: BuildCache = |context, values, policy| {
    let capacity = Capacity::Slots(values.number(&SLOTS) as usize);
    shadow::with_policy(context, capacity, policy, Optimizations::NONE)
};
