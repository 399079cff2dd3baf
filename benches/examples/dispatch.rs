//! `dispatch`: what it costs to reach a policy through a pointer (`Box<dyn>`) and through an enum.
//!
//! A million switches that hit, on `lru` as it is registered and on the same code behind an enum of three, as
//! `enum_dispatch` would make it. Build it by `cargo build --release -p benches --example dispatch`, run it under callgrind for exact counts (`docs/design.md` has them):
//! `valgrind --tool=callgrind target/release/examples/dispatch dyn`, and `enum`, and `none` for the loop alone.

use arch_i386::addr::GuestPhys;
use framework::policy::EvictionPolicy;
use std::hint::black_box;
use std::process::ExitCode;

const SWITCHES: usize = 1_000_000;

/// As short as a policy can be, so that the call is what is measured.
struct Last(usize);
struct Count(u64);
struct Nothing;

impl EvictionPolicy for Last {
    fn filled(&mut self, slot: usize, _: GuestPhys) {
        self.0 = slot;
    }
    fn used(&mut self, slot: usize, _: GuestPhys) {
        self.0 = slot;
    }
    fn victim(&mut self, _: GuestPhys) -> usize {
        self.0
    }
}

impl EvictionPolicy for Count {
    fn filled(&mut self, _: usize, _: GuestPhys) {}
    fn used(&mut self, _: usize, _: GuestPhys) {
        self.0 += 1;
    }
    fn victim(&mut self, _: GuestPhys) -> usize {
        self.0 as usize
    }
}

impl EvictionPolicy for Nothing {
    fn filled(&mut self, _: usize, _: GuestPhys) {}
    fn used(&mut self, _: usize, _: GuestPhys) {}
    fn victim(&mut self, _: GuestPhys) -> usize {
        0
    }
}

/// What `enum_dispatch` generates.
enum Known {
    Last(Last),
    Count(Count),
    Nothing(Nothing),
}

impl Known {
    fn used(&mut self, slot: usize, directory: GuestPhys) {
        match self {
            Self::Last(policy) => policy.used(slot, directory),
            Self::Count(policy) => policy.used(slot, directory),
            Self::Nothing(policy) => policy.used(slot, directory),
        }
    }
}

fn main() -> ExitCode {
    let switches = (0..SWITCHES).map(|number| (number % 4, GuestPhys(4096)));
    match std::env::args().nth(1).as_deref() {
        Some("dyn") => {
            let all: [Box<dyn EvictionPolicy>; 3] =
                [Box::new(Last(0)), Box::new(Count(0)), Box::new(Nothing)];
            let [mut policy, ..] = black_box(all);
            switches.for_each(|(slot, directory)| policy.used(black_box(slot), directory));
        }
        Some("enum") => {
            let [mut policy, ..] =
                black_box([Known::Last(Last(0)), Known::Count(Count(0)), Known::Nothing(Nothing)]);
            switches.for_each(|(slot, directory)| {
                policy.used(black_box(slot), directory);
                black_box(&mut policy);
            });
        }
        Some("none") => switches.for_each(|(slot, _)| {
            black_box(slot);
        }),
        _ => {
            eprintln!("dispatch: one of dyn, enum and none is wanted");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
