//! What no eviction policy could cost less than.

use super::failure::Failure;
use super::input::InputOptions;
use super::numbers::{self, Slots};
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
    /// A line for each of these numbers of slots, as in `1..64` (both included) or `2,4,8`, or as in `0.05,0.1` with shares of the
    /// page directories that the trace loads
    #[arg(long, value_name = "NUMBERS", default_value = "1..16", value_parser = numbers::slots)]
    slots: Slots,
}

/// CSV: the slots, the fewest entries that faults fill, and the lowest cost.
pub fn run(options: &BoundOptions) -> Result<(), Failure> {
    let in_trace = |source| Failure::Input { path: options.trace.clone(), source };
    let slots = options.slots.of(|| options.input.count_directories(&options.trace, false))?;
    let reader = options.input.open(&options.trace)?;
    let mut collector = Collector::new(&reader.header())?;
    for operation in reader {
        collector.see(&operation.map_err(in_trace)?);
        if collector.is_over() {
            break;
        }
    }
    let most = slots.last().map_or(0, |&slots| slots as usize);
    let bound = collector.finish(most).ok_or(Failure::Bound)?;
    let mut out = io::stdout().lock();
    writeln!(out, "slots,refilled,cost")?;
    for (number, (refilled, cost)) in (1..).zip(&bound.by_slots) {
        if slots.binary_search(&number).is_ok() {
            writeln!(out, "{number},{refilled},{}", cost.instructions)?;
        }
    }
    Ok(())
}
