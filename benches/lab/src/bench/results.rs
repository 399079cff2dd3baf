//! What a benchmark run found out: the whole configuration, and a row for each time that a workload was run. Kept
//! as JSON and as CSV.
//!
//! Where QEMU counts instructions, nothing in them depends on the machine or the hour: two runs of the same command
//! on the same sources give the same bytes. Where time is the wall's, they name the machine and its load.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The layout of the JSON file that this program writes and understands.
const FORMAT: u32 = 1;

/// What stands in a row's column `strategy` when the same guest ran on the bare machine.
pub const NATIVE: &str = "native";

/// All of a run of `cargo xtask bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    format: u32,
    /// What was requested, and of what.
    pub configuration: Configuration,
    /// In the order in which they ran.
    pub rows: Vec<Row>,
    /// Where the instructions of some workloads went, which is counted in runs of its own.
    #[serde(default)]
    pub profiles: Vec<Profiled>,
}

/// Everything that the figures depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// The command that makes the same figures.
    pub command: String,
    /// Versions of all that takes part, by name.
    pub versions: BTreeMap<String, String>,
    /// What runs as the guest.
    pub guest: String,
    /// Flavours of the host's kernel.
    pub hosts: Vec<String>,
    /// Strategies, as they are given to the module. The first is what the others are compared with.
    pub strategies: Vec<String>,
    /// Workloads by their names.
    pub workloads: Vec<String>,
    /// How often each is run with each strategy.
    pub runs: u32,
    /// The first run's seed; each other's is one more than that of the run before.
    pub seed: u32,
    /// How much of the workloads' usual number of operations is done, in percent.
    pub scale: u32,
    /// The guest's memory.
    pub memory: String,
    /// Nanoseconds of virtual time for an instruction; nothing if time is the wall's.
    pub instruction_ns: Option<u64>,
    /// The machine that it was measured on, and its load, if time is the wall's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machine: BTreeMap<String, String>,
    /// Whether each run of each strategy has a boot of the host to itself.
    pub separate_boots: bool,
    /// QEMU's command lines, by what they boot, without folders.
    pub qemu: BTreeMap<String, String>,
}

/// One run of a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The flavour of the host's kernel, which is also the format of the guest's page tables.
    pub host: String,
    /// The workload.
    pub workload: String,
    /// The strategy, or [`NATIVE`].
    pub strategy: String,
    /// Which run it is, from 0.
    pub run: u32,
    /// The seed of everything random in it.
    pub seed: u32,
    /// What came out.
    pub outcome: Outcome,
}

/// One run of a workload whose instructions were counted by whose they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profiled {
    /// As in a [`Row`].
    pub host: String,
    /// As in a [`Row`].
    pub workload: String,
    /// As in a [`Row`].
    pub strategy: String,
    /// What came out.
    pub outcome: ProfileOutcome,
}

/// What a profile came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileOutcome {
    /// It was counted.
    Counted {
        /// Operations that were done.
        operations: u64,
        /// The instructions of all of them, by whose they are: the guest's kernel, the Switcher, and so on.
        instructions: BTreeMap<String, u64>,
    },
    /// It was not.
    Failed {
        /// Why.
        why: String,
        /// A file beside the results.
        log: String,
    },
}

/// What a run of a workload came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ran to its end.
    Measured(Span),
    /// It did not.
    Failed {
        /// Why.
        why: String,
        /// The output until then: a file beside the results.
        log: String,
    },
}

/// What was measured from the workload's first operation after its warm-up to its last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Operations that were done.
    pub operations: u64,
    /// Nanoseconds that they took together.
    pub nanoseconds: u64,
    /// Instructions that they took together, host and guest, if those were counted.
    pub instructions: Option<u64>,
    /// What the host counted meanwhile; a counter that is not here did not move.
    pub counters: BTreeMap<String, u64>,
}

impl Span {
    /// What one operation cost: instructions, or nanoseconds where those were not counted.
    pub fn cost(&self) -> f64 {
        self.instructions.unwrap_or(self.nanoseconds) as f64 / self.operations as f64
    }
}

