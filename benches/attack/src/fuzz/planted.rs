//! Faults that the module once had, planted again one by one: the fuzzer must find each in ten minutes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::host::{Host, Lives, Target};
use xtask::module::ModuleSource;
use xtask::project::Project;
use xtask::setup::Machine;

/// How long each may take to be found.
const LIMIT: Duration = Duration::from_secs(600);

/// A fault that can be planted.
struct Plant {
    /// The feature of `kmod` that plants it.
    feature: &'static str,
    what: &'static str,
    /// What is reported when it is found; any of these.
    signs: &'static [&'static str],
}

const PLANTS: [Plant; 3] = [
    Plant {
        feature: "plant-segment-fault",
        what: "the Switcher loads the process's %gs, whose LDT entry may be gone",
        signs: &["the VM ended", "Oops", "BUG:", "WARNING", "panic", "general protection fault"],
    },
    Plant {
        feature: "plant-endless-ring",
        what: "the ring goes on for as long as another process refills it",
        signs: &["goes round in the kernel"],
    },
    Plant {
        feature: "plant-no-interruption",
        what: "a guest is not interrupted when frames go, and runs on with their entries",
        signs: &["WARNING", "BUG:", "Bad page", "panic"],
    },
];

/// Plants each and looks for it.
///
/// # Errors
/// When one is not found, or something else is.
pub fn run(project: &Project, machine: &Machine, host: Host, seed: u64, only: &[String]) -> Result<()> {
    for plant in &PLANTS {
        if !only.is_empty() && !only.iter().any(|name| name == plant.feature) {
            continue;
        }
        println!("planted: {} ({})", plant.what, plant.feature);
        let target = Target::build(project, machine, host, &ModuleSource::planted(project, plant.feature))?;
        let begun = Instant::now();
        let lives = Lives { seed, first: 0, count: None, time: LIMIT };
        let attack = target.attack(project, &machine.kernels, lives, |_| {})?;
        let seconds = begun.elapsed().as_secs();
        match attack.fault {
            Some(fault) if plant.signs.iter().any(|sign| fault.contains(sign)) => {
                println!("  found after {seconds} s, boot included, in life {}: {fault}", attack.last_life);
            }
            Some(fault) => bail!("{} is planted, and something else is found: {fault}", plant.feature),
            None => bail!("{} is planted, and not found in {seconds} s", plant.feature),
        }
    }
    Ok(())
}
