//! What the optimizations of `shared` are worth, each alone, and what they must not cost.
//!
//! The loads are generated (`sim::generate`), with 16 processes. Bounds are the goals of the
//! strategy, or what an optimization must do by its nature; none is a measured value.

use arch_i386::paging::Paging;
use framework::registry::{self, Choice, POLICIES};
use sim::generate::{Generator, Load};
use sim::replay::{Replay, Report};
use strategies as _;

/// Runs a load of 16 processes.
fn run(strategy: &str, paging: Paging, seed: u64) -> Report {
    run_for(strategy, paging, seed, 200_000)
}

/// The same for so many operations.
fn run_for(strategy: &str, paging: Paging, seed: u64, operations: usize) -> Report {
    let choice = Choice::parse(strategy).unwrap();
    let generator = Generator::new(Load { paging, processes: 16, seed });
    let mut replay = Replay::new(&generator.header(), &choice).unwrap();
    for operation in generator.take(operations) {
        replay.step(&operation);
    }
    let report = replay.finish(&choice, false);
    assert_eq!((report.killed, report.after_free), (None, (0, 0)), "{strategy}");
    report
}

fn misses(report: &Report) -> u64 {
    report.counters.page_directory_loads - report.counters.page_directory_hits
}

#[test]
fn shared_has_a_tenth_of_the_misses_and_demand_faults() {
    for paging in [Paging::TwoLevel, Paging::Pae] {
        for seed in [1, 2] {
            let original = run("lguest", paging, seed);
            // What is withheld to see whether it pays is missed.
            let shared = run("shared:prefetch-on-trial=off", paging, seed);
            assert!(misses(&shared) * 10 <= misses(&original), "{paging}, seed {seed}: misses");
            let (few, many) = (shared.counters.demand_faults, original.counters.demand_faults);
            assert!(few * 10 <= many, "{paging}, seed {seed}: {few} demand faults against {many}");
        }
    }
}

/// `shared` with every optimization off but these.
fn with(optimizations: &[&str]) -> String {
    let all_off = [
        "shared-kernel=off",
        "precise=off",
        "budget=0",
        "fault-around=0",
        "populate-on-set-pte=off",
        "refill-after-flush=off",
        "prefetch-on-trial=off",
        "refill=0",
    ];
    let name = |it: &str| it.split('=').next().unwrap().to_owned();
    let others = all_off.into_iter().filter(|off| optimizations.iter().all(|it| name(it) != name(off)));
    format!("shared:{}", others.chain(optimizations.iter().copied()).collect::<Vec<_>>().join(","))
}

#[test]
fn without_optimizations_it_is_lru() {
    for paging in [Paging::TwoLevel, Paging::Pae] {
        let (bare, lru) = (run(&with(&[]), paging, 1), run("lru", paging, 1));
        assert_eq!((bare.counters, bare.hit, bare.entries), (lru.counters, lru.hit, lru.entries), "{paging}");
    }
}

/// Each optimization alone, and all of them.
const OPTIMIZATIONS: [&[&str]; 10] = [
    &["shared-kernel=on"],
    &["precise=on"],
    &["release-by-use=off"],
    &["budget=64"],
    &["fault-around=16"],
    &["populate-on-set-pte=on", "refill=64"],
    &["refill-after-flush=on", "refill=64"],
    &["refill=64"],
    &["prefetch-on-trial=on", "fault-around=16", "refill-after-flush=on", "refill=64"],
    &[
        "shared-kernel=on",
        "precise=on",
        "budget=64",
        "fault-around=16",
        "populate-on-set-pte=on",
        "refill-after-flush=on",
        "refill=64",
    ],
];

fn policies() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().map(|policy| policy.name)
}

#[test]
fn a_policy_by_itself_is_shared_without_optimizations() {
    for policy in policies() {
        let [alone, of_shared] = [policy.to_owned(), with(&[&format!("policy={policy}"), "slots=6"])];
        let alone = format!("{alone}:slots=6");
        let [alone, of_shared] = [alone, of_shared].map(|text| run_for(&text, Paging::TwoLevel, 1, 20_000));
        assert_eq!(alone.counters, of_shared.counters, "{policy}");
    }
}

#[test]
fn every_policy_runs_on_every_optimization() {
    for policy in policies() {
        for optimizations in OPTIMIZATIONS {
            for paging in [Paging::TwoLevel, Paging::Pae] {
                let name = format!("policy={policy}");
                let of = with(&[&[name.as_str()], optimizations].concat());
                // The run itself proves that the guest is not killed, and so that no audit finds a defect.
                let report = run_for(&format!("audit:every=2000,of={of}"), paging, 3, 40_000);
                assert_eq!(report.counters.policy_errors, 0, "{of}");
                assert!(report.counters.evictions > 0, "{of}: nothing is evicted");
            }
        }
    }
}

