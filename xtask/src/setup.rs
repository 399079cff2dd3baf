//! `cargo xtask setup`: everything that must be there before something can be built. All other commands
//! begin with it; when nothing is missing it takes a fraction of a second.

use anyhow::Result;

use crate::kernels::Kernels;
use crate::line::Line;
use crate::project::Project;
use crate::system_packages;
use crate::toolchain::Toolchain;

/// Options of `cargo xtask setup`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Fetch kernels and headers anew, in today's version
    #[arg(long)]
    refresh: bool,
}

/// What is there after set-up.
pub struct Machine {
    /// The compiler for i386.
    pub toolchain: Toolchain,
    /// Debian's kernels, headers, busybox.
    pub kernels: Kernels,
}

/// Brings the machine into shape, with progress on standard error.
pub fn run(project: &Project, args: &Args) -> Result<Machine> {
    let machine = ensure(project, args.refresh)?;
    eprintln!(
        "set up: rustc {} with sources, Linux {} ({}) in both flavours, cache {}",
        machine.toolchain.version,
        machine.kernels.release,
        machine.kernels.version,
        project.cache().display()
    );
    Ok(machine)
}

/// As [`run`], silent if nothing had to be done.
pub fn ensure(project: &Project, refresh: bool) -> Result<Machine> {
    project.check_paths()?;
    let _lock = project.lock_cache()?;
    system_packages::check_system()?;
    system_packages::install_missing(project, &system_packages::NEEDED)?;
    let toolchain = Toolchain::detect(project)?;
    let kernels = match Kernels::cached(project, Line::Bookworm) {
        Some(kernels) if !refresh => kernels,
        _ => Kernels::fetch(project, Line::Bookworm, None)?,
    };
    Ok(Machine { toolchain, kernels })
}
