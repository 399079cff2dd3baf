//! The example script that draws a paper's figure, where Python has what it needs.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const PYTHON: &str = "python3";

fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn a_figure_is_drawn_from_the_csv() {
    let has = Command::new(PYTHON).args(["-c", "import pandas, matplotlib"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {PYTHON} does not have pandas and matplotlib");
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = here.join("../examples/figures/miss_curves.py");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let figure = |table: &str, name: &str| {
        output(Command::new(PYTHON).arg(&script).arg(at(table)).arg("-o").arg(at(name)));
        fs::read(at(name)).unwrap()
    };
    let replay = |arguments: &[&str]| {
        output(Command::new(env!("CARGO_BIN_EXE_replay")).current_dir(folder.path()).args(arguments)).stdout
    };

    fs::copy(here.join("traces/calm-p2-102.trace"), at("calm.trace")).unwrap();
    let comparison = ["calm.trace", "--strategies", "lru,arc,tlb,opt", "--slots", "1..6", "--format", "csv"];
    fs::write(at("misses.csv"), replay(&comparison)).unwrap();
    let svg = figure("misses.csv", "misses.svg");
    let text = String::from_utf8(svg.clone()).unwrap();
    for name in ["lru", "arc", "opt", "compulsory", "slots", "misses, % of loads"] {
        assert!(text.contains(&format!(">{name}</text>")), "{name} is not in the figure");
    }
    assert!(!text.contains(">tlb</text>"), "it has no number of slots");
    assert_eq!(figure("misses.csv", "again.svg"), svg, "the same table gives the same file");
    assert!(figure("misses.csv", "misses.pdf").starts_with(b"%PDF"));

    // A sweep: a panel for each trace.
    fs::write(at("list.keys"), "1\n2\n3\n1\n2\n3\n").unwrap();
    let matrix = ["--strategies", "random", "--slots", "1..3", "--seeds", "1..2", "-o", "jobs"];
    replay(&[&["sweep", "list", "calm.trace", "list.keys"][..], &matrix].concat());
    let results: Vec<u8> =
        (1..=12).flat_map(|job| replay(&["sweep", "run", "jobs", &job.to_string()])).collect();
    fs::write(at("results"), results).unwrap();
    fs::write(at("sweep.csv"), replay(&["sweep", "merge", "jobs", "results"])).unwrap();
    let text = String::from_utf8(figure("sweep.csv", "sweep.svg")).unwrap();
    assert!(text.contains(">calm.trace</text>") && text.contains(">list.keys</text>"));

    // The panels share their axis, which reaches as far as the highest of them.
    let table = "trace,strategy,slots,loads,misses,compulsory\n\
                 low,lru,1,100,10,1\nlow,lru,2,100,5,1\nhigh,lru,1,100,90,1\nhigh,lru,2,100,85,1\n";
    fs::write(at("two.csv"), table).unwrap();
    let text = String::from_utf8(figure("two.csv", "two.svg")).unwrap();
    assert!(text.contains(">80</text>"), "the second panel is cut off");

    let wrong = Command::new(PYTHON).arg(&script).arg(at("list.keys")).arg("-o").arg(at("no.svg")).output();
    let wrong = wrong.unwrap();
    let why = String::from_utf8_lossy(&wrong.stderr);
    assert!(!wrong.status.success() && why.contains("has no column compulsory, loads, misses"), "{why}");
}
