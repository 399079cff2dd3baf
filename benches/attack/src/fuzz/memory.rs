//! The long run for guest memory: two Linux guests whose memory tests know what each page holds, on a host that takes the
//! pages away all the time.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use linux_guest_builder::guest::prepare;
use linux_guest_builder::kernel::Recipe;
use linux_guest_builder::source::Series;
use xtask::boots;
use xtask::flavour::Flavour;
use xtask::kernel_log;
use xtask::module::ModuleSource;
use xtask::project::Project;
use xtask::qemu::{Clock, Processor};
use xtask::setup::Machine;
use xtask::steps::Step;
use xtask::vm::Vm;

use super::host::{complaint_of_host, parse_figures};

/// What is done in the host VM.
const SCRIPT: &str = include_str!("memory.sh");

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The last figures: names and values.
    pub figures: Vec<(String, u64)>,
    /// What went wrong, if something did.
    pub fault: Option<String>,
    /// Where all logs are.
    pub logs: PathBuf,
}

/// Builds all that it takes, boots a host with two processors, and has its guests test their memory for so long.
pub fn run(
    project: &Project,
    machine: &Machine,
    flavour: Flavour,
    seed: u64,
    time: Duration,
    say: impl Fn(&str),
) -> Result<Outcome> {
    let recipe = Recipe::guest(Series::V6_1, flavour == Flavour::Pae);
    let linux = prepare(project, machine, &recipe)?;
    let source = ModuleSource::of(project);
    let contents = boots::host(project, machine, &source, flavour, linux.files("linux").to_vec())?;
    let vm = Vm {
        name: format!("fuzz-memory-{flavour}"),
        flavour,
        processors: 2,
        processor: Processor::default(),
        clock: Clock::Real,
    };
    let mut step = Step::new("memory", format!("SECONDS={} SEED={seed}\n{SCRIPT}", time.as_secs()));
    // The last round of each guest takes what it takes.
    step.limit = time + Duration::from_secs(1200);
    let steps = [step];
    let mut outcome = Outcome::default();
    let boot = vm.run(project, &machine.kernels, &contents, &steps, |line| {
        if let Some(figures) = line.trim_end_matches('\r').strip_prefix("figures ") {
            outcome.figures = parse_figures(figures);
            say(figures);
        }
    })?;
    let printed = boot.outcomes.iter().flat_map(|outcome| &outcome.output);
    let failed = printed.clone().rfind(|line| line.starts_with("failed: ")).cloned();
    let printed: Vec<String> = printed.cloned().collect();
    let of_guest = kernel_log::complaints_of_guest(&printed).into_iter().next();
    let of_guest = of_guest.map(|complaint| format!("a guest's kernel complains: {complaint}"));
    let other = boot.check(&steps).err().map(|error| format!("{error:#}"));
    outcome.fault = complaint_of_host(&boot).or(of_guest).or(failed).or(other);
    outcome.logs = boot.folder;
    Ok(outcome)
}
