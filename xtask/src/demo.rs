//! `cargo xtask demo`: one boot of Debian's kernel in which a guest runs under one strategy after the other,
//! live, and a table that compares them. The guest is Linux with a short load in it, unless another is
//! requested. `--svg FILE` makes a picture of what it shows, as at the head of the README.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table};

use crate::counters::Counters;
use crate::flavour::Flavour;
use crate::programs;
use crate::project::Project;
use crate::qemu::{Clock, Processor};
use crate::setup;
use crate::steps::{Event, Outcome, Step, parse};
use crate::table::STYLE;
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
    /// Words for the command line of the guest's kernel; for the Linux guest a command that it runs
    #[arg(last = true, value_name = "WORD")]
    words: Vec<String>,
}

/// Options of `cargo xtask shell`.
#[derive(clap::Args)]
pub struct ShellArgs {
    #[command(flatten)]
    host: HostArgs,
    /// Count instructions as time, two nanoseconds each, as `demo` and `bench` do, in the place of the clock on the wall
    #[arg(long, conflicts_with = "smp")]
    icount: bool,
    /// Words for the command line of the guest's kernel, in the command that is shown
    #[arg(last = true, value_name = "WORD")]
    words: Vec<String>,
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
            Guest::Given(path) => format!("lguest {options} {} {words}", in_vm(path)),
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

/// Where a guest's file is in the host VM, as a word for its shell.
fn in_vm(path: &Path) -> String {
    format!("'/guests/{}'", file_name(path))
}

/// What follows the name of a disk that the guest only reads, as for `lguest --block`.
const READ_ONLY: &str = ",readonly";

/// The file of a disk, without [`READ_ONLY`].
fn disk_file(disk: &str) -> &Path {
    Path::new(disk.strip_suffix(READ_ONLY).unwrap_or(disk))
}

/// What host VM to boot, and with which guest.
#[derive(clap::Args)]
pub struct HostArgs {
    /// Boot the kernel with three-level page tables (686-pae)
    #[arg(long)]
    pae: bool,
    /// Number of the host VM's processors; with more than one, instructions are not counted
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    smp: u32,
    /// What runs as the guest: `linux`, `mini` (the small kernel of examples/mini-guest), or a kernel's file
    #[arg(long, value_name = "GUEST", default_value = "linux")]
    guest: Guest,
    /// The initial RAM disk of the kernel that --guest names
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Give the guest a copy of this disk, which is gone with the host VM (may be repeated)
    #[arg(long, value_name = "FILE[,readonly]")]
    block: Vec<String>,
    /// Which of Debian's Linux sources the Linux guest is made of
    #[arg(long, value_name = "VERSION", default_value = "6.1")]
    source: String,
    #[command(flatten)]
    plugins: programs::PluginArgs,
}

impl HostArgs {
    /// The command in the host VM that runs the guest; see [`Guest::command`].
    pub fn command(&self, strategy: &str, options: &str, words: &[String]) -> String {
        let words = match words {
            [] => self.guest.usual_words(),
            _ => &words.join(" "),
        };
        let mut options = options.to_owned();
        if let Some(initrd) = &self.initrd {
            options += &format!(" --initrd {}", in_vm(initrd));
        }
        for disk in &self.block {
            let path = disk_file(disk);
            let end = if path == Path::new(disk) { "" } else { READ_ONLY };
            options += &format!(" --block {}{end}", in_vm(path));
        }
        self.guest.command(strategy, options.trim_start(), words)
    }

    /// The files of the guest's that the user has named, as they are found in the host VM.
    fn given_files(&self) -> Result<Vec<GuestFile>> {
        let kernel = match &self.guest {
            Guest::Given(path) => Some(path.as_path()),
            Guest::Linux | Guest::Mini if self.initrd.is_some() => {
                bail!("--initrd is for a kernel of your own: name it by --guest FILE")
            }
            Guest::Linux | Guest::Mini => None,
        };
        let disks = self.block.iter().map(|disk| disk_file(disk));
        let mut files: Vec<GuestFile> = Vec::new();
        for path in kernel.into_iter().chain(self.initrd.as_deref()).chain(disks) {
            let file = GuestFile { name: file_name(path), path: path.to_owned() };
            if !path.is_file() {
                bail!(
                    "there is no file {}; --guest wants `linux`, `mini` or a kernel's file",
                    path.display()
                );
            }
            match files.iter().find(|other| other.name == file.name) {
                None => files.push(file),
                Some(other) if other.path == file.path => {}
                Some(_) => bail!("two of the guest's files are called {}: rename one", file.name),
            }
        }
        Ok(files)
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
        return interactive(project, &args.host, &args.words, false, args.host.guest == Guest::Linux);
    }
    let Prepared { machine, contents, vm } = prepare(project, &args.host, "demo")?;

