//! `cargo xtask instructions`: how many instructions the pager's hot paths take, held against what they took before.
//!
//! `benches/examples/hot_paths.rs` does each path once under callgrind, which counts the instructions of one function
//! and writes a file each time it returns. Counts do not depend on the machine's load, nor, with one choice of the C
//! library's copying functions, on its processor. They do depend on the compiler: the committed baseline
//! (`benches/instructions.json`) names the one that it was made with, and another one is not held against it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Error, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use xtask::process::{Progress, cargo, output, run_logged};
use xtask::project::Project;
use xtask::setup;
use xtask::tally::Tally;

/// A path may take so many percent more or less than it did.
const TOLERANCE: f64 = 2.0;

/// The function whose instructions count, and after which a file is written.
const MEASURED: &str = "benches::hot_paths::measured";

/// What the C library may use of the processor: what every amd64 processor has.
const PLAIN_PROCESSOR: &str = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM,-SSSE3,-SSE4_1";

/// Options of `cargo xtask instructions`.
#[derive(clap::Args)]
pub struct Args {
    /// Make today's counts the baseline
    #[arg(long)]
    renew: bool,
}

/// Counts, and what they were made with.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    /// What `rustc --version` prints.
    rustc: String,
    /// Instructions of each path, `path/strategy/formats`, for all its operations together.
    instructions: BTreeMap<String, u64>,
}

/// What came of a comparison.
enum Verdict {
    /// All paths take what they took.
    Same(usize),
    /// The baseline is another compiler's.
    OtherCompiler(String),
    /// These do not.
    Changed(Vec<String>),
}

