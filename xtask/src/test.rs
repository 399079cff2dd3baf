//! `cargo xtask test`: everything that CI checks, section by section, with one closing count.
//!
//! The sections, in order: what can be read off the sources, what runs on this machine, what runs in the host
//! VM. A section that fails does not stop the others.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, mpsc};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::flavour::Flavour;
use crate::module::ModuleSource;
use crate::plugin::Plugin;
use crate::process::output;
use crate::programs;
use crate::project::Project;
use crate::qemu::Clock;
use crate::scenarios;
use crate::setup::{self, Machine};
use crate::steps::Step;
use crate::tally::Tally;
use crate::toolchain::Target;
use crate::vm::{Boot, Contents, Vm};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out the host VM
    #[arg(long)]
    fast: bool,
    /// Run only this section or this scenario of the host VM (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// List sections and scenarios
    #[arg(long)]
    list: bool,
}

/// The sections by their names.
const SECTIONS: [(&str, &str); 8] = [
    ("rustfmt", "all sources are formatted"),
    ("clippy", "no lint warns, for any target"),
    ("rustdoc", "the documentation has no broken link"),
    ("unit", "unit and property tests on this machine"),
    ("unit-i686", "the same as 32-bit programs"),
    ("miri", "the same under the interpreter that finds undefined behaviour"),
    ("build", "the module for both kernels, the launcher, the example guest"),
    ("vm", "the scenarios in QEMU: both kernels, one processor and two"),
];

/// Folders with a workspace of their own, as they are built for i386 only.
const DETACHED: [&str; 2] = ["kmod", "examples/mini-guest"];

/// The crates whose tests are worth the interpreter's slowness.
const MIRI_CRATES: [&str; 3] = ["arch-i386", "framework", "strategies"];

/// Runs what was asked for.
///
/// # Errors
/// When a check failed, after the closing line.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    if args.list {
        for (name, what) in SECTIONS {
            println!("{name:10} {what}");
        }
        for name in scenarios::names() {
            println!("    {name}");
        }
        return Ok(());
    }
    let known =
        |name: &str| SECTIONS.iter().any(|(n, _)| *n == name) || scenarios::names().any(|n| n == name);
    if let Some(unknown) = args.only.iter().find(|name| !known(name)) {
        bail!("there is no section or scenario `{unknown}`; `cargo xtask test --list` shows all");
    }
    let machine = setup::ensure(project, false)?;
    let mut run = Run { project, machine: &machine, args, tally: Tally::new(io::stdout()) };
    for (name, what) in SECTIONS {
        if run.wants(name) {
            run.tally.say(&format!("\n== {name}: {what}"));
            match name {
                "rustfmt" => run.rustfmt(),
                "clippy" => run.clippy(),
                "rustdoc" => run.rustdoc(),
                "unit" => run.unit(),
                "unit-i686" => run.unit_i686(),
                "miri" => run.miri(),
                "build" => run.build(),
                _ => run.vm(),
            }
        }
    }
    if !run.tally.close() {
        std::process::exit(1);
    }
    Ok(())
}

struct Run<'a> {
    project: &'a Project,
    machine: &'a Machine,
    args: &'a Args,
    tally: Tally,
}

