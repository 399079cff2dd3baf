//! The program `replay` on traces that come through a pipe, and on such as were cut.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

const TRACE: &str =
    "lgtrace 1\npaging 2\npages 64\nseed 1\ncpus 1\nswitcher 0xffc00000\ncr3 0x1000\ncr3 0x2000\nend\n";

/// Runs it with a pipe as its standard input.
fn replay(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_replay"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn words(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[test]
fn a_pipe_is_a_trace_as_long_as_one_reading_is_enough() {
    let one = replay(&["-"], TRACE);
    assert!(one.status.success() && words(&one.stdout).contains("ops 2\n"), "{}", words(&one.stderr));
    for path in ["-", "/dev/stdin"] {
        let many = replay(&[path, "--strategies", "lru,fifo", "--format", "csv"], TRACE);
        assert!(many.status.success(), "{}", words(&many.stderr));
        assert!(words(&many.stdout).contains("\nlru,,2,0,2,"), "{}", words(&many.stdout));
        let twice = replay(&[path, "--strategies", "lru,opt"], TRACE);
        assert!(!twice.status.success());
        let why = words(&twice.stderr);
        assert!(
            why.contains(&format!("{path} is a pipe")) && why.contains("reads the trace 2 times"),
            "{why}"
        );
    }
}

/// Two pages are mapped, and the load of a page directory drops both.
#[test]
fn what_tlb_drops_at_a_load_is_counted() {
    let trace = TRACE.replacen("cr3 0x1000", "acc 0x5000 k r\nacc 0x6000 k r\ncr3 0x1000", 1);
    let output = replay(&["-", "--strategies", "tlb", "--format", "csv"], &trace);
    assert!(words(&output.stdout).contains("\ntlb,,2,0,2,2,2,2,"), "{}", words(&output.stdout));
}

/// `tlb` does not count that everything was dropped, which the recorder has it do at each load.
#[test]
fn touches_are_recorded_on_a_strategy_that_counts_no_flushes() {
    let recorded = replay(&["-", "--strategy", "record:touch=all,of=tlb"], TRACE);
    assert!(words(&recorded.stdout).contains("ops 2\n"), "{}", words(&recorded.stderr));
}

#[test]
fn a_cut_trace_stays_one_when_it_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.trace");
    let converted = replay(&["convert", "-", out.to_str().unwrap()], TRACE);
    assert!(converted.status.success(), "{}", words(&converted.stderr));
    assert_eq!(fs::read_to_string(&out).unwrap(), TRACE);

    let cut = TRACE.strip_suffix("end\n").unwrap();
    let converted = replay(&["convert", "-", out.to_str().unwrap()], cut);
    assert!(!converted.status.success());
    assert!(words(&converted.stderr).contains("the trace was cut"), "{}", words(&converted.stderr));
    assert_eq!(fs::read_to_string(&out).unwrap(), cut);
    assert!(!replay(&[out.to_str().unwrap()], "").status.success());
    assert!(replay(&[out.to_str().unwrap(), "--accept-loss"], "").status.success());
}

/// The tests run in the folder of the crate, where a file of that name would be.
#[test]
fn the_standard_output_can_be_converted_to() {
    let converted = replay(&["convert", "-", "-"], TRACE);
    assert!(converted.status.success(), "{}", words(&converted.stderr));
    assert_eq!(words(&converted.stdout), TRACE);
    let keys = replay(&["convert", "-", "-", "--output", "csv"], TRACE);
    assert_eq!(words(&keys.stdout), "time,key,size\n0,4096,1\n1,8192,1\n");
    let generated = replay(&["generate", "-", "--operations", "9"], "");
    assert!(words(&generated.stdout).starts_with("lgtrace 1\n"), "{}", words(&generated.stdout));
    assert!(!std::path::Path::new("-").exists());
}

