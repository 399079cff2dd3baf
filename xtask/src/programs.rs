//! `cargo xtask build`: the module, and the programs that go into the virtual machine with it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::flavour::Flavour;
use crate::module::ModuleSource;
use crate::process::{Progress, run_logged};
use crate::project::Project;
use crate::setup::{self, Machine};
use crate::toolchain::Target;

/// Options of `cargo xtask build`.
#[derive(clap::Args)]
pub struct BuildArgs {
    /// Build only this [default: everything]
    #[arg(value_enum)]
    what: Option<What>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// lg.ko for both kernel flavours
    Module,
    /// The launcher, `lguest`
    Launcher,
    /// The example guest kernel
    Guest,
}

/// The command itself: sets up, builds, says where the results are.
pub fn build_command(project: &Project, args: &BuildArgs) -> Result<()> {
    let machine = setup::ensure(project, false)?;
    let wanted = |what| args.what.is_none_or(|only| only == what);
    let mut results = Vec::new();
    if wanted(What::Module) {
        results.extend(ModuleSource::of(project).build(project, &machine, &Flavour::ALL)?);
    }
    if wanted(What::Launcher) {
        results.push(launcher(project, &machine)?);
    }
    if wanted(What::Guest) {
        results.push(mini_guest(project, &machine)?);
    }
    for path in results {
        println!("{}", path.display());
    }
    Ok(())
}

/// Builds the launcher, a static 32-bit program.
pub fn launcher(project: &Project, machine: &Machine) -> Result<PathBuf> {
    let progress = Progress::start("launcher");
    run_logged(
        machine
            .toolchain
            .cargo("build", &project.root().join("userland-launcher"), Target::Program)
            .args(["--release", "--bin", "lguest"])
            .env("RUSTFLAGS", "-Ctarget-feature=+crt-static"),
        &project.logs().join("launcher-cargo.log"),
    )?;
    progress.done();
    result(machine, Target::Program, "lguest")
}

/// Builds the example guest, an ELF kernel.
pub fn mini_guest(project: &Project, machine: &Machine) -> Result<PathBuf> {
    let progress = Progress::start("example guest");
    let folder = project.root().join("examples/mini-guest");
    run_logged(
        machine.toolchain.cargo("build", &folder, Target::Guest).arg("--release"),
        &project.logs().join("mini-guest-cargo.log"),
    )?;
    progress.done();
    result(machine, Target::Guest, "mini-guest")
}

fn result(machine: &Machine, target: Target, name: &str) -> Result<PathBuf> {
    let path = machine.toolchain.results(target).join(name);
    if !path.is_file() {
        bail!("cargo left no {}: is the binary called `{name}`?", path.display());
    }
    Ok(path)
}