impl Run<'_> {
    fn wants(&self, section: &str) -> bool {
        if section == "vm" && self.args.fast {
            return false;
        }
        let only = &self.args.only;
        only.is_empty()
            || only.iter().any(|name| name == section)
            || (section == "vm" && scenarios::names().any(|name| only.iter().any(|only| only == name)))
    }

    /// `cargo SUBCOMMAND` with the developer's own toolchain, in a folder of the work tree.
    fn cargo(&self, subcommand: &str, folder: &str) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
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
        for (folder, target) in [("kmod", Target::Kernel), ("examples/mini-guest", Target::Guest)] {
            let folder = self.project.root().join(folder);
            let name =
                format!("clippy {} for its own target", folder.file_name().unwrap_or_default().display());
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
        for folder in DETACHED {
            let mut command = self.cargo("test", folder);
            self.tally.run_tests(&named("unit", folder), command.args(["--workspace", "--no-fail-fast"]));
        }
    }

    fn unit_i686(&mut self) {
        let mut command = self.machine.toolchain.cargo("test", self.project.root(), Target::Program);
        // This program itself only ever runs on the developer's machine.
        command.args(["--workspace", "--exclude", "xtask", "--no-fail-fast"]);
        self.tally.run_tests("unit-i686", &mut command);
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
        let example = Plugin::locate(project, &project.root().join("examples/policy-plugin"));
        let with_plugin = example
            .and_then(|plugin| ModuleSource::with_plugins(project, &[plugin]))
            .and_then(|module| module.build(project, machine, &[Flavour::Plain]));
        self.tally.check("module with a plug-in", with_plugin);
        self.tally.check("launcher", built.launcher);
        self.tally.check("example guest", built.guest.transpose());
    }

    fn vm(&mut self) {
        let only = &self.args.only;
        let whole = only.is_empty() || only.iter().any(|name| name == "vm");
        let steps = scenarios::steps(|name| whole || only.iter().any(|only| only == name));
        let contents = match self.contents() {
            Ok(contents) => contents,
            Err(error) => return self.tally.fail("vm", &format!("{error:#}")),
        };

        let queue: Mutex<VecDeque<Vm>> = Mutex::new(vms().into());
        let workers = thread::available_parallelism().map_or(1, |n| n.get().min(4));
        let (sender, boots) = mpsc::channel();
        let (project, machine, tally) = (self.project, self.machine, &mut self.tally);
        thread::scope(|scope| {
            for _ in 0..workers {
                let (sender, queue, steps, contents) = (sender.clone(), &queue, &steps, &contents);
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().expect("no worker panics with the queue").pop_front();
                        let Some(vm) = next else { break };
                        let contents = &contents[usize::from(vm.flavour == Flavour::Pae)];
                        let boot = vm.run(project, &machine.kernels, contents, steps, |_| {});
                        // The receiver lives as long as the scope.
                        let _ = sender.send((vm, boot));
                    }
                });
            }
            drop(sender);
            for (vm, boot) in boots {
                report(tally, &vm, &steps, boot);
            }
        });
    }

    /// What goes into the VMs, one for each flavour in their order.
    fn contents(&self) -> Result<Vec<Contents>> {
        let (project, machine) = (self.project, self.machine);
        let built = programs::build_all(project, machine, &ModuleSource::of(project), &Flavour::ALL, true);
        let (launcher, guest) = (built.launcher?, built.guest.transpose()?);
        let guests: Vec<_> = guest.into_iter().collect();
        let of = |module: PathBuf| Contents { module, launcher: launcher.clone(), guests: guests.clone() };
        Ok(built.modules?.into_iter().map(of).collect())
    }
}

/// Every kernel on one processor and on two. One processor's time is counted in instructions, so that a failure
/// there can be repeated exactly; two really run at once.
fn vms() -> Vec<Vm> {
    let mut all = Vec::new();
    for (processors, clock) in [(2, Clock::Real), (1, Clock::Instructions(1))] {
        for flavour in Flavour::ALL {
            all.push(Vm { name: format!("test-{flavour}-{processors}cpu"), flavour, processors, clock });
        }
    }
    all
}

fn report(tally: &mut Tally, vm: &Vm, steps: &[Step], boot: Result<Boot>) {
    tally.say(&format!("\n-- {}, {} CPU", vm.flavour, vm.processors));
    let boot = match boot.with_context(|| format!("{} could not be booted", vm.name)) {
        Ok(boot) => boot,
        Err(error) => return tally.fail(&vm.name, &format!("{error:#}")),
    };
    for (step, outcome) in steps.iter().zip(&boot.outcomes) {
        let name = format!("{} {}", vm.name, step.name);
        match outcome.status {
            Some(0) => tally.pass(&name),
            Some(status) => {
                let from = outcome.output.len().saturating_sub(30);
                let last = outcome.output[from..].join("\n");
                tally.fail(&name, &format!("status {status}; its last lines:\n{last}"));
            }
            None => tally.fail(&name, "the VM broke down before its end"),
        }
    }
    let name = format!("{} kernel log and power-off", vm.name);
    let mut wrong = boot.complaints;
    wrong.extend(boot.breakdown);
    if wrong.is_empty() {
        tally.pass(&name);
    } else {
        tally.fail(&name, &format!("{}\nAll logs: {}", wrong.join("\n"), boot.folder.display()));
    }
}

fn named(what: &str, folder: &str) -> String {
    format!("{what} {folder}").trim_end().to_owned()
}
