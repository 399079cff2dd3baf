//! `cargo xtask test`: everything that CI checks, section by section, with one closing count.
//!
//! The sections, in order: what can be read off the sources, what runs on this machine, what runs in the host
//! VM. A section that fails does not stop the others.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::accelerator::Accelerator;
use crate::boots::{self, Job};
use crate::flavour::Flavour;
use crate::hosts::{self, Host};
use crate::kernels::Kernels;
use crate::module::ModuleSource;
use crate::passed_on::Package;
use crate::plugin::Plugin;
use crate::process::{cargo, output};
use crate::processors;
use crate::programs;
use crate::project::Project;
use crate::scenarios;
use crate::setup::{self, Machine};
use crate::steps::Step;
use crate::tally::Tally;
use crate::toolchain::Target;
use crate::vm::{Contents, GuestFile, Vm};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the host VM, and with it the Linux guest
    #[arg(long)]
    fast: bool,
    /// Run also what takes too long for each change: Linux as a guest with its own checks, and on every strategy; the packages
    #[arg(long)]
    long: bool,
    /// Run only this section or this scenario of the host VM (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Run only the scenarios of the host VM (those of --only, if there are any), on this kernel: `all`, or one of
    /// docs/hosts.md (may be repeated)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["fast", "long", "list"])]
    host: Vec<String>,
    /// What executes the host VM. With `kvm`, this machine's own processor, only its scenarios run (those of --only, if there are
    /// any), on Debian 12's two kernels or those of --host
    #[arg(long, value_enum, value_name = "HOW", default_value = "tcg", conflicts_with_all = ["fast", "long", "list"])]
    accel: Accelerator,
    /// List sections and scenarios
    #[arg(long)]
    list: bool,
}

/// The sections by their names.
const SECTIONS: [(&str, &str); 15] = [
    ("rustfmt", "all sources are formatted"),
    ("clippy", "no lint warns, for any target"),
    ("rustdoc", "the documentation has no broken link"),
    ("book", "the documents are one book, and every link in them leads somewhere"),
    ("unit", "unit and property tests on this machine"),
    ("unit-i686", "the same as 32-bit programs"),
    ("miri", "the same under the interpreter that finds undefined behaviour"),
    ("instructions", "the pager's hot paths take as many instructions as before, within 2 %"),
    ("build", "the module for both kernels, the launcher, the example guest"),
    ("vm", "the scenarios in QEMU: both kernels, one processor and two"),
    ("inject", "every event at every instruction of the Switcher, on one way each, on both kernels"),
    ("processors", "some of them on other processors, from a Pentium III to all that QEMU emulates"),
    (
        "bench",
        "a short benchmark gives the same figures twice; a profile names functions; a recording agrees with the guest",
    ),
    ("linux", "the Linux guest: builds its kernels, runs its scenarios on both hosts"),
    (
        PACKAGE,
        "with --long only: the Debian packages, installed, used through an upgrade of the kernel, removed; the disk image",
    ),
];

/// Those that need QEMU, and what is done in it.
const IN_QEMU: [&str; 6] = ["vm", "inject", "processors", "bench", "linux", PACKAGE];

/// The one that takes too long for each change.
const PACKAGE: &str = "package";

/// How the names of the Linux guest's scenarios begin. The crate that makes them has the list of them.
pub const OF_LINUX: &str = "linux-";

/// Folders with a workspace of their own, as they are built for i386 only.
const DETACHED: [&str; 4] = ["kmod", "examples/mini-guest", LINUX_PROGRAMS, "examples/hostile-launcher"];

/// Those of them whose tests run on the developer's machine; the last is for i386's processor and Linux only.
const DETACHED_HERE: [&str; 2] = ["kmod", "examples/mini-guest"];
const LINUX_PROGRAMS: &str = "examples/linux-guest/programs";

/// The crates of the workspace that only ever run on the developer's machine.
const HERE_ONLY: [&str; 8] =
    ["xtask", "book", "module-link", "lab", "attack", "linux-guest-builder", "fuzz-targets", "packages"];