    eprintln!("  booting Debian's Linux {}-{} in QEMU\n", machine.kernels.release, vm.flavour);
    let steps = steps(&args.strategies, &args.host, &args.words);
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
pub fn shell(project: &Project, args: &ShellArgs) -> Result<()> {
    interactive(project, &args.host, &args.words, args.icount, false)
}

fn interactive(
    project: &Project,
    host: &HostArgs,
    words: &[String],
    counts: bool,
    of_guest: bool,
) -> Result<()> {
    let Prepared { machine, contents, mut vm } = prepare(project, host, "shell")?;
    // A person at the keyboard wants the clock on the wall.
    if !counts {
        vm.clock = Clock::Real;
    }
    if let Guest::Given(_) = host.guest {
        eprintln!("  there: load; {}\n", host.command("lguest", "", words));
    }
    vm.shell(project, &machine.kernels, &contents, of_guest)
}

/// Sets up and builds what the VM needs.
pub fn prepare(project: &Project, host: &HostArgs, name: &str) -> Result<Prepared> {
    let given = host.given_files()?;
    let source = host.plugins.module(project)?;
    let machine = setup::ensure(project, false)?;
    let flavour = if host.pae { Flavour::Pae } else { Flavour::Plain };
    let built = programs::build_all(project, &machine, &source, &[flavour], host.guest == Guest::Mini);
    let (module, launcher) = (built.modules?.swap_remove(0), built.launcher?);
    let mut guests = match &host.guest {
        Guest::Linux => programs::linux_guest(project, &host.source, host.pae)?,
        Guest::Mini => built.guest.transpose()?.map(programs::as_guest).into_iter().collect(),
        Guest::Given(_) => Vec::new(),
    };
    guests.extend(given);
    let clock = if host.smp == 1 { Clock::Instructions(SHIFT) } else { Clock::Real };
    let vm =
        Vm { name: name.to_owned(), flavour, processors: host.smp, processor: Processor::default(), clock };
    Ok(Prepared { machine, contents: Contents { module, launcher, guests }, vm })
}

fn steps(strategies: &[String], host: &HostArgs, words: &[String]) -> Vec<Step> {
    let mut steps = vec![Step::new("load", "load strategy=lguest seed=42")];
    for (number, strategy) in strategies.iter().enumerate() {
        let run = Step::new(format!("run-{number}"), host.command(strategy, "", words));
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
    table.load_style(STYLE);
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

    fn host(guest: Guest) -> HostArgs {
        HostArgs {
            pae: false,
            smp: 1,
            guest,
            initrd: None,
            block: Vec::new(),
            source: "6.1".to_owned(),
            plugins: programs::PluginArgs::default(),
        }
    }

    #[test]
    fn a_guest_gets_its_files_and_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for name in ["k", "i", "d"] {
            fs::write(file(name), name).unwrap();
        }
        let mut host = host(Guest::Given(file("k").into()));
        host.initrd = Some(file("i").into());
        host.block = vec![file("d") + ",readonly"; 2];
        let command = host.command("lru", "", &["quiet".to_owned(), "console=hvc0".to_owned()]);
        let disk = "--block '/guests/d',readonly";
        let expected = format!("--initrd '/guests/i' {disk} {disk} '/guests/k' quiet console=hvc0");
        assert!(command.ends_with(&expected), "{command}");
        let files = host.given_files().unwrap();
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["k", "i", "d"]);
        assert_eq!(files[2].path.to_str().unwrap(), file("d"));
        // Another file of the same name would take its place; one that is not there has none.
        fs::create_dir(file("other")).unwrap();
        fs::write(file("other/k"), "").unwrap();
        host.block = vec![file("other/k")];
        assert!(host.given_files().unwrap_err().to_string().contains("are called k"));
        host.block = vec![file("nosuch")];
        assert!(host.given_files().unwrap_err().to_string().contains("nosuch"));
        host.guest = Guest::Linux;
        assert!(host.given_files().unwrap_err().to_string().contains("--guest FILE"));
    }

    #[test]
    fn every_strategy_runs_between_load_and_unload() {
        let host = host(Guest::Given("/tmp/k".into()));
        let steps = steps(&["a".into(), "b:slots=8".into()], &host, &[]);
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
