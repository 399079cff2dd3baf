//! The results as a table for the terminal: what an operation costs, and how often that is what it costs on the
//! bare machine.

use comfy_table::{CellAlignment, Table, TableStyle, presets};
use xtask::table::STYLE;

use super::results::{NATIVE, Results};
use super::statistics::Summary;

/// A table for each host.
pub fn tables(results: &Results, style: TableStyle) -> Vec<(String, Table)> {
    results.configuration.hosts.iter().map(|host| (host.clone(), table(results, host, style))).collect()
}

/// The table of one host.
fn table(results: &Results, host: &str, style: TableStyle) -> Table {
    let configuration = &results.configuration;
    let has_native = results.rows.iter().any(|row| row.strategy == NATIVE);
    let mut table = Table::new();
    table.load_style(style);
    let mut header = vec!["workload".to_owned()];
    header.extend(has_native.then(|| NATIVE.to_owned()));
    for strategy in &configuration.strategies {
        header.push(strategy.clone());
        header.extend(has_native.then(|| "ratio".to_owned()));
    }
    table.set_header(header);
    for workload in &configuration.workloads {
        let summary = |strategy: &str| cost(results, host, workload, strategy);
        let native = summary(NATIVE);
        let first = configuration.strategies.first().and_then(|first| summary(first));
        let mut row = vec![workload.clone()];
        if has_native {
            row.push(native.map_or_else(|| "–".to_owned(), |native| text(&native)));
        }
        for (index, strategy) in configuration.strategies.iter().enumerate() {
            let summary = summary(strategy);
            row.push(match &summary {
                None => "failed".to_owned(),
                Some(summary) => {
                    let differs = index > 0 && first.is_some_and(|first| first.differs(summary));
                    text(summary) + if differs { " *" } else { "" }
                }
            });
            if has_native {
                let ratio = summary.zip(native).map(|(guest, native)| guest.median / native.median);
                row.push(ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")));
            }
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What one operation costs, over the runs that did not fail.
pub fn cost(results: &Results, host: &str, workload: &str, strategy: &str) -> Option<Summary> {
    Summary::of(results.spans(host, workload, strategy).into_iter().map(|span| span.cost()))
}

/// A median with its spread, where there is one.
fn text(summary: &Summary) -> String {
    match summary.spread_percent() {
        spread if spread >= 0.05 => format!("{:.0} ± {spread:.1} %", summary.median),
        _ => format!("{:.0}", summary.median),
    }
}

/// What the signs in the tables mean.
pub fn legend(results: &Results) -> String {
    let configuration = &results.configuration;
    let first = configuration.strategies.first().map_or("the first strategy", String::as_str);
    let machine: String =
        configuration.machine.iter().map(|(name, value)| format!(" {name}: {value}.")).collect();
    format!(
        "{} for one operation, the median of {} runs with other seeds; ± is how far they lie apart, in percent of it. \
         * differs from {first} by more than the runs of either differ among themselves. `ratio` is to the same guest \
         on the bare machine.{machine}",
        results.unit(),
        configuration.runs,
    )
}

/// For a terminal.
pub fn for_terminal(results: &Results) -> String {
    let tables = tables(results, STYLE);
    let parts = tables.iter().map(|(host, table)| format!("Host {host}\n{table}\n"));
    parts.collect::<Vec<_>>().join("\n") + &legend(results)
}

/// For a page in Markdown.
pub fn for_markdown(results: &Results) -> String {
    let tables = tables(results, presets::ASCII_MARKDOWN);
    let parts = tables.iter().map(|(host, table)| format!("Host {host}:\n\n{table}\n\n"));
    parts.collect::<String>() + &legend(results) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::sample;

    fn rows(results: &Results) -> Vec<Vec<String>> {
        let table = tables(results, presets::ASCII_MARKDOWN).remove(0).1.to_string();
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        table.lines().skip(2).map(|line| cells(line)[1..].to_vec()).collect()
    }

    #[test]
    fn every_strategy_has_its_ratio_to_native() {
        let results = sample(&[
            ("null", "lguest", &[100, 100]),
            ("null", "lru", &[150, 150]),
            ("null", NATIVE, &[50, 50]),
            ("fork", "lguest", &[90, 110]),
            ("fork", "lru", &[105, 105]),
        ]);
        let rows = rows(&results);
        assert_eq!(rows[0][..6], ["null", "50", "100", "2.00", "150 *", "3.00"]);
        assert_eq!(rows[1][..6], ["fork", "–", "100 ± 20.0 %", "–", "105", "–"]);
    }

    #[test]
    fn what_failed_says_so() {
        let mut results = sample(&[("null", "lguest", &[100])]);
        results.configuration.strategies.push("lru".to_owned());
        assert_eq!(rows(&results)[0][..3], ["null", "100", "failed"]);
    }
}