/// The command itself.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    setup::ensure(project, false)?;
    let (counts, operations) = count(project)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["path", "operations", "instructions an operation"]);
    for (name, count) in &counts.instructions {
        let each = operations.get(name).map_or(0, |operations| count / operations);
        table.add_row([name.clone(), operations[name].to_string(), each.to_string()]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    if args.renew {
        fs::write(baseline(project), serde_json::to_string_pretty(&counts)? + "\n")?;
        println!("\n{} is renewed: commit it", baseline(project).display());
        return Ok(());
    }
    match verdict(&read_baseline(project)?, &counts) {
        Verdict::Same(paths) => println!("\n{paths} paths take what they took, within {TOLERANCE} %"),
        Verdict::OtherCompiler(why) => println!("\n{why}"),
        Verdict::Changed(lines) => bail!("{}", told(&lines)),
    }
    Ok(())
}

/// Counts, and compares with the baseline: a section of `cargo xtask test`.
pub fn check(project: &Project, tally: &mut Tally) {
    let name = "instructions";
    let compare = || Ok::<_, Error>(verdict(&read_baseline(project)?, &count(project)?.0));
    match compare() {
        Ok(Verdict::Same(_)) => tally.pass(name),
        Ok(Verdict::OtherCompiler(why)) => tally.skip(name, &why),
        Ok(Verdict::Changed(lines)) => tally.fail(name, &told(&lines)),
        Err(error) => tally.fail(name, &format!("{error:#}")),
    }
}

/// The message about paths that take more or less than they did.
fn told(changed: &[String]) -> String {
    format!(
        "{}\nIf that is as it should be: cargo xtask instructions --renew, and commit the file",
        changed.join("\n")
    )
}

fn baseline(project: &Project) -> PathBuf {
    project.root().join("benches/instructions.json")
}

fn read_baseline(project: &Project) -> Result<Counts> {
    let path = baseline(project);
    let text = fs::read(&path).with_context(|| {
        format!("cannot read {}; `cargo xtask instructions --renew` makes it", path.display())
    })?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn verdict(before: &Counts, now: &Counts) -> Verdict {
    if before.rustc != now.rustc {
        return Verdict::OtherCompiler(format!(
            "the baseline is of {}, this is {}: `cargo xtask instructions --renew` makes one of this compiler",
            before.rustc, now.rustc
        ));
    }
    let mut names: Vec<&String> = before.instructions.keys().chain(now.instructions.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let changed: Vec<String> = names
        .into_iter()
        .filter_map(|name| match (before.instructions.get(name), now.instructions.get(name)) {
            (Some(&before), Some(&now)) => {
                let percent = 100.0 * (now as f64 - before as f64) / before as f64;
                (percent.abs() > TOLERANCE)
                    .then(|| format!("{name}: {before} instructions before, {now} now ({percent:+.1} %)"))
            }
            (Some(_), None) => Some(format!("{name}: is not measured any more")),
            _ => Some(format!("{name}: has no baseline yet")),
        })
        .collect();
    if changed.is_empty() { Verdict::Same(now.instructions.len()) } else { Verdict::Changed(changed) }
}

/// Counts all paths. Also returns how many operations of each were done.
fn count(project: &Project) -> Result<(Counts, BTreeMap<String, u64>)> {
    let progress = Progress::start("hot paths, built");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    run_logged(
        Command::new(cargo())
            .args(["build", "--profile", "counted", "--package", "benches", "--example", "hot_paths"])
            .current_dir(project.root())
            .env("CARGO_TARGET_DIR", project.target()),
        &project.logs().join("hot-paths-cargo.log"),
    )?;
    progress.done();
    let rustc = output(Command::new(rustc).arg("--version").current_dir(project.root()))?.trim().to_owned();

    let progress = Progress::start("hot paths, counted");
    let folder = project.out().join("callgrind");
    // Another number of files may lie there.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let names = output(
        Command::new("valgrind")
            .args(["--quiet", "--tool=callgrind"])
            .arg(format!("--callgrind-out-file={}", folder.join("counts").display()))
            .arg(format!("--toggle-collect={MEASURED}"))
            .arg(format!("--dump-after={MEASURED}"))
            .arg(project.target().join("counted/examples/hot_paths"))
            .env("GLIBC_TUNABLES", PLAIN_PROCESSOR),
    )?;
    progress.done();
    let mut counts = Counts { rustc, ..Counts::default() };
    let mut operations = BTreeMap::new();
    for (number, line) in (1..).zip(names.lines()) {
        let (name, times) = line.split_once(' ').context("hot_paths prints names and numbers")?;
        counts.instructions.insert(name.to_owned(), dumped(&folder.join(format!("counts.{number}")))?);
        operations.insert(name.to_owned(), times.parse().with_context(|| format!("`{line}`"))?);
    }
    if counts.instructions.is_empty() {
        bail!("hot_paths printed nothing");
    }
    Ok((counts, operations))
}

/// The sum in one of callgrind's files.
fn dumped(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| {
        format!("callgrind left no {}: did it not find the function {MEASURED}?", file.display())
    })?;
    total(&text).with_context(|| format!("{} has no line `summary: N`", file.display()))
}

fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("summary: "))?;
    line.split_whitespace().next()?.parse().ok().filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rustc: &str, instructions: &[(&str, u64)]) -> Counts {
        let instructions = instructions.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        Counts { rustc: rustc.to_owned(), instructions }
    }

    #[test]
    fn two_percent_are_nothing_and_more_is_told() {
        let before = counts("1", &[("a", 1000), ("b", 1000), ("c", 1000)]);
        assert!(matches!(
            verdict(&before, &counts("1", &[("a", 1020), ("b", 980), ("c", 1000)])),
            Verdict::Same(3)
        ));
        let Verdict::Changed(lines) = verdict(&before, &counts("1", &[("a", 1021), ("b", 979), ("c", 1000)]))
        else {
            panic!("more than 2 % passed");
        };
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("a: 1000 instructions before, 1021 now (+2.1 %)"), "{}", lines[0]);
    }

    #[test]
    fn paths_that_come_and_go_are_told() {
        let Verdict::Changed(lines) = verdict(&counts("1", &[("a", 1)]), &counts("1", &[("b", 1)])) else {
            panic!("another path passed");
        };
        assert_eq!(lines, ["a: is not measured any more", "b: has no baseline yet"]);
    }

    #[test]
    fn another_compiler_is_not_held_against_the_baseline() {
        let other = verdict(&counts("rustc 1", &[("a", 1)]), &counts("rustc 2", &[("a", 9)]));
        assert!(
            matches!(other, Verdict::OtherCompiler(why) if why.contains("rustc 1") && why.contains("--renew"))
        );
    }

    #[test]
    fn the_sum_of_a_dump() {
        assert_eq!(total("events: Ir\nsummary: 12345\n\nfn=(1) x\n"), Some(12345));
        assert_eq!(total("events: Ir\nsummary: 0\n"), None, "a function that took nothing was not found");
        assert_eq!(total("events: Ir\n"), None);
    }
}
