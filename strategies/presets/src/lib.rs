//! Short names: `shared-lirs` is `shared:policy=lirs`, and so for every policy here.
//!
//! They are registered by a constructor, which runs when the program or module is loaded: a loop over a list, where the
//! entries of a distributed slice would be a `static` each. (In a module, `lg.ko` runs it itself: Debian's i386 kernels run
//! no constructors of modules.) What `ctor` makes of it is `unsafe`, so that it is not in the crate `strategies`, which
//! forbids that. Here belongs what is registered by constructors, and nothing else.
#![no_std]

use framework::registry::{Preset, add_preset};

/// The presets of `shared` with each of these policies.
macro_rules! of_shared {
    ($($policy:literal)*) => {
        [$(Preset { name: concat!("shared-", $policy), text: concat!("shared:policy=", $policy) }),*]
    };
}

static PRESETS: [Preset; 20] = of_shared![
    "2q" "arc" "clock" "clock-pro" "fifo" "gdsf" "greedy-dual" "hyperbolic" "irg" "lecar" "lfu" "lirs" "lru" "lru-k" "mq"
    "random" "s3-fifo" "sieve" "slru" "w-tinylfu"
];

// SAFETY: it runs before `main`, when little of the standard library works; it uses nothing of that, and neither allocates
// nor panics.
#[ctor::ctor(unsafe)]
fn register() {
    for preset in &PRESETS {
        // There is room for more than these; what a plug-in adds may find none, and gets the error there.
        let _ = add_preset(preset);
    }
}
