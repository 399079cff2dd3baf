//! What a trace's loads are like, without any strategy: tables on the terminal, JSON, and files with plots.

use super::failure::Failure;
use super::input::InputOptions;
use super::json::VERSION;
use super::rows::text;
use super::{Format, plots};
use crate::analysis::{Distances, FirstLoads, Misses, Reuse, Window, WorkingSet, misses_with};
use crate::shards::{LEAST_KEYS, Point, Sampler};
use crate::table::STYLE;
use clap::{ArgGroup, Args};
use comfy_table::{CellAlignment, Table};
use indicatif::HumanCount;
use serde_json::{Value, json};
use sim::trace::Operation;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Options of `replay analyze`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("sampling").multiple(true).args(["sample", "sample_size"]))]
pub struct Analyze {
    /// The trace, in any form; `-` for the standard input
    trace: PathBuf,
    #[command(flatten)]
    input: InputOptions,
    /// Leave the first N page-directory loads out of the counts
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// Loads in an interval of the working set over time
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    window: u64,
    /// Estimate LRU's misses from this share of the page directories (SHARDS), with bounds of the error
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    sample: Option<f64>,
    /// Estimate them from at most so many page directories (fixed-size SHARDS): the rate, 1 or that of --sample, is lowered as
    /// needed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(LEAST_KEYS as i64..))]
    sample_size: Option<u32>,
    /// Which page directories are in the sample
    #[arg(long, value_name = "N", default_value_t = 1, requires = "sampling")]
    seed: u64,
    /// Go on where the recording has lost operations, or its end; this is no longer what the guest did
    #[arg(long)]
    accept_loss: bool,
    /// Form of the report: table or json
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write analysis.json, and a CSV file and a plot of each table, into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1.0);
    rate.ok_or_else(|| {
        format!("`{text}` is no share of the page directories; 0.01 would be one in a hundred")
    })
}

/// What was found out.
struct Analysis {
    warmup: u64,
    /// Loads that were counted.
    loads: u64,
    /// Different page directories in the whole trace.
    directories: u64,
    compulsory: u64,
    curve: Curve,
    window: u64,
    working_set: Vec<Window>,
}

/// LRU's misses, and where they come from.
enum Curve {
    Exact(Distances),
    Sampled { rate: f64, directories: usize, loads: u64, points: Vec<Point> },
}

enum Counter {
    Exact(Reuse),
    Sampled(Sampler),
}

pub fn run(options: &Analyze) -> Result<(), Failure> {
    let as_json = match options.format {
        Format::Json => true,
        Format::Table => false,
        Format::Text => return Err(Failure::Format("text", "one strategy; an analysis is a table or json")),
        Format::Csv => {
            return Err(Failure::Format("csv", "many strategies; --out writes an analysis as CSV files"));
        }
    };
    let analysis = analyze(options)?;
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{:#}", analysis.json())?;
    } else {
        analysis.print(&mut out)?;
    }
    match &options.out {
        Some(folder) => analysis.write(folder, &options.trace),
        None => Ok(()),
    }
}

fn analyze(options: &Analyze) -> Result<Analysis, Failure> {
    let of_input = |source| Failure::Input { path: options.trace.clone(), source };
    let input = options.input.open(&options.trace)?.accept_loss(options.accept_loss);
    let mut first_loads = FirstLoads::default();
    let mut working_set = WorkingSet::new(options.window);
    let sampler = |rate| Sampler::new(rate, options.seed, options.warmup);
    let mut counter = match (options.sample, options.sample_size) {
        (None, None) => Counter::Exact(Reuse::new(options.warmup)),
        (rate, Some(size)) => Counter::Sampled(sampler(rate.unwrap_or(1.0)).of_size(size as usize)),
        (Some(rate), None) => Counter::Sampled(sampler(rate)),
    };
    for operation in input {
        if let Operation::LoadPageDirectory(directory) = operation.map_err(of_input)? {
            first_loads.load(directory);
            working_set.load(directory);
            match &mut counter {
                Counter::Exact(reuse) => reuse.load(directory),
                Counter::Sampled(sampler) => sampler.load(directory),
            }
        }
    }
    let loads = first_loads.loads();
    if loads <= options.warmup {
        let (path, warmup) = (options.trace.clone(), options.warmup);
        return Err(Failure::WarmUp { path, warmup, loads });
    }
    let curve = match counter {
        Counter::Exact(reuse) => Curve::Exact(reuse.finish()),
        Counter::Sampled(sampler) => {
            let estimate = sampler.finish()?;
            let points = estimate.curve();
            Curve::Sampled { rate: estimate.rate, directories: estimate.keys, loads: estimate.loads, points }
        }
    };
    Ok(Analysis {
        warmup: options.warmup,
        loads: loads - options.warmup,
        directories: first_loads.after(0),
        compulsory: first_loads.after(options.warmup),
        curve,
        window: options.window,
        working_set: working_set.finish(),
    })
}

impl Analysis {
    /// LRU's misses: exact where they change, estimated at the points of the estimate.
    fn misses(&self) -> Vec<Misses> {
        match &self.curve {
            Curve::Exact(distances) => distances
                .lru_misses()
                .into_iter()
                .map(|(slots, misses)| {
                    let ratio = misses as f64 / self.loads as f64;
                    Misses { slots, misses: Some(misses), ratio, low: ratio, high: ratio }
                })
                .collect(),
            Curve::Sampled { points, .. } => points
                .iter()
                .map(|&Point { slots, misses, low, high }| Misses {
                    slots,
                    misses: None,
                    ratio: misses,
                    low,
                    high,
                })
                .collect(),
        }
    }