/// With a capacity in memory, too, the policy chooses: two that differ with a fixed number of slots differ here.
#[test]
fn a_capacity_in_memory_asks_the_policy() {
    let misses_of = |policy: &str| {
        let text = with(&["budget=64", &format!("policy={policy}")]);
        misses(&run_for(&text, Paging::TwoLevel, 1, 50_000))
    };
    let [lru, fifo, lfu, random] = ["lru", "fifo", "lfu", "random"].map(misses_of);
    assert!(lru != fifo && lru != lfu && lru != random && fifo != lfu, "{lru} {fifo} {lfu} {random}");
}

#[test]
fn each_optimization_alone_saves_demand_faults() {
    for optimizations in [
        &["shared-kernel=on"][..],
        &["precise=on"],
        &["budget=4096"],
        &["fault-around=8"],
        &["populate-on-set-pte=on"],
        &["refill=64"],
        // How many pages it fills is the other's parameter.
        &["refill=64", "refill-after-flush=on"],
    ] {
        let (_, others) = optimizations.split_last().unwrap();
        let (bare, optimized) =
            (run(&with(others), Paging::Pae, 1), run(&with(optimizations), Paging::Pae, 1));
        let (few, many) = (optimized.counters.demand_faults, bare.counters.demand_faults);
        assert!(few < many, "{optimizations:?}: {few} demand faults instead of {many}");
    }
}

/// What prefetching is for, by the costs that its trials reckon with: a fault 1000, a page filled 200.
fn cost(report: &Report) -> u64 {
    report.counters.demand_faults * 1000 + report.counters.filled_ahead * 200
}

/// With many page directories shadowed it pays to refill after a flush; with few it does not, as most are evicted before they
/// use what was filled. On trial it is done where it pays: that loses less than half of what the wrong choice would.
#[test]
fn prefetching_on_trial_is_done_where_it_pays() {
    for (capacity, pays) in [("budget=4096", true), ("slots=4", false)] {
        for paging in [Paging::TwoLevel, Paging::Pae] {
            let cost_with =
                |more: &[&str]| cost(&run(&with(&[&[capacity, "refill=64"], more].concat()), paging, 1));
            let always = cost_with(&["refill-after-flush=on"]);
            let on_trial = cost_with(&["refill-after-flush=on", "prefetch-on-trial=on"]);
            let never = cost_with(&[]);
            assert_eq!(always < never, pays, "{capacity}, {paging}: {always}, {never}");
            let midpoint = always.midpoint(never);
            assert!(on_trial < midpoint, "{capacity}, {paging}: {on_trial} on trial, {always}, {never}");
        }
    }
}

#[test]
fn releasing_by_use_looks_at_what_is_there() {
    let (by_use, all) =
        (run("shared:budget=64", Paging::Pae, 1), run("shared:budget=64,release-by-use=off", Paging::Pae, 1));
    assert_eq!(by_use.counters.released_entries, all.counters.released_entries);
    assert!(by_use.counters.visited_entries <= by_use.counters.released_entries);
    assert_eq!(all.counters.visited_entries % 512, 0, "whole tables");
    assert!(all.counters.visited_entries > all.counters.released_entries);
}

#[test]
fn a_budget_is_kept() {
    let tight = run("shared:budget=400", Paging::Pae, 1);
    assert!(tight.counters.evictions > 0);
    // 100 pages, the Switcher's table, and what the last operation may have added before it is looked at.
    assert!(tight.table_pages <= 100 + 1 + 3, "{} pages", tight.table_pages);
}

#[test]
fn a_short_name_stands_for_its_text() {
    let names: Vec<_> = registry::presets().map(|preset| preset.name).collect();
    for policy in policies() {
        assert!(names.contains(&format!("shared-{policy}").as_str()), "{policy} has none: {names:?}");
    }
    let [short, long] =
        ["shared-lirs", "shared:policy=lirs"].map(|text| Choice::parse(text).unwrap().to_string());
    assert_eq!(short, long);
    assert!(long.starts_with("shared:policy=lirs,shared-kernel=on,"), "{long}");
    let with_more = Choice::parse("shared-lirs:budget=64,hir=5").unwrap().to_string();
    assert_eq!(with_more, Choice::parse("shared:policy=lirs,budget=64,hir=5").unwrap().to_string());
    let error = Choice::parse("shared-lirs:policy=lru").unwrap_err().to_string();
    assert_eq!(error, "parameter policy of strategy `shared` is set twice");
    registry::check().unwrap();
}
