//! Sweeps: traces × strategies × parameters × slots as a list of independent jobs, to be run by anything that runs commands.
//!
//! A list is a file of lines, each a job in JSON; a job's result is a line, too. Results of all jobs, in any order and from
//! however many machines, merge into the same bytes.

use super::failure::Failure;
use super::input::{InputOptions, file};
use super::job::{JOB, Job, JobResult, Outcome, RESULT, sha256};
use super::json::VERSION;
use super::numbers::{self, Numbers, Slots};
use super::rows::{COLUMNS, text};
use super::{Format, output};
use crate::comparison;
use clap::{Args, Subcommand};
use framework::registry::Choice;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The commands of `replay sweep`.
#[derive(Debug, Subcommand)]
pub enum Sweep {
    /// Write the list of jobs: each trace on each strategy with each number of slots
    List(List),
    /// Run one job of a list, and write its result as a line
    Run(Run),
    /// Merge the results of all jobs of a list into one report
    Merge(Merge),
}

#[derive(Debug, Args)]
pub struct List {
    /// The traces, in any form
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    #[command(flatten)]
    form: InputOptions,
    /// The strategies, as in `lguest,2q:kin=10,kout=20,opt`; `all` for every policy
    #[arg(long, value_name = "LIST")]
    strategies: String,
    /// Each of them with these numbers of slots, as in `1..64` (both included) or `2,4,8`, or as in `0.05,0.1` with shares of the
    /// page directories that the trace loads
    #[arg(long, value_name = "NUMBERS", value_parser = numbers::slots)]
    slots: Option<Slots>,
    /// Each strategy that has this parameter with each of these values, as in `kin=10,25,50`; repeatable
    #[arg(long, value_name = "PARAMETER=VALUES", value_parser = parse_vary)]
    vary: Vec<Vary>,
    /// Each with these seeds of random choices, as in `1..10` [default: the trace's]
    #[arg(long, value_name = "NUMBERS", value_parser = numbers::seeds)]
    seeds: Option<Numbers>,
    /// Leave the first N page-directory loads, and all until the next one, out of the counts
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// Go on where a recording has lost operations, or its end
    #[arg(long)]
    accept_loss: bool,
    /// Where the list goes [default: the standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Values of a parameter.
#[derive(Clone, Debug)]
struct Vary {
    parameter: String,
    values: Vec<String>,
}

fn parse_vary(text: &str) -> Result<Vary, String> {
    match text.split_once('=') {
        Some((parameter, values))
            if !parameter.is_empty() && values.split(',').all(|value| !value.is_empty()) =>
        {
            let values = values.split(',').map(|value| value.trim().to_owned()).collect();
            Ok(Vary { parameter: parameter.to_owned(), values })
        }
        _ => Err(format!("`{text}`: write a parameter and its values, as in `kin=10,25,50`")),
    }
}

#[derive(Debug, Args)]
pub struct Run {
    /// The list
    jobs: PathBuf,
    /// Which job of it, from 1: the number of its line
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    number: u64,
    /// Where the result goes [default: the standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Merge {
    /// The list
    jobs: PathBuf,
    /// Files with results, a line each, in any order
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Form of the report: csv or json
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// Where it goes [default: the standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(command: &Sweep) -> Result<(), Failure> {
    match command {
        Sweep::List(options) => list(options),
        Sweep::Run(options) => run_job(options),
        Sweep::Merge(options) => merge(options),
    }
}

fn list(options: &List) -> Result<(), Failure> {
    let strategies = varied(&comparison::split_list(&options.strategies), &options.vary)?;
    let seeds: Vec<_> = match &options.seeds {
        Some(seeds) => seeds.0.iter().copied().map(Some).collect(),
        None => vec![None],
    };
    let mut text = String::new();
    let mut number = 0;
    for path in &options.traces {
        // What cannot be read is better found now than by each job.
        if !file(path)?.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(Failure::NoFile(path.clone()));
        }
        options.form.open(path)?;
        let trace = path.to_str().ok_or_else(|| Failure::NotUtf8(path.clone()))?;
        let sha256 = sha256(path)?;
        let slots = match &options.slots {
            Some(slots) => slots.of(|| options.form.count_directories(path, options.accept_loss))?,
            None => Vec::new(),
        };
        let competitors = comparison::competitors(&strategies, &slots)?;
        for competitor in &competitors {
            for &seed in &seeds {
                number += 1;
                let job = Job {
                    schema: JOB.to_owned(),
                    version: VERSION,
                    number,
                    trace: trace.to_owned(),
                    sha256: sha256.clone(),
                    form: options.form.clone(),
                    accept_loss: options.accept_loss,
                    strategy: competitor.name.clone(),
                    slots: competitor.slots,
                    seed,
                    warmup: options.warmup,
                };
                text.push_str(&line(&job));
            }
        }
    }
    output::write(options.output.as_deref(), &text)
}

