//! `cargo xtask bench compare A B`: what changed from one file of results to another, for people and for CI.

use std::path::PathBuf;

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table, presets};

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
    let count = |verdict| changes.iter().filter(|change| change.verdict == verdict).count();
    println!(
        "{} compared in {}: {} the same, {} alike, {} better, {} worse, {} lost, {} new",
        changes.len(),
        before.unit(),
        count(Verdict::Same),
        count(Verdict::Alike),
        count(Verdict::Better),
        count(Verdict::Worse),
        count(Verdict::Lost),
        count(Verdict::New),
    );
    let failing = changes.iter().filter(|change| change.verdict.fails()).count();
    if failing > 0 {
        bail!("{failing} of {} are worse by more than {} % or were lost", changes.len(), args.threshold);
    }
    Ok(())
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
        let verdict = match (&old, &new) {
            (Some(old), Some(new)) => {
                let percent = 100.0 * (new.median - old.median) / old.median;
                let noise = old.spread_percent().max(new.spread_percent());
                if old == new {
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
        Change { of, before: old.map(|s| s.median), after: new.map(|s| s.median), verdict }
    };
    keys.into_iter().map(change).collect()
}

/// Everything that is not the same to the digit.
fn table(changes: &[Change]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["host", "workload", "strategy", "before", "after", "change", ""]);
    for change in changes.iter().filter(|change| change.verdict != Verdict::Same) {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
        let percent = change.before.zip(change.after).map(|(old, new)| 100.0 * (new / old - 1.0));
        let figures = [
            number(change.before),
            number(change.after),
            percent.map_or_else(String::new, |percent| format!("{percent:+.1} %")),
            change.verdict.text().to_owned(),
        ];
        table.add_row(change.of.iter().cloned().chain(figures));
    }
    for column in table.column_iter_mut().skip(3).take(3) {
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
