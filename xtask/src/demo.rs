//! `cargo xtask demo`: one boot of Debian's kernel in which a guest runs under one strategy after the other,
//! live, and a table that compares them. The guest is Linux with a short load in it, unless another is
//! requested. `--svg FILE` makes a picture of what it shows, as at the head of the README.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};

use crate::counters::Counters;
use crate::flavour::Flavour;
use crate::programs;
use crate::project::Project;
use crate::qemu::{Clock, Processor};
use crate::setup;
use crate::steps::{Event, Outcome, Step, parse};
use crate::transcript::{Kind, Transcript};
use crate::vm::{Contents, GuestFile, Vm};

/// Under the instruction clock, one instruction takes 2 to the power of this many nanoseconds.
const SHIFT: u8 = 1;

/// The least that is worth comparing: lguest's way, and the obvious other one.
pub const DEFAULT_STRATEGIES: [&str; 2] = ["lguest", "lru"];

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    host: HostArgs,
    /// Run the guest under this strategy, as NAME or NAME:parameter=value (may be repeated)
    #[arg(long = "strategy", value_name = "NAME", default_values = DEFAULT_STRATEGIES)]
    strategies: Vec<String>,
    /// Give a shell instead: the Linux guest's; with another guest the host VM's, with all at hand
    #[arg(long)]
    shell: bool,
    /// Draw what is shown, as a picture of a terminal, into this file (SVG)
    #[arg(long, value_name = "FILE", conflicts_with = "shell")]
    svg: Option<PathBuf>,
}

/// What runs as the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Guest {
    /// Debian's Linux with our port.
    Linux,
    /// The small kernel of the project's own.
    Mini,
    /// Whatever the user has.
    Given(PathBuf),
}

impl FromStr for Guest {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Guest, Infallible> {
        Ok(match text {
            "linux" => Guest::Linux,
            "mini" => Guest::Mini,
            path => Guest::Given(path.into()),
        })
    }
}

impl Guest {
    /// The command in the host VM that runs it under `strategy`, with more options for the launcher and words
    /// for the guest's command line.
    fn command(&self, strategy: &str, options: &str, words: &str) -> String {
        let options = format!("--counters --strategy '{strategy}' {options}");
        match self {
            Guest::Linux => format!("in_linux {options} -- {words}"),
            Guest::Mini => format!("lguest {options} /guests/mini-guest {words}"),
            Guest::Given(path) => format!("lguest {options} '/guests/{}' {words}", file_name(path)),
        }
    }

    /// What it runs, if nothing else is requested.
    fn usual_words(&self) -> &'static str {
        match self {
            Guest::Linux => "load",
            Guest::Mini | Guest::Given(_) => "",
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What host VM to boot; also the options of `cargo xtask shell`.
#[derive(clap::Args)]
pub struct HostArgs {
    /// Boot the kernel with three-level page tables (686-pae)
    #[arg(long)]
    pae: bool,
    /// Number of the host VM's processors; with more than one, instructions are not counted
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    smp: u32,
    /// What runs as the guest: `linux`, `mini` (the small kernel of examples/mini-guest), or an ELF kernel's file
    #[arg(long, value_name = "GUEST", default_value = "linux")]
    guest: Guest,
    /// Which of Debian's Linux sources the Linux guest is made of
    #[arg(long, value_name = "VERSION", default_value = "6.1")]
    source: String,
    #[command(flatten)]
    plugins: programs::PluginArgs,
}

impl HostArgs {
    /// The command in the host VM that runs the guest; see [`Guest::command`].
    pub fn command(&self, strategy: &str, options: &str, words: &[String]) -> String {
        match words {
            [] => self.guest.command(strategy, options, self.guest.usual_words()),
            _ => self.guest.command(strategy, options, &words.join(" ")),
        }
    }
}

/// Everything that a boot needs, built.
pub struct Prepared {
    /// This machine, set up.
    pub machine: setup::Machine,
    /// What is in the VM.
    pub contents: Contents,
    /// The VM.
    pub vm: Vm,
}

/// Sets up, builds, boots, shows.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    if args.shell {
        return interactive(project, &args.host, args.host.guest == Guest::Linux);
    }
    let Prepared { machine, contents, vm } = prepare(project, &args.host, "demo")?;

