//! Running cells of the matrix in the host VM: one step for each, in which the module is loaded with the run's
//! seed, one guest runs one workload, and the module is taken out again, which proves that nothing is left.
//!
//! A cell that goes wrong is a failed row. A VM that breaks down takes one cell with it, and the others run in
//! another boot.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::matrix::Cell;
use super::results::{Outcome, Row};
use super::span;
use crate::workloads::{BOOT_PREALLOC, Guest, LINUX_PRINTS_MARKS, is_boot};
use xtask::kernels::Kernels;
use xtask::project::Project;
use xtask::qemu::Clock;
use xtask::steps::{self, Event, Step, parse};
use xtask::vm::{Boot, Contents, Vm};

/// Boots of which nothing comes, one after the other, after which the rest is given up.
const PATIENCE: u32 = 2;

/// The folder beside the results with the logs of cells that failed.
pub const FAILED: &str = "failed";

/// What all cells have in common.
pub struct Host<'a> {
    /// The project.
    pub project: &'a Project,
    /// Debian's kernels.
    pub kernels: &'a Kernels,
    /// Module, launcher and guest.
    pub contents: Contents,
    /// Which guest that is.
    pub guest: Guest,
    /// What is booted.
    pub vm: Vm,
    /// The guest's memory in MiB.
    pub memory: u32,
    /// Percent of the workloads' usual operations.
    pub scale: u32,
    /// Where logs of failed cells go: to [`FAILED`] in it.
    pub out: &'a Path,
}

impl Host<'_> {
    /// Runs all cells. `done` is called for each that has ended.
    ///
    /// # Errors
    /// When QEMU cannot be started at all, or a log cannot be written.
    pub fn run(&self, cells: &[Cell], mut done: impl FnMut()) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut in_vain = 0;
        while rows.len() < cells.len() && in_vain < PATIENCE {
            let rest = &cells[rows.len()..];
            let steps: Vec<Step> = rest.iter().map(|cell| self.step(cell)).collect();
            let boot = self.vm.run(self.project, self.kernels, &self.contents, &steps, |line| {
                if matches!(parse(line), Event::End { .. }) {
                    done();
                }
            })?;
            // Up to the one in which it broke down, if it did.
            let ended = boot.outcomes.iter().take_while(|outcome| outcome.status.is_some()).count();
            let tried = rest.len().min(ended + 1);
            for (cell, outcome) in rest.iter().zip(&boot.outcomes).take(tried) {
                rows.push(self.row(cell, outcome, &boot)?);
            }
            in_vain = if ended == 0 { in_vain + 1 } else { 0 };
        }
        for cell in &cells[rows.len()..] {
            let why = format!("not tried: the VM broke down {PATIENCE} times in a row");
            rows.push(self.failed(cell, why, "No boot of the VM got as far as this.\n".to_owned())?);
        }
        Ok(rows)
    }

    fn step(&self, cell: &Cell) -> Step {
        let Cell { workload, strategy, seed, .. } = cell;
        let (memory, scale) = (self.memory, self.scale);
        let begin = format!("rm -f /tmp/spans\nload seed={seed}");
        let prealloc = if workload == BOOT_PREALLOC { "--prealloc " } else { "" };
        let options = format!("--spans /tmp/spans --strategy '{strategy}'");
        let script = match self.guest {
            Guest::Mini => format!(
                "{begin}
lguest --memory {memory}M {options} /guests/mini-guest bench={workload} seed={seed} scale={scale}
status=$?
cat /tmp/spans
[ $status = 0 ] || fail \"the guest ended with status $status\"
unload"
            ),
            // With time stamps on Linux's messages its first process prints when it was started.
            Guest::Linux if is_boot(workload) => format!(
                "{begin}
export MEMORY={memory}M APPEND=quiet
in_linux {prealloc}--strategy '{strategy}' -- true
unload"
            ),
            // The marks are messages of Linux's: the console has them as well as the launcher, which completes them. A
            // Linux without the port's early console has them on the console only, without the host's counters.
            Guest::Linux => format!(
                "{begin}
export MEMORY={memory}M APPEND='{LINUX_PRINTS_MARKS}'
linux-guest {options} -- span {workload} {scale} >/tmp/linux.out 2>&1
status=$?
grep -v '^span ' /tmp/linux.out
[ $status = 0 ] || fail \"the guest ended with status $status\"
grep -q '^guest: status 0' /tmp/linux.out || fail 'the workload failed in the guest'
grep -q '^span end ' /tmp/spans && cat /tmp/spans || grep '^span ' /tmp/linux.out
unload"
            ),
        };
        Step::new(workload.clone(), script)
    }

    fn row(&self, cell: &Cell, outcome: &steps::Outcome, boot: &Boot) -> Result<Row> {
        let measured = match outcome.status {
            Some(0) => span::find(&outcome.output, &cell.workload, instruction_ns(self.vm.clock)),
            Some(_) => {
                // The step's last line; the watchdog in the VM prints none.
                let last = outcome.output.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
                Err(last.unwrap_or("it took too long").to_owned())
            }
            None => Err(boot.breakdown.clone().unwrap_or_else(|| "the VM broke down".to_owned())),
        };
        match measured {
            Ok(span) => Ok(self.make_row(cell, Outcome::Measured(span))),
            Err(why) => {
                let kernel = fs::read_to_string(boot.folder.join("kernel.log")).unwrap_or_default();
                let log = format!("{}\n\n-- the host's kernel --\n{kernel}", outcome.output.join("\n"));
                self.failed(cell, why, log)
            }
        }
    }

    fn failed(&self, cell: &Cell, why: String, text: String) -> Result<Row> {
        let log =
            keep_log(self.out, &[self.vm.flavour.name(), &cell.workload, &cell.strategy], cell.run, &text)?;
        Ok(self.make_row(cell, Outcome::Failed { why, log }))
    }

    fn make_row(&self, cell: &Cell, outcome: Outcome) -> Row {
        Row {
            host: self.vm.flavour.name().to_owned(),
            workload: cell.workload.clone(),
            strategy: cell.strategy.clone(),
            run: cell.run,
            seed: cell.seed,
            outcome,
        }
    }
}

/// The nanoseconds of an instruction on this clock.
pub fn instruction_ns(clock: Clock) -> Option<u64> {
    match clock {
        Clock::Real => None,
        Clock::Instructions(shift) => Some(1 << shift),
    }
}

/// Keeps a log in the folder [`FAILED`] of `out`; its name there, with the folder.
pub fn keep_log(out: &Path, of: &[&str], run: u32, text: &str) -> Result<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = format!("{}-{run}", of.join("-")).chars().map(plain).collect();
    let path = format!("{FAILED}/{name}.log");
    let file = out.join(&path);
    fs::create_dir_all(out.join(FAILED))
        .with_context(|| format!("cannot make {FAILED} in {}", out.display()))?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(path)
}
