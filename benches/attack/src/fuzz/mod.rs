//! `cargo xtask fuzz`: random attacks on the module in the host VM, and coverage-guided ones on all that parses bytes.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`host`] | hostile launchers with hostile guests (`examples/fuzz-launcher`) on a host that checks itself |
//! | [`targets`] | the targets of `benches/fuzz`, by libFuzzer |
//! | [`memory`] | Linux guests that check their memory, on a host that takes it away; only when `--only memory` selects it |
//! | [`planted`] | faults that the fuzzer, or a scenario, must find |
//!
//! Half of the time goes to the host VM, the other half to the targets, most of it to those that simulate guests. All
//! follows from one seed, apart from how the two processors of the VM come to their turns. A fault comes with the
//! command that repeats it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use comfy_table::Table;
use serde::{Deserialize, Serialize};

use xtask::flavour::Flavour;
use xtask::module::ModuleSource;
use xtask::project::Project;
use xtask::setup;
use xtask::table::STYLE;

mod host;
mod memory;
mod planted;
mod targets;

use host::{Host, Lives, Target, figure};
use targets::{Coverage, Guided, NAMES};

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// How long, without building and booting
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The seed that everything random follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The kernel that the module is attacked on [default: checked; with `--only memory` both of Debian's, one after the other]
    #[arg(long, value_enum)]
    host: Option<Host>,
    /// Only this: `host`, `memory`, or the name of a target; with --planted the name of a fault (may be repeated)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Repeat this life in the host VM, and nothing else
    #[arg(long)]
    life: Option<u64>,
    /// Repeat this input of the target that --only names, and nothing else
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Plant known faults in the module, one after the other, and see that each is found within ten minutes
    #[arg(long)]
    planted: bool,
}

/// The name of the attack in the host VM, among those of the targets.
const HOST: &str = "host";

/// The name of the long run for guest memory.
const MEMORY: &str = "memory";

/// What was done of one kind.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Done {
    inputs: u64,
    operations: u64,
    seconds: u64,
}

impl Done {
    fn add(&mut self, other: &Done) {
        self.inputs += other.inputs;
        self.operations += other.operations;
        self.seconds += other.seconds;
    }
}

/// The command itself.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    if let Some(input) = &args.input {
        let [target] = &args.only[..] else { bail!("--input wants one --only, the target's name") };
        return match Guided::build(project)?.repeat(target, input)?.fault {
            Some((fault, _)) => bail!("{fault}"),
            None => Ok(()),
        };
    }
    if args.planted {
        let machine = setup::ensure(project, false)?;
        return planted::run(project, &machine, args.host.unwrap_or(Host::Checked), args.seed, &args.only);
    }
    let known = |name: &String| name == HOST || name == MEMORY || NAMES.contains(&name.as_str());
    if let Some(unknown) = args.only.iter().find(|name| !known(name)) {
        bail!("there is no {unknown}: `{HOST}`, `{MEMORY}`, {}", NAMES.join(", "));
    }
    let wants = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let targets: Vec<&str> = NAMES.into_iter().filter(|name| args.life.is_none() && wants(name)).collect();
    let (with_host, whole) = (wants(HOST), Duration::from_secs(args.minutes * 60));
    let mut report = Report::default();
    if args.only.iter().any(|only| only == MEMORY) {
        report.memory(project, args)?;
    }
    if with_host {
        let time = if targets.is_empty() { whole } else { whole / 2 };
        report.host(project, args, time)?;
    }
    if !targets.is_empty() {
        report.targets(project, args.seed, &targets, if with_host { whole / 2 } else { whole })?;
    }
    report.close(project)
}

/// What is reported at the end.
#[derive(Default)]
struct Report {
    done: Vec<(String, Done, String)>,
    coverage: Vec<(&'static str, u64, u64)>,
    faults: Vec<String>,
}

impl Report {
    fn memory(&mut self, project: &Project, args: &Args) -> Result<()> {
        let machine = setup::ensure(project, false)?;
        let time = Duration::from_secs(args.minutes * 60);
        let flavours = args.host.map_or(Flavour::ALL.to_vec(), |host| vec![host.flavour()]);
        for flavour in flavours {
            let begun = Instant::now();
            let say = |figures: &str| println!("  {flavour}: {figures}");
            let outcome = memory::run(project, &machine, flavour, args.seed, time, say)?;
            let figure = |name| figure(&outcome.figures, name);
            let done = Done {
                inputs: figure("rounds"),
                operations: figure("operations"),
                seconds: begun.elapsed().as_secs(),
            };
            let others = outcome.figures.iter().filter(|(name, _)| name != "rounds" && name != "operations");
            let note: Vec<_> = others.map(|(name, value)| format!("{value} {name}")).collect();
            self.done.push((format!("{MEMORY} {flavour}"), done, note.join(", ")));
            if let Some(fault) = outcome.fault {
                self.faults.push(format!(
                    "{fault}\n  again: cargo xtask fuzz --only {MEMORY} --host {flavour} --seed {}\n  logs: {}",
                    args.seed,
                    outcome.logs.display()
                ));
            }
        }
        Ok(())
    }