    eprintln!("  booting Debian's Linux {}-{} in QEMU\n", machine.kernels.release, vm.flavour);
    let steps = steps(&args.strategies, &args.host);
    let mut screen = Screen { strategies: &args.strategies, transcript: Transcript::default() };
    let boot = vm.run(project, &machine.kernels, &contents, &steps, |line| screen.show(line))?;

    // The first step loads the module, the last unloads it.
    let runs = &boot.outcomes[1..=args.strategies.len()];
    screen.transcript.print(Kind::Result, &format!("\n{}", table(&args.strategies, runs, vm.clock)));
    let logs = boot.logs();
    if let Some(breakdown) = &boot.breakdown {
        bail!("{breakdown}.\n{logs}\nTo look around by hand: cargo xtask demo --shell");
    }
    if !boot.complaints.is_empty() {
        bail!("the host's kernel complained:\n    {}\n{logs}", boot.complaints.join("\n    "));
    }
    boot.check_steps(&steps)?;
    if let Some(file) = &args.svg {
        let picture = screen.transcript.svg(&command(std::env::args().skip(1)));
        fs::write(file, picture).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// The command line that shows what this one shows, without a picture of it.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let mut arguments = arguments.peekable();
    let mut command = "cargo xtask".to_owned();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--svg" => drop(arguments.next()),
            _ if argument.starts_with("--svg=") => {}
            _ => command.extend([" ", &argument]),
        }
    }
    command
}

/// `cargo xtask shell`.
pub fn shell(project: &Project, host: &HostArgs) -> Result<()> {
    interactive(project, host, false)
}

fn interactive(project: &Project, host: &HostArgs, of_guest: bool) -> Result<()> {
    let Prepared { machine, contents, mut vm } = prepare(project, host, "shell")?;
    // A person at the keyboard wants the clock on the wall.
    vm.clock = Clock::Real;
    vm.shell(project, &machine.kernels, &contents, of_guest)
}

/// Sets up and builds what the VM needs.
pub fn prepare(project: &Project, host: &HostArgs, name: &str) -> Result<Prepared> {
    if let Guest::Given(guest) = &host.guest
        && !guest.is_file()
    {
        bail!("there is no file {}; --guest wants `linux`, `mini` or an ELF kernel", guest.display());
    }
    let source = host.plugins.module(project)?;
    let machine = setup::ensure(project, false)?;
    let flavour = if host.pae { Flavour::Pae } else { Flavour::Plain };
    let built = programs::build_all(project, &machine, &source, &[flavour], host.guest == Guest::Mini);
    let (module, launcher) = (built.modules?.swap_remove(0), built.launcher?);
    let guests = match &host.guest {
        Guest::Linux => programs::linux_guest(project, &host.source, host.pae)?,
        Guest::Mini => built.guest.transpose()?.map(programs::as_guest).into_iter().collect(),
        Guest::Given(path) => vec![GuestFile { name: file_name(path), path: path.clone() }],
    };
    let clock = if host.smp == 1 { Clock::Instructions(SHIFT) } else { Clock::Real };
    let vm =
        Vm { name: name.to_owned(), flavour, processors: host.smp, processor: Processor::default(), clock };
    Ok(Prepared { machine, contents: Contents { module, launcher, guests }, vm })
}

fn steps(strategies: &[String], host: &HostArgs) -> Vec<Step> {
    let mut steps = vec![Step::new("load", "load strategy=lguest seed=42")];
    for (number, strategy) in strategies.iter().enumerate() {
        let run = Step::new(format!("run-{number}"), host.command(strategy, "", &[]));
        steps.push(Step { limit: Duration::from_secs(300), ..run });
    }
    steps.push(Step::new("unload", "unload"));
    steps
}

/// Shows the console live, with headings instead of markers.
struct Screen<'a> {
    strategies: &'a [String],
    transcript: Transcript,
}

impl Screen<'_> {
    fn show(&mut self, line: &str) {
        let mut print = |kind, text: &str| self.transcript.print(kind, text);
        match parse(line) {
            Event::Begin(step) => print(Kind::Heading, &heading(self.strategies, step)),
            Event::End { output, status } => {
                if !output.is_empty() {
                    print(Kind::Guest, &format!("  | {output}"));
                }
                if status != 0 {
                    print(Kind::Result, &format!("  ended with status {status}"));
                }
            }
            // The counters are shown in the table.
            Event::Output(text) if text.starts_with("counter ") => {}
            Event::Output(text) => print(Kind::Guest, &format!("  | {text}")),
            Event::Done => {}
        }
    }
}

