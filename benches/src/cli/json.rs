//! Reports as JSON, for programs. `docs/replay-formats.md` and `docs/replay.schema.json` define them.

use super::rows::{COLUMNS, numbers};
use crate::comparison::{Comparison, Row, Settings};
use serde_json::{Map, Value, json};
use sim::replay::{Report, low_flags};

/// The version of all that is written: it changes when something is renamed, removed, or means something else.
pub const VERSION: u32 = 1;

/// The report on one strategy.
pub fn single(of: &Report) -> Value {
    let mut object = json!({ "schema": "replay-report", "version": VERSION });
    merge(&mut object, report(of));
    object
}

/// The report on many.
pub fn comparison(comparison: &Comparison, settings: Settings) -> Value {
    json!({
        "schema": "replay-comparison",
        "version": VERSION,
        "seed": settings.seed,
        "warmup": settings.warmup,
        "compulsory": comparison.compulsory,
        "rows": comparison.rows.iter().map(|each| row(each, comparison.compulsory)).collect::<Vec<_>>(),
    })
}

/// How one of many did: name and slots, the columns of the table, and the report.
pub fn row(row: &Row, compulsory: u64) -> Value {
    let mut object = json!({ "name": row.competitor.name, "slots": row.competitor.slots });
    match &row.outcome {
        Err(words) => object["panic"] = words.as_str().into(),
        Ok(of) => {
            for (column, number) in COLUMNS.iter().zip(numbers(of, compulsory)) {
                object[column] = number.into();
            }
            object["report"] = report(of);
        }
    }
    object
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// What the report's text has, and the strategy's own counters beside.
fn report(report: &Report) -> Value {
    let counters: Map<_, _> =
        report.counters.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let mut json = json!({
        "strategy": report.strategy,
        "ops": report.ops,
        "hit": report.hit,
        "fixed": report.counters.demand_faults,
        "reflected": report.counters.reflected_faults,
        "cr3": report.counters.page_directory_loads,
        "cr3_hit": report.counters.page_directory_hits,
        "entries": report.entries,
        "table_pages": report.table_pages,
        "after_free": { "entries": report.after_free.0, "table_pages": report.after_free.1 },
        "counters": counters,
    });
    if let Some(reason) = report.killed {
        json["killed"] = json!({ "op": report.ops, "reason": reason.to_string() });
    }
    if let Some(directories) = &report.directories {
        json["pgdirs"] = directories
            .iter()
            .map(|directory| {
                let maps: Vec<_> = directory
                    .entries
                    .iter()
                    .map(|&(va, entry)| {
                        json!({
                            "va": va.0, "frame": entry.frame(), "flags": low_flags(entry),
                        })
                    })
                    .collect();
                json!({ "pgdir": directory.address.0, "current": directory.current, "maps": maps })
            })
            .collect();
    }
    json
}
