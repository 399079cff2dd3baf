//! Counting what passed and what failed, and showing it as it happens.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process::describe;

/// How many of a failed check's lines are shown where it fails,
const SHOWN_LINES: usize = 40;

/// and how many of the first and of the last of them again at the end, which is often all that is kept of a long run's output.
const REPEATED_FIRST: usize = 6;
const REPEATED_LAST: usize = 12;

/// Before each of those lines.
const INDENT: &str = "    ";

/// Before the name of a check that failed, in the closing lines.
const FAILED: &str = "failed: ";

/// How many checks came out which way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// A check that failed, as the end of the run tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    name: String,
    /// Why, some lines at most.
    why: Vec<String>,
}

/// The running sum of all checks, and the screen on which it is shown.
pub struct Tally {
    counts: Counts,
    failures: Vec<Failure>,
    screen: Box<dyn Write>,
}

/// Makes the checks of a section by itself, for [`Tally::run_section`]; ends the process with 1 when one failed.
pub fn section(checks: impl FnOnce(&mut Tally)) {
    let mut tally = Tally::new(io::stdout());
    checks(&mut tally);
    if !tally.close() {
        std::process::exit(1);
    }
}

impl Tally {
    /// Begins at zero.
    pub fn new(screen: impl Write + 'static) -> Tally {
        Tally { counts: Counts::default(), failures: Vec::new(), screen: Box::new(screen) }
    }

    /// Shows a line that counts for nothing.
    pub fn say(&mut self, line: &str) {
        // With the screen gone there is still the count to be finished.
        let _ = writeln!(self.screen, "{line}");
    }

    /// Counts a check that passed.
    pub fn pass(&mut self, name: &str) {
        self.counts.passed += 1;
        self.say(&format!("{name} ... ok"));
    }

    /// Counts a check that failed, and shows why.
    pub fn fail(&mut self, name: &str, why: &str) {
        self.counts.failed += 1;
        self.failures.push(Failure::new(name, why.lines()));
        self.say(&format!("{name} ... FAILED"));
        for line in why.lines().take(SHOWN_LINES) {
            self.say(&format!("{INDENT}{line}"));
        }
    }