    fn host(&mut self, project: &Project, args: &Args, time: Duration) -> Result<()> {
        let machine = setup::ensure(project, false)?;
        let host = args.host.unwrap_or(Host::Checked);
        let target = Target::build(project, &machine, host, &ModuleSource::of(project))?;
        let (first, count) = (args.life.unwrap_or(0), args.life.map(|_| 1));
        let lives = Lives { seed: args.seed, first, count, time };
        let begun = Instant::now();
        let attack = target.attack(project, &machine.kernels, lives, |figures| println!("  {figures}"))?;
        let figure = |name| figure(&attack.figures, name);
        let done = Done {
            inputs: figure("lives"),
            operations: figure("operations"),
            seconds: begun.elapsed().as_secs(),
        };
        let note = format!("{} entries, {} faults of guests", figure("entries"), figure("faults"));
        self.done.push((HOST.to_owned(), done, note));
        if let Some(fault) = attack.fault {
            let (host, seed, life) = (host.name(), args.seed, attack.last_life);
            self.faults.push(format!(
                "{fault}\n  again: cargo xtask fuzz --only {HOST} --host {host} --seed {seed} --life {life}\n  logs: {}",
                attack.logs.display()
            ));
        }
        Ok(())
    }

    fn targets(&mut self, project: &Project, seed: u64, targets: &[&str], time: Duration) -> Result<()> {
        let guided = Guided::build(project)?;
        let shares: u32 = targets.iter().map(|target| share(target)).sum();
        let mut coverage = Coverage::default();
        for target in targets {
            let begun = Instant::now();
            let explored = guided.explore(target, seed, time * share(target) / shares, &mut coverage)?;
            let done = Done {
                inputs: explored.inputs,
                operations: explored.operations.max(explored.inputs),
                seconds: begun.elapsed().as_secs(),
            };
            println!("  {target}: {} inputs, {} operations", done.inputs, done.operations);
            self.done.push(((*target).to_owned(), done, format!("{} edges", explored.edges)));
            if let Some((fault, input)) = explored.fault {
                let again = input.map_or_else(String::new, |input| {
                    format!("\n  again: cargo xtask fuzz --only {target} --input {}", input.display())
                });
                self.faults.push(format!("{target}: {fault}{again}"));
            }
        }
        self.coverage = guided.by_part(&coverage)?;
        Ok(())
    }

    /// Prints all, and adds it to what earlier runs have done.
    fn close(self, project: &Project) -> Result<()> {
        let path = project.out().join("fuzz-total.json");
        let mut all: BTreeMap<String, Done> =
            fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_header(["", "inputs", "operations", "seconds", "", "operations of all runs"]);
        let mut sum = Done::default();
        for (name, done, note) in self.done {
            let total = all.entry(name.clone()).or_default();
            total.add(&done);
            sum.add(&done);
            let numbers = [done.inputs, done.operations, done.seconds].map(|number| number.to_string());
            let [inputs, operations, seconds] = numbers;
            table.add_row([name, inputs, operations, seconds, note, total.operations.to_string()]);
        }
        let (operations, seconds) = all
            .values()
            .fold((0, 0), |sum: (u64, u64), done| (sum.0 + done.operations, sum.1 + done.seconds));
        fs::write(&path, serde_json::to_vec_pretty(&all)?)?;
        println!("{table}");
        println!(
            "{} operations in {} s; {operations} in {:.1} hours in all runs",
            sum.operations,
            sum.seconds,
            seconds as f64 / 3600.0
        );
        for (part, reached, edges) in self.coverage.iter().filter(|part| part.2 > 0) {
            println!("coverage by the targets: {part} {reached} of {edges} edges");
        }
        for fault in &self.faults {
            println!("fault: {fault}");
        }
        match self.faults.len() {
            0 => Ok(()),
            faults => bail!("{faults} found"),
        }
    }
}

/// How much of the time a target has, for its part: what simulates guests reaches most, and takes longest.
fn share(target: &str) -> u32 {
    if matches!(target, "pagers" | "guests") { 4 } else { 1 }
}
