//! `cargo xtask build`: the module, and the programs that go into the virtual machine with it.

use std::path::PathBuf;
use std::thread;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::flavour::Flavour;
use crate::module::ModuleSource;
use crate::plugin::Plugin;
use crate::process::{Progress, run_logged};
use crate::project::Project;
use crate::setup::{self, Machine};
use crate::toolchain::Target;
use crate::vm::GuestFile;

/// The programs of `examples/linux-guest/programs`.
const LINUX_PROGRAMS: [&str; 2] = ["guest-bench", "guest-test"];

/// Options of `cargo xtask build`.
#[derive(clap::Args)]
pub struct BuildArgs {
    /// Build only this [default: everything]
    #[arg(value_enum)]
    what: Option<What>,
    #[command(flatten)]
    plugins: PluginArgs,
}

/// What goes into the module beside the strategies of the project.
#[derive(clap::Args, Default)]
pub struct PluginArgs {
    /// Build the plug-in crate in this folder into the module (may be repeated)
    #[arg(long = "with-plugin", value_name = "FOLDER")]
    folders: Vec<PathBuf>,
}

impl PluginArgs {
    /// The module with these plug-ins.
    pub fn module(&self, project: &Project) -> Result<ModuleSource> {
        let plugins: Result<Vec<_>> =
            self.folders.iter().map(|folder| Plugin::locate(project, folder)).collect();
        ModuleSource::with_plugins(project, &plugins?)
    }

    /// The options as one would type them, each with a space before it.
    pub fn as_typed(&self) -> String {
        self.folders.iter().map(|folder| format!(" --with-plugin {}", folder.display())).collect()
    }
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
    let module = args.plugins.module(project)?;
    let machine = setup::ensure(project, false)?;
    let results = match args.what {
        Some(What::Module) => module.build(project, &machine, &Flavour::ALL)?,
        Some(What::Launcher) => vec![launcher(project, &machine)?],
        Some(What::Guest) => vec![mini_guest(project, &machine)?],
        None => {
            let built = build_all(project, &machine, &module, &Flavour::ALL, true);
            let mut results = built.modules?;
            results.push(built.launcher?);
            results.extend(built.guest.transpose()?);
            results
        }
    };
    for path in results {
        println!("{}", path.display());
    }
    Ok(())
}

/// What a host VM is made of: results of the three builds.
pub struct Built {
    /// `lg.ko` for each flavour that was asked for, in that order.
    pub modules: Result<Vec<PathBuf>>,
    /// The launcher.
    pub launcher: Result<PathBuf>,
    /// The example guest, if it was wanted.
    pub guest: Option<Result<PathBuf>>,
}

/// Builds all side by side: each build spends most of its time in one thread, with Rust's own libraries.
pub fn build_all(
    project: &Project,
    machine: &Machine,
    module: &ModuleSource,
    flavours: &[Flavour],
    with_guest: bool,
) -> Built {
    thread::scope(|scope| {
        let modules = scope.spawn(|| module.build(project, machine, flavours));
        let launcher = scope.spawn(|| launcher(project, machine));
        let guest = with_guest.then(|| scope.spawn(|| mini_guest(project, machine)));
        let whole = "a build reports its failure as an error";
        Built {
            modules: modules.join().expect(whole),
            launcher: launcher.join().expect(whole),
            guest: guest.map(|guest| guest.join().expect(whole)),
        }
    })
}

/// For the programs of the workspace: they are quick enough so, and whole-program optimisation of `std` takes minutes.
const QUICK_RELEASE: [&str; 4] =
    ["--config", "profile.release.lto=false", "--config", "profile.release.codegen-units=16"];

/// Builds the launcher, a static 32-bit program.
pub fn launcher(project: &Project, machine: &Machine) -> Result<PathBuf> {
    let progress = Progress::start("launcher");
    run_logged(
        machine
            .toolchain
            .cargo("build", &project.root().join("userland-launcher"), Target::Program)
            .args(["--release", "--bin", "lguest"])
            .args(QUICK_RELEASE),
        &project.logs().join("launcher-cargo.log"),
    )?;
    progress.done();
    result(machine, Target::Program, "lguest")
}

/// Builds the launcher that means harm, a static 32-bit program, as a file of the host VM.
pub fn hostile_launcher(project: &Project, machine: &Machine) -> Result<GuestFile> {
    let name = "hostile-launcher";
    let progress = Progress::start("hostile launcher");
    run_logged(
        machine
            .toolchain
            .cargo("build", &project.root().join("examples").join(name), Target::Program)
            .args(["--release", "--bin", name]),
        &project.logs().join("hostile-launcher-cargo.log"),
    )?;
    progress.done();
    Ok(GuestFile { name: name.to_owned(), path: result(machine, Target::Program, name)? })
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

/// Builds the hostile launcher of `cargo xtask fuzz`, a static 32-bit program.
pub fn fuzz_launcher(project: &Project, machine: &Machine) -> Result<PathBuf> {
    let progress = Progress::start("hostile launcher");
    let folder = project.root().join("examples/fuzz-launcher");
    run_logged(
        machine.toolchain.cargo("build", &folder, Target::Program).arg("--release").args(QUICK_RELEASE),
        &project.logs().join("fuzz-launcher-cargo.log"),
    )?;
    progress.done();
    result(machine, Target::Program, "fuzz-launcher")
}

/// The example guest as a file of the host VM.
pub fn as_guest(kernel: PathBuf) -> GuestFile {
    GuestFile { name: "mini-guest".to_owned(), path: kernel }
}

/// Builds the programs that run in a Linux guest, static 32-bit ones.
pub fn linux_programs(project: &Project, machine: &Machine) -> Result<Vec<PathBuf>> {
    let progress = Progress::start("programs for the Linux guest");
    // Their linking is in a configuration of their own, `.cargo/config.toml`, which cargo takes from the folder.
    let folder = project.root().join("examples/linux-guest/programs");
    run_logged(
        machine.toolchain.cargo("build", &folder, Target::Program).args(["--release", "--bins"]),
        &project.logs().join("linux-programs-cargo.log"),
    )?;
    progress.done();
    LINUX_PROGRAMS.iter().map(|name| result(machine, Target::Program, name)).collect()
}

fn result(machine: &Machine, target: Target, name: &str) -> Result<PathBuf> {
    let path = machine.toolchain.results(target).join(name);
    if !path.is_file() {
        bail!("cargo left no {}: is the binary called `{name}`?", path.display());
    }
    Ok(path)
}
