//! What executes the host VM: QEMU's emulator, or this machine's own processor.

use anyhow::{Context, Result};

use crate::kvm;
use crate::qemu::{Clock, Processor};

/// What executes the host VM, as `--accel` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Accelerator {
    /// QEMU's emulator.
    Tcg,
    /// This machine's own processor, by KVM.
    Kvm,
}

impl Accelerator {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Tcg => "tcg",
            Accelerator::Kvm => "kvm",
        }
    }

    /// The processor of the host VM.
    pub fn processor(self) -> Processor {
        match self {
            Accelerator::Tcg => Processor::default(),
            Accelerator::Kvm => Processor::Own,
        }
    }

    /// How the tests' time passes with so many processors. One processor's is counted in instructions where that is possible, so that
    /// a failure there can be repeated exactly; two really run at once.
    pub fn clock(self, processors: u32) -> Clock {
        match (self, processors) {
            (Accelerator::Tcg, 1) => Clock::Instructions(1),
            _ => Clock::Real,
        }
    }

    /// Checks that it is there.
    ///
    /// # Errors
    /// With what to do where there is no KVM, and it is asked for.
    pub fn check(self) -> Result<()> {
        match self {
            Accelerator::Tcg => Ok(()),
            Accelerator::Kvm => kvm::check().context("--accel kvm"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn it_is_named_as_qemu_names_it() {
        for &accelerator in Accelerator::value_variants() {
            assert_eq!(accelerator.processor().accelerator(), accelerator.name());
            assert_eq!(accelerator.to_possible_value().unwrap().get_name(), accelerator.name());
        }
    }

    #[test]
    fn only_the_emulator_counts_instructions_and_of_one_processor_only() {
        assert!(matches!(Accelerator::Tcg.clock(1), Clock::Instructions(_)));
        for (accelerator, processors) in [(Accelerator::Tcg, 2), (Accelerator::Kvm, 1), (Accelerator::Kvm, 2)]
        {
            assert_eq!(accelerator.clock(processors), Clock::Real);
        }
    }
}
