//! `strategy=lguest` held against recorded answers of the original C code.
//!
//! Each trace in `traces/` has its answers beside it: counts, every shadowed page directory and every
//! entry in it. Two things are not compared: `table_pages`, since here the Switcher's table is shared by
//! all directories, and what follows a `#`, which is prose.

use benches::replay::Replay;
use benches::trace::Reader;
use framework::registry::Choice;
use std::fs;
use std::path::Path;

fn comparable(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end().to_owned());
    lines.filter(|line| !line.starts_with("table_pages")).collect()
}

fn replay(trace: &Path, strategy: &str) -> String {
    let choice = Choice::parse(strategy).unwrap();
    let text = fs::read(trace).unwrap();
    let reader = Reader::new(&text[..]).unwrap();
    let mut replay = Replay::new(&reader.header(), &choice).unwrap();
    for operation in reader {
        replay.step(&operation.unwrap());
    }
    replay.finish(&choice, true).to_string()
}

#[test]
fn lguest_answers_as_the_original_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let mut compared = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let answers = entry.unwrap().path();
        if answers.extension().is_some_and(|extension| extension == "expected") {
            let trace = answers.with_extension("trace");
            let got = replay(&trace, "lguest");
            let expected = fs::read_to_string(&answers).unwrap();
            assert_eq!(comparable(&got), comparable(&expected), "{}", trace.display());
            compared += 1;
        }
    }
    assert!(compared >= 6, "only {compared} traces were found");
}

#[test]
fn a_run_repeats_to_the_byte() {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/calm-p3-102.trace");
    for strategy in framework::registry::all_names() {
        assert_eq!(replay(&trace, strategy), replay(&trace, strategy), "{strategy}");
    }
}