    fn json(&self) -> Value {
        let mut object = json!({
            "schema": "replay-analysis",
            "version": VERSION,
            "warmup": self.warmup,
            "loads": self.loads,
            "directories": self.directories,
            "compulsory": self.compulsory,
            "miss_curve": self.misses().iter().map(|point| json!({
                "slots": point.slots,
                "misses": point.misses,
                "miss_ratio": point.ratio,
                "low": point.low,
                "high": point.high,
            })).collect::<Vec<_>>(),
            "window": self.window,
            "working_set": self.working_set.iter().map(|window| json!({
                "from": window.from,
                "loads": window.loads,
                "directories": window.directories,
                "new": window.new,
            })).collect::<Vec<_>>(),
        });
        match &self.curve {
            Curve::Exact(distances) => {
                let counted = distances.counted();
                object["reuse_distances"] = counted
                    .map(|(distance, loads)| json!({ "distance": distance, "loads": loads }))
                    .collect();
            }
            Curve::Sampled { rate, directories, loads, .. } => {
                object["sample"] = json!({ "rate": rate, "directories": directories, "loads": loads });
            }
        }
        object
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let count = |number| HumanCount(number).to_string();
        writeln!(
            out,
            "{} loads of {} page directories; {} compulsory misses",
            count(self.loads),
            count(self.directories),
            count(self.compulsory)
        )?;
        let percent = |part: f64| format!("{:.2}", 100.0 * part);
        match &self.curve {
            Curve::Exact(distances) => {
                let mut reuse = table(&["reuse distance", "loads", "%"]);
                for (distance, loads) in distances.buckets() {
                    let share = percent(loads as f64 / self.loads as f64);
                    reuse.add_row([distance, count(loads), share]);
                }
                writeln!(out, "\n{reuse}")?;
                let curve = distances.lru_misses();
                let mut misses = table(&["slots", "misses of lru", "%"]);
                let end = curve.last().map_or(1, |(slots, _)| *slots);
                let powers = std::iter::successors(Some(1), |slots| Some(slots * 2));
                for slots in powers.take_while(|&slots| slots < end).chain([end]) {
                    let missed = misses_with(&curve, slots);
                    misses.add_row([count(slots), count(missed), percent(missed as f64 / self.loads as f64)]);
                }
                writeln!(out, "\n{misses}\n")?;
            }
            Curve::Sampled { rate, directories, loads, points } => {
                writeln!(
                    out,
                    "a sample of {} of them ({}) has {} loads",
                    percent(*rate) + " %",
                    count(*directories as u64),
                    count(*loads)
                )?;
                let mut misses = table(&["slots", "misses of lru, %", "at least", "at most"]);
                let last = points.len() - 1;
                for (number, point) in points.iter().enumerate() {
                    if number == last || number % 8 == 0 {
                        let shares = [point.misses, point.low, point.high].map(percent);
                        misses.add_row([count(point.slots)].into_iter().chain(shares));
                    }
                }
                writeln!(out, "\n{misses}\n")?;
            }
        }
        let mut sizes: Vec<u64> = self.working_set.iter().map(|window| window.directories).collect();
        sizes.sort_unstable();
        let (least, most) = (sizes[0], sizes[sizes.len() - 1]);
        writeln!(
            out,
            "working set of {} loads: {least} to {most} page directories, {} in the median of {} intervals",
            count(self.window),
            sizes[sizes.len() / 2],
            count(sizes.len() as u64)
        )
    }

    fn write(&self, folder: &Path, trace: &Path) -> Result<(), Failure> {
        let at = |name: &str| folder.join(name);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Failure::Write { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let json = at("analysis.json");
        fs::write(&json, format!("{:#}\n", self.json())).map_err(failed(&json))?;
        let write = |name: &str, heading: &[&str], rows: Vec<Vec<String>>| {
            let path = at(name);
            let written = csv::Writer::from_path(&path).and_then(|mut writer| {
                writer.write_record(heading)?;
                rows.iter().try_for_each(|row| writer.write_record(row))?;
                Ok(writer.flush()?)
            });
            written.map_err(|error| failed(&path)(error.into()))
        };
        let misses = self.misses();
        let rows = misses.iter().map(|point| {
            let numbers = [point.ratio, point.low, point.high].map(|ratio| ratio.to_string());
            [point.slots.to_string(), text(point.misses)].into_iter().chain(numbers).collect()
        });
        write("miss-curve.csv", &["slots", "misses", "miss_ratio", "low", "high"], rows.collect())?;
        let rows = self.working_set.iter().map(|window| {
            [window.from, window.loads, window.directories, window.new]
                .map(|number| number.to_string())
                .into()
        });
        write("working-set.csv", &["from", "loads", "directories", "new"], rows.collect())?;
        let name = trace.file_name().unwrap_or_default().to_string_lossy();
        plots::misses(&at("miss-curve.svg"), &name, &misses)?;
        plots::working_set(&at("working-set.svg"), &name, &self.working_set)?;
        if let Curve::Exact(distances) = &self.curve {
            let rows =
                distances.counted().map(|(distance, loads)| vec![distance.to_string(), loads.to_string()]);
            write("reuse-distance.csv", &["distance", "loads"], rows.collect())?;
            plots::reuse(&at("reuse-distance.svg"), &name, &distances.buckets())?;
        }
        Ok(())
    }
}

fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(heading);
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shares() {
        assert_eq!((parse_rate("0.01"), parse_rate("1")), (Ok(0.01), Ok(1.0)));
        for text in ["0", "1.5", "-1", "nan", "a"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
