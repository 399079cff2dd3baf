//! `strategy=lguest` held against recorded answers of lguest's C code.
//!
//! Each trace in `traces/` has its answers beside it: counts, every shadowed page directory and every
//! entry in it. Two things are not compared: `table_pages`, since here the Switcher's table is shared by
//! all directories, and what follows a `#`, which is prose.

use arch_i386::paging::Paging;
use framework::registry::Choice;
use sim::replay::Replay;
use sim::trace::Reader;
use std::fs;
use std::path::Path;
use strategies as _;

fn comparable(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end().to_owned());
    lines.filter(|line| !line.starts_with("table_pages")).collect()
}

fn replay(trace: &Path, strategy: &str, shadow: Option<Paging>) -> String {
    let choice = Choice::parse(strategy).unwrap();
    let text = fs::read(trace).unwrap();
    let reader = Reader::new(&text[..]).unwrap();
    let header = reader.header();
    let mut replay = Replay::on_host(&header, &choice, shadow.unwrap_or(header.paging)).unwrap();
    for operation in reader {
        replay.step(&operation.unwrap());
    }
    replay.finish(&choice, true).to_string()
}

/// Holds `lguest` on such a host against the answers to the traces whose names have `part` in them; returns
/// how many those were.
fn compare(part: &str, shadow: Option<Paging>) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let mut compared = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let answers = entry.unwrap().path();
        let is_answers = answers.extension().is_some_and(|extension| extension == "expected");
        if is_answers && answers.to_string_lossy().contains(part) {
            let trace = answers.with_extension("trace");
            let got = replay(&trace, "lguest", shadow);
            let expected = fs::read_to_string(&answers).unwrap();
            assert_eq!(comparable(&got), comparable(&expected), "{}", trace.display());
            compared += 1;
        }
    }
    compared
}

#[test]
fn lguest_answers_as_the_original_does() {
    let compared = compare("", None);
    assert!(compared >= 6, "only {compared} traces were found");
}

/// A guest must not notice which format its host has.
#[test]
fn a_2_level_guest_gets_the_same_answers_on_a_pae_host() {
    let compared = compare("-p2-", Some(Paging::Pae));
    assert!(compared >= 3, "only {compared} traces were found");
}

#[test]
fn a_run_repeats_to_the_byte() {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/calm-p3-102.trace");
    for strategy in framework::registry::all_names() {
        assert_eq!(replay(&trace, strategy, None), replay(&trace, strategy, None), "{strategy}");
    }
}
