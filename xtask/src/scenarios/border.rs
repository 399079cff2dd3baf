//! What the tests do at the border: acts of a hostile launcher, its guest and other processes against the host, each a
//! scenario of its own. The acts are those of `examples/hostile-launcher`, which reports whether the host has stood them.

use super::{Scenario, scenario};

/// Whether a step is one of these, which want the hostile launcher.
pub fn is_one(name: &str) -> bool {
    SCENARIOS.iter().any(|scenario| scenario.name == name)
}

macro_rules! act {
    ($name:literal, $limit:literal, $act:literal) => {
        act!($name, $limit, $act, "")
    };
    ($name:literal, $limit:literal, $act:literal, $parameters:literal) => {
        Scenario {
            name: $name,
            limit: $limit,
            script: concat!(
                "load ",
                $parameters,
                "\n/guests/hostile-launcher ",
                $act,
                " || fail 'the host has not stood it'\n",
                "until_true 60 nothing_held\nunload"
            ),
        }
    };
}

/// An act for which there is swap space, and another disk of compressed memory.
macro_rules! act_with_swap {
    ($name:literal, $limit:literal, $act:literal) => {
        Scenario {
            name: $name,
            limit: $limit,
            script: concat!(
                "load\nswap_up 64M\n",
                "cat /sys/class/zram-control/hot_add\necho 20M >/sys/block/zram1/disksize\n",
                "/guests/hostile-launcher ",
                $act,
                " || fail 'the host has not stood it'\n",
                "until_true 60 nothing_held\nunload\nswap_down\necho 0 >/proc/sys/vm/nr_hugepages"
            ),
        }
    };
}

/// The scenarios, those that are most likely to bring the host down at the end.
pub const SCENARIOS: &[Scenario] = &[
    act!("border-ring-refill", 300, "ring-refill"),
    act!("border-counters-hold", 300, "counters-hold"),
    act!("border-eventfd-flood", 300, "eventfd-flood"),
    scenario!("border-log-flood", 300),
    scenario!("border-log-flood-of-a-user", 300),
    scenario!("border-user-namespace", 300),
    act!("border-remap-under-audit", 300, "remap"),
    act!("border-race", 300, "race"),
    act!("border-limit-of-tables", 600, "limit-of-tables"),
    act_with_swap!("border-kept-pages", 600, "kept-pages"),
    act!("border-taken-pages", 300, "taken-pages"),
    act_with_swap!("border-freed-pages", 300, "freed-pages"),
    act!("border-served-pages", 300, "served-pages"),
    act!("border-snapshots", 300, "snapshots"),
    act!("border-exec", 300, "exec"),
    act!("border-interrupted-start", 300, "interrupted"),
    act!("border-reaped", 300, "reaped"),
    scenario!("border-out-of-memory", 300),
    // More tables than a guest may have usually.
    act!("border-one-frame", 600, "one-frame", "paging_kib=65536"),
    act!("border-giant-flush", 900, "giant-flush", "paging_kib=65536"),
    act!("border-giant-kill", 900, "giant-kill", "paging_kib=65536"),
    scenario!("border-rcu-tasks", 900),
    act!("border-fpu-registers", 300, "fpu-registers"),
    act!("border-worker", 300, "worker"),
    act!("border-breakpoint", 300, "breakpoint"),
    act!("border-debug-registers", 300, "debug-registers"),
    act!("border-ldt", 300, "ldt"),
];
