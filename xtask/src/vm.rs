//! The host VM: Debian's i386 kernel in QEMU with our module, launcher and guests inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::flavour::Flavour;
use crate::initrd::Initrd;
use crate::kernel_log;
use crate::kernels::Kernels;
use crate::project::{Project, lock};
use crate::qemu::{Clock, End, Limits, MEMORY, Pc, Processor};
use crate::steps::{self, Outcome, Step};

const INIT: &str = include_str!("../vm/init.sh");
const LIBRARY: &str = include_str!("../vm/lib.sh");
const MOTD: &str = include_str!("../vm/motd");
const UDEV_RULES: &str = include_str!("../../kmod/udev/60-lguest.rules");
const LINUX_GUEST: &str = include_str!("../vm/linux-guest.sh");

/// What goes into the VM besides busybox.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The module, built for the flavour that is booted.
    pub module: PathBuf,
    /// The launcher.
    pub launcher: PathBuf,
    /// Guest kernels, what belongs to them and what else the steps want, in the folder `/guests`.
    pub guests: Vec<GuestFile>,
}

/// A file of a guest, as it is found in the VM.
#[derive(Debug, Clone)]
pub struct GuestFile {
    /// Its name in the folder `/guests`.
    pub name: String,
    /// Where it comes from.
    pub path: PathBuf,
}

/// A VM that can be booted.
#[derive(Debug, Clone)]
pub struct Vm {
    /// Distinguishes its logs from those of others.
    pub name: String,
    /// Which of Debian's kernels it boots.
    pub flavour: Flavour,
    /// Number of processors.
    pub processors: u32,
    /// Which processor that is.
    pub processor: Processor,
    /// How time passes in it.
    pub clock: Clock,
}

/// What is out of the ordinary in a boot.
#[derive(Debug, Clone, Copy)]
pub struct Special<'a> {
    /// More options for QEMU.
    pub options: &'a [String],
    /// More words for the kernel's command line.
    pub append: &'a str,
    /// Another kernel than the flavour's.
    pub kernel: Option<&'a Path>,
    /// After so much silence the VM is given up.
    pub silence: Duration,
}

impl Default for Special<'_> {
    fn default() -> Self {
        Special { options: &[], append: "", kernel: None, silence: Duration::from_secs(600) }
    }
}

/// What came out of a boot.
#[derive(Debug)]
pub struct Boot {
    /// One for each step, in order.
    pub outcomes: Vec<Outcome>,
    /// What the kernel complained about,
    pub complaints: Vec<String>,
    /// and the lines of its log from the first complaint on, which tell where that came from.
    pub first_complaint: Vec<String>,
    /// Why the VM did not come to its orderly end, if it did not.
    pub breakdown: Option<String>,
    /// Where all logs are.
    pub folder: PathBuf,
}

impl Boot {
    /// Where all logs are, for people.
    pub fn logs(&self) -> String {
        format!("All logs: {}", self.folder.display())
    }

    /// Whether the VM came to its orderly end and all of its `steps` passed, or why not.
    pub fn check(&self, steps: &[Step]) -> Result<()> {
        if let Some(breakdown) = &self.breakdown {
            bail!("{breakdown}.\n{}", self.logs());
        }
        self.check_steps(steps)
    }

    /// The same of the steps alone.
    pub fn check_steps(&self, steps: &[Step]) -> Result<()> {
        let failed = steps.iter().zip(&self.outcomes).find(|(_, outcome)| !outcome.passed());
        if let Some((step, outcome)) = failed {
            let last = outcome.output.last().map_or("", String::as_str);
            let status = outcome.status.unwrap_or(-1);
            bail!("step `{}` ended with status {status}: {last}\n{}", step.name, self.logs());
        }
        Ok(())
    }
}

impl Vm {
    /// Boots, runs `steps`, powers off. `line` sees the programs' console live, markers included.
    pub fn run(
        &self,
        project: &Project,
        kernels: &Kernels,
        contents: &Contents,
        steps: &[Step],
        line: impl FnMut(&str),
    ) -> Result<Boot> {
        self.run_with(&[], project, kernels, contents, steps, line)
    }

    /// As [`Vm::run`], with more options for QEMU.
    pub fn run_with(
        &self,
        options: &[String],
        project: &Project,
        kernels: &Kernels,
        contents: &Contents,
        steps: &[Step],
        line: impl FnMut(&str),
    ) -> Result<Boot> {
        self.run_special(Special { options, ..Special::default() }, project, kernels, contents, steps, line)
    }

    /// As [`Vm::run`], with what is `special`.
    pub fn run_special(
        &self,
        special: Special<'_>,
        project: &Project,
        kernels: &Kernels,
        contents: &Contents,
        steps: &[Step],
        line: impl FnMut(&str),
    ) -> Result<Boot> {
        let folder = project.logs().join("vm").join(&self.name);
        // Two at once would take each other's files for their own.
        let _lock = lock(&folder, "lock")?;
        let mut pc = self.prepare(kernels, contents, steps, &folder, special.append)?;
        if let Some(kernel) = special.kernel {
            pc.kernel = Some(kernel.to_owned());
        }
        boot(&pc, special.options, special.silence, steps, &folder, line)
    }

