//! Kernels of hosts that Debian has as source only: built as it configures its i386 ones, for `cargo xtask test --host`.
//!
//! The configuration is that of Debian 12's kernel of the same flavour, as today's Linux takes it. What no host VM needs is
//! left out (`config/debian-host.config`, and every module but those that the scenarios load), as the rest is compiled on the
//! developer's machine.

use anyhow::{Result, anyhow};
use xtask::flavour::Flavour;
use xtask::kernels::BuiltKernel;
use xtask::project::Project;
use xtask::setup;

use super::kernel::{self, Recipe};
use super::source::Series;

/// Options of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Which of Debian's Linux sources
    #[arg(long, value_enum, value_name = "VERSION")]
    source: Series,
    /// With three-level page tables
    #[arg(long)]
    pae: bool,
}

/// Builds the kernel unless the cache has it; prints where it is, for [`xtask::kernels`].
///
/// # Errors
/// When it cannot be built.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let machine = setup::ensure(project, false)?;
    let flavour = if args.pae { Flavour::Pae } else { Flavour::Plain };
    let recipe = Recipe::debian_host(args.source, flavour, machine.kernels.config(flavour));
    let kernel = kernel::build(project, &recipe)?;
    let headers = kernel.headers.ok_or_else(|| anyhow!("{} was built without headers", recipe.name()))?;
    let built =
        BuiltKernel { version: kernel.version, image: kernel.image, headers, modules: kernel.modules };
    println!("{}", serde_json::to_string(&built)?);
    Ok(())
}