/// The crates whose tests are worth the interpreter's slowness. (The Switcher's assembly is on the kernel's target
/// only; its tests are of layouts in plain memory.)
const MIRI_CRATES: [&str; 5] = ["arch-i386", "fallible", "framework", "strategies", "switcher"];

/// Runs what was requested.
///
/// # Errors
/// When a check failed, after the closing line.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    if args.list {
        for (name, what) in SECTIONS {
            println!("{name:10} {what}");
        }
        for name in IN_QEMU.iter().flat_map(|section| scenarios_of(section)) {
            println!("    {name}");
        }
        let mut command = Package::LinuxGuestBuilder.command(project, "section");
        print!("{}", output(command.args(["linux", "--list"]))?);
        return Ok(());
    }
    let known = |name: &str| {
        SECTIONS.iter().any(|(n, _)| *n == name)
            || IN_QEMU.iter().any(|n| scenarios_of(n).contains(&name))
            || name.starts_with(OF_LINUX)
    };
    if let Some(unknown) = args.only.iter().find(|name| !known(name)) {
        bail!("there is no section or scenario `{unknown}`; `cargo xtask test --list` shows all");
    }
    let hosts = hosts::chosen(&args.host)?;
    if (!hosts.is_empty() || args.accel == Accelerator::Kvm)
        && let Some(name) = args.only.iter().find(|name| !scenarios_of("vm").contains(&name.as_str()))
    {
        bail!("`{name}` is no scenario of the host VM, and nothing else runs with --host or --accel kvm");
    }
    let machine = setup::ensure(project, false)?;
    args.accel.check()?;
    let mut run = Run { project, machine: &machine, args, tally: Tally::new(io::stdout()) };
    let mut times = Vec::new();
    for host in &hosts {
        run.tally.say(&format!("\n== host {}", host.name));
        run.host(host);
    }
    for (name, what) in SECTIONS {
        if hosts.is_empty() && run.wants(name) {
            run.tally.say(&format!("\n== {name}: {what}"));
            let begun = Instant::now();
            match name {
                "rustfmt" => run.rustfmt(),
                "clippy" => run.clippy(),
                "rustdoc" => run.rustdoc(),
                "book" => run.elsewhere(Package::Book, name),
                "unit" => run.unit(),
                "unit-i686" => run.unit_i686(),
                "miri" => run.miri(),
                "instructions" | "bench" => run.elsewhere(Package::Lab, name),
                "build" => run.build(),
                "vm" => run.vm(),
                "inject" => run.elsewhere(Package::Attack, name),
                "processors" => run.processors(),
                PACKAGE => run.elsewhere(Package::Packages, name),
                _ => run.elsewhere(Package::LinuxGuestBuilder, name),
            }
            let seconds = begun.elapsed().as_secs();
            times.push(format!("{name} {}:{:02}", seconds / 60, seconds % 60));
        }
    }
    if hosts.is_empty() {
        run.tally.say(&format!("\nminutes by section: {}", times.join(", ")));
    }
    if !run.tally.close() {
        std::process::exit(1);
    }
    Ok(())
}

/// The scenarios of a section that is made here.
fn scenarios_of(section: &str) -> Vec<&'static str> {
    match section {
        "vm" => scenarios::names().collect(),
        "processors" => processors::names().collect(),
        _ => Vec::new(),
    }
}

struct Run<'a> {
    project: &'a Project,
    machine: &'a Machine,
    args: &'a Args,
    tally: Tally,
}