    /// Boots into a shell on the terminal: that of the Linux guest, or the VM's own.
    pub fn shell(
        &self,
        project: &Project,
        kernels: &Kernels,
        contents: &Contents,
        of_guest: bool,
    ) -> Result<()> {
        let folder = project.logs().join("vm").join(&self.name);
        let _lock = lock(&folder, "lock")?;
        let append = if of_guest { "lg.shell=guest" } else { "lg.shell=host" };
        self.prepare(kernels, contents, &[], &folder, append)?.run_interactively()
    }

    fn prepare(
        &self,
        kernels: &Kernels,
        contents: &Contents,
        steps: &[Step],
        folder: &Path,
        append: &str,
    ) -> Result<Pc> {
        if self.processors != 1 && self.clock != Clock::Real {
            bail!("time by instruction count works with one processor only");
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let initrd = folder.join("initrd");
        let archive = contents.archive(kernels, self.flavour, steps)?;
        fs::write(&initrd, archive).with_context(|| format!("cannot write {}", initrd.display()))?;
        Ok(Pc {
            kernel: Some(kernels.vmlinuz(self.flavour)),
            initrd: Some(initrd),
            memory: MEMORY,
            processors: self.processors,
            processor: self.processor,
            clock: self.clock,
            append: append.to_owned(),
        })
    }
}

/// Boots a PC in which `steps` are run, with more options for QEMU. After so much `silence` it is given up. Logs are left in
/// `folder`.
///
/// # Errors
/// When QEMU cannot be started.
pub fn boot(
    pc: &Pc,
    options: &[String],
    silence: Duration,
    steps: &[Step],
    folder: &Path,
    line: impl FnMut(&str),
) -> Result<Boot> {
    let budget: Duration = steps.iter().map(|step| step.limit).sum();
    let limits = Limits { silence, whole: budget + Duration::from_secs(120) };
    let run = pc.run_with(options, folder, limits, line)?;

    let (mut outcomes, done) = steps::collect(&run.console);
    let never_begun = Outcome { status: None, output: Vec::new() };
    outcomes.resize(steps.len(), never_begun);
    let complaints = kernel_log::complaints(&run.kernel_log);
    let breakdown = match run.end {
        End::ByItself if done => None,
        End::ByItself => Some(match complaints.last() {
            Some(last) => format!("the kernel gave up: {last}"),
            None => "the VM ended before its last step".to_owned(),
        }),
        End::Silent(limit) => Some(format!("the VM said nothing for {} s", limit.as_secs())),
        End::TooLong(limit) => Some(format!("the VM was not done after {} s", limit.as_secs())),
    };
    let first_complaint = kernel_log::from_first_complaint(&run.kernel_log);
    Ok(Boot { outcomes, complaints, first_complaint, breakdown, folder: folder.to_owned() })
}

impl Contents {
    fn archive(&self, kernels: &Kernels, flavour: Flavour, steps: &[Step]) -> Result<Vec<u8>> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let mut initrd = Initrd::default();
        for directory in ["bin", "dev", "etc", "guests", "lib", "steps"] {
            initrd.directory(directory)?;
        }
        initrd.device("dev/console", 5, 1)?;
        initrd.program("init", INIT.as_bytes())?;
        initrd.program("bin/busybox", &read(&kernels.busybox())?)?;
        initrd.link("bin/sh", "busybox")?;
        initrd.program("bin/lguest", &read(&self.launcher)?)?;
        initrd.file("lib/lg.ko", &read(&self.module)?)?;
        for module in kernels.modules(flavour) {
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            initrd.file(&format!("lib/{name}"), &read(&module)?)?;
        }
        initrd.file("lib/vm.sh", LIBRARY.as_bytes())?;
        initrd.file("lib/lguest.rules", UDEV_RULES.as_bytes())?;
        initrd.file("etc/motd", MOTD.as_bytes())?;
        initrd.program("bin/linux-guest", LINUX_GUEST.as_bytes())?;
        for guest in &self.guests {
            initrd.program(&format!("guests/{}", guest.name), &read(&guest.path)?)?;
        }
        let mut list = String::new();
        for (number, step) in steps.iter().enumerate() {
            let file = format!("{number:02}-{}", step.name);
            let script = format!(". /lib/vm.sh\n{}\n", step.script);
            initrd.file(&format!("steps/{file}"), script.as_bytes())?;
            list.push_str(&format!("{file} {}\n", step.limit.as_secs()));
        }
        initrd.file("steps/list", list.as_bytes())?;
        initrd.finish()
    }
}
