//! `cargo xtask linux-bench`: what the operations cost of which processes are made, in the Linux guest under
//! several strategies, beside the same kernel without the port on the bare machine.
//!
//! Guest and bare machine run the same programs (`guest-bench`) on the same source and configuration, in the same
//! emulated PC, whose clock counts instructions: the figures repeat, but they are counts of instructions and no
//! model of a processor's caches and TLB.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};

use linux_guest_builder::guest::{LinuxGuest, prepare};
use linux_guest_builder::kernel::Recipe;
use linux_guest_builder::source::Series;
use xtask::demo::DEFAULT_STRATEGIES;
use xtask::flavour::Flavour;
use xtask::module::ModuleSource;
use xtask::process::Progress;
use xtask::programs;
use xtask::project::Project;
use xtask::qemu::{self, Clock, End, Limits, Pc, Processor};
use xtask::setup::{self, Machine};
use xtask::steps::Step;
use xtask::vm::{Contents, Vm};

/// Under the instruction clock one instruction takes 2 nanoseconds.
const CLOCK: Clock = Clock::Instructions(1);

/// Memory of the kernel that is measured, guest or bare.
const MEMORY: &str = "64M";

/// What is measured besides the workloads of `guest-bench`.
const BOOT: &str = "boot";

/// Options of `cargo xtask linux-bench`.
#[derive(clap::Args)]
pub struct Args {
    /// With three-level page tables, guest and host
    #[arg(long)]
    pae: bool,
    /// Which of Debian's Linux sources
    #[arg(long, value_enum, value_name = "VERSION", default_value = "6.1")]
    source: Series,
    /// Measure the guest under this strategy, as NAME or NAME:parameter=value (may be repeated)
    #[arg(long = "strategy", value_name = "NAME", default_values = DEFAULT_STRATEGIES)]
    strategies: Vec<String>,
}

/// Nanoseconds for one operation of each workload, in the order in which they ran.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    order: Vec<String>,
    values: BTreeMap<String, f64>,
}

/// The command itself.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let machine = setup::ensure(project, false)?;
    let flavour = if args.pae { Flavour::Pae } else { Flavour::Plain };
    let recipe = Recipe::guest(args.source, args.pae);
    let guest = prepare(project, &machine, &recipe)?;
    let on_bare = prepare(project, &machine, &Recipe { bare: true, ..recipe })?;
    let built = programs::build_all(project, &machine, &ModuleSource::of(project), &[flavour], false);
    let contents = Contents {
        module: built.modules?.swap_remove(0),
        launcher: built.launcher?,
        guests: guest.files("linux").into(),
    };

    let bare = bare(project, &on_bare)?;
    let guests = in_guest(project, &machine, flavour, &contents, &args.strategies)?;
    println!(
        "Linux {} on {flavour}, nanoseconds for one operation at 2 ns an instruction:\n\n{}",
        guest.kernel.version,
        table(&bare, &args.strategies, &guests)
    );
    Ok(())
}

/// Boots the kernel without the port on the emulated machine itself.
fn bare(project: &Project, linux: &LinuxGuest) -> Result<Figures> {
    let progress = Progress::start("the same Linux on the bare machine");
    let pc = Pc {
        kernel: linux.kernel.image.clone(),
        initrd: Some(linux.initrd.clone()),
        memory: qemu::MEMORY,
        processors: 1,
        processor: Processor::default(),
        clock: CLOCK,
        append: format!("printk.time=1 mem={MEMORY} -- guest-bench all"),
    };
    let folder = project.logs().join("vm/linux-bench-bare");
    let limits = Limits { silence: Duration::from_secs(300), whole: Duration::from_secs(1800) };
    let run = pc.run(&folder, limits, |_| {})?;
    if run.end != End::ByItself {
        bail!("Linux on the bare machine did not come to its end; its log is in {}", folder.display());
    }
    let lines: Vec<String> = run.kernel_log.lines().map(str::to_owned).collect();
    let figures =
        Figures::read(&lines).with_context(|| format!("on the bare machine, see {}", folder.display()))?;
    progress.done();
    Ok(figures)
}