impl Run<'_> {
    fn wants(&self, section: &str) -> bool {
        if self.args.accel == Accelerator::Kvm && section != "vm" {
            return false;
        }
        if IN_QEMU.contains(&section) && self.args.fast {
            return false;
        }
        if section == PACKAGE && !self.args.long {
            return self.names(section);
        }
        self.wants_whole(section)
            || scenarios_of(section).into_iter().any(|name| self.names(name))
            || section == "linux" && self.of_linux().next().is_some()
    }

    /// Whether all of a section is wanted.
    fn wants_whole(&self, section: &str) -> bool {
        self.args.only.is_empty() || self.names(section)
    }

    /// The scenarios of the Linux guest that are named.
    fn of_linux(&self) -> impl Iterator<Item = &String> {
        self.args.only.iter().filter(|name| name.starts_with(OF_LINUX))
    }

    fn names(&self, name: &str) -> bool {
        self.args.only.iter().any(|only| only == name)
    }

    /// `cargo SUBCOMMAND` with the developer's own toolchain, in a folder of the work tree.
    fn cargo(&self, subcommand: &str, folder: &str) -> Command {
        let mut command = Command::new(cargo());
        command.arg(subcommand).current_dir(self.project.root().join(folder));
        command.env("CARGO_TARGET_DIR", self.project.target());
        command
    }

    fn rustfmt(&mut self) {
        for folder in [""].iter().chain(&DETACHED) {
            let mut command = self.cargo("fmt", folder);
            self.tally.run(&named("rustfmt", folder), command.args(["--all", "--check"]));
        }
    }

    fn clippy(&mut self) {
        let mut command = self.cargo("clippy", "");
        self.tally.run("clippy", command.args(["--workspace", "--all-targets", "--", "-Dwarnings"]));
        let mut command = self.cargo("clippy", "examples/mini-guest");
        let host = "clippy examples/mini-guest (library)";
        self.tally.run(host, command.args(["--workspace", "--all-targets", "--", "-Dwarnings"]));
        for (folder, target) in
            DETACHED.into_iter().zip([Target::Kernel, Target::Guest, Target::Program, Target::Program])
        {
            let name = format!("clippy {folder} for its own target");
            let folder = self.project.root().join(folder);
            self.tally.run(&name, &mut self.machine.toolchain.clippy(&folder, target));
        }
    }

    fn rustdoc(&mut self) {
        let mut command = self.cargo("doc", "");
        command.args(["--workspace", "--no-deps", "--document-private-items"]);
        // With private items in it, links to them lead somewhere.
        let flags = "-Dwarnings -Arustdoc::private_intra_doc_links";
        self.tally.run("rustdoc", command.env("RUSTDOCFLAGS", flags));
    }

    fn unit(&mut self) {
        let mut command = self.cargo("test", "");
        self.tally.run_tests("unit", command.args(["--workspace", "--no-fail-fast"]));
        for folder in DETACHED_HERE {
            let mut command = self.cargo("test", folder);
            self.tally.run_tests(&named("unit", folder), command.args(["--workspace", "--no-fail-fast"]));
        }
    }

    fn unit_i686(&mut self) {
        let mut command = self.machine.toolchain.cargo("test", self.project.root(), Target::Program);
        // With symbols, for what a failing test prints.
        command.env_remove("RUSTFLAGS");
        command.args(["--workspace", "--no-fail-fast"]);
        command.args(HERE_ONLY.iter().flat_map(|package| ["--exclude", package]));
        self.tally.run_tests("unit-i686", &mut command);
        let folder = self.project.root().join(LINUX_PROGRAMS);
        let mut command = self.machine.toolchain.cargo("test", &folder, Target::Program);
        command.env_remove("RUSTFLAGS");
        // They abort when they panic, and two kinds of standard library cannot be built at once.
        command.args(["-Zpanic-abort-tests", "--no-fail-fast"]);
        self.tally.run_tests(&named("unit-i686", LINUX_PROGRAMS), &mut command);
    }

    fn miri(&mut self) {
        if output(self.cargo("miri", "").arg("--version")).is_err() {
            let why = "this toolchain has no `cargo miri` (rustup +nightly component add miri)";
            self.tally.skip("miri", why);
            return;
        }
        let mut command = self.cargo("miri", "");
        command.arg("test");
        for package in MIRI_CRATES {
            command.args(["-p", package]);
        }
        self.tally.run_tests("miri", &mut command);
    }

    fn build(&mut self) {
        let (project, machine) = (self.project, self.machine);
        let built = programs::build_all(project, machine, &ModuleSource::of(project), &Flavour::ALL, true);
        self.tally.check("module for both kernels", built.modules);
        let plugin = self.module_with_plugin();
        let plugin = plugin.and_then(|source| source.build(project, machine, &[Flavour::Plain]));
        self.tally.check("module with a plug-in", plugin);
        self.tally.check("launcher", built.launcher);
        self.tally.check("example guest", built.guest.transpose());
    }

    /// The module with the plug-ins that are tried in the host VM.
    fn module_with_plugin(&self) -> Result<ModuleSource> {
        let locate = |folder| Plugin::locate(self.project, &self.project.root().join(folder));
        let plugins = scenarios::PLUGINS.into_iter().map(locate).collect::<Result<Vec<_>>>()?;
        ModuleSource::with_plugins(self.project, &plugins)
    }

    /// The scenarios that are wanted.
    fn steps(&self) -> Vec<Step> {
        scenarios::steps(|name| self.wants_whole("vm") || self.names(name))
    }

    /// What `steps` need in the VM beside the usual, where `build` builds a module for its kernel.
    fn files_for(
        &self,
        steps: &[Step],
        build: impl Fn(&ModuleSource) -> Result<PathBuf>,
    ) -> Result<Vec<GuestFile>> {
        let mut files = Vec::new();
        if steps.iter().any(|step| scenarios::WITH_PLUGIN.contains(&step.name.as_str())) {
            let path = build(&self.module_with_plugin()?)?;
            files.push(GuestFile { name: scenarios::MODULE_WITH_PLUGIN.to_owned(), path });
        }
        if steps.iter().any(|step| scenarios::border::is_one(&step.name)) {
            files.push(programs::hostile_launcher(self.project, self.machine)?);
        }
        Ok(files)
    }

    fn vm(&mut self) {
        let (project, machine) = (self.project, self.machine);
        let steps = self.steps();
        let more = |flavour: Flavour| {
            let build =
                |source: &ModuleSource| Ok(source.build(project, machine, &[flavour])?.swap_remove(0));
            self.files_for(&steps, build)
        };
        let jobs = boots::hosts(project, machine, true, more).map(|hosts| {
            let contents = |vm: &Vm| hosts[usize::from(vm.flavour == Flavour::Pae)].clone();
            self.jobs_of("test", &Flavour::ALL, &steps, contents)
        });
        self.boot("vm", jobs);
    }

    /// The scenarios on one kernel.
    fn host(&mut self, host: &Host) {
        match self.jobs_on(host) {
            Ok((kernels, jobs)) => boots::run_all(self.project, &kernels, jobs, &mut self.tally),
            Err(error) => self.tally.fail(host.name, &format!("{error:#}")),
        }
    }

    /// Builds everything for a kernel; returns it, and what is to be done on it.
    fn jobs_on(&self, host: &Host) -> Result<(Kernels, Vec<Job>)> {
        let (project, machine) = (self.project, self.machine);
        let kernels = machine.kernels.of_host(project, host)?;
        let headers = kernels.headers(host.flavour);
        let build = |source: &ModuleSource| source.build_against(project, machine, host.name, &headers);
        let steps = self.steps();
        let module = build(&ModuleSource::of(project))?;
        let mut guests = vec![programs::as_guest(programs::mini_guest(project, machine)?)];
        guests.extend(self.files_for(&steps, build)?);
        let contents = Contents { module, launcher: programs::launcher(project, machine)?, guests };
        let name = format!("host-{}", host.name.trim_end_matches(host.flavour.name()).trim_end_matches('-'));
        Ok((kernels, self.jobs_of(&name, &[host.flavour], &steps, |_| contents.clone())))
    }

    /// A section that is made by the program of another crate.
    fn elsewhere(&mut self, package: Package, section: &str) {
        let mut command = package.command(self.project, "section");
        command.arg(section);
        if package == Package::LinuxGuestBuilder {
            command.args(self.args.long.then_some("--long"));
            // All of them, if the section is named too.
            let whole = self.wants_whole(section);
            command.args(self.of_linux().filter(|_| !whole).map(|name| format!("--only={name}")));
        }
        self.tally.run_section(section, &mut command);
    }

    fn processors(&mut self) {
        let boots = processors::boots(|name| self.wants_whole("processors") || self.names(name));
        let hostile = |_| Ok(vec![programs::hostile_launcher(self.project, self.machine)?]);
        let hosts = boots::hosts(self.project, self.machine, true, hostile);
        self.boot("processors", hosts.map(|hosts| boots::jobs(boots, &hosts)));
    }

    /// A job for each VM in which any of `steps` is to be run, with what `contents` has for it.
    fn jobs_of(
        &self,
        name: &str,
        flavours: &[Flavour],
        steps: &[Step],
        contents: impl Fn(&Vm) -> Contents,
    ) -> Vec<Job> {
        let job = |vm: Vm| {
            let here = |step: &&Step| scenarios::runs_on(&step.name, vm.processors);
            let steps: Vec<_> = steps.iter().filter(here).cloned().collect();
            (!steps.is_empty()).then(|| Job { contents: contents(&vm), vm, steps })
        };
        vms(name, flavours, self.args.accel).into_iter().filter_map(job).collect()
    }

    fn boot(&mut self, section: &str, jobs: Result<Vec<Job>>) {
        match jobs {
            Ok(jobs) => boots::run_all(self.project, &self.machine.kernels, jobs, &mut self.tally),
            Err(error) => self.tally.fail(section, &format!("{error:#}")),
        }
    }
}

