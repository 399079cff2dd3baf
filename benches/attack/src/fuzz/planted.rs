//! Faults that the module once had, or could have, planted one by one: the fuzzer must find each in ten minutes, or the
//! scenario that is there for it must fail.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::host::{Host, Lives, Target};
use xtask::boots;
use xtask::flavour::Flavour;
use xtask::module::ModuleSource;
use xtask::programs;
use xtask::project::Project;
use xtask::qemu::{Clock, Processor};
use xtask::scenarios;
use xtask::setup::Machine;
use xtask::vm::Vm;

/// How long each may take to be found.
const LIMIT: Duration = Duration::from_secs(600);

/// What must find a fault.
enum By {
    /// The hostile launchers of `cargo xtask fuzz`.
    Fuzzer,
    /// This scenario of `cargo xtask test`, an act of `examples/hostile-launcher`.
    Scenario(&'static str),
}

/// A fault that can be planted.
struct Plant {
    /// The feature of `kmod` that plants it.
    feature: &'static str,
    what: &'static str,
    by: By,
    /// What is reported when it is found; any of these.
    signs: &'static [&'static str],
}

const PLANTS: [Plant; 6] = [
    Plant {
        feature: "plant-segment-fault",
        what: "the Switcher loads the process's %gs, whose LDT entry may be gone",
        by: By::Fuzzer,
        signs: &["the VM ended", "Oops", "BUG:", "WARNING", "panic", "general protection fault"],
    },
    Plant {
        feature: "plant-endless-ring",
        what: "the ring goes on for as long as another process refills it",
        by: By::Fuzzer,
        signs: &["goes round in the kernel"],
    },
    Plant {
        feature: "plant-no-interruption",
        what: "a guest is not interrupted when frames go, and runs on with their entries",
        by: By::Fuzzer,
        signs: &["WARNING", "BUG:", "Bad page", "panic"],
    },
    Plant {
        feature: "plant-no-drop",
        what: "shadow entries of frames that have gone are not dropped",
        by: By::Scenario("border-taken-pages"),
        signs: &["zeros were expected"],
    },
    Plant {
        feature: "plant-stale-entry",
        what: "a guest is entered although frames have gone since its entries were dropped",
        by: By::Scenario("border-kept-pages"),
        signs: &["words were others", "it has not run for long", "WARNING", "BUG:", "Bad page", "panic"],
    },
    Plant {
        feature: "plant-no-sequence",
        what: "a frame becomes known although it went while it was looked for",
        by: By::Scenario("border-snapshots"),
        signs: &["a copy of the guest's memory is none"],
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
        let source = ModuleSource::planted(project, plant.feature);
        let (fault, seconds) = match plant.by {
            By::Fuzzer => by_fuzzer(project, machine, host, seed, &source)?,
            By::Scenario(name) => by_scenario(project, machine, name, &source)?,
        };
        match fault {
            Some(fault) if plant.signs.iter().any(|sign| fault.contains(sign)) => {
                println!("  found after {seconds} s, boot included, {fault}");
            }
            Some(fault) => bail!("{} is planted, and something else is found: {fault}", plant.feature),
            None => bail!("{} is planted, and not found in {seconds} s", plant.feature),
        }
    }
    Ok(())
}

/// What is found, if something is, and after how many seconds.
type Found = (Option<String>, u64);

fn by_fuzzer(
    project: &Project,
    machine: &Machine,
    host: Host,
    seed: u64,
    source: &ModuleSource,
) -> Result<Found> {
    let target = Target::build(project, machine, host, source)?;
    let begun = Instant::now();
    let lives = Lives { seed, first: 0, count: None, time: LIMIT };
    let attack = target.attack(project, &machine.kernels, lives, |_| {})?;
    let fault = attack.fault.map(|fault| format!("in life {}: {fault}", attack.last_life));
    Ok((fault, begun.elapsed().as_secs()))
}

/// On Debian's 686 kernel with two processors.
fn by_scenario(project: &Project, machine: &Machine, name: &str, source: &ModuleSource) -> Result<Found> {
    let flavour = Flavour::Plain;
    let guests = vec![programs::hostile_launcher(project, machine)?];
    let contents = boots::host(project, machine, source, flavour, guests)?;
    let vm = Vm {
        name: format!("planted-{name}"),
        flavour,
        processors: 2,
        processor: Processor::default(),
        clock: Clock::Real,
    };
    let steps = scenarios::steps(|scenario| scenario == name);
    let begun = Instant::now();
    let boot = vm.run(project, &machine.kernels, &contents, &steps, |_| {})?;
    let mut fault = boot.complaints.clone();
    if boot.check(&steps).is_err() {
        // The last but one of its lines says what the act has found, the last that the scenario has failed.
        fault.extend(
            boot.outcomes.iter().flat_map(|outcome| outcome.output.iter().rev().take(3).rev()).cloned(),
        );
        fault.extend(boot.breakdown);
    }
    let fault = (!fault.is_empty()).then(|| format!("by {name}: {}", fault.join("; ")));
    Ok((fault, begun.elapsed().as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_that_find_a_fault_are_there() {
        for plant in &PLANTS {
            if let By::Scenario(name) = plant.by {
                assert!(scenarios::names().any(|known| known == name), "{name}");
            }
        }
    }

    #[test]
    fn what_is_planted_is_a_feature_of_the_module() {
        let manifest = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../kmod/Cargo.toml"));
        assert!(PLANTS.iter().all(|plant| manifest.contains(&format!("\n{} = [", plant.feature))));
    }
}