    /// Counts a check that cannot be made here.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.counts.skipped += 1;
        self.say(&format!("{name} ... skipped: {why}"));
    }

    /// Counts a check by its result.
    pub fn check<T>(&mut self, name: &str, result: Result<T>) {
        match result {
            Ok(_) => self.pass(name),
            Err(error) => self.fail(name, &format!("{error:#}")),
        }
    }

    /// Runs `command` with its output shown as it comes, as one check that passes if it succeeds.
    pub fn run(&mut self, name: &str, command: &mut Command) {
        let result = self.run_shown(command).and_then(|(success, _)| {
            anyhow::ensure!(success, "`{}` failed; its output is above", describe(command));
            Ok(())
        });
        self.check(name, result);
    }

    /// Runs `cargo test`, and counts the tests that it counts. A run that fails without a failed test, as when
    /// something does not compile, is one failure.
    pub fn run_tests(&mut self, name: &str, command: &mut Command) {
        let begun = Instant::now();
        let (success, output) = match self.run_shown(command) {
            Ok(done) => done,
            Err(error) => return self.fail(name, &format!("{error:#}")),
        };
        let Counts { passed, failed, skipped } = libtest(&output);
        self.counts.passed += passed;
        self.counts.failed += failed;
        self.counts.skipped += skipped;
        self.say(&format!("{name}: {passed} passed, {failed} failed in {} s", begun.elapsed().as_secs()));
        if failed > 0 {
            let names = output.lines().filter(|line| line.ends_with(" ... FAILED"));
            self.failures.push(Failure::new(&format!("{name} ({failed} tests)"), names));
        } else if !success {
            self.fail(name, &format!("`{}` failed; its output is above", describe(command)));
        } else if passed == 0 {
            self.fail(name, "it ran no test at all");
        }
    }

    /// Runs a section of the tests that is another program's, and counts what it has counted: the program keeps a tally of
    /// its own, whose last line is [`Tally::close`]'s. One that ends without such a line is one failure.
    pub fn run_section(&mut self, name: &str, command: &mut Command) {
        let (success, output) = match self.run_shown(command) {
            Ok(done) => done,
            Err(error) => return self.fail(name, &format!("{error:#}")),
        };
        let Some(counts) = output.lines().rev().find_map(closing) else {
            return self
                .fail(name, &format!("`{}` ended without a sum; its output is above", describe(command)));
        };
        self.counts.passed += counts.passed;
        self.counts.failed += counts.failed;
        self.counts.skipped += counts.skipped;
        self.failures.extend(failures(&output));
        if success != (counts.failed == 0) {
            self.fail(name, &format!("`{}` ended otherwise than its sum says", describe(command)));
        }
    }

    /// Shows once more what failed and why, and the sum as the last line. True if nothing failed.
    pub fn close(mut self) -> bool {
        self.say("");
        for Failure { name, why } in std::mem::take(&mut self.failures) {
            self.say(&format!("{FAILED}{name}"));
            for line in why {
                self.say(&format!("{INDENT}{line}"));
            }
        }
        let Counts { passed, failed, skipped } = self.counts;
        let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        self.say(&format!("{passed} passed, {failed} failed{skipped}"));
        failed == 0
    }

    /// Runs `command`, passing on what it prints and keeping it. Returns whether it succeeded, and what it printed.
    fn run_shown(&mut self, command: &mut Command) -> Result<(bool, String)> {
        let line = describe(command);
        self.say(&format!("$ {line}"));
        let (mut reader, writer) = io::pipe()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        // The command holds its ends of the pipe until it is given others, and reading would never end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut kept = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = reader.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            self.screen.write_all(&buffer[..length])?;
            self.screen.flush()?;
            kept.extend_from_slice(&buffer[..length]);
        }
        Ok((child.wait()?.success(), String::from_utf8_lossy(&kept).into_owned()))
    }
}

impl Failure {
    fn new<'a>(name: &str, why: impl Iterator<Item = &'a str>) -> Failure {
        let mut why: Vec<_> = why.take(SHOWN_LINES).map(str::to_owned).collect();
        if why.len() > REPEATED_FIRST + REPEATED_LAST {
            why.splice(REPEATED_FIRST..why.len() - REPEATED_LAST, ["...".to_owned()]);
        }
        Failure { name: name.to_owned(), why }
    }
}

/// Understands what a tally says of failures at its end.
fn failures(output: &str) -> Vec<Failure> {
    let mut found = Vec::new();
    let mut lines = output.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix(FAILED) {
            let why = std::iter::from_fn(|| lines.next_if(|line| line.starts_with(INDENT)));
            found.push(Failure::new(name, why.map(|line| &line[INDENT.len()..])));
        }
    }
    found
}

/// Understands the last line of a tally.
fn closing(line: &str) -> Option<Counts> {
    let mut counts = Counts::default();
    for (index, part) in line.split(", ").enumerate() {
        let (number, what) = part.split_once(' ')?;
        let count = match (index, what) {
            (0, "passed") => &mut counts.passed,
            (1, "failed") => &mut counts.failed,
            (2, "skipped") => &mut counts.skipped,
            _ => return None,
        };
        *count = number.parse().ok()?;
    }
    line.contains(" failed").then_some(counts)
}