/// Boots the host and in it the guest, once for each strategy.
fn in_guest(
    project: &Project,
    machine: &Machine,
    flavour: Flavour,
    contents: &Contents,
    strategies: &[String],
) -> Result<Vec<Figures>> {
    let progress = Progress::start(format!("the guest under {}", strategies.join(", ")));
    let mut steps = vec![Step::new("load", "load strategy=lguest seed=42")];
    for (number, strategy) in strategies.iter().enumerate() {
        let script = format!(
            "export APPEND=quiet MEMORY={MEMORY}\nin_linux --strategy '{strategy}' -- guest-bench all"
        );
        steps.push(Step { limit: Duration::from_secs(900), ..Step::new(format!("run-{number}"), script) });
    }
    steps.push(Step::new("unload", "unload"));
    let vm = Vm {
        name: "linux-bench".to_owned(),
        flavour,
        processors: 1,
        processor: Processor::default(),
        clock: CLOCK,
    };
    let boot = vm.run(project, &machine.kernels, contents, &steps, |_| {})?;
    boot.check(&steps)?;
    let mut all = Vec::new();
    for (step, outcome) in steps.iter().zip(&boot.outcomes) {
        if step.name.starts_with("run-") {
            all.push(Figures::read(&outcome.output).with_context(|| boot.logs())?);
        }
    }
    progress.done();
    Ok(all)
}

impl Figures {
    /// Picks the figures out of a console: `bench NAME OPERATIONS NANOSECONDS` of `guest-bench`, and of the
    /// kernel's own messages the time at which it started the first process.
    fn read(console: &[String]) -> Result<Figures> {
        let mut figures = Figures::default();
        for line in console {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["bench", name, operations, nanoseconds] = words[..]
                && let (Ok(operations), Ok(nanoseconds)) =
                    (operations.parse::<f64>(), nanoseconds.parse::<f64>())
            {
                figures.add(name, nanoseconds / operations);
            } else if let Some((_, after)) = line.split_once("user space after ")
                && let Some(Ok(seconds)) = after.split_whitespace().next().map(str::parse::<f64>)
            {
                figures.add(BOOT, seconds * 1e9);
            }
        }
        if figures.order.len() < 2 {
            bail!("guest-bench printed no figures");
        }
        Ok(figures)
    }

    fn add(&mut self, name: &str, nanoseconds: f64) {
        self.order.push(name.to_owned());
        self.values.insert(name.to_owned(), nanoseconds);
    }
}

/// The figures side by side, each of the guest's with its ratio to the bare machine's.
fn table(bare: &Figures, strategies: &[String], guests: &[Figures]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut header = vec!["workload".to_owned(), "bare".to_owned()];
    for strategy in strategies {
        header.extend([strategy.clone(), "to bare".to_owned()]);
    }
    table.set_header(header);
    for name in &bare.order {
        let native = bare.values[name];
        let mut row = vec![name.clone(), format!("{native:.0}")];
        for guest in guests {
            match guest.values.get(name) {
                Some(value) => row.extend([format!("{value:.0}"), format!("{:.2}", value / native)]),
                None => row.extend(["-".to_owned(), "-".to_owned()]),
            }
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(text: &str) -> Result<Figures> {
        Figures::read(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn figures_of_a_console() {
        let found = figures(
            "[    0.1] Run /init as init process\r\nguest: Linux 6.1, 1 kB of memory, user space after 0.25 s\r\n\
             bench getpid 1000 95000\r\nbench odd one out\nbench ctx2 20 30\r\nbench done\n",
        )
        .unwrap();
        assert_eq!(found.order, ["boot", "getpid", "ctx2"]);
        assert_eq!((found.values["boot"], found.values["getpid"], found.values["ctx2"]), (2.5e8, 95.0, 1.5));
        assert!(figures("guest: user space after 0.25 s\nnothing else").is_err());
    }

    #[test]
    fn every_figure_has_its_ratio() {
        let bare = figures("bench a 1 100\nbench b 1 50").unwrap();
        let guest = figures("bench a 1 250\nbench c 1 7").unwrap();
        let table = table(&bare, &["lru".to_owned()], &[guest]).to_string();
        let row = |name: &str| -> Vec<String> {
            let line = table.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap();
            line.split('|').map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
        };
        assert_eq!(row("a"), ["a", "100", "250", "2.50"]);
        assert_eq!(row("b"), ["b", "50", "-", "-"]);
    }
}