/// Every kernel on one processor and on two.
fn vms(name: &str, flavours: &[Flavour], accelerator: Accelerator) -> Vec<Vm> {
    let name = match accelerator {
        Accelerator::Tcg => name.to_owned(),
        Accelerator::Kvm => format!("{name}-kvm"),
    };
    let mut all = Vec::new();
    for processors in [2, 1] {
        for &flavour in flavours {
            all.push(Vm {
                name: format!("{name}-{flavour}-{processors}cpu"),
                flavour,
                processors,
                processor: accelerator.processor(),
                clock: accelerator.clock(processors),
            });
        }
    }
    all
}

fn named(what: &str, folder: &str) -> String {
    format!("{what} {folder}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::qemu::{Clock, Processor};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, clap::Error> {
        Line::try_parse_from(format!("test {words}").split_whitespace()).map(|line| line.args)
    }

    #[test]
    fn kvm_is_for_the_scenarios_of_the_host_vm() {
        assert_eq!(parse("").unwrap().accel, Accelerator::Tcg);
        let args = parse("--accel kvm --host 5.10-686 --only two-guests").unwrap();
        assert_eq!(args.accel, Accelerator::Kvm);
        for other in ["--fast", "--long", "--list"] {
            assert!(parse(&format!("--accel kvm {other}")).is_err(), "{other}");
        }
        let project = Project::locate().unwrap();
        for other in ["bench", "pentium3", "linux-boots"] {
            let refused = run(&project, &parse(&format!("--accel kvm --only {other}")).unwrap());
            let why = refused.unwrap_err().to_string();
            assert!(why.contains(other) && why.contains("--accel kvm"), "{why}");
        }
    }

    #[test]
    fn every_kernel_gets_one_processor_and_two_by_either_accelerator() {
        let made = |accelerator| {
            let vms = vms("test", &Flavour::ALL, accelerator);
            vms.iter().map(|vm| (vm.name.clone(), vm.processors, vm.processor, vm.clock)).collect::<Vec<_>>()
        };
        let emulated = Processor::CoreDuo;
        let counted = Clock::Instructions(1);
        assert_eq!(
            made(Accelerator::Tcg),
            [
                ("test-686-2cpu".to_owned(), 2, emulated, Clock::Real),
                ("test-686-pae-2cpu".to_owned(), 2, emulated, Clock::Real),
                ("test-686-1cpu".to_owned(), 1, emulated, counted),
                ("test-686-pae-1cpu".to_owned(), 1, emulated, counted),
            ]
        );
        let on_kvm = made(Accelerator::Kvm);
        let names: Vec<_> = on_kvm.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names[0], "test-kvm-686-2cpu");
        assert_eq!(names.len(), 4);
        assert!(
            on_kvm.iter().all(|&(.., processor, clock)| (processor, clock) == (Processor::Own, Clock::Real))
        );
    }
}
