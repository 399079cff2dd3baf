//! Many host VMs, as many at once as there is room for, and what is told of each.

use std::collections::VecDeque;
use std::sync::{Mutex, mpsc};
use std::thread;

use anyhow::{Context, Result};

use crate::kernel_log;
use crate::kernels::Kernels;
use crate::project::Project;
use crate::steps::{Outcome, Step};
use crate::tally::Tally;
use crate::vm::{Boot, Contents, Vm};

/// How many of a failed step's last lines are shown.
const SHOWN_LINES: usize = 30;

/// One boot and what is done in it.
pub struct Job {
    /// The VM.
    pub vm: Vm,
    /// What is in it.
    pub contents: Contents,
    /// What it is told to do.
    pub steps: Vec<Step>,
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
                    let boot = job.vm.run(project, kernels, &job.contents, &job.steps, |_| {});
                    // The receiver lives as long as the scope.
                    let _ = sender.send((job, boot));
                }
            });
        }
        drop(sender);
        for (job, boot) in boots {
            report(tally, &job, boot);
        }
    });
}

fn report(tally: &mut Tally, job: &Job, boot: Result<Boot>) {
    let vm = &job.vm;
    tally.say(&format!("\n-- {}, {} CPU ({})", vm.flavour, vm.processors, vm.processor.name()));
    let boot = match boot.with_context(|| format!("{} could not be booted", vm.name)) {
        Ok(boot) => boot,
        Err(error) => return tally.fail(&vm.name, &format!("{error:#}")),
    };
    for (step, outcome) in job.steps.iter().zip(&boot.outcomes) {
        let name = format!("{} {}", vm.name, step.name);
        match judge(step, outcome) {
            Ok(()) => tally.pass(&name),
            Err(why) => tally.fail(&name, &why),
        }
    }
    let name = format!("{} kernel log and power-off", vm.name);
    let mut wrong = boot.complaints;
    wrong.extend(boot.breakdown);
    if wrong.is_empty() {
        tally.pass(&name);
    } else {
        tally.fail(&name, &format!("{}\nAll logs: {}", wrong.join("\n"), boot.folder.display()));
    }
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
