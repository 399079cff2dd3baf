//! Processes that take turns, on `lru` and on the plug-in: counted by replay, predicted by hand.

use framework::registry::Choice;
use framework::trace::TEXT_END;
use policy_plugin as _;
use sim::policy_check;
use sim::replay::Replay;
use sim::trace::Reader;
use std::fmt::Write;
use strategies as _;

/// Hits when `processes` page directories are loaded in turn, `rounds` times, on 4 slots.
fn hits(strategy: &str, processes: u32, rounds: u32) -> u64 {
    let mut trace = String::from("lgtrace 1\npaging 2\npages 64\nseed 1\ncpus 1\nswitcher 0xffc00000\n");
    for _ in 0..rounds {
        for process in 1..=processes {
            writeln!(trace, "cr3 {:#x}", process * 4096).unwrap();
        }
    }
    trace.push_str(TEXT_END);
    let choice = Choice::parse(strategy).unwrap();
    let reader = Reader::new(trace.as_bytes()).unwrap();
    let mut replay = Replay::new(&reader.header(), &choice).unwrap();
    for operation in reader {
        replay.step(&operation.unwrap());
    }
    replay.finish(&choice, false).counters.page_directory_hits
}

#[test]
fn the_plugin_behaves() {
    policy_check::check("mru").unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn lru_never_hits_in_a_ring_that_is_one_too_long() {
    assert_eq!(hits("lru:slots=4", 5, 100), 0);
}

#[test]
fn the_plugin_keeps_all_but_one() {
    // The first round fills the slots with 1, 2, 3, 4; then 5 takes the place of 4. From here on three
    // loads hit and the fourth misses: of 1, 2, 3, 5 the next three loads find 1, 2, 3; then 4 takes the
    // place of 3; 5, 1, 2 are found, 3 takes the place of 2, and so on. After the first 5 loads, 495
    // remain: 123 times (hit, hit, hit, miss) and three more hits.
    assert_eq!(hits("mru:slots=4", 5, 100), 123 * 3 + 3);
}
