//! What no eviction policy could cost less than.

use super::failure::Failure;
use super::input::InputOptions;
use crate::bound::Collector;
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;

/// Options of `replay bound`.
#[derive(Debug, Args)]
pub struct BoundOptions {
    /// The trace, in any form; `-` for the standard input
    trace: PathBuf,
    #[command(flatten)]
    input: InputOptions,
    /// A line for each number of slots from 1 to this one
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: u16,
}

/// CSV: the slots, the fewest entries that faults fill, and the lowest cost.
pub fn run(options: &BoundOptions) -> Result<(), Failure> {
    let in_trace = |source| Failure::Input { path: options.trace.clone(), source };
    let reader = options.input.open(&options.trace)?;
    let mut collector = Collector::new(&reader.header())?;
    for operation in reader {
        collector.see(&operation.map_err(in_trace)?);
        if collector.is_over() {
            break;
        }
    }
    let bound = collector.finish(options.slots.into()).ok_or(Failure::Bound)?;
    let mut out = io::stdout().lock();
    writeln!(out, "slots,refilled,cost")?;
    for (slots, (refilled, cost)) in (1..).zip(&bound.by_slots) {
        writeln!(out, "{slots},{refilled},{}", cost.instructions)?;
    }
    Ok(())
}