/// Each strategy with each combination of the values of those parameters that it has.
fn varied(strategies: &[String], vary: &[Vary]) -> Result<Vec<String>, Failure> {
    // `all` stands for several.
    let competitors = comparison::competitors(strategies, &[])?;
    let mut names: Vec<String> = competitors.into_iter().map(|competitor| competitor.name).collect();
    for Vary { parameter, values } in vary {
        let mut with = Vec::new();
        let mut found = false;
        for name in names {
            if Choice::parse(&name).is_ok_and(|choice| choice.has_parameter(parameter)) {
                found = true;
                let separator = if name.contains(':') { ',' } else { ':' };
                with.extend(values.iter().map(|value| format!("{name}{separator}{parameter}={value}")));
            } else {
                with.push(name);
            }
        }
        if !found {
            return Err(Failure::NoParameter(parameter.clone()));
        }
        names = with;
    }
    Ok(names)
}

/// A line of a list or of results.
fn line(of: &impl serde::Serialize) -> String {
    serde_json::to_string(of).expect("names are texts") + "\n"
}

fn run_job(options: &Run) -> Result<(), Failure> {
    let jobs = read_jobs(&options.jobs)?;
    let number = options.number;
    let job = usize::try_from(number - 1).ok().and_then(|at| jobs.get(at));
    let job = job.ok_or_else(|| Failure::NoJob { path: options.jobs.clone(), number, jobs: jobs.len() })?;
    let (result, failure) = job.clone().run();
    output::write(options.output.as_deref(), &line(&result))?;
    failure
}

/// The lines of a file, each with what it should be.
fn read_lines<T: DeserializeOwned>(path: &Path, schema: &str, what: &'static str) -> Result<Vec<T>, Failure> {
    let text = fs::read_to_string(path).map_err(|source| Failure::Open { path: path.to_owned(), source })?;
    let malformed = |line: usize, reason: String| {
        let path = path.to_owned();
        Failure::Line { path, line, what, reason }
    };
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let value: Value =
            serde_json::from_str(line).map_err(|error| malformed(number, error.to_string()))?;
        if (&value["schema"], &value["version"]) != (&json!(schema), &json!(VERSION)) {
            let (schema, version) = (&value["schema"], &value["version"]);
            return Err(malformed(number, format!("its schema is {schema}, version {version}")));
        }
        lines.push(serde_json::from_value(value).map_err(|error| malformed(number, error.to_string()))?);
    }
    Ok(lines)
}

fn read_jobs(path: &Path) -> Result<Vec<Job>, Failure> {
    let jobs: Vec<Job> = read_lines(path, JOB, "a job")?;
    for (job, line) in jobs.iter().zip(1..) {
        if job.number != line as u64 {
            let reason = format!("it is job {}; a list is neither sorted nor cut", job.number);
            return Err(Failure::Line { path: path.to_owned(), line, what: "the job of its number", reason });
        }
    }
    Ok(jobs)
}

