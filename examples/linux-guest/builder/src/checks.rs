//! The section `linux` of `cargo xtask test`: builds the guest's kernels, runs the [`scenarios`].

use anyhow::{Result, bail};
use xtask::boots::{self, Job};
use xtask::flavour::Flavour;
use xtask::project::Project;
use xtask::setup::{self, Machine};
use xtask::steps::Step;
use xtask::tally;
use xtask::vm::{GuestFile, Vm};

use super::guest::prepare;
use super::kernel::Recipe;
use super::scenarios;
use super::source::Series;

/// Options of the section.
#[derive(clap::Args)]
pub struct Args {
    /// Also what takes too long for each change
    #[arg(long)]
    long: bool,
    /// Only this scenario (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// List the scenarios
    #[arg(long)]
    list: bool,
}

/// Makes the checks, or lists them.
///
/// # Errors
/// When a name is none of a scenario, or this machine cannot be set up.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    if args.list {
        for name in scenarios::names() {
            println!("    {name}");
        }
        return Ok(());
    }
    if let Some(unknown) = args.only.iter().find(|name| !scenarios::names().any(|known| known == *name)) {
        bail!("there is no scenario `{unknown}`; `cargo xtask test --list` shows all");
    }
    let machine = setup::ensure(project, false)?;
    let boots = scenarios::boots(|name| {
        args.only.iter().any(|only| only == name)
            || args.only.is_empty() && (args.long || !scenarios::is_long(name))
    });
    tally::section(|tally| match jobs(project, &machine, boots) {
        Ok(jobs) => boots::run_all(project, &machine.kernels, jobs, tally),
        Err(error) => tally.fail("linux", &format!("{error:#}")),
    });
    Ok(())
}

/// The boots, with the guests built.
fn jobs(project: &Project, machine: &Machine, boots: Vec<(Vm, Vec<Step>)>) -> Result<Vec<Job>> {
    let guests = |flavour: Flavour| -> Result<Vec<GuestFile>> {
        let plain = Recipe::guest(Series::V6_1, flavour == Flavour::Pae);
        let linux = prepare(project, machine, &plain)?;
        let mut files = linux.files("linux").to_vec();
        files.extend(linux.program("guest-test"));
        let mut steps = boots.iter().filter(|(vm, _)| vm.flavour == flavour).flat_map(|(_, steps)| steps);
        if steps.any(|step| step.name == scenarios::DEBUG) {
            let debug = plain.with("debug");
            files.extend(prepare(project, machine, &debug)?.files("linux-debug"));
        }
        Ok(files)
    };
    let hosts = boots::hosts(project, machine, false, guests)?;
    Ok(boots::jobs(boots, &hosts))
}
