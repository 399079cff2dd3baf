//! `cargo xtask profile`: where the instructions of one workload go, by function.
//!
//! The example guest does the workload in the host VM, with a plug-in in QEMU (`benches/lab/qemu-counter`) that counts each
//! instruction between the marks which the guest sets around what it measures. So the counts are exact and whole:
//! the guest's kernel and programs, the Switcher, the module, and the host's kernel with its interrupts. A
//! compiler merges functions into one another; what was merged counts for the function that is left.
//!
//! [`counts`] reads what the plug-in writes, [`symbols`] gives the addresses their names: those of the guest from
//! its ELF file, the others from the running kernel's `/proc/kallsyms`.

mod counts;
mod symbols;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};

pub use counts::{Profile, WORLDS, World};
use xtask::flavour::Flavour;
use xtask::kernels::Kernels;
use xtask::module::ModuleSource;
use xtask::process::{Progress, cargo, run_logged};
use xtask::programs;
use xtask::project::Project;
use xtask::qemu::{Clock, Processor};
use xtask::setup;
use xtask::steps::Step;
use xtask::vm::{Contents, Vm};

use counts::Map;
use symbols::{Functions, Kallsyms};

/// Under the instruction clock one instruction takes 2 nanoseconds, as in `cargo xtask demo`.
const CLOCK: Clock = Clock::Instructions(1);

/// Options of `cargo xtask profile`.
#[derive(clap::Args)]
pub struct Args {
    /// What the example guest does; a wrong name makes it list what there is
    #[arg(long, value_name = "NAME", default_value = "fork")]
    workload: String,
    /// The strategy that it runs under, as NAME or NAME:parameter=value
    #[arg(long, value_name = "NAME", default_value = "lguest")]
    strategy: String,
    /// On the kernel with three-level page tables (686-pae)
    #[arg(long)]
    pae: bool,
    /// Show this many functions
    #[arg(long, value_name = "N", default_value_t = 40)]
    top: usize,
    /// Write all functions as collapsed stacks, which programs that draw flame graphs read
    #[arg(long, value_name = "FILE")]
    collapsed: Option<PathBuf>,
}

/// The command itself.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let machine = setup::ensure(project, false)?;
    let flavour = if args.pae { Flavour::Pae } else { Flavour::Plain };
    let built = programs::build_all(project, &machine, &ModuleSource::of(project), &[flavour], true);
    let (module, launcher) = (built.modules?.swap_remove(0), built.launcher?);
    let kernel = built.guest.transpose()?.context("the example guest was not built")?;
    let contents = Contents { module, launcher, guests: vec![programs::as_guest(kernel.clone())] };
    let counter = Counter::new(project, &machine.kernels, contents, &kernel, flavour)?;

    let progress =
        Progress::start(format!("`{}` under {} on {flavour}, counted", args.workload, args.strategy));
    let Counted { operations, profile } = counter.count(&Work {
        strategy: &args.strategy,
        launcher: "",
        guest: &format!("bench={}", args.workload),
    })?;
    progress.done();
    if let Some(file) = &args.collapsed {
        fs::write(file, profile.collapsed()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{operations} operations of `{}` under {} on {flavour}\n", args.workload, args.strategy);
    println!("{}\n\n{}", by_world(&profile, operations), by_function(&profile, operations, args.top));
    Ok(())
}

/// A host VM whose instructions are counted.
pub struct Counter<'a> {
    project: &'a Project,
    kernels: &'a Kernels,
    contents: Contents,
    /// The example guest's functions.
    guest: Functions,
    /// The plug-in for QEMU.
    plugin: PathBuf,
    vm: Vm,
}

/// What is done in it.
pub struct Work<'a> {
    /// The strategy, as the module is given it.
    pub strategy: &'a str,
    /// More options for the launcher.
    pub launcher: &'a str,
    /// The example guest's command line, which names one workload.
    pub guest: &'a str,
}

/// What was counted between the guest's marks.
pub struct Counted {
    /// Operations of the workload.
    pub operations: u64,
    /// The instructions of all of them.
    pub profile: Profile,
}

