//! What the mends of `shared` are worth, each alone, and what they must not cost.
//!
//! The loads are generated (`benches::generate`), with 16 processes. Bounds are the goals of the
//! strategy, or what a mend must do by its nature; none is a measured value.

use arch_i386::paging::Paging;
use benches::generate::{Generator, Load};
use benches::replay::{Replay, Report};
use framework::registry::Choice;
use strategies as _;

/// Runs a load of 16 processes.
fn run(strategy: &str, paging: Paging, seed: u64) -> Report {
    let choice = Choice::parse(strategy).unwrap();
    let generator = Generator::new(Load { paging, processes: 16, seed });
    let mut replay = Replay::new(&generator.header(), &choice).unwrap();
    for operation in generator.take(200_000) {
        replay.step(&operation);
    }
    let report = replay.finish(&choice, false);
    assert_eq!((report.killed, report.after_free), (None, (0, 0)), "{strategy}");
    report
}

fn misses(report: &Report) -> u64 {
    report.counters.page_directory_loads - report.counters.page_directory_hits
}

/// Demand faults come of two kinds: for the first read and write of a page that the guest has just mapped,
/// which have to be seen, and for what was shadowed once and lost. A cache with room for all tells them apart.
#[test]
fn shared_has_a_tenth_of_the_misses_and_of_the_faults_after_them() {
    for paging in [Paging::TwoLevel, Paging::Pae] {
        for seed in [1, 2] {
            let (original, shared) = (run("lguest", paging, seed), run("shared", paging, seed));
            let needed = run("lru:slots=64", paging, seed).counters.demand_faults;
            assert!(misses(&shared) * 10 <= misses(&original), "{paging}, seed {seed}: misses");
            let needless = |report: &Report| report.counters.demand_faults.saturating_sub(needed);
            let (few, many) = (needless(&shared), needless(&original));
            assert!(
                many > 0 && few * 10 <= many,
                "{paging}, seed {seed}: {few} needless faults against {many}"
            );
        }
    }
}

/// The original's way, with this one mend.
fn with(mend: &str) -> String {
    let mut text = String::from("shared");
    for (i, (name, value)) in
        [("kernel", "off"), ("precise", "off"), ("budget", "0"), ("around", "0"), ("refill", "0")]
            .into_iter()
            .enumerate()
    {
        let on = mend.split_once('=').filter(|(mended, _)| *mended == name).map(|(_, value)| value);
        text += &format!("{}{name}={}", if i == 0 { ':' } else { ',' }, on.unwrap_or(value));
    }
    text
}

#[test]
fn without_mends_it_is_lru() {
    for paging in [Paging::TwoLevel, Paging::Pae] {
        let (bare, lru) = (run(&with(""), paging, 1), run("lru", paging, 1));
        assert_eq!((bare.counters, bare.hit, bare.pinned), (lru.counters, lru.hit, lru.pinned), "{paging}");
    }
}

#[test]
fn each_mend_alone_saves_demand_faults() {
    for mend in ["kernel=on", "precise=on", "budget=4096", "around=8", "refill=64"] {
        let (bare, mended) = (run(&with(""), Paging::Pae, 1), run(&with(mend), Paging::Pae, 1));
        let (few, many) = (mended.counters.demand_faults, bare.counters.demand_faults);
        assert!(few < many, "{mend}: {few} demand faults instead of {many}");
    }
}

#[test]
fn releasing_by_use_looks_at_what_is_there() {
    let (by_use, all) =
        (run("shared:budget=64", Paging::Pae, 1), run("shared:budget=64,in-use=off", Paging::Pae, 1));
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