#[test]
fn keys_are_loads_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let list = "# five loads of three keys\nb\n17\nb\nc\n17\n";
    fs::write(path("a.keys"), list).unwrap();
    let run = |arguments: &[&str]| {
        let output = replay(arguments, list);
        assert!(output.status.success(), "{arguments:?}: {}", words(&output.stderr));
        words(&output.stdout)
    };
    // On two slots, LRU misses all but the second `b`.
    let expected = "strategy,slots,loads,hits,misses,compulsory,refilled,released,world_switches,cost,killed_at\n\
                    lru,2,5,1,4,3,0,0,1,1322,\n";
    let options = ["--strategies", "lru", "--slots", "2", "--format", "csv"];
    let compare = |arguments: &[&str]| run(&[arguments, &options].concat());
    assert_eq!(compare(&[&path("a.keys")]), expected);
    assert_eq!(compare(&["-", "--input", "keys"]), expected);
    for name in ["b.csv", "b.keys.lz4", "b.trace", "b.lgt.lz4", "b.oracleGeneral.bin.lz4"] {
        let numbered = if name.contains("oracle") { &["--number-keys"][..] } else { &[] };
        run(&[&["convert", &path("a.keys"), &path(name)], numbered].concat());
        assert_eq!(compare(&[&path(name)]), expected, "{name}");
    }
    assert_eq!(
        fs::read_to_string(path("b.csv")).unwrap(),
        "time,key,size\n0,b,1\n1,17,1\n2,b,1\n3,c,1\n4,17,1\n"
    );
    assert_eq!(compare(&[&path("b.csv"), "--key-column", "2"]), expected);
    // `shared` has slots only without a budget, with which it has room for all.
    let three = run(&[
        &path("a.keys"),
        "--strategies",
        "lru,shared,shared:budget=0",
        "--slots",
        "2,3",
        "--format",
        "csv",
    ]);
    let rows: Vec<_> = three.lines().skip(1).map(|row| row.split(",5,").next().unwrap()).collect();
    let misses: Vec<_> = three.lines().skip(1).map(|row| row.rsplit(',').nth(6).unwrap()).collect();
    assert_eq!(rows, ["lru,2", "lru,3", "shared,", "shared:budget=0,2", "shared:budget=0,3"]);
    assert_eq!(misses, ["4", "3", "3", "4", "3"]);
    // A paging trace's keys are its page directories' addresses.
    run(&["convert", "--output", "keys", &path("b.lgt.lz4"), &path("c")]);
    assert_eq!(fs::read_to_string(path("c")).unwrap(), "32\n64\n32\n96\n64\n");
}

/// `pae` serves PAE alone, and the trace's guest has two levels.
#[test]
fn whose_page_tables_a_strategy_does_not_serve_is_named() {
    for options in [["--strategies", "pae"], ["--strategy", "pae"]] {
        let refused = replay(&[&["-"], &options[..]].concat(), TRACE);
        let why = words(&refused.stderr);
        assert!(why.contains("cannot serve 2-level page tables, which the trace's guest has"), "{why}");
    }
    let keys = replay(&["-", "--input", "keys", "--strategy", "pae"], "a\nb\n");
    assert!(keys.status.success(), "{}", words(&keys.stderr));
}

#[test]
fn what_is_wrong_with_keys_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("a.keys"), "b\n17 c\n").unwrap();
    fs::write(path("a.csv"), "time,id\n1,7\n").unwrap();
    let refused = |arguments: &[&str]| {
        let output = replay(arguments, "");
        assert!(!output.status.success(), "{arguments:?}");
        words(&output.stderr)
    };
    let why = refused(&[&path("a.keys")]);
    assert!(why.contains("a.keys: line 2: `c` is one word too many"), "{why}");
    let why = refused(&[&path("a.csv")]);
    assert!(why.contains("a.csv: line 1: no column is named `key`; there are `time`, `id`"), "{why}");
    let why = refused(&[&path("a.keys"), "--key-column", "2"]);
    assert!(why.contains("a.keys is no CSV"), "{why}");
    fs::write(path("b.keys"), "b\n").unwrap();
    let why = refused(&["convert", &path("b.keys"), &path("b.oracleGeneral")]);
    assert!(why.contains("b.oracleGeneral: load 0: `b` is no number"), "{why}");
    let why = refused(&["convert", &path("b.keys"), &path("b.trace"), "--number-keys"]);
    assert!(why.contains("--number-keys is for keys"), "{why}");
    for many in [&["--strategies", "lru"][..], &[]] {
        let why = refused(&[&[&*path("b.keys"), "--warmup", "1"], many].concat());
        assert!(why.contains("has 1 loads of page directories, and the warm-up 1:"), "{why}");
    }
    let why = refused(&["analyze", &path("b.keys"), "--warmup", "1"]);
    assert!(why.contains("has 1 loads of page directories, and the warm-up 1:"), "{why}");
}

#[test]
fn a_plot_that_cannot_be_drawn_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (png, svg) = (at("misses.png"), at("misses.svg"));
    let plotted = |plot: &str, options: &[&str]| {
        let output = replay(&[&["-", "--plot", plot], options].concat(), TRACE);
        assert!(output.stdout.is_empty() || output.status.success());
        words(&output.stderr)
    };
    let why = plotted(&png, &["--strategies", "lru", "--slots", "1..4"]);
    assert!(why.contains("misses.png is not named so") && why.contains("misses.svg"), "{why}");
    for options in [&["--strategies", "lru"][..], &["--strategies", "tlb", "--slots", "1..4"]] {
        let why = plotted(&svg, options);
        assert!(why.contains("nothing to draw") && why.contains("give --slots 1..64"), "{why}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was written");
    plotted(&svg, &["--strategies", "lru", "--slots", "1..4"]);
    assert!(fs::read_to_string(svg).unwrap().contains("<svg"));
}