fn heading(strategies: &[String], step: &str) -> String {
    let name = step.split_once('-').map_or(step, |(_, name)| name);
    let strategy = name.strip_prefix("run-").and_then(|n| strategies.get(n.parse::<usize>().ok()?));
    match (name, strategy) {
        (_, Some(strategy)) => format!("the guest under strategy {strategy}:"),
        ("load", _) => "insmod lg.ko strategy=lguest seed=42".to_owned(),
        ("unload", _) => "rmmod lg".to_owned(),
        _ => name.to_owned(),
    }
}

fn table(strategies: &[String], runs: &[Outcome], clock: Clock) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "strategy",
        "cache hits",
        "misses",
        "demand faults",
        "reflected faults",
        "world switches",
        "time (ns)",
    ]);
    for (strategy, run) in strategies.iter().zip(runs) {
        let counters = Counters::from_output(&run.output);
        // The emulated time-stamp counter counts nanoseconds of the virtual clock; without that the figure is the
        // build machine's doing.
        let time = counters.get("ticks").filter(|_| clock != Clock::Real);
        let numbers = [
            counters.hits(),
            counters.misses(),
            counters.get("demand_faults"),
            counters.get("reflected_faults"),
            counters.get("world_switches"),
            time,
        ];
        let row = numbers.map(|number| number.map_or_else(|| "-".to_owned(), grouped));
        table.add_row([strategy.clone()].into_iter().chain(row));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &[&str]) -> Outcome {
        Outcome { status: Some(0), output: lines.iter().map(|line| line.to_string()).collect() }
    }

    #[test]
    fn one_row_for_each_strategy() {
        let strategies = ["lguest".to_owned(), "lru".to_owned()];
        let runs = [
            outcome(&[
                "counter page_directory_loads 12000",
                "counter page_directory_hits 10999",
                "counter demand_faults 7",
                "counter reflected_faults 8",
                "counter world_switches 9",
                "counter ticks 2000",
            ]),
            outcome(&["the guest died early"]),
        ];
        let counted = table(&strategies, &runs, Clock::Instructions(1)).to_string();
        let cells = |text: &str, name: &str| -> Vec<String> {
            let row = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
            row.split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(cells(&counted, "lguest"), ["lguest", "10,999", "1,001", "7", "8", "9", "2,000"]);
        assert_eq!(cells(&counted, "lru"), ["lru", "-", "-", "-", "-", "-", "-"]);
        let wall = table(&strategies, &runs, Clock::Real).to_string();
        assert_eq!(
            cells(&wall, "lguest").last().unwrap(),
            "-",
            "wall-clock ticks say nothing of the strategy"
        );
    }

    #[test]
    fn the_picture_shows_the_command_without_itself() {
        let command = |text: &str| command(text.split(' ').map(str::to_owned));
        assert_eq!(command("demo --svg docs/demo.svg --pae"), "cargo xtask demo --pae");
        assert_eq!(command("demo --svg=x.svg"), "cargo xtask demo");
    }

    #[test]
    fn digits_in_groups() {
        let all = [0, 999, 1000, 1234567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn every_strategy_runs_between_load_and_unload() {
        let guest = Guest::Given("/tmp/k".into());
        let host = HostArgs {
            pae: false,
            smp: 1,
            guest,
            source: "6.1".to_owned(),
            plugins: programs::PluginArgs::default(),
        };
        let steps = steps(&["a".into(), "b:slots=8".into()], &host);
        let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["load", "run-0", "run-1", "unload"]);
        assert!(steps[2].script.contains("--strategy 'b:slots=8'  '/guests/k'"));
    }

    #[test]
    fn guests_are_told_apart_by_their_names() {
        let guests = ["linux", "mini", "./vmlinux"].map(|text| text.parse::<Guest>().unwrap());
        assert_eq!(guests, [Guest::Linux, Guest::Mini, Guest::Given("./vmlinux".into())]);
        let command = |guest: &Guest| guest.command("lru", "--rng", "quiet");
        assert!(command(&guests[0]).ends_with("--strategy 'lru' --rng -- quiet"));
        assert!(command(&guests[2]).ends_with("--strategy 'lru' --rng '/guests/vmlinux' quiet"));
    }
}
