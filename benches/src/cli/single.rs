//! One strategy on a trace, reported in full.

use super::failure::Failure;
use super::{Arguments, Format, json, notices};
use clap::Args;
use framework::registry::Choice;
use sim::replay::Replay;
use sim::trace::Operation;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// SingleOptions for one strategy.
#[derive(Debug, Args)]
pub struct SingleOptions {
    /// Strategy, with parameters as in `lru:slots=8`
    #[arg(long, default_value = "lguest")]
    pub strategy: String,
    /// Print the shadow tables' contents at the end
    #[arg(long)]
    dump: bool,
    /// Run the trace N times from memory and print the time of an operation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    bench: Option<u32>,
}

pub fn run(path: &Path, arguments: &Arguments) -> Result<(), Failure> {
    let format = match arguments.format {
        None | Some(Format::Text) => Format::Text,
        Some(Format::Json) => Format::Json,
        Some(Format::Table) => return Err(Failure::Format("table", "many strategies: give --strategies")),
        Some(Format::Csv) => return Err(Failure::Format("csv", "many strategies: give --strategies")),
    };
    let in_trace = |source| Failure::Input { path: PathBuf::from(path), source };
    let choice = Choice::parse(&arguments.single.strategy)?;
    let mut reader = arguments.input.open(path)?.accept_loss(arguments.accept_loss);
    let mut header = reader.header();
    header.seed = arguments.seed.unwrap_or(header.seed);
    let mut out = io::stdout().lock();

    if let Some(times) = arguments.single.bench {
        let operations: Vec<Operation> = reader.collect::<Result<_, _>>().map_err(in_trace)?;
        let mut nanoseconds = Vec::new();
        for _ in 0..times {
            let mut replay = Replay::new(&header, &choice)?;
            let start = Instant::now();
            for operation in &operations {
                replay.step(operation);
            }
            let elapsed = start.elapsed().as_nanos();
            let ops = replay.finish(&choice, false).ops.max(1);
            nanoseconds.push(elapsed as f64 / ops as f64);
        }
        nanoseconds.sort_by(f64::total_cmp);
        writeln!(out, "ns_per_op {:.1}", nanoseconds[nanoseconds.len() / 2])?;
        return Ok(());
    }

    let mut replay = Replay::new(&header, &choice)?.after_warmup(arguments.warmup);
    let mut loads = 0;
    while !replay.is_over() {
        let Some(operation) = reader.next() else { break };
        let operation = operation.map_err(in_trace)?;
        loads += u64::from(matches!(operation, Operation::LoadPageDirectory(_)));
        replay.step(&operation);
    }
    let warmup = arguments.warmup;
    if warmup > 0 && loads <= warmup {
        return Err(Failure::WarmUp { path: path.to_owned(), warmup, loads });
    }
    let report = replay.finish(&choice, arguments.single.dump);
    match format {
        Format::Json => writeln!(out, "{:#}", json::single(&report))?,
        _ => write!(out, "{report}")?,
    }
    notices::print(&report);
    match report.after_free {
        (0, 0) => Ok(()),
        (pins, tables) => Err(Failure::Leak(pins, tables)),
    }
}