impl Row {
    /// What was measured, if it was.
    pub fn span(&self) -> Option<&Span> {
        match &self.outcome {
            Outcome::Measured(span) => Some(span),
            Outcome::Failed { .. } => None,
        }
    }
}

impl Results {
    /// Results without rows.
    pub fn new(configuration: Configuration) -> Results {
        Results { format: FORMAT, configuration, rows: Vec::new(), profiles: Vec::new() }
    }

    /// The unit of [`Span::cost`] here.
    pub fn unit(&self) -> &'static str {
        if self.configuration.instruction_ns.is_some() { "instructions" } else { "ns" }
    }

    /// What was measured for this host, workload and strategy, run by run; runs that failed are not in it.
    pub fn spans<'a>(&'a self, host: &str, workload: &str, strategy: &str) -> Vec<&'a Span> {
        let wanted = |row: &&Row| row.host == host && row.workload == workload && row.strategy == strategy;
        self.rows.iter().filter(wanted).filter_map(Row::span).collect()
    }

    /// Whether the processor counted anything in any run (`userland-launcher/src/hardware_counters.rs`).
    pub fn has_hardware_counters(&self) -> bool {
        let counters = self.rows.iter().filter_map(Row::span).flat_map(|span| span.counters.keys());
        counters.into_iter().any(|name| name.starts_with("hw_"))
    }

    /// The runs of either kind that failed, each described in a line.
    pub fn failures(&self) -> Vec<String> {
        let row = |(row, why, log): (&Row, &str, &str)| {
            format!("{} {} {} run {}: {why} ({log})", row.host, row.workload, row.strategy, row.run)
        };
        let profile = |profile: &Profiled| match &profile.outcome {
            ProfileOutcome::Failed { why, log } => Some(format!(
                "{} {} {} profile: {why} ({log})",
                profile.host, profile.workload, profile.strategy
            )),
            ProfileOutcome::Counted { .. } => None,
        };
        self.failed().map(row).chain(self.profiles.iter().filter_map(profile)).collect()
    }

    /// The rows that failed.
    pub fn failed(&self) -> impl Iterator<Item = (&Row, &str, &str)> {
        self.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::Failed { why, log } => Some((row, why.as_str(), log.as_str())),
            Outcome::Measured(_) => None,
        })
    }

    /// Reads a JSON file.
    pub fn load(path: &Path) -> Result<Results> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let results: Results = serde_json::from_str(&text).with_context(|| {
            format!("{} holds no results; `cargo xtask bench` writes some", path.display())
        })?;
        if results.format != FORMAT {
            let format = results.format;
            bail!("{} has format {format}; this program reads format {FORMAT}", path.display());
        }
        Ok(results)
    }

    /// As JSON.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// As CSV (RFC 4180): a line for each row, a column for each counter that moved anywhere.
    pub fn csv(&self) -> String {
        let counters: BTreeMap<&str, ()> = self
            .rows
            .iter()
            .filter_map(Row::span)
            .flat_map(|span| span.counters.keys().map(|name| (name.as_str(), ())))
            .collect();
        let mut text =
            String::from("host,workload,strategy,run,seed,outcome,operations,nanoseconds,instructions");
        for name in counters.keys() {
            text.push(',');
            text.push_str(name);
        }
        text.push('\n');
        for row in &self.rows {
            let mut fields =
                vec![row.host.clone(), row.workload.clone(), row.strategy.clone(), row.run.to_string()];
            fields.push(row.seed.to_string());
            match &row.outcome {
                Outcome::Failed { why, .. } => fields.push(format!("failed: {why}")),
                Outcome::Measured(span) => {
                    fields.push("measured".to_owned());
                    fields.push(span.operations.to_string());
                    fields.push(span.nanoseconds.to_string());
                    fields.push(span.instructions.map_or_else(String::new, |n| n.to_string()));
                    let value = |name: &&str| span.counters.get(*name).unwrap_or(&0).to_string();
                    fields.extend(counters.keys().map(value));
                }
            }
            fields.resize(9 + counters.len(), String::new());
            text.push_str(&fields.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(","));
            text.push('\n');
        }
        text
    }
}

