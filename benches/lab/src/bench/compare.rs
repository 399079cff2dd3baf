//! `cargo xtask bench compare A B`: what changed from one file of results to another, for people and for CI.

use std::path::PathBuf;

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table};
use xtask::table::STYLE;

use super::rank_test::{self, Comparison, SIGNIFICANCE, least_p};
use super::results::Results;
use super::table::cost;

/// Options of `cargo xtask bench compare`.
#[derive(clap::Args)]
pub struct Args {
    /// The results that are compared with
    before: PathBuf,
    /// The results that are compared
    after: PathBuf,
    /// Fail when an operation costs more than this many percent more, and the runs' own spread
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    threshold: f64,
}

/// Reads `5%` or `5`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    number.ok_or_else(|| format!("`{text}` is no number of percent; 5% would be one"))
}

/// How a workload with a strategy fares.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    /// Host, workload and strategy.
    of: [String; 3],
    before: Option<f64>,
    after: Option<f64>,
    /// Of times on the wall's clock: how the logarithms of the runs' costs compare.
    test: Option<Comparison>,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// To the digit.
    Same,
    /// Within the noise or the threshold.
    Alike,
    Better,
    Worse,
    /// The test does not reject that both are the same.
    NotShown,
    /// It was measured before, and is not any more: nobody knows how it fares.
    Lost,
    New,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Verdict::Same => "same",
            Verdict::Alike => "alike",
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::NotShown => "no difference shown",
            Verdict::Lost => "LOST",
            Verdict::New => "new",
        }
    }

    fn fails(self) -> bool {
        matches!(self, Verdict::Worse | Verdict::Lost)
    }
}

/// The command itself.
///
/// # Errors
/// When something is worse by more than the threshold, or is missing.
pub fn run(args: &Args) -> Result<()> {
    let (before, after) = (Results::load(&args.before)?, Results::load(&args.after)?);
    let different = differences(&before, &after);
    if !different.is_empty() {
        bail!("the two are not of the same measurement: {} differ", different.join(", "));
    }
    let changes = changes(&before, &after, args.threshold);
    println!("{}", table(&changes));
    println!("{}", summary(&changes, before.unit()));
    if by_wall_clock(&before) {
        println!("{}", note(&before, &after));
    }
    let failing = changes.iter().filter(|change| change.verdict.fails()).count();
    if failing > 0 {
        bail!("{failing} of {} are worse by more than {} % or were lost", changes.len(), args.threshold);
    }
    Ok(())
}

/// Whether times are the wall's, which differ from run to run for no reason that is in the program.
fn by_wall_clock(results: &Results) -> bool {
    results.configuration.instruction_ns.is_none()
}

/// How many there are of each kind.
fn summary(changes: &[Change], unit: &str) -> String {
    let count = |verdict| changes.iter().filter(|change| change.verdict == verdict).count();
    let mut text = format!("{} compared in {unit}: {} the same, ", changes.len(), count(Verdict::Same));
    if changes.iter().any(|change| change.test.is_some()) {
        text.push_str(&format!("{} with no difference shown, ", count(Verdict::NotShown)));
    }
    text + &format!(
        "{} alike, {} better, {} worse, {} lost, {} new",
        count(Verdict::Alike),
        count(Verdict::Better),
        count(Verdict::Worse),
        count(Verdict::Lost),
        count(Verdict::New),
    )
}

/// What the figures of the wall's clock mean.
fn note(before: &Results, after: &Results) -> String {
    let (a, b) = (before.configuration.runs as usize, after.configuration.runs as usize);
    let percent = 100.0 * SIGNIFICANCE;
    let mut text = format!(
        "`change` is the Hodges-Lehmann estimate with its {:.0} % confidence interval, `p` the Mann-Whitney test's. Of \
         comparisons without a difference, {percent:.0} in 100 have a p of {SIGNIFICANCE} or less.",
        100.0 - percent
    );
    if least_p(a, b) > SIGNIFICANCE {
        text.push_str(&format!(
            "\n{a} and {b} runs can show no difference: their least p is {:.2}. Measure with `--runs 4` or more.",
            least_p(a, b)
        ));
    }
    text
}