/// What a recording has lost cannot be marked among keys.
#[test]
fn keys_of_a_recording_with_losses_are_written_on_request_only() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.keys");
    let lossy = TRACE.replace("cr3 0x2000\n", "lost 3\ncr3 0x2000\n");
    let convert = ["convert", "-", out.to_str().unwrap()];
    let refused = replay(&convert, &lossy);
    assert!(!refused.status.success() && words(&refused.stderr).contains("lost 3 operations"));
    assert!(replay(&[&convert[..], &["--accept-loss"]].concat(), &lossy).status.success());
    assert_eq!(fs::read_to_string(&out).unwrap(), "4096\n8192\n");
}

/// Seven loads of five keys: a, b, c, then a, b again, then d, e.
#[test]
fn a_part_of_a_table_with_slots_as_shares() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("a.csv"), "1;a\n2;b\n3;c\n4;a\n5;b\n6;d\n7;e\n").unwrap();
    let csv = ["--key-column", "2", "--no-header", "--delimiter", ";"];
    let run = |arguments: &[&str]| {
        let output = replay(arguments, "a\nb\n");
        (output.status.success(), words(&output.stdout), words(&output.stderr))
    };
    let lru = |more: &[&str]| {
        let (good, out, why) =
            run(&[&[&*path("a.csv")], &csv[..], &["--strategies", "lru", "--format", "csv"], more].concat());
        assert!(good, "{why}");
        // strategy, slots, loads, hits
        out.lines()
            .skip(1)
            .map(|line| line.split(',').take(4).collect::<Vec<_>>().join(","))
            .collect::<Vec<_>>()
    };
    // Of five keys, 0.4 are two slots, in which nothing is found again, and 0.6 three.
    assert_eq!(lru(&["--slots", "0.4,0.6"]), ["lru,2,7,0", "lru,3,7,2"]);
    // The first four loads have three keys.
    assert_eq!(lru(&["--slots", "0.4,3", "--num-req", "4"]), ["lru,1,4,0", "lru,3,4,1"]);
    let (good, _, why) = run(&["-", "--input", "keys", "--strategies", "lru", "--slots", "0.4"]);
    assert!(!good && why.contains("- is a pipe") && why.contains("slots as shares"), "{why}");

    let convert = ["convert", &path("a.csv"), &path("b.trace"), "--loads", "2"];
    let (good, _, why) = run(&[&convert[..], &csv].concat());
    assert!(good, "{why}");
    let trace = fs::read_to_string(path("b.trace")).unwrap();
    assert!(trace.ends_with("cr3 0x20\ncr3 0x40\nend\n"), "{trace}");
    let convert = ["convert", &path("a.csv"), &path("b.keys"), "--loads", "2"];
    assert!(run(&[&convert[..], &csv].concat()).0);
    assert_eq!(fs::read_to_string(path("b.keys")).unwrap(), "a\nb\n");
}

/// There are 505 squares modulo 1009: a sample in which they all have room is the whole.
#[test]
fn a_sample_has_a_number_of_keys() {
    let keys: String = (0..20_000_u64).map(|load| format!("{}\n", load * load % 1009)).collect();
    let analyzed = |options: &[&str]| {
        let output =
            replay(&[&["analyze", "-", "--input", "keys", "--format", "json"], options].concat(), &keys);
        assert!(output.status.success(), "{}", words(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let all = analyzed(&["--sample-size", "1009"]);
    assert_eq!((&all["sample"]["rate"], &all["sample"]["loads"]), (&1.0.into(), &20_000.into()));
    let some = analyzed(&["--sample-size", "200", "--seed", "7"]);
    assert_eq!(some["sample"]["directories"], 200);
    let rate = some["sample"]["rate"].as_f64().unwrap();
    assert!((0.3..0.5).contains(&rate), "{rate}");
    let refused = replay(&["analyze", "-", "--sample-size", "99"], &keys);
    assert!(!refused.status.success() && words(&refused.stderr).contains("99 is not in 100.."));
}

/// As `column -t` prints them: a line for each row, and one rule, below the heading.
#[test]
fn tables_have_a_rule_below_the_heading_only() {
    let keys = "a\nb\na\nc\na\nb\nc\nd\n";
    let run = |arguments: &[&str]| {
        let output = replay(&[&["-", "--input", "keys"], arguments].concat(), keys);
        assert!(output.status.success(), "{}", words(&output.stderr));
        words(&output.stdout)
    };
    let compared = run(&["--strategies", "lru,fifo", "--slots", "2..4"]);
    let lines: Vec<_> = compared.lines().collect();
    assert!(lines[0].trim_start().starts_with("strategy"), "{compared}");
    assert!(!lines[1].is_empty() && lines[1].chars().all(|letter| letter == '─'), "{compared}");
    let rows: Vec<_> = lines[2..].iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(rows, ["lru", "lru", "lru", "fifo", "fifo", "fifo"]);

    let output = replay(&["analyze", "-", "--input", "keys"], keys);
    let analyzed = words(&output.stdout);
    let rules = analyzed.lines().filter(|line| line.contains('─')).count();
    assert_eq!(rules, 2, "one for each of two tables:\n{analyzed}");
}
