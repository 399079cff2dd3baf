//! `cargo xtask build`: the module, and the programs that go into the virtual machine with it.

use std::path::PathBuf;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::flavour::Flavour;
use crate::module::ModuleSource;
use crate::passed_on::Package;
use crate::plugin::Plugin;
use crate::process::{Progress, run_logged};
use crate::project::Project;
use crate::setup::{self, Machine};
use crate::toolchain::Target;
use crate::vm::GuestFile;

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

/// The command itself: sets up, builds, prints where the results are.
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
    /// `lg.ko` for each flavour that was requested, in that order.
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
pub const QUICK_RELEASE: [&str; 4] =
    ["--config", "profile.release.lto=false", "--config", "profile.release.codegen-units=16"];

/// Programs of one package for i386, as cargo builds them.
pub struct Program<'a> {
    /// What is shown of it while it is built.
    pub what: &'a str,
    /// The package's folder in the work tree. Cargo takes its configuration from there.
    pub folder: &'a str,
    /// What it runs on.
    pub target: Target,
    /// More options for `cargo build`.
    pub options: &'a [&'a str],
}

impl Program<'_> {
    /// Builds the binaries of these names, and returns their files.
    ///
    /// # Errors
    /// When one does not build.
    pub fn build<const N: usize>(
        &self,
        project: &Project,
        machine: &Machine,
        names: [&str; N],
    ) -> Result<[PathBuf; N]> {
        let progress = Progress::start(self.what);
        let mut cargo = machine.toolchain.cargo("build", &project.root().join(self.folder), self.target);
        cargo.arg("--release").args(names.map(|name| format!("--bin={name}"))).args(self.options);
        run_logged(&mut cargo, &project.logs().join(format!("{}-cargo.log", names[0])))?;
        progress.done();
        let files = names.map(|name| machine.toolchain.results(self.target).join(name));
        if let Some(missing) = files.iter().find(|file| !file.is_file()) {
            bail!("cargo left no {}", missing.display());
        }
        Ok(files)
    }
}

/// Builds the launcher, a static 32-bit program.
pub fn launcher(project: &Project, machine: &Machine) -> Result<PathBuf> {
    let program = Program {
        what: "launcher",
        folder: "userland-launcher",
        target: Target::Program,
        options: &QUICK_RELEASE,
    };
    program.build(project, machine, ["lguest"]).map(|[file]| file)
}

/// Builds the launcher that means harm, a static 32-bit program, as a file of the host VM.
pub fn hostile_launcher(project: &Project, machine: &Machine) -> Result<GuestFile> {
    let name = "hostile-launcher";
    let folder = "examples/hostile-launcher";
    let program = Program { what: "hostile launcher", folder, target: Target::Program, options: &[] };
    let [path] = program.build(project, machine, [name])?;
    Ok(GuestFile { name: name.to_owned(), path })
}

/// Builds the example guest, an ELF kernel.
pub fn mini_guest(project: &Project, machine: &Machine) -> Result<PathBuf> {
    let folder = "examples/mini-guest";
    let program = Program { what: "example guest", folder, target: Target::Guest, options: &[] };
    program.build(project, machine, ["mini-guest"]).map(|[file]| file)
}

/// The example guest as a file of the host VM.
pub fn as_guest(kernel: PathBuf) -> GuestFile {
    GuestFile { name: "mini-guest".to_owned(), path: kernel }
}

/// Builds the Linux guest of a series, by the crate that does that, as files of the host VM.
///
/// # Errors
/// When it does not build; the reasons are printed.
pub fn linux_guest(project: &Project, series: &str, pae: bool) -> Result<Vec<GuestFile>> {
    let mut command = Package::LinuxGuestBuilder.command(project, "linux-guest");
    command.args(["--source", series]).args(pae.then_some("--pae"));
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the Linux guest was not built; the reason is above");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let file = |what: &str, name: &str| -> Result<GuestFile> {
        let path = text.lines().find_map(|line| line.strip_prefix(what));
        let path = path.with_context(|| format!("`cargo xtask linux-guest` names no {what}"))?;
        Ok(GuestFile { name: name.to_owned(), path: path.into() })
    };
    Ok(vec![file("kernel: ", "linux")?, file("initrd: ", "linux.initrd")?])
}
