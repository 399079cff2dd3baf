//! Runs the [`scenarios`]: of the section `linux` of `cargo xtask test`, whose kernels it builds, and of
//! `cargo xtask linux-guest --test`, on the one that was built.

use anyhow::{Result, bail, ensure};
use xtask::boots::{self, Job};
use xtask::flavour::Flavour;
use xtask::project::Project;
use xtask::setup::{self, Machine};
use xtask::steps::Step;
use xtask::tally;
use xtask::vm::{GuestFile, Vm};

use super::guest::{LinuxGuest, prepare};
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
    let wanted = selected(&args.only, args.long)?;
    let machine = setup::ensure(project, false)?;
    let boots = scenarios::boots(wanted);
    tally::section(|tally| match jobs(project, &machine, boots) {
        Ok(jobs) => boots::run_all(project, &machine.kernels, jobs, tally),
        Err(error) => tally.fail("linux", &format!("{error:#}")),
    });
    Ok(())
}

/// Whether a scenario is one of those that are called `only`; if there are none, whether it is not long or `long` holds.
///
/// # Errors
/// When a name is none of a scenario.
fn selected(only: &[String], long: bool) -> Result<impl Fn(&str) -> bool> {
    if let Some(unknown) = only.iter().find(|name| !scenarios::names().any(|known| known == *name)) {
        bail!("there is no scenario `{unknown}`; `cargo xtask test --list` shows all");
    }
    let only = only.to_vec();
    Ok(move |name: &str| {
        only.iter().any(|only| only == name) || only.is_empty() && (long || !scenarios::is_long(name))
    })
}

/// Whether a scenario is to run on a guest of the user's choice: those that are called `only`, or all that are not long if
/// there are none.
///
/// # Errors
/// When a name is none of a scenario, or of the one that has a kernel of its own.
pub fn chosen(only: &[String]) -> Result<impl Fn(&str) -> bool> {
    ensure!(
        !only.iter().any(|name| name == scenarios::DEBUG),
        "`{}` has a kernel of its own: name another scenario, and build with `--config debug`",
        scenarios::DEBUG
    );
    selected(only, false)
}

/// Makes the checks that `wanted` accepts on `guest`, on each host that has room for its page tables: all, or with `pae`
/// the one with three levels. Ends the process with 1 when one failed.
pub fn run_on(
    project: &Project,
    machine: &Machine,
    guest: &LinuxGuest,
    pae: bool,
    wanted: impl Fn(&str) -> bool,
) {
    let boots = scenarios::boots(wanted).into_iter().filter(|(vm, _)| !pae || vm.flavour == Flavour::Pae);
    let hosts = boots::hosts(project, machine, false, |_| Ok(files(guest)));
    tally::section(|tally| match hosts {
        Ok(hosts) => {
            boots::run_all(project, &machine.kernels, boots::jobs(boots.collect(), &hosts), tally);
        }
        Err(error) => tally.fail("linux", &format!("{error:#}")),
    });
}

/// What the scenarios need of the guest in the VM.
fn files(guest: &LinuxGuest) -> Vec<GuestFile> {
    guest.files("linux").into_iter().chain(guest.program("guest-test")).collect()
}

/// The boots, with the guests built.
fn jobs(project: &Project, machine: &Machine, boots: Vec<(Vm, Vec<Step>)>) -> Result<Vec<Job>> {
    let guests = |flavour: Flavour| -> Result<Vec<GuestFile>> {
        let plain = Recipe::guest(Series::V6_1, flavour == Flavour::Pae);
        let mut files = files(&prepare(project, machine, &plain)?);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str]) -> Vec<&'static str> {
        let only: Vec<_> = only.iter().map(|&name| name.to_owned()).collect();
        let wanted = chosen(&only).unwrap();
        scenarios::names().filter(|name| wanted(name)).collect()
    }

    #[test]
    fn without_names_the_long_scenarios_are_left_out() {
        let all = names(&[]);
        assert!(all.contains(&"linux-full-test-on-lguest") && all.contains(&"linux-reboot"), "{all:?}");
        assert!(!all.contains(&"linux-on-every-strategy") && !all.contains(&scenarios::DEBUG), "{all:?}");
        assert_eq!(names(&["linux-on-every-strategy"]), ["linux-on-every-strategy"]);
    }

    #[test]
    fn a_scenario_that_no_guest_can_have_is_refused() {
        let refused = |name: &str| chosen(&[name.to_owned()]).err().expect("refused").to_string();
        assert!(refused("linux-nosuch").contains("`linux-nosuch`"));
        assert!(refused(scenarios::DEBUG).contains("--config debug"));
    }
}
