//! The scenarios on other processors than the usual one: what users have, from the Pentium III to all that QEMU can
//! emulate.
//!
//! Each model gets one boot with those scenarios in which the processor matters: the world switch, both page
//! formats, faults of every kind, the launcher's own code. Between them the boots cover both kernels, and one
//! processor as well as two.

use crate::flavour::Flavour;
use crate::qemu::{Clock, Processor};
use crate::scenarios;
use crate::steps::Step;
use crate::vm::Vm;

/// One boot: the model, the kernel, the number of processors, and what else is run than [`SCENARIOS`].
type Model = (Processor, Flavour, u32, &'static [&'static str]);

/// SMEP, SMAP and what else new processors forbid a kernel are on the model `max` only where hostile guests meet
/// them; a Pentium III has PAE but no NX, so that the kernel for PAE is the one to run there.
const MODELS: [Model; 4] = [
    (Processor::Max, Flavour::Pae, 1, &["hostile-guests"]),
    (Processor::Epyc, Flavour::Plain, 2, &[]),
    (Processor::N270, Flavour::Plain, 1, &[]),
    (Processor::Pentium3, Flavour::Pae, 1, &[]),
];

/// What is run on every model, of [`crate::scenarios`].
const SCENARIOS: &[&str] = &[
    "full-test-on-lguest",
    "full-test-on-shared",
    "page-formats",
    "two-guests",
    "kill-9-of-a-launcher",
    "user-of-the-launcher",
    "disks-are-locked",
    "border-fpu-registers",
    "border-breakpoint",
    "border-ldt",
];

/// The names of the models, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(processor, ..)| processor.name())
}

/// The VMs of the models that `wanted` accepts, and the steps in each.
pub fn boots(wanted: impl Fn(&str) -> bool) -> Vec<(Vm, Vec<Step>)> {
    let chosen = MODELS.iter().filter(|(processor, ..)| wanted(processor.name()));
    chosen
        .map(|&(processor, flavour, processors, more)| {
            let clock = if processors == 1 { Clock::Instructions(1) } else { Clock::Real };
            let name = format!("{}-{flavour}-{processors}cpu", processor.name());
            let vm = Vm { name, flavour, processors, processor, clock };
            (vm, scenarios::steps(|name| SCENARIOS.contains(&name) || more.contains(&name)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_a_model_exists() {
        let boots = boots(|_| true);
        assert_eq!(boots.len(), MODELS.len());
        for ((vm, steps), (.., more)) in boots.iter().zip(MODELS) {
            assert_eq!(steps.len(), SCENARIOS.len() + more.len(), "{}", vm.name);
        }
    }

    #[test]
    fn both_kernels_and_both_numbers_of_processors_are_among_the_boots() {
        let boots = boots(|_| true);
        for flavour in Flavour::ALL {
            assert!(boots.iter().any(|(vm, _)| vm.flavour == flavour));
        }
        for processors in [1, 2] {
            assert!(boots.iter().any(|(vm, _)| vm.processors == processors));
        }
    }

    #[test]
    fn a_model_is_chosen_by_its_name() {
        let chosen = boots(|name| name == "pentium3");
        assert_eq!(chosen.iter().map(|(vm, _)| vm.processor).collect::<Vec<_>>(), [Processor::Pentium3]);
    }
}
