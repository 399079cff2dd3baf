//! Many host VMs, as many at once as there is room for, and what is reported of each.

use std::collections::VecDeque;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::flavour::Flavour;
use crate::kernel_log;
use crate::kernels::Kernels;
use crate::module::ModuleSource;
use crate::programs;
use crate::project::Project;
use crate::setup::Machine;
use crate::steps::{self, Event, Outcome, Step};
use crate::tally::Tally;
use crate::vm::{Boot, Contents, GuestFile, Vm};

/// A step that took as long as this is shown with its time.
const WORTH_TELLING: Duration = Duration::from_secs(5);

/// How many of a failed step's last lines are shown.
const SHOWN_LINES: usize = 30;

/// How many of a kernel's complaints are.
const SHOWN_COMPLAINTS: usize = 5;

/// One boot and what is done in it.
pub struct Job {
    /// The VM.
    pub vm: Vm,
    /// What is in it.
    pub contents: Contents,
    /// What it has to do.
    pub steps: Vec<Step>,
}

/// Builds what goes into the VMs, one for each flavour in their order: the example guest if that is wanted, and the
/// guests that there are for the flavour.
///
/// # Errors
/// When something does not build.
pub fn hosts(
    project: &Project,
    machine: &Machine,
    with_mini: bool,
    guests: impl Fn(Flavour) -> Result<Vec<GuestFile>>,
) -> Result<Vec<Contents>> {
    let built = programs::build_all(project, machine, &ModuleSource::of(project), &Flavour::ALL, with_mini);
    let (launcher, mini) = (built.launcher?, built.guest.transpose()?.map(programs::as_guest));
    let modules = built.modules?.into_iter().zip(Flavour::ALL);
    modules
        .map(|(module, flavour)| {
            let guests = mini.iter().cloned().chain(guests(flavour)?).collect();
            Ok(Contents { module, launcher: launcher.clone(), guests })
        })
        .collect()
}

/// Builds what goes into one VM, with this module and these guests.
///
/// # Errors
/// When something does not build.
pub fn host(
    project: &Project,
    machine: &Machine,
    module: &ModuleSource,
    flavour: Flavour,
    guests: Vec<GuestFile>,
) -> Result<Contents> {
    let built = programs::build_all(project, machine, module, &[flavour], false);
    Ok(Contents { module: built.modules?.swap_remove(0), launcher: built.launcher?, guests })
}

/// One job for each boot, with what `hosts` has for its flavour in it.
pub fn jobs(boots: Vec<(Vm, Vec<Step>)>, hosts: &[Contents]) -> Vec<Job> {
    let job = |(vm, steps): (Vm, _)| Job {
        contents: hosts[usize::from(vm.flavour == Flavour::Pae)].clone(),
        vm,
        steps,
    };
    boots.into_iter().map(job).collect()
}

/// Boots all, and counts each step, and each kernel's log, as a check of `tally`.
pub fn run_all(project: &Project, kernels: &Kernels, jobs: Vec<Job>, tally: &mut Tally) {
    let queue: Mutex<VecDeque<Job>> = Mutex::new(jobs.into());
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let (sender, boots) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, queue) = (sender.clone(), &queue);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().expect("no worker panics with the queue").pop_front();
                    let Some(job) = next else { break };
                    let mut watch = Stopwatch::default();
                    let boot =
                        job.vm.run(project, kernels, &job.contents, &job.steps, |line| watch.see(line));
                    // The receiver lives as long as the scope.
                    let _ = sender.send((job, boot, watch.times));
                }
            });
        }
        drop(sender);
        for (job, boot, times) in boots {
            report(tally, &job, boot, &times);
        }
    });
}

/// How long each step took on this machine's clock. (A VM whose time is counted in instructions has another.)
#[derive(Default)]
struct Stopwatch {
    begun: Option<Instant>,
    times: Vec<Duration>,
}