/// What must be equal for figures to be comparable, and is not.
fn differences(before: &Results, after: &Results) -> Vec<&'static str> {
    let (a, b) = (&before.configuration, &after.configuration);
    let pairs = [
        ("guests", a.guest != b.guest),
        ("clocks", a.instruction_ns != b.instruction_ns),
        ("scales", a.scale != b.scale),
        ("memory sizes", a.memory != b.memory),
    ];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// One for each host, workload and strategy of either, in the order in which they ran.
fn changes(before: &Results, after: &Results, threshold: f64) -> Vec<Change> {
    let mut keys: Vec<[String; 3]> = Vec::new();
    for row in before.rows.iter().chain(&after.rows) {
        let key = [row.host.clone(), row.workload.clone(), row.strategy.clone()];
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let change = |of: [String; 3]| {
        let [host, workload, strategy] = &of;
        let (old, new) = (cost(before, host, workload, strategy), cost(after, host, workload, strategy));
        let test = if by_wall_clock(before) { tested(before, after, &of) } else { None };
        let verdict = match (&old, &new) {
            (Some(old), Some(new)) => {
                let (percent, noise) = match &test {
                    // Where the test rejects, there is more than noise.
                    Some(test) => (percent_of(test.shift), 0.0),
                    None => (
                        100.0 * (new.median - old.median) / old.median,
                        old.spread_percent().max(new.spread_percent()),
                    ),
                };
                if test.is_some_and(|test| test.p > SIGNIFICANCE) {
                    Verdict::NotShown
                } else if test.is_none() && old == new {
                    Verdict::Same
                } else if percent.abs() <= threshold.max(noise) {
                    Verdict::Alike
                } else if percent > 0.0 {
                    Verdict::Worse
                } else {
                    Verdict::Better
                }
            }
            (Some(_), None) => Verdict::Lost,
            (None, _) => Verdict::New,
        };
        Change { of, before: old.map(|s| s.median), after: new.map(|s| s.median), test, verdict }
    };
    keys.into_iter().map(change).collect()
}

/// The test of the costs of all runs, by their logarithms: a shift of those is a ratio.
fn tested(before: &Results, after: &Results, [host, workload, strategy]: &[String; 3]) -> Option<Comparison> {
    let logarithms = |results: &Results| -> Vec<f64> {
        results.spans(host, workload, strategy).iter().map(|span| span.cost().ln()).collect()
    };
    rank_test::compare(&logarithms(before), &logarithms(after))
}

/// The percentage that a shift of logarithms is.
fn percent_of(shift: f64) -> f64 {
    100.0 * (shift.exp() - 1.0)
}

/// Everything that is not the same to the digit.
fn table(changes: &[Change]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    let has_tests = changes.iter().any(|change| change.test.is_some());
    let mut header = vec!["host", "workload", "strategy", "before", "after", "change"];
    header.extend(has_tests.then_some(["interval", "p"]).into_iter().flatten());
    header.push("");
    let figures = header.len() - 4;
    table.set_header(header);
    for change in changes.iter().filter(|change| change.verdict != Verdict::Same) {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
        let medians = change.before.zip(change.after).map(|(old, new)| 100.0 * (new / old - 1.0));
        let percent = change.test.map(|test| percent_of(test.shift)).or(medians);
        let mut row = change.of.to_vec();
        row.extend([
            number(change.before),
            number(change.after),
            percent.map_or_else(String::new, |percent| format!("{percent:+.1} %")),
        ]);
        if has_tests {
            let interval = change
                .test
                .and_then(|test| test.interval)
                .map(|(low, high)| format!("{:+.1} to {:+.1} %", percent_of(low), percent_of(high)));
            row.push(interval.unwrap_or_else(|| "–".to_owned()));
            row.push(change.test.map_or_else(|| "–".to_owned(), |test| format!("{:.3}", test.p)));
        }
        row.push(change.verdict.text().to_owned());
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(3).take(figures) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::sample;

    fn verdicts(before: &[(&str, &str, &[u64])], after: &[(&str, &str, &[u64])]) -> Vec<Verdict> {
        changes(&sample(before), &sample(after), 5.0).into_iter().map(|change| change.verdict).collect()
    }

    #[test]
    fn a_change_must_exceed_threshold_and_noise() {
        let before: &[(&str, &str, &[u64])] = &[("null", "lru", &[1000, 1000])];
        assert_eq!(verdicts(before, before), [Verdict::Same]);
        assert_eq!(verdicts(before, &[("null", "lru", &[1050, 1050])]), [Verdict::Alike]);
        assert_eq!(verdicts(before, &[("null", "lru", &[1051, 1051])]), [Verdict::Worse]);
        assert_eq!(verdicts(before, &[("null", "lru", &[949, 949])]), [Verdict::Better]);
        assert_eq!(verdicts(before, &[("null", "lru", &[1000, 1200])]), [Verdict::Alike], "noise of 18 %");
    }

    /// Results whose times are the wall's.
    fn timed(costs: &[(&str, &str, &[u64])]) -> Results {
        let mut results = sample(costs);
        results.configuration.instruction_ns = None;
        results
    }

    #[test]
    fn times_of_the_wall_are_tested() {
        let before = timed(&[("null", "lru", &[1000, 1010, 990, 1020, 1005])]);
        let verdict = |runs: &[u64]| {
            let changes = changes(&before, &timed(&[("null", "lru", runs)]), 5.0);
            (changes[0].verdict, table(&changes).to_string())
        };
        // All of five are greater than all of five others: once in 252 ways, on either side.
        let (worse, text) = verdict(&[1100, 1110, 1090, 1120, 1105]);
        assert!(worse == Verdict::Worse && text.contains("0.008"), "{text}");
        assert_eq!(verdict(&[900, 910, 890, 920, 905]).0, Verdict::Better);
        assert_eq!(
            verdict(&[1030, 1031, 1032, 1033, 1034]).0,
            Verdict::Alike,
            "shown, and within the threshold"
        );
        let (not_shown, text) = verdict(&[1001, 1500, 995, 1400, 1003]);
        assert!(not_shown == Verdict::NotShown && text.contains("no difference shown"), "{text}");
        assert!(!Verdict::NotShown.fails());
        // Three runs can show nothing, however far they lie apart, and that is said.
        let (three, other) = (timed(&[("a", "lru", &[1, 2, 3])]), timed(&[("a", "lru", &[901, 902, 903])]));
        let changes = changes(&three, &other, 5.0);
        assert_eq!(changes[0].verdict, Verdict::NotShown);
        assert!(
            summary(&changes, "ns").contains("1 with no difference shown"),
            "{}",
            summary(&changes, "ns")
        );
        let note = note(&three, &other);
        assert!(note.contains("3 and 3 runs can show no difference: their least p is 0.10"), "{note}");
    }

    #[test]
    fn what_is_gone_is_a_failure_and_what_is_new_is_not() {
        let before: &[(&str, &str, &[u64])] = &[("null", "lru", &[10]), ("fork", "lru", &[10])];
        let after: &[(&str, &str, &[u64])] = &[("null", "lru", &[10]), ("exec", "lru", &[10])];
        assert_eq!(verdicts(before, after), [Verdict::Same, Verdict::Lost, Verdict::New]);
        assert!(Verdict::Lost.fails() && !Verdict::New.fails());
    }

    #[test]
    fn only_like_is_compared_with_like() {
        let (before, mut after) = (sample(&[]), sample(&[]));
        assert_eq!(differences(&before, &after), [""; 0]);
        after.configuration.instruction_ns = None;
        after.configuration.scale = 10;
        assert_eq!(differences(&before, &after), ["clocks", "scales"]);
    }

    #[test]
    fn thresholds_are_percent() {
        assert_eq!((percent("5%"), percent("2.5")), (Ok(5.0), Ok(2.5)));
        assert!(percent("five").is_err() && percent("-1").is_err());
    }
}
