//! `replay`: runs a paging trace on a strategy and says what became of it.

use benches::replay::Replay;
use benches::trace::{Operation, Reader, TraceError};
use clap::{Parser, ValueEnum};
use framework::registry::{self, Choice, ConfigError};
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Runs a paging trace on a strategy and says what became of it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The trace
    #[arg(required_unless_present = "list")]
    trace: Option<PathBuf>,
    /// Strategy, with parameters as in `lru:slots=8`
    #[arg(long, default_value = "lguest")]
    strategy: String,
    /// Seed of the strategy's random choices, instead of the trace's
    #[arg(long)]
    seed: Option<u64>,
    /// Go on where the recording has lost operations; what follows is no longer what the guest did
    #[arg(long)]
    accept_loss: bool,
    /// Print the shadow tables' contents at the end
    #[arg(long)]
    dump: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Run the trace N times from memory and print the time of an operation
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    bench: Option<u32>,
    /// Print the strategies and their parameters
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot open {}: {source}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: {source}", .path.display())]
    Trace { path: PathBuf, source: TraceError },
    #[error("{0} (`replay --list` shows what there is)")]
    Config(#[from] ConfigError),
    #[error("{} references and {} table pages are left after the guest is gone", .0.0, .0.1)]
    Leak((u64, usize)),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(Failure::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("replay: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let Some(path) = &arguments.trace else {
        write!(out, "{}", registry::catalogue())?;
        return Ok(());
    };
    let in_trace = |source| Failure::Trace { path: path.clone(), source };
    let choice = Choice::parse(&arguments.strategy)?;
    let file = File::open(path).map_err(|source| Failure::Open { path: path.clone(), source })?;
    let reader = Reader::new(BufReader::with_capacity(1 << 16, file)).map_err(in_trace)?;
    let mut reader = reader.accept_loss(arguments.accept_loss);
    let mut header = reader.header();
    header.seed = arguments.seed.unwrap_or(header.seed);

    if let Some(times) = arguments.bench {
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

    let mut replay = Replay::new(&header, &choice)?;
    while !replay.is_over() {
        match reader.next() {
            Some(operation) => replay.step(&operation.map_err(in_trace)?),
            None => break,
        }
    }
    let report = replay.finish(&choice, arguments.dump);
    match arguments.format {
        Format::Text => write!(out, "{report}")?,
        Format::Json => writeln!(out, "{:#}", report.to_json())?,
    }
    if report.after_free == (0, 0) { Ok(()) } else { Err(Failure::Leak(report.after_free)) }
}
