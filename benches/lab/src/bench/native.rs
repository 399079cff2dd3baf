//! The native baseline: the guest without a host, on the emulated machine itself.
//!
//! The example guest is the same kernel file with the same programs in it, which does itself what it would request of a
//! host (`examples/mini-guest/src/bare.rs`). Linux is the same source, configuration and programs without the
//! port. Each cell has a boot to itself, which takes seconds.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::host::{instruction_ns, keep_log};
use super::matrix::Cell;
use super::results::{NATIVE, Outcome, Row};
use super::span;
use crate::workloads::{Guest, on_the_bare_machine};
use xtask::flavour::Flavour;
use xtask::project::Project;
use xtask::qemu::{Clock, End, Limits, Pc, Processor};

/// Workloads that are about the host.
const OF_GUESTS_ONLY: &[&str] = &["hypercall"];

/// What the example guest prints last, and what Linux's first process prints of the workload, when all went well.
const GOOD_END: &str = "exit 0";
const LINUX_GOOD_END: &str = "guest: status 0";

/// What all native cells have in common.
pub struct Native<'a> {
    /// The project.
    pub project: &'a Project,
    /// Which guest it is.
    pub guest: Guest,
    /// Its kernel.
    pub kernel: PathBuf,
    /// Its initial file system, if it has one.
    pub initrd: Option<PathBuf>,
    /// Which kernel's page-table format to use.
    pub flavour: Flavour,
    /// Which processor the machine has.
    pub processor: Processor,
    /// How time passes.
    pub clock: Clock,
    /// Memory in MiB.
    pub memory: u32,
    /// Percent of the workloads' usual operations.
    pub scale: u32,
    /// Where logs of failed cells go: to [`FAILED`](super::host::FAILED) in it.
    pub out: &'a Path,
}

impl Native<'_> {
    /// The machine's name in the results.
    pub fn name(&self) -> String {
        format!("bench-{NATIVE}-{}", self.flavour)
    }

    /// Where QEMU's logs of a cell are.
    pub fn folder(&self, cell: &Cell) -> PathBuf {
        let logs = self.project.logs().join("vm").join(self.name());
        logs.join(format!("{}-{}", cell.workload, cell.run))
    }

    /// Those of the cells that can be run here, with [`NATIVE`] for a strategy.
    pub fn cells(cells: &[Cell]) -> Vec<Cell> {
        let mut native: Vec<Cell> = Vec::new();
        for cell in cells.iter().filter(|cell| !OF_GUESTS_ONLY.contains(&cell.workload.as_str())) {
            let cell = Cell { strategy: NATIVE.to_owned(), ..cell.clone() };
            if !native.contains(&cell) {
                native.push(cell);
            }
        }
        native
    }

    /// Runs all cells, several at once where instructions are counted and they cannot disturb one another.
    ///
    /// # Errors
    /// When QEMU cannot be started, or a log cannot be written.
    pub fn run(&self, cells: &[Cell], done: impl FnMut() + Send) -> Result<Vec<Row>> {
        let workers = match self.clock {
            Clock::Real => 1,
            Clock::Instructions(_) => thread::available_parallelism().map_or(1, |n| n.get().min(4)),
        };
        let queue: Mutex<VecDeque<(usize, &Cell)>> = Mutex::new(cells.iter().enumerate().collect());
        let (rows, done) = (Mutex::new(Vec::new()), Mutex::new(done));
        thread::scope(|scope| {
            for _ in 0..workers {
                let (queue, rows, done) = (&queue, &rows, &done);
                scope.spawn(move || {
                    let locked = "no worker panics with a lock";
                    loop {
                        let next = queue.lock().expect(locked).pop_front();
                        let Some((index, cell)) = next else { break };
                        let row = self.row(cell);
                        rows.lock().expect(locked).push((index, row));
                        done.lock().expect(locked)();
                    }
                });
            }
        });
        let mut rows = rows.into_inner().expect("no worker panics with the rows");
        rows.sort_by_key(|(index, _)| *index);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn row(&self, cell: &Cell) -> Result<Row> {
        let Cell { workload, seed, .. } = cell;
        let pc = Pc {
            kernel: Some(self.kernel.clone()),
            initrd: self.initrd.clone(),
            memory: self.memory,
            processors: 1,
            processor: self.processor,
            clock: self.clock,
            append: on_the_bare_machine(self.guest, workload, *seed, self.scale, self.flavour),
        };
        let limits = Limits { silence: Duration::from_secs(120), whole: Duration::from_secs(300) };
        let run = pc.run(&self.folder(cell), limits, |_| {})?;
        // Linux has one console there, which is the first serial line.
        let text = match self.guest {
            Guest::Mini => &run.console,
            Guest::Linux => &run.kernel_log,
        };
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let last = lines.last().map_or("", |line| line.trim());
        let good = match self.guest {
            Guest::Mini => last == GOOD_END,
            Guest::Linux => lines.iter().any(|line| line.trim() == LINUX_GOOD_END),
        };
        let measured = match run.end {
            End::ByItself if good => span::find(&lines, workload, instruction_ns(self.clock)),
            End::ByItself => Err(format!("the machine's last word was `{last}`")),
            End::Silent(limit) | End::TooLong(limit) => Err(format!("no end after {} s", limit.as_secs())),
        };
        let outcome = match measured {
            Ok(span) => Outcome::Measured(span),
            Err(why) => {
                let log = keep_log(self.out, &[self.flavour.name(), workload, NATIVE], cell.run, text)?;
                Outcome::Failed { why, log }
            }
        };
        Ok(Row {
            host: self.flavour.name().to_owned(),
            workload: workload.clone(),
            strategy: NATIVE.to_owned(),
            run: cell.run,
            seed: *seed,
            outcome,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::matrix::cells;

    #[test]
    fn each_run_is_native_once_and_hypercalls_never() {
        let names = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let all = cells(&names(&["a", "b"]), &names(&["null", "hypercall"]), 2, 7);
        let native = Native::cells(&all);
        let order: Vec<_> =
            native.iter().map(|c| (c.workload.as_str(), c.strategy.as_str(), c.run)).collect();
        assert_eq!(order, [("null", NATIVE, 0), ("null", NATIVE, 1)]);
    }
}
