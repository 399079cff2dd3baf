//! A boot in which every instruction is counted: of the host VM with a guest in it, or of the guest's kernel on the bare
//! machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::counts::{HostMap, Map, Profile};
use super::symbols::{Functions, Kallsyms};
use crate::workloads::{Guest, LINUX_PRINTS_MARKS, on_the_bare_machine};
use xtask::flavour::Flavour;
use xtask::kernels::Kernels;
use xtask::process::{Progress, cargo, run_logged};
use xtask::project::Project;
use xtask::qemu::{Clock, End, Limits, Pc, Processor};
use xtask::steps::Step;
use xtask::vm::{Contents, Vm};

/// Under the instruction clock one instruction takes 2 nanoseconds, as in `cargo xtask demo`.
const CLOCK: Clock = Clock::Instructions(1);

/// A host VM whose instructions are counted.
pub struct Counter<'a> {
    project: &'a Project,
    kernels: &'a Kernels,
    contents: Contents,
    /// The functions of the guest's kernel.
    guest: Functions,
    plugin: Plugin,
    vm: Vm,
}

/// What is done in it: a workload of a guest.
pub struct Work<'a> {
    /// The strategy, as the module is given it.
    pub strategy: &'a str,
    /// The guest's memory in MiB.
    pub memory: u32,
    /// Which guest it is.
    pub guest: Guest,
    /// The workload.
    pub workload: &'a str,
    /// The example guest's seed.
    pub seed: u32,
    /// Percent of the workload's usual operations.
    pub scale: u32,
}

/// What was counted between the guest's marks.
pub struct Counted {
    /// Operations of the workload.
    pub operations: u64,
    /// The instructions of all of them.
    pub profile: Profile,
}

impl<'a> Counter<'a> {
    /// One with these contents, among them a guest whose kernel has these functions.
    pub fn new(
        project: &'a Project,
        kernels: &'a Kernels,
        contents: Contents,
        guest: Functions,
        flavour: Flavour,
    ) -> Result<Counter<'a>> {
        let plugin = Plugin::build(project)?;
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
        let counts = self.plugin.counts(&self.folder());
        let options = self.plugin.options(&counts);
        let boot =
            self.vm.run_with(&options, self.project, self.kernels, &self.contents, &work.steps(), |_| {})?;
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
        let symbols = Kallsyms::parse(lines.iter().map(String::as_str))?;
        let switcher = symbols.switcher(self.vm.flavour, base)?;
        let map = Map { host: Some(HostMap { symbols, switcher }), guest: &self.guest };
        read(&counts, &map, run.output.iter().map(String::as_str))
            .map_err(|why| anyhow!("{why:#}. {}", boot.logs()))
    }
}

impl Work<'_> {
    fn steps(&self) -> Vec<Step> {
        let symbols = "parameter switcher
        grep -i ' [tw] ' /proc/kallsyms";
        let Work { strategy, memory, workload, seed, scale, .. } = self;
        let run = match self.guest {
            Guest::Mini => format!(
                "exec lguest --memory {memory}M --strategy '{strategy}' /guests/mini-guest bench={workload} seed={seed} scale={scale}"
            ),
            Guest::Linux => format!(
                "export MEMORY={memory}M APPEND='{LINUX_PRINTS_MARKS}'
in_linux --strategy '{strategy}' -- span {workload} {scale}"
            ),
        };
        let with_time = |step: Step| Step { limit: Duration::from_secs(900), ..step };
        vec![
            Step::new("load", "load seed=42"),
            // A serial line is slow in the VM's own time.
            with_time(Step::new("symbols", symbols)),
            with_time(Step::new("run", run)),
            Step::new("unload", "unload"),
        ]
    }
}

/// A guest's kernel on the bare machine, whose instructions are counted.
pub struct Bare<'a> {
    /// The project.
    pub project: &'a Project,
    /// The kernel.
    pub kernel: PathBuf,
    /// Its initial file system, if it has one.
    pub initrd: Option<PathBuf>,
    /// Its functions.
    pub functions: &'a Functions,
    /// The format of its page tables.
    pub flavour: Flavour,
}

impl Bare<'_> {
    /// Boots it, has it do the work, of which the strategy says nothing here, and counts.
    ///
    /// # Errors
    /// When something of that fails.
    pub fn count(&self, work: &Work<'_>) -> Result<Counted> {
        let plugin = Plugin::build(self.project)?;
        let folder = self.project.logs().join("vm").join(format!("profile-bare-{}", self.flavour));
        let counts = plugin.counts(&folder);
        let pc = Pc {
            kernel: Some(self.kernel.clone()),
            initrd: self.initrd.clone(),
            memory: work.memory,
            processors: 1,
            processor: Processor::default(),
            clock: CLOCK,
            append: on_the_bare_machine(work.guest, work.workload, work.seed, work.scale, self.flavour),
        };
        let limits = Limits { silence: Duration::from_secs(600), whole: Duration::from_secs(900) };
        let run = pc.run_with(&plugin.options(&counts), &folder, limits, |_| {})?;
        let logs = format!("The logs are in {}.", folder.display());
        if run.end != End::ByItself {
            bail!("the machine came to no end. {logs}");
        }
        let lines = run.console.lines().chain(run.kernel_log.lines());
        read(&counts, &Map { host: None, guest: self.functions }, lines)
            .map_err(|why| anyhow!("{why:#}. {logs}"))
    }
}

/// What the plug-in has written to the file `counts`, of what has printed these lines.
fn read<'a>(counts: &Path, map: &Map<'_>, lines: impl IntoIterator<Item = &'a str>) -> Result<Counted> {
    let written = fs::read_to_string(counts).with_context(|| format!("QEMU left no {}", counts.display()))?;
    let profile = Profile::read(&written, map)?;
    if profile.total() == 0 {
        bail!("nothing was counted: the guest set no marks");
    }
    let operations = operations(lines).context("the guest does not say how many operations it did")?;
    Ok(Counted { operations, profile })
}

/// The plug-in for QEMU that counts, and the words by which QEMU is told to.
struct Plugin(PathBuf);

impl Plugin {
    /// Builds it with the developer's own toolchain, as QEMU is a program of the developer's machine.
    fn build(project: &Project) -> Result<Plugin> {
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
        Ok(Plugin(plugin))
    }

    /// The file that it will write to in `folder`; one of an earlier run, which would be taken for this one's, is removed.
    fn counts(&self, folder: &Path) -> PathBuf {
        let counts = folder.join("counts");
        let _ = fs::remove_file(&counts);
        counts
    }

    fn options(&self, counts: &Path) -> [String; 2] {
        ["-plugin".to_owned(), format!("file={},out={}", self.0.display(), counts.display())]
    }
}

/// How many operations the guest reports: `span end NAME operations=N …`.
fn operations<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<u64> {
    let end = lines.into_iter().find_map(|line| line.trim().strip_prefix("span end "))?;
    end.split_whitespace().find_map(|word| word.strip_prefix("operations=")?.parse().ok())
}
