//! The coverage-guided targets of `benches/fuzz`: built with the instrumentation that libFuzzer goes by, and run one
//! after the other for a bounded time from a seed.
//!
//! What the runs find out is kept: the inputs that reach something new in `target/lguest/fuzz-corpus`, those that find a
//! fault in `target/lguest/fuzz-faults`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use xtask::process::{Progress, cargo, output, run_logged};
use xtask::project::Project;

/// The targets, as `benches/fuzz` names them; those that simulate a guest last.
pub const NAMES: [&str; 8] =
    ["traces", "keys", "kernels", "virtqueues", "requests", "choices", "pagers", "guests"];

/// The only machine that these are built for, named so that the instrumentation is not for build scripts too.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What libFuzzer goes by: a counter for each edge of the code, the addresses of the edges, and what is compared.
const INSTRUMENTATION: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// The parts of the project whose coverage is reported, by where their sources are.
const PARTS: [(&str, &str); 6] = [
    ("arch-i386", "/arch-i386/src/"),
    ("framework", "/framework/src/"),
    ("strategies", "/strategies/src/"),
    ("sim", "/benches/sim/src/"),
    ("userland-launcher", "/userland-launcher/src/"),
    ("kmod", "/kmod/src/"),
];

/// The targets, built.
#[derive(Debug)]
pub struct Guided {
    program: PathBuf,
    /// Inputs that are part of the sources.
    seeds: PathBuf,
    corpus: PathBuf,
    faults: PathBuf,
    coverage: PathBuf,
}

/// What came of one target's run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Explored {
    /// Inputs tried.
    pub inputs: u64,
    /// Operations simulated, or inputs where nothing is simulated.
    pub operations: u64,
    /// Edges of the code that were reached.
    pub edges: u64,
    /// What went wrong, and the input that shows it, if something did.
    pub fault: Option<(String, Option<PathBuf>)>,
}

/// Edges reached, and all there are, for each part of the project.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<u64, bool>);

impl Guided {
    /// Builds the targets.
    pub fn build(project: &Project) -> Result<Guided> {
        let progress = Progress::start("fuzz targets");
        let (folder, target) = (project.root().join("benches/fuzz"), project.out().join("fuzz"));
        let mut command = Command::new(cargo());
        command.args(["build", "--profile=fuzz", "--features=guided", "--bin=guided", "--target", TRIPLE]);
        command
            .current_dir(&folder)
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", INSTRUMENTATION.join(" "));
        run_logged(&mut command, &project.logs().join("fuzz-targets-cargo.log"))?;
        progress.done();
        let guided = Guided {
            program: target.join(TRIPLE).join("fuzz/guided"),
            seeds: folder.join("corpus"),
            corpus: project.out().join("fuzz-corpus"),
            faults: project.out().join("fuzz-faults"),
            coverage: project.out().join("fuzz-coverage"),
        };
        for folder in [&guided.corpus, &guided.faults, &guided.coverage] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(guided)
    }