impl<'a> Counter<'a> {
    /// One with these contents, among them the example guest, which is the ELF file `kernel`.
    pub fn new(
        project: &'a Project,
        kernels: &'a Kernels,
        contents: Contents,
        kernel: &Path,
        flavour: Flavour,
    ) -> Result<Counter<'a>> {
        let plugin = build_plugin(project)?;
        let guest = Functions::of_elf(&fs::read(kernel)?).with_context(|| kernel.display().to_string())?;
        let vm = Vm {
            name: format!("profile-{flavour}"),
            flavour,
            processors: 1,
            processor: Processor::default(),
            clock: CLOCK,
        };
        Ok(Counter { project, kernels, contents, guest, plugin, vm })
    }

    /// Where the logs of what was counted last are.
    pub fn folder(&self) -> PathBuf {
        self.project.logs().join("vm").join(&self.vm.name)
    }

    /// Boots the VM, has the work done and counts.
    ///
    /// # Errors
    /// When something of that fails.
    pub fn count(&self, work: &Work<'_>) -> Result<Counted> {
        let counts = self.folder().join("counts");
        // An older one would be taken for this run's.
        let _ = fs::remove_file(&counts);
        let plugin = self.plugin.display();
        let options = ["-plugin".to_owned(), format!("file={plugin},out={}", counts.display())];
        let steps = steps(work);
        let boot = self.vm.run_with(&options, self.project, self.kernels, &self.contents, &steps, |_| {})?;
        if let Some(breakdown) = &boot.breakdown {
            bail!("{breakdown}.\n{}", boot.logs());
        }
        let [_, symbols, run, _] = &boot.outcomes[..] else {
            bail!("the VM has not done its steps. {}", boot.logs())
        };
        if let Some(failed) = boot.outcomes.iter().find(|outcome| !outcome.passed()) {
            bail!("a step failed: {}\n{}", failed.output.join("\n    "), boot.logs());
        }
        let (base, lines) = symbols.output.split_first().context("the step `symbols` printed nothing")?;
        let base = base.split_whitespace().next().and_then(|word| u64::from_str_radix(word, 16).ok());
        let base = base.context("the module does not say where its Switcher is")?;
        let host = Kallsyms::parse(lines.iter().map(String::as_str))?;
        let map = Map { switcher: host.switcher(self.vm.flavour, base)?, host: &host, guest: &self.guest };
        let read = fs::read_to_string(&counts)
            .with_context(|| format!("QEMU left no {}. {}", counts.display(), boot.logs()))?;
        let profile = Profile::read(&read, &map)?;
        if profile.total() == 0 {
            bail!("nothing was counted: the guest set no marks. {}", boot.logs());
        }
        let operations =
            operations(&run.output).context("the guest does not say how many operations it did")?;
        Ok(Counted { operations, profile })
    }
}

/// Builds the plug-in with the developer's own toolchain, as QEMU is a program of the developer's machine.
fn build_plugin(project: &Project) -> Result<PathBuf> {
    let progress = Progress::start("plug-in for QEMU");
    run_logged(
        Command::new(cargo())
            .args(["build", "--release", "--package", "qemu-counter"])
            .current_dir(project.root())
            .env("CARGO_TARGET_DIR", project.target()),
        &project.logs().join("qemu-counter-cargo.log"),
    )?;
    progress.done();
    let plugin = project.target().join("release/libqemu_counter.so");
    if !plugin.is_file() {
        bail!("cargo left no {}", plugin.display());
    }
    // QEMU's options end at a comma.
    if plugin.to_string_lossy().contains(',') {
        bail!("QEMU cannot load {}: choose a CARGO_TARGET_DIR without a comma", plugin.display());
    }
    Ok(plugin)
}

fn steps(work: &Work<'_>) -> Vec<Step> {
    let symbols = "parameter switcher
        grep -i ' [tw] ' /proc/kallsyms";
    let Work { strategy, launcher, guest } = work;
    let run = format!("exec lguest {launcher} --strategy '{strategy}' /guests/mini-guest {guest}");
    let with_time = |step: Step| Step { limit: Duration::from_secs(900), ..step };
    vec![
        Step::new("load", "load seed=42"),
        // A serial line is slow in the VM's own time.
        with_time(Step::new("symbols", symbols)),
        with_time(Step::new("run", run)),
        Step::new("unload", "unload"),
    ]
}

/// How many operations the guest reports: `span end NAME operations=N …`.
fn operations(output: &[String]) -> Option<u64> {
    let end = output.iter().find_map(|line| line.trim().strip_prefix("span end "))?;
    end.split_whitespace().find_map(|word| word.strip_prefix("operations=")?.parse().ok())
}

/// A table whose columns of numbers, all but the first `names`, are aligned.
fn table_of(header: &[&str], names: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn share(count: u64, profile: &Profile) -> String {
    format!("{:.1} %", 100.0 * count as f64 / profile.total() as f64)
}

fn by_world(profile: &Profile, operations: u64) -> Table {
    let mut table = table_of(&["whose", "instructions an operation", "share"], 1);
    for world in WORLDS {
        let count = profile.of(world);
        table.add_row([world.to_string(), (count / operations).to_string(), share(count, profile)]);
    }
    let total = profile.total();
    table.add_row(["all".to_owned(), (total / operations).to_string(), share(total, profile)]);
    table
}

fn by_function(profile: &Profile, operations: u64, top: usize) -> Table {
    let mut table = table_of(&["whose", "function", "instructions an operation", "share"], 2);
    for (world, name, count) in profile.sorted().into_iter().take(top) {
        let each = format!("{:.1}", count as f64 / operations as f64);
        table.add_row([world.to_string(), name.to_owned(), each, share(count, profile)]);
    }
    table
}