/// Sums up libtest's closing lines.
fn libtest(output: &str) -> Counts {
    let mut counts = Counts::default();
    for line in output.lines() {
        let Some((_, all)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            continue;
        };
        for one in all.split(';') {
            let mut words = one.split_whitespace();
            let number = words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => counts.passed += number,
                Some("failed") => counts.failed += number,
                Some("ignored") => counts.skipped += number,
                _ => {}
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    const TWO_CRATES: &str = "running 3 tests\ntest a ... ok\n\
        test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
        test result: FAILED. 20 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.00s\n";

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    fn names(tally: &Tally) -> Vec<String> {
        tally.failures.iter().map(|failure| failure.name.clone()).collect()
    }

    #[test]
    fn sums_up_what_libtest_says() {
        assert_eq!(libtest(TWO_CRATES), counts(23, 2, 1));
    }

    #[test]
    fn failed_tests_are_counted_once() {
        let mut tally = Tally::new(io::sink());
        tally.run_tests("unit", &mut shell(&format!("printf '%s' '{TWO_CRATES}'; exit 101")));
        assert_eq!(tally.counts, counts(23, 2, 1));
        assert!(!tally.close());
    }

    #[test]
    fn a_run_that_does_not_compile_fails_and_so_does_one_without_tests() {
        let mut tally = Tally::new(io::sink());
        tally.run_tests("unit", &mut shell("echo 'error: expected `;`' >&2; exit 101"));
        assert_eq!(tally.counts, counts(0, 1, 0));
        tally.run_tests("unit", &mut shell("exit 0"));
        assert_eq!(tally.counts, counts(0, 2, 0));
    }

    #[test]
    fn checks_and_commands() {
        let mut tally = Tally::new(io::sink());
        tally.run("yes", &mut shell("exit 0"));
        tally.run("no", &mut shell("exit 1"));
        tally.check("value", Ok(7));
        tally.skip("tool", "not installed");
        assert_eq!(tally.counts, counts(2, 1, 1));
        assert_eq!(names(&tally), ["no"]);
        assert_eq!(tally.failures[0].why, ["`sh -c 'exit 1'` failed; its output is above"]);
    }

    #[test]
    fn a_section_of_another_program_counts_as_if_it_were_here() {
        let section = |text: &str, status: u8| {
            let mut tally = Tally::new(io::sink());
            tally.pass("before");
            tally.run_section("other", &mut shell(&format!("printf '{text}'; exit {status}")));
            (tally.counts, names(&tally))
        };
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(section("a ... ok\n\n5 passed, 0 failed, 2 skipped\n", 0), (counts(6, 0, 2), of(&[])));
        assert_eq!(section("\nfailed: b\n1 passed, 1 failed\n", 1), (counts(2, 1, 0), of(&["b"])));
        assert_eq!(section("error: no rustc\n", 1), (counts(1, 1, 0), of(&["other"])));
        assert_eq!(section("5 passed\n", 0), (counts(1, 1, 0), of(&["other"])), "half a line is no sum");
        assert_eq!(section("5 passed, 0 failed\n", 139), (counts(6, 1, 0), of(&["other"])));
    }

    #[test]
    fn a_tally_is_understood_as_it_is_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut tally = Tally::new(writer);
        tally.pass("a");
        tally.fail("b", "reason\n  and more");
        tally.fail("c", "");
        assert!(!tally.close());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().find_map(closing), Some(counts(1, 2, 0)));
        let expected =
            [Failure::new("b", ["reason", "  and more"].into_iter()), Failure::new("c", [].into_iter())];
        assert_eq!(failures(&text), expected);
    }

    #[test]
    fn the_end_tells_why_but_not_at_length() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut tally = Tally::new(writer);
        let why: Vec<_> = (1..=20).map(|number| format!("line {number}")).collect();
        tally.fail("a", &why.join("\n"));
        assert!(!tally.close());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let (shown, repeated) = text.split_once("\n\n").unwrap();
        assert_eq!(shown.lines().count(), 21, "where it failed, all of them");
        let repeated: Vec<_> = repeated.lines().collect();
        assert_eq!(repeated[..2], ["failed: a", "    line 1"]);
        assert_eq!(repeated[6..9], ["    line 6", "    ...", "    line 9"]);
        assert_eq!(repeated[19..], ["    line 20", "0 passed, 1 failed"]);
    }

    #[test]
    fn the_last_line_is_the_sum() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut tally = Tally::new(writer);
        tally.pass("a");
        tally.skip("b", "reason");
        assert!(tally.close());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a ... ok\nb ... skipped: reason\n\n1 passed, 0 failed, 1 skipped\n");
    }
}