impl Stopwatch {
    fn see(&mut self, line: &str) {
        match steps::parse(line) {
            Event::Begin(_) => self.begun = Some(Instant::now()),
            Event::End { .. } => self.times.extend(self.begun.take().map(|begun| begun.elapsed())),
            Event::Output(_) | Event::Done => {}
        }
    }
}

fn report(tally: &mut Tally, job: &Job, boot: Result<Boot>, times: &[Duration]) {
    let vm = &job.vm;
    tally.say(&format!("\n-- {}, {} CPU ({})", vm.flavour, vm.processors, vm.processor.name()));
    report_boot(tally, &vm.name, &job.steps, boot, times);
}

/// Makes one boot, which sees each line of the programs' console, and counts each of its `steps`, and the kernel's log, as a
/// check of `tally`.
pub fn run_one(
    tally: &mut Tally,
    vm: &str,
    steps: &[Step],
    boot: impl FnOnce(&mut dyn FnMut(&str)) -> Result<Boot>,
) {
    let mut watch = Stopwatch::default();
    let boot = boot(&mut |line| watch.see(line));
    report_boot(tally, vm, steps, boot, &watch.times);
}

fn report_boot(tally: &mut Tally, vm: &str, steps: &[Step], boot: Result<Boot>, times: &[Duration]) {
    let boot = match boot.with_context(|| format!("{vm} could not be booted")) {
        Ok(boot) => boot,
        Err(error) => return tally.fail(vm, &format!("{error:#}")),
    };
    for (number, (step, outcome)) in steps.iter().zip(&boot.outcomes).enumerate() {
        let time = times.get(number).filter(|time| **time >= WORTH_TELLING);
        let time = time.map_or(String::new(), |time| format!(" ({} s)", time.as_secs()));
        let name = format!("{vm} {}{time}", step.name);
        match judge(step, outcome) {
            Ok(()) => tally.pass(&name),
            Err(why) => tally.fail(&name, &why),
        }
    }
    let name = format!("{vm} kernel log and power-off");
    let mut wrong: Vec<_> = boot.breakdown.iter().cloned().collect();
    wrong.extend(boot.complaints.iter().take(SHOWN_COMPLAINTS).cloned());
    if wrong.is_empty() {
        return tally.pass(&name);
    }
    wrong.push(boot.logs());
    wrong.extend(boot.first_complaint);
    tally.fail(&name, &wrong.join("\n"));
}

/// Whether a step went well, or why not.
fn judge(step: &Step, outcome: &Outcome) -> Result<(), String> {
    match outcome.status {
        Some(0) => {}
        Some(status) => {
            let from = outcome.output.len().saturating_sub(SHOWN_LINES);
            return Err(format!("status {status}; its last lines:\n{}", outcome.output[from..].join("\n")));
        }
        None => return Err("the VM broke down before its end".to_owned()),
    }
    let complaints = kernel_log::complaints_of_guest(&outcome.output);
    if complaints.is_empty() || step.guest_complains {
        Ok(())
    } else {
        Err(format!("the guest's kernel complained:\n{}", complaints.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: Option<i32>, line: &str) -> Outcome {
        Outcome { status, output: vec![line.to_owned()] }
    }

    #[test]
    fn a_step_fails_by_its_status_or_by_what_the_guests_kernel_says() {
        let step = Step::new("a", "");
        let warning = "[    1.250000] WARNING: CPU: 0 PID: 1 at kernel/fork.c:1";
        assert_eq!(judge(&step, &outcome(Some(0), "ok WARNING: no message of a kernel")), Ok(()));
        assert!(judge(&step, &outcome(Some(1), "why")).unwrap_err().ends_with("why"));
        assert!(judge(&step, &outcome(None, "")).is_err());
        assert!(judge(&step, &outcome(Some(0), warning)).unwrap_err().contains("kernel/fork.c"));
        let complaining = Step { guest_complains: true, ..step };
        assert_eq!(judge(&complaining, &outcome(Some(0), warning)), Ok(()));
    }
}