fn merge(options: &Merge) -> Result<(), Failure> {
    if matches!(options.format, Format::Text | Format::Table) {
        return Err(Failure::Format("text and table", "one trace; a sweep is merged into csv or json"));
    }
    let jobs = read_jobs(&options.jobs)?;
    let mut results = Vec::new();
    for path in &options.results {
        results.extend(read_lines::<JobResult>(path, RESULT, "a result")?);
    }
    let rows = merged(&jobs, results)?;
    let text = match options.format {
        Format::Json => {
            let results = jobs.iter().zip(&rows).map(|(job, row)| json!({ "job": job, "row": row }));
            let results: Vec<_> = results.collect();
            format!("{:#}\n", json!({ "schema": "replay-sweep", "version": VERSION, "results": results }))
        }
        _ => csv(&jobs, &rows)?,
    };
    output::write(options.output.as_deref(), &text)
}

/// The row of each job, whatever the order of the results and however often each is there.
fn merged(jobs: &[Job], results: Vec<JobResult>) -> Result<Vec<Value>, Failure> {
    let mut rows: BTreeMap<u64, Value> = BTreeMap::new();
    let mut failed: BTreeMap<u64, String> = BTreeMap::new();
    let mut foreign: BTreeMap<u64, String> = BTreeMap::new();
    let mut conflicting: BTreeMap<u64, String> = BTreeMap::new();
    for JobResult { job, outcome, .. } in results {
        let number = job.number;
        let listed = number.checked_sub(1).and_then(|at| jobs.get(usize::try_from(at).ok()?));
        if listed != Some(&job) {
            foreign.insert(number, format!("{job} is in no line of the list"));
            continue;
        }
        match outcome {
            Outcome::Failed(why) => drop(failed.insert(number, format!("{job} failed: {why}"))),
            Outcome::Row(row) => match rows.get(&number) {
                Some(other) if *other != row => {
                    drop(conflicting.insert(number, format!("{job} has two different results")));
                }
                _ => drop(rows.insert(number, row)),
            },
        }
    }
    // Whoever has run a failed job again with success has its result.
    failed.retain(|number, _| !rows.contains_key(number));
    let missing =
        jobs.iter().filter(|job| !rows.contains_key(&job.number) && !failed.contains_key(&job.number));
    let missing: BTreeMap<u64, String> =
        missing.map(|job| (job.number, format!("{job} has no result"))).collect();
    let wrong: Vec<String> =
        [foreign, conflicting, failed, missing].into_iter().flat_map(BTreeMap::into_values).collect();
    if wrong.is_empty() { Ok(rows.into_values().collect()) } else { Err(Failure::Results(wrong)) }
}

/// A heading and a line for each job.
fn csv(jobs: &[Job], rows: &[Value]) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let heading = ["trace", "seed", "warmup", "strategy", "slots"].into_iter().chain(COLUMNS);
    writer.write_record(heading)?;
    for (job, row) in jobs.iter().zip(rows) {
        let cells = [
            job.trace.clone(),
            text(job.seed),
            job.warmup.to_string(),
            job.strategy.clone(),
            text(job.slots),
        ];
        writer.write_record(cells.into_iter().chain(COLUMNS.map(|column| text(row[column].as_u64()))))?;
    }
    let bytes = writer.into_inner().map_err(|error| Failure::Print(error.into_error()))?;
    Ok(String::from_utf8(bytes).expect("its cells are texts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_vary_where_a_strategy_has_them() {
        let vary = |text: &[&str]| text.iter().map(|text| parse_vary(text).unwrap()).collect::<Vec<_>>();
        let names = ["2q".to_owned(), "lru".to_owned(), "opt".to_owned()];
        assert_eq!(
            varied(&names, &vary(&["kin=10,25", "kout=50"])).unwrap(),
            ["2q:kin=10,kout=50", "2q:kin=25,kout=50", "lru", "opt"]
        );
        let wrong = varied(&names, &vary(&["nosuch=1"])).unwrap_err().to_string();
        assert!(wrong.contains("`nosuch`"), "{wrong}");
        for text in ["kin", "=1", "kin=", "kin=1,,2"] {
            assert!(parse_vary(text).is_err(), "{text}");
        }
    }
}
