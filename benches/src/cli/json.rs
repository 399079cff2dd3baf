//! A report as JSON, for programs.

use serde_json::{Map, Value, json};
use sim::replay::{Report, low_flags};

/// One JSON object with what the report's text has, and the strategy's own counters beside.
pub fn report(report: &Report) -> Value {
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
