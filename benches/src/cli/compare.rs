//! Many strategies on a trace at once, a line each, or miss curves as a picture.

use super::failure::Failure;
use super::input::file;
use super::numbers::{self, Slots};
use super::rows::{self, COLUMNS};
use super::{Arguments, Format, json, notices};
use crate::chart::{self, Curve};
use crate::comparison::{self, Comparison, Row, Settings};
use crate::table::STYLE;
use clap::Args;
use comfy_table::{CellAlignment, Table};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Options for many strategies.
#[derive(Debug, Args)]
pub struct CompareOptions {
    /// Run on all of these at once, as in `lguest,2q:kin=10,kout=20,opt`; `all` for every policy
    #[arg(long, value_name = "LIST", conflicts_with_all = ["strategy", "dump", "bench"])]
    strategies: Option<String>,
    /// Each of them with these numbers of slots, as in `1..64` (both included) or `2,4,8`, or as in `0.05,0.1` with shares of the
    /// page directories that the trace loads
    #[arg(long, value_name = "NUMBERS", value_parser = numbers::slots, conflicts_with_all = ["dump", "bench"])]
    slots: Option<Slots>,
    /// Draw the miss curves over --slots into this file, NAME.svg
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dump", "bench"])]
    plot: Option<PathBuf>,
}

impl CompareOptions {
    /// Whether any of it was requested.
    pub fn wanted(&self) -> bool {
        self.strategies.is_some() || self.slots.is_some() || self.plot.is_some()
    }
}

pub fn run(path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let options = &arguments.compare;
    let format = arguments.format.unwrap_or(Format::Table);
    if format == Format::Text {
        return Err(Failure::Format("text", "one strategy; for many there are table, csv and json"));
    }
    if let Some(plot) = options.plot.as_ref().filter(|plot| plot.extension().is_none_or(|end| end != "svg")) {
        return Err(Failure::NotSvg(plot.clone()));
    }
    let strategies = match &options.strategies {
        Some(list) => comparison::split_list(list),
        None => vec![arguments.single.strategy.clone()],
    };
    let slots = match &options.slots {
        Some(slots) => slots.of(|| arguments.input.count_directories(path, arguments.accept_loss))?,
        None => Vec::new(),
    };
    let competitors = comparison::competitors(&strategies, &slots)?;
    let drawn = !slots.is_empty() && competitors.iter().any(|competitor| competitor.slots.is_some());
    if options.plot.is_some() && !drawn {
        return Err(Failure::NothingToDraw);
    }

    let readings = comparison::readings(&competitors);
    let metadata =
        file(path)?.metadata().map_err(|source| Failure::Open { path: path.to_owned(), source })?;
    if readings > 1 && !metadata.is_file() {
        return Err(Failure::ReadOnce { path: path.to_owned(), readings });
    }
    let bar = progress_bar(metadata.len() * readings, competitors.len());
    let start = Instant::now();
    let settings = Settings { seed: arguments.seed, warmup: arguments.warmup };
    let compared = comparison::compare(&competitors, settings, || {
        // Every byte that is read is shown on the bar.
        let input = arguments.input.read(path, bar.wrap_read(file(path)?))?;
        Ok(input.accept_loss(arguments.accept_loss))
    });
    bar.finish_and_clear();
    let compared = compared.map_err(|error| Failure::of_comparison(path, error))?;
    let rows = &compared.rows;
    let operations: u64 = rows.iter().flat_map(|row| &row.outcome).map(|report| report.ops).sum();
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "{} operations in {seconds:.1} s, {} a second",
        HumanCount(operations),
        HumanCount((operations as f64 / seconds) as u64)
    );

    let mut out = io::stdout().lock();
    match format {
        Format::Csv => rows::csv(&mut out, &compared)?,
        Format::Json => writeln!(out, "{:#}", json::comparison(&compared, settings))?,
        Format::Table | Format::Text => writeln!(out, "{}", table(&compared))?,
    }
    rows.iter().flat_map(|row| &row.outcome).for_each(notices::print);
    if let Some(plot) = &options.plot {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        chart::curves(plot, chart::of_misses(&format!("Misses on {name}")), &curves(rows), None)?;
    }
    rows.iter().try_for_each(Failure::of_row)
}

fn progress_bar(bytes: u64, competitors: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent}% {eta} left")
        .expect("the template is one")
        .progress_chars("=> ");
    ProgressBar::new(bytes).with_style(style).with_message(format!("{competitors} replays"))
}

fn table(compared: &Comparison) -> Table {
    let rows = &compared.rows;
    let mut table = Table::new();
    table.load_style(STYLE);
    let killed = rows.iter().flat_map(|row| &row.outcome).any(|report| report.killed.is_some());
    let shown = if killed { COLUMNS.len() } else { COLUMNS.len() - 1 };
    let heading = ["strategy", "slots"].into_iter().chain(COLUMNS).take(2 + shown);
    table.set_header(heading.map(|name| name.replace('_', " ")));
    for row in rows {
        let cells = match &row.outcome {
            Ok(report) => rows::numbers(report, compared.compulsory)[..shown]
                .iter()
                .map(|number| number.map_or_else(String::new, |number| HumanCount(number).to_string()))
                .collect(),
            Err(_) => vec!["panicked".to_owned()],
        };
        table.add_row([row.competitor.name.clone(), rows::slots(row)].into_iter().chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn curves(rows: &[Row]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for row in rows {
        let (Some(slots), Ok(report)) = (row.competitor.slots, &row.outcome) else { continue };
        let loads = report.counters.page_directory_loads.max(1);
        let point = (slots as f64, report.misses() as f64 * 100.0 / loads as f64);
        let name = &row.competitor.name;
        match curves.iter_mut().find(|curve| curve.name == *name) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { name: name.clone(), points: vec![point] }),
        }
    }
    curves
}