/// A field of a CSV file.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// Results for tests: one host, workloads and strategies with the costs of their runs.
#[cfg(test)]
pub fn sample(costs: &[(&str, &str, &[u64])]) -> Results {
    let mut results = Results::new(Configuration {
        command: "cargo xtask bench".to_owned(),
        versions: BTreeMap::new(),
        guest: "mini".to_owned(),
        hosts: vec!["686".to_owned()],
        strategies: Vec::new(),
        workloads: Vec::new(),
        runs: costs.iter().map(|(.., runs)| runs.len() as u32).max().unwrap_or(0),
        seed: 1,
        scale: 100,
        memory: "64M".to_owned(),
        instruction_ns: Some(2),
        machine: BTreeMap::new(),
        separate_boots: false,
        qemu: BTreeMap::new(),
    });
    for &(workload, strategy, runs) in costs {
        let configuration = &mut results.configuration;
        if !configuration.workloads.iter().any(|name| name == workload) {
            configuration.workloads.push(workload.to_owned());
        }
        if strategy != NATIVE && !configuration.strategies.iter().any(|name| name == strategy) {
            configuration.strategies.push(strategy.to_owned());
        }
        for (run, &cost) in (0..).zip(runs) {
            let span = Span {
                operations: 10,
                nanoseconds: 20 * cost,
                instructions: Some(10 * cost),
                counters: [("page_directory_loads".to_owned(), 10)].into(),
            };
            results.rows.push(Row {
                host: "686".to_owned(),
                workload: workload.to_owned(),
                strategy: strategy.to_owned(),
                run,
                seed: 1 + run,
                outcome: Outcome::Measured(span),
            });
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_failure() -> Results {
        let mut results = sample(&[("null", "lguest", &[95, 97]), ("null", NATIVE, &[80])]);
        results.rows.push(Row {
            outcome: Outcome::Failed { why: "said \"no\", twice".to_owned(), log: "logs/a".to_owned() },
            strategy: "lru:slots=4,x=1".to_owned(),
            ..results.rows[0].clone()
        });
        results
    }

    #[test]
    fn json_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let results = with_failure();
        fs::write(&path, results.json().unwrap()).unwrap();
        assert_eq!(Results::load(&path).unwrap(), results);
        fs::write(&path, results.json().unwrap().replace("\"format\": 1", "\"format\": 9")).unwrap();
        assert!(Results::load(&path).unwrap_err().to_string().contains("format 9"));
        fs::write(&path, "{}").unwrap();
        assert!(format!("{:#}", Results::load(&path).unwrap_err()).contains("holds no results"));
    }

    #[test]
    fn csv_has_a_line_for_each_row_failed_ones_too() {
        let csv = with_failure().csv();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(
            lines,
            [
                "host,workload,strategy,run,seed,outcome,operations,nanoseconds,instructions,page_directory_loads",
                "686,null,lguest,0,1,measured,10,1900,950,10",
                "686,null,lguest,1,2,measured,10,1940,970,10",
                "686,null,native,0,1,measured,10,1600,800,10",
                "686,null,\"lru:slots=4,x=1\",0,1,\"failed: said \"\"no\"\", twice\",,,,",
            ]
        );
    }

    #[test]
    fn costs_are_for_one_operation() {
        let results = with_failure();
        let spans = results.spans("686", "null", "lguest");
        assert_eq!(spans.iter().map(|span| span.cost()).collect::<Vec<_>>(), [95.0, 97.0]);
        assert_eq!(Span { instructions: None, ..spans[0].clone() }.cost(), 190.0);
        assert_eq!(
            results.failed().map(|(row, ..)| row.strategy.as_str()).collect::<Vec<_>>(),
            ["lru:slots=4,x=1"]
        );
    }
}
