//! The columns of a comparison, the same in every form of the report.

use crate::comparison::{Comparison, Row};
use crate::cost::Cost;
use sim::replay::Report;
use std::io::Write;

/// Columns after strategy and slots.
pub const COLUMNS: [&str; 9] =
    ["loads", "hits", "misses", "compulsory", "refilled", "released", "world_switches", "cost", "killed_at"];

/// What is in the columns.
pub fn numbers(report: &Report, compulsory: u64) -> [Option<u64>; COLUMNS.len()] {
    let (counters, cost) = (&report.counters, Cost::of(report));
    [
        Some(counters.page_directory_loads),
        Some(counters.page_directory_hits),
        Some(report.misses()),
        Some(compulsory),
        Some(counters.demand_faults),
        Some(counters.released_entries),
        Some(cost.switches),
        Some(cost.instructions),
        report.killed.map(|_| report.ops),
    ]
}

/// The slots, if the strategy was run with a number of them.
pub fn slots(row: &Row) -> String {
    text(row.competitor.slots)
}

/// A cell: nothing where there is no number.
pub fn text(number: Option<u64>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

/// A heading and a line for each strategy that did not panic.
pub fn csv(out: impl Write, comparison: &Comparison) -> csv::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(["strategy", "slots"].into_iter().chain(COLUMNS))?;
    for row in &comparison.rows {
        let Ok(report) = &row.outcome else { continue };
        let cells = numbers(report, comparison.compulsory).map(text);
        writer.write_record([row.competitor.name.clone(), slots(row)].into_iter().chain(cells))?;
    }
    Ok(writer.flush()?)
}
