//! Attacks on the module in the host VM: hostile launchers with hostile guests, on a host that checks itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use linux_guest_builder::kernel::{self, Recipe};
use linux_guest_builder::source::Series;
use xtask::flavour::Flavour;
use xtask::kernels::Kernels;
use xtask::module::ModuleSource;
use xtask::programs::{Program, QUICK_RELEASE};
use xtask::project::Project;
use xtask::qemu::{Clock, Processor};
use xtask::setup::Machine;
use xtask::steps::Step;
use xtask::toolchain;
use xtask::vm::{Boot, Contents, GuestFile, Special, Vm};

/// The hostile launcher, a static 32-bit program.
const LAUNCHER: Program<'_> = Program {
    what: "hostile launcher",
    folder: "examples/fuzz-launcher",
    target: toolchain::Target::Program,
    options: &QUICK_RELEASE,
};

/// Which kernel the module is attacked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Host {
    /// One built from Debian's source with Linux's own checks
    Checked,
    /// Debian's 686 kernel
    #[value(name = "686")]
    Plain,
    /// Debian's 686-pae kernel
    #[value(name = "686-pae")]
    Pae,
}

impl Host {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Host::Checked => "checked",
            Host::Plain => Flavour::Plain.name(),
            Host::Pae => Flavour::Pae.name(),
        }
    }

    /// The flavour of Debian's that it is, or is most like.
    pub fn flavour(self) -> Flavour {
        if self == Host::Pae { Flavour::Pae } else { Flavour::Plain }
    }
}

/// The lives to be lived.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    /// The run's seed.
    pub seed: u64,
    /// The first life's number.
    pub first: u64,
    /// How many; none for as many as there is time for.
    pub count: Option<u64>,
    /// No life begins after that.
    pub time: Duration,
}

/// What came of an attack.
#[derive(Debug, Clone, Default)]
pub struct Attack {
    /// The last figures that the launcher gave: names and values.
    pub figures: Vec<(String, u64)>,
    /// The number of the last life that began.
    pub last_life: u64,
    /// What went wrong, if something did.
    pub fault: Option<String>,
    /// Where all logs are.
    pub logs: PathBuf,
}

/// A host VM that can be attacked.
#[derive(Debug)]
pub struct Target {
    host: Host,
    contents: Contents,
    kernel: Option<PathBuf>,
}

impl Target {
    /// Builds what goes into the VM.
    pub fn build(project: &Project, machine: &Machine, host: Host, source: &ModuleSource) -> Result<Target> {
        let (module, kernel) = match host {
            Host::Checked => {
                let recipe = Recipe::host(Series::V6_1, &project.root().join("benches/attack/host.config"));
                let kernel = kernel::build(project, &recipe)?;
                let headers = kernel.headers.as_deref().unwrap_or(Path::new("/"));
                (source.build_against(project, machine, host.name(), headers)?, Some(kernel.image))
            }
            Host::Plain | Host::Pae => (source.build(project, machine, &[host.flavour()])?.remove(0), None),
        };
        let [launcher] = LAUNCHER.build(project, machine, ["fuzz-launcher"])?;
        let guests = vec![GuestFile { name: "fuzz-launcher".to_owned(), path: launcher.clone() }];
        Ok(Target { host, contents: Contents { module, launcher, guests }, kernel })
    }

    /// Boots, and attacks.
    pub fn attack(
        &self,
        project: &Project,
        kernels: &Kernels,
        lives: Lives,
        say: impl Fn(&str),
    ) -> Result<Attack> {
        let vm = Vm {
            name: format!("fuzz-{}", self.host.name()),
            flavour: self.host.flavour(),
            processors: 2,
            processor: Processor::default(),
            clock: Clock::Real,
        };
        let count = lives.count.map_or_else(String::new, |count| format!(" --lives {count}"));
        let script = format!(
            // A warning is a fault as good as any, and what comes after it is not.
            "echo 1 >/proc/sys/kernel/panic_on_warn
            [ ! -d /sys/kernel/mm/ksm ] || echo 1 >/sys/kernel/mm/ksm/run
            if [ -b /dev/ram0 ]; then mkswap /dev/ram0 && swapon /dev/ram0; fi
            for kind in failslab fail_page_alloc; do
                folder=/sys/kernel/debug/$kind
                [ -d $folder ] || continue
                echo Y >$folder/task-filter
                echo N >$folder/ignore-gfp-wait
                [ ! -e $folder/min-order ] || echo 0 >$folder/min-order
                [ ! -e $folder/ignore-gfp-highmem ] || echo N >$folder/ignore-gfp-highmem
                echo 0 >$folder/verbose
                echo 1 >$folder/interval
                echo -1 >$folder/times
                echo 2 >$folder/probability
            done
            load
            /guests/fuzz-launcher --seed {} --first {} --seconds {}{count} || fail 'a fault was found'
            unload",
            lives.seed,
            lives.first,
            lives.time.as_secs(),
        );
        let mut step =
            Step::new("attack", script.lines().map(str::trim_start).collect::<Vec<_>>().join("\n"));
        // A life that maps one frame two million times takes five minutes, on a machine that does nothing else.
        let life = Duration::from_secs(900);
        step.limit = lives.time + life;
        // Linux has doubts about two processors of the maker that QEMU gives a 32-bit `max`.
        let options = ["-cpu", "max,vendor=GenuineIntel"].map(str::to_owned);
        let special = Special {
            options: &options,
            append: "preempt=full",
            kernel: self.kernel.as_deref(),
            silence: life,
        };
        let mut attack = Attack::default();
        let mut found = None;
        let boot = vm.run_special(special, project, kernels, &self.contents, &[step], |line| {
            let line = line.trim_end_matches('\r');
            if let Some(life) = line.strip_prefix("life ").and_then(|life| life.parse().ok()) {
                attack.last_life = life;
            } else if let Some(figures) = line.strip_prefix("figures ") {
                attack.figures = parse_figures(figures);
                say(figures);
            } else if let Some(fault) = line.strip_prefix("FAULT ") {
                found = Some(fault.to_owned());
            }
        })?;
        let failed = boot.outcomes.first().filter(|outcome| !outcome.passed());
        let failed = failed
            .and_then(|outcome| outcome.output.iter().rfind(|line| line.starts_with("failed: ")).cloned());
        attack.fault = found.or_else(|| complaint_of_host(&boot)).or(boot.breakdown).or(failed);
        attack.logs = boot.folder;
        Ok(attack)
    }
}

/// What the kernel of the host has to say, if it has.
pub fn complaint_of_host(boot: &Boot) -> Option<String> {
    boot.complaints.first().map(|complaint| format!("the host's kernel complains: {complaint}"))
}

/// The figure of this name; 0 where there is none.
pub fn figure(figures: &[(String, u64)], name: &str) -> u64 {
    figures.iter().find(|figure| figure.0 == name).map_or(0, |figure| figure.1)
}

/// `name=value` pairs.
pub fn parse_figures(text: &str) -> Vec<(String, u64)> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.split_whitespace().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_pairs() {
        let figures = parse_figures("lives=12 operations=3456 junk x=y");
        assert_eq!(figures, [("lives".to_owned(), 12), ("operations".to_owned(), 3456)]);
    }
}
