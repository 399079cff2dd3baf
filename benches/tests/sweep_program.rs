//! `replay sweep`: lists, jobs, and what their results merge into.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder with two traces, in which the program runs.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.keys"), "1\n2\n3\n1\n4\n2\n1\n5\n").unwrap();
        fs::write(folder.path().join("b.csv"), "id,key\n0,x\n1,y\n2,x\n3,z\n4,y\n").unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_replay")).current_dir(&self.0).args(arguments).output().unwrap()
    }

    fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Writes `jobs`; returns how many there are.
    fn list(&self) -> usize {
        let matrix = ["--strategies", "random,2q,opt", "--slots", "2,3", "--vary", "kin=25,50"];
        self.stdout(
            &[&["sweep", "list", "a.keys", "b.csv", "--seeds", "1,2", "-o", "jobs"], &matrix[..]].concat(),
        );
        fs::read_to_string(self.path("jobs")).unwrap().lines().count()
    }

    /// Runs all jobs, each into a file of its own; returns the files' names.
    fn results(&self) -> Vec<String> {
        let name = |number| format!("result-{number}");
        let names: Vec<String> = (1..=self.list()).map(name).collect();
        for (name, number) in names.iter().zip(1..) {
            self.stdout(&["sweep", "run", "jobs", &number.to_string(), "-o", name]);
        }
        names
    }

    fn merged(&self, format: &str, results: &[String]) -> String {
        let results: Vec<&str> = results.iter().map(String::as_str).collect();
        self.stdout(&[&["sweep", "merge", "jobs", "--format", format], &results[..]].concat())
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
    }
}

#[test]
fn results_merge_to_the_same_bytes_in_any_order() {
    let folder = Folder::new();
    let results = folder.results();
    // 2 traces, 2 seeds, 2 numbers of slots; 2q twice, for its parameter.
    assert_eq!(results.len(), 2 * 2 * 2 * (1 + 2 + 1));
    for format in ["csv", "json"] {
        let merged = folder.merged(format, &results);
        let mut order = results.clone();
        for _ in 0..3 {
            order.rotate_left(7);
            order.swap(0, 5);
            assert_eq!(folder.merged(format, &order), merged);
        }
        let backwards: Vec<_> = results.iter().rev().cloned().collect();
        assert_eq!(folder.merged(format, &backwards), merged);
        assert_eq!(folder.merged(format, &[order, results[3..9].to_vec()].concat()), merged, "some twice");
        // All in one file, as a program writes them that collects the outputs of jobs.
        let read = |name: &String| fs::read_to_string(folder.path(name)).unwrap();
        let lines: String = backwards.iter().map(read).collect();
        fs::write(folder.path("all"), lines).unwrap();
        assert_eq!(folder.merged(format, &["all".to_owned()]), merged);
    }
}

/// The lines of the merged table are those that `replay` itself prints for a trace.
#[test]
fn a_sweep_gives_what_comparisons_give() {
    let folder = Folder::new();
    let merged = folder.merged("csv", &folder.results());
    let mut lines = merged.lines();
    assert_eq!(
        lines.next().unwrap(),
        "trace,seed,warmup,strategy,slots,loads,hits,misses,compulsory,refilled,released,world_switches,cost,killed_at"
    );
    let mut found: Vec<&str> = lines.collect();
    let mut expected = Vec::new();
    for (trace, seed) in [("a.keys", "1"), ("a.keys", "2"), ("b.csv", "1"), ("b.csv", "2")] {
        let strategies = "random,2q:kin=25,2q:kin=50,opt";
        let compared = folder.stdout(&[
            trace,
            "--seed",
            seed,
            "--strategies",
            strategies,
            "--slots",
            "2,3",
            "--format",
            "csv",
        ]);
        expected.extend(compared.lines().skip(1).map(|line| format!("{trace},{seed},0,{line}")));
    }
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn what_is_missing_or_failed_is_named() {
    let folder = Folder::new();
    let results = folder.results();
    let merge = |results: &[&str]| folder.refused(&[&["sweep", "merge", "jobs"], results].concat());
    let all: Vec<&str> = results.iter().map(String::as_str).collect();

    let why = merge(&all[1..31]);
    assert!(why.contains("job 1 (random, 2 slots, seed 1, a.keys) has no result"), "{why}");
    assert!(why.contains("job 32 (opt, 3 slots, seed 2, b.csv) has no result"), "{why}");

    // A job on a machine with another file of this name fails, and says so in its result.
    folder.replace("a.keys", "5", "6");
    let why = folder.refused(&["sweep", "run", "jobs", "3", "-o", "failed"]);
    assert!(why.contains("a.keys is another file than the list was made with"), "{why}");
    let why = merge(&[&all[..2], &all[3..], &["failed"]].concat());
    assert!(why.contains("job 3 (random, 3 slots, seed 1, a.keys) failed: a.keys is another file"), "{why}");
    // Where it was run again with success, the failure is past.
    folder.merged("csv", &[results.clone(), vec!["failed".to_owned()]].concat());

    folder.replace("result-4", "\"hits\":", "\"hits\":1");
    fs::copy(folder.path("result-4"), folder.path("other")).unwrap();
    folder.replace("other", "\"hits\":1", "\"hits\":2");
    let why = merge(&[&all[..], &["other"]].concat());
    assert!(why.contains("job 4 (random, 3 slots, seed 2, a.keys) has two different results"), "{why}");

    folder.replace("result-5", "\"warmup\":0", "\"warmup\":1");
    let why = merge(&all);
    assert!(why.contains("job 5 (2q:kin=25, 2 slots, seed 1, a.keys) is in no line of the list"), "{why}");
}

#[test]
fn what_is_no_list_or_no_result_is_refused() {
    let folder = Folder::new();
    let jobs = folder.list();
    let why = folder.refused(&["sweep", "run", "jobs", "33"]);
    assert!(jobs == 32 && why.contains("jobs: there is no job 33; the list has 32"), "{why}");
    let why = folder.refused(&["sweep", "merge", "jobs", "jobs"]);
    assert!(why.contains("jobs, line 1, is not a result: its schema is \"replay-job\", version 1"), "{why}");
    folder.replace("jobs", "\"number\":1,", "\"number\":2,");
    let why = folder.refused(&["sweep", "run", "jobs", "1"]);
    assert!(why.contains("jobs, line 1, is not the job of its number: it is job 2"), "{why}");
    assert!(folder.refused(&["sweep", "list", "nosuch", "--strategies", "lru"]).contains("nosuch"));
    let why = folder.refused(&["sweep", "list", "/dev/null", "--strategies", "lru"]);
    assert!(why.contains("/dev/null is no file, and each job has to read it anew"), "{why}");
}