    /// Runs a target for so long.
    pub fn explore(
        &self,
        target: &str,
        seed: u64,
        time: Duration,
        coverage: &mut Coverage,
    ) -> Result<Explored> {
        let corpus = self.corpus.join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        let edges = self.coverage.join(target);
        let mut command = Command::new(&self.program);
        command.env("FUZZ_TARGET", target).env("FUZZ_COVERAGE", &edges).env("RUST_BACKTRACE", "0");
        // libFuzzer's seed has 32 bits, and 0 stands for the time of day.
        command
            .arg(format!("-seed={}", (seed as u32).max(1)))
            .arg(format!("-max_total_time={}", time.as_secs().max(1)));
        command.args(["-max_len=4096", "-timeout=25", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        command.arg(format!("-artifact_prefix={}/{target}-", self.faults.display()));
        command.arg(&corpus).args(Some(self.seeds.join(target)).filter(|seeds| seeds.is_dir()));
        let explored = run(&mut command)?;
        coverage.read(&edges);
        Ok(explored)
    }

    /// Runs one input, as one that has found a fault.
    pub fn repeat(&self, target: &str, input: &Path) -> Result<Explored> {
        run(Command::new(&self.program).env("FUZZ_TARGET", target).arg(input))
    }

    /// The parts of the project with the edges that were reached in them, and all edges that they have.
    pub fn by_part(&self, coverage: &Coverage) -> Result<Vec<(&'static str, u64, u64)>> {
        let mut parts: Vec<_> = PARTS.iter().map(|(name, _)| (*name, 0, 0)).collect();
        let addresses: String = coverage.0.keys().map(|address| format!("{address:#x}\n")).collect();
        let list = self.coverage.join("addresses");
        fs::write(&list, addresses)?;
        let mut lookup = Command::new("addr2line");
        lookup.arg("-e").arg(&self.program).arg(format!("@{}", list.display()));
        let places = output(&mut lookup)?;
        for (place, reached) in places.lines().zip(coverage.0.values()) {
            let found = PARTS.iter().position(|(_, folder)| place.contains(folder));
            if let Some(part) = found.map(|number| &mut parts[number]) {
                part.1 += u64::from(*reached);
                part.2 += 1;
            }
        }
        Ok(parts)
    }
}

impl Coverage {
    /// Adds what a run has left in `file`: a line `ADDRESS 0` or `ADDRESS 1` for each edge. A run that a fault ended
    /// leaves none.
    fn read(&mut self, file: &Path) {
        for line in fs::read_to_string(file).unwrap_or_default().lines() {
            let Some((address, reached)) = line.split_once(' ') else { continue };
            let Ok(address) = u64::from_str_radix(address, 16) else { continue };
            *self.0.entry(address).or_default() |= reached == "1";
        }
    }
}

/// Runs the fuzzer and reads its output.
fn run(command: &mut Command) -> Result<Explored> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("the fuzz targets cannot be started")?;
    let mut explored = Explored::default();
    let mut panicked = None;
    for line in BufReader::new(child.stderr.take().expect("piped")).split(b'\n') {
        let line = line?;
        read_line(&mut explored, &mut panicked, String::from_utf8_lossy(&line).trim_end());
    }
    let status = child.wait()?;
    if !status.success() && explored.fault.is_none() {
        explored.fault = Some((format!("the fuzzer ended with {status}"), None));
    }
    Ok(explored)
}

/// Takes one line of libFuzzer's; `panicked` is a panic's message so far.
fn read_line(explored: &mut Explored, panicked: &mut Option<String>, line: &str) {
    if let Some(rest) = line.strip_prefix('#') {
        let mut words = rest.split_whitespace();
        if let Some(inputs) = words.next().and_then(|word| word.trim_end_matches(':').parse().ok()) {
            explored.inputs = explored.inputs.max(inputs);
        }
        while let Some(word) = words.next() {
            if word == "cov:" {
                explored.edges = words.next().and_then(|word| word.parse().ok()).unwrap_or(explored.edges);
            }
        }
    } else if let Some(count) = line.strip_prefix("operations: ") {
        explored.operations = count.parse().unwrap_or(0);
    } else if line.starts_with("thread ") && line.contains("panicked at") {
        *panicked = Some(line.to_owned());
    } else if let Some(said) = panicked.as_mut().filter(|said| !said.contains(" -- ")) {
        said.push_str(" -- ");
        said.push_str(line);
    } else if let Some((_, what)) = line.split_once("ERROR: libFuzzer: ") {
        let text = panicked.clone().unwrap_or_else(|| what.to_owned());
        explored.fault = Some((text, None));
    } else if let Some((_, path)) = line.split_once("Test unit written to ") {
        let text = explored.fault.take().map_or_else(String::new, |(text, _)| text);
        explored.fault = Some((text, Some(PathBuf::from(path))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let said = "INFO: Seed: 1\n\
            #2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb\n\
            #524288\tpulse  cov: 345 ft: 900 corp: 60/1Kb lim: 100 exec/s: 100 rss: 40Mb\n\
            thread '<unnamed>' panicked at src/paging.rs:50:5:\n\
            references and tables are left\n\
            note: run with `RUST_BACKTRACE=1`\n\
            ==7== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='/x/'; Test unit written to /x/pagers-crash-1\n\
            operations: 77\n";
        let (mut explored, mut panicked) = (Explored::default(), None);
        said.lines().for_each(|line| read_line(&mut explored, &mut panicked, line));
        let text = "thread '<unnamed>' panicked at src/paging.rs:50:5: -- references and tables are left";
        let fault = Some((text.to_owned(), Some(PathBuf::from("/x/pagers-crash-1"))));
        assert_eq!(explored, Explored { inputs: 524_288, operations: 77, edges: 345, fault });
    }

    #[test]
    fn an_edge_is_reached_once_any_run_has_reached_it() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs::write(&one, "10 0\n20 1\n").unwrap();
        fs::write(&two, "10 1\n20 0\n30 0\njunk\n").unwrap();
        let mut coverage = Coverage::default();
        coverage.read(&one);
        coverage.read(&two);
        assert_eq!(coverage.0.into_iter().collect::<Vec<_>>(), [(0x10, true), (0x20, true), (0x30, false)]);
    }

    #[test]
    fn the_names_are_those_of_the_targets() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/src/lib.rs");
        let source = fs::read_to_string(path).unwrap();
        for name in NAMES {
            assert!(source.contains(&format!("(\"{name}\", {name})")), "{name}");
        }
    }
}
