//! `cargo xtask bench` itself: from the options to the files with the results.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::host::{FAILED, Host, instruction_ns};
use super::matrix::{self, Cell};
use super::native::Native;
use super::results::{Configuration, ProfileOutcome, Results, Row};
use super::{compare, developer_machine, plots, profiles, report, table, versions};
use crate::workloads::{self, Guest, MEMORY};
use linux_guest_builder::guest as linux_guest;
use linux_guest_builder::kernel::Recipe;
use linux_guest_builder::source::Series;
use xtask::accelerator::Accelerator;
use xtask::flavour::Flavour;
use xtask::process::Progress;
use xtask::programs::{self, PluginArgs};
use xtask::project::Project;
use xtask::qemu::{Clock, PROGRAM};
use xtask::setup::{self, Machine};
use xtask::tally::Tally;
use xtask::vm::{Contents, GuestFile, Vm};

/// The files with the results, besides the plots.
const RESULTS: &str = "results.json";
const TABLE: &str = "results.csv";
const PAGE: &str = "report.html";
const TABLES: &str = "tables.md";

/// Under the instruction clock, one instruction takes 2 to the power of this many nanoseconds.
const SHIFT: u8 = 1;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    subcommand: Option<Subcommand>,
    #[command(flatten)]
    measure: Measure,
}

#[derive(clap::Subcommand)]
enum Subcommand {
    /// Report what changed between two files of results; fail if something is worse
    Compare(compare::Args),
    /// Make page, plots and tables again from a file of results, beside it
    Draw(DrawArgs),
}

#[derive(clap::Args)]
struct DrawArgs {
    /// The file, results.json
    results: PathBuf,
}

/// What is to be measured.
#[derive(clap::Args)]
struct Measure {
    /// What runs as the guest
    #[arg(long, value_enum, value_name = "GUEST", default_value = "mini")]
    guest: Guest,
    /// Strategies, separated by commas, such as lguest,lru:slots=16,shared; the first is compared with the others
    #[arg(long, value_name = "LIST", default_value = "lguest,lru,shared")]
    strategies: String,
    /// Workloads, separated by commas; `all`, `ctx`, `ctxp16` and `ctxp64` are several
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "all")]
    workloads: Vec<String>,
    /// Runs of each workload with each strategy, each with a seed of its own
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// The first run's seed
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u32,
    /// Percent of the workloads' usual number of operations
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,
    /// Flavours of the host's kernel
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "686")]
    hosts: Vec<HostKernel>,
    /// What executes the host VM: QEMU's emulator, or this machine's own processor by KVM
    #[arg(long, value_enum, value_name = "HOW", default_value = "tcg")]
    accel: Accelerator,
    /// What time is: `instructions`, counted by QEMU's emulator, or the clock on the `wall`
    /// [default: instructions; with `--accel kvm`: wall]
    #[arg(long, value_enum, value_name = "CLOCK")]
    clock: Option<Time>,
    /// Leave out the native baseline, the same guest on the bare machine
    #[arg(long)]
    no_native: bool,
    /// Workloads whose instructions are counted by whose they are, in runs of their own; or `all` or `none`
    /// [default: ctx16, fork and mmap1000, as far as they are measured]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    profile: Vec<String>,
    /// Which of Debian's Linux sources the Linux guest is made of
    #[arg(long, value_enum, value_name = "VERSION", default_value = "6.1", conflicts_with = "kernel")]
    source: Series,
    /// An i386 Linux of your own that speaks lguest's ABI, an ELF file, in place of the project's
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The same Linux for the bare machine, a bzImage; without it there is no native baseline
    #[arg(long, value_name = "FILE", requires = "kernel")]
    bare_kernel: Option<PathBuf>,
    /// Boot the host anew for each run of each strategy
    #[arg(long)]
    separate_boots: bool,
    /// Where the results go [default: target/bench]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    plugins: PluginArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum HostKernel {
    #[value(name = "686")]
    Plain,
    #[value(name = "686-pae")]
    Pae,
}

impl From<HostKernel> for Flavour {
    fn from(kernel: HostKernel) -> Flavour {
        match kernel {
            HostKernel::Plain => Flavour::Plain,
            HostKernel::Pae => Flavour::Pae,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Time {
    Instructions,
    Wall,
}

impl Time {
    fn name(self) -> &'static str {
        match self {
            Time::Instructions => "instructions",
            Time::Wall => "wall",
        }
    }
}

impl From<Time> for Clock {
    fn from(time: Time) -> Clock {
        match time {
            Time::Instructions => Clock::Instructions(SHIFT),
            Time::Wall => Clock::Real,
        }
    }
}

/// The command itself.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    match &args.subcommand {
        None => report(project, &args.measure),
        Some(Subcommand::Compare(args)) => compare::run(args),
        Some(Subcommand::Draw(args)) => {
            draw(&Results::load(&args.results)?, args.results.parent().unwrap_or(Path::new(".")))
        }
    }
}

/// Measures, shows, keeps.
fn report(project: &Project, args: &Measure) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| project.target().join("bench"));
    let results = measure(project, args, &out, || {})?;
    println!("{}", table::for_terminal(&results));
    for (name, text) in [(RESULTS, results.json()?), (TABLE, results.csv())] {
        write(&out.join(name), &text)?;
    }
    draw(&results, &out)?;
    if args.accel == Accelerator::Kvm && !results.has_hardware_counters() {
        println!(
            "\nno hardware counters: this machine's KVM gives its VMs none, as where it is a VM itself without a monitoring unit"
        );
    }
    println!("\nresults: {}", out.display());
    let failed = results.failures();
    if !failed.is_empty() {
        let runs = results.rows.len() + results.profiles.len();
        bail!("{} of {runs} runs failed:\n    {}", failed.len(), failed.join("\n    "));
    }
    Ok(())
}

/// Makes the page, and what other pages may take from it: plots and tables.
fn draw(results: &Results, out: &Path) -> Result<()> {
    let plots = plots::all(results)?;
    write(&out.join(PAGE), &report::page(results, &plots))?;
    for plot in &plots {
        write(&out.join(format!("{}.svg", plot.name)), &plot.svg)?;
    }
    write(&out.join(TABLES), &table::for_markdown(results))
}

/// A strategy that the module does not have.
const NO_STRATEGY: &str = "nosuch";

/// The checks of this command: a section of `cargo xtask test`.
pub fn check(project: &Project, tally: &mut Tally) {
    tally.check("two runs of a benchmark are the same", measure_twice(project));
    tally.check("a QEMU that dies costs one run", measure_with_a_death(project));
}

/// Measures the same twice, a little of it, and holds the results against each other. With a strategy that there is
/// not: its rows have to be failures whose logs name it, and the others must not suffer.
///
/// # Errors
/// When the two differ in a byte, or other rows failed than should.
fn measure_twice(project: &Project) -> Result<()> {
    let workloads = ["null", "ctx6", "fork", "compile"];
    let little = Measure {
        strategies: format!("lguest,{NO_STRATEGY},shared"),
        runs: 2,
        profile: vec!["fork".to_owned()],
        ..Measure::short(&workloads)
    };
    let folder = project.out().join("bench-twice");
    let [first, second] =
        ["first", "second"].map(|name| measure(project, &little, &folder.join(name), || {}));
    let (first, second) = (first?, second?);
    for (a, b) in first.rows.iter().zip(&second.rows) {
        if a != b {
            bail!("two runs under the instruction clock differ:\n{a:#?}\n{b:#?}");
        }
    }
    ensure!(first.json()? == second.json()?, "two runs have the same figures, but other configurations");
    let mut failed = 0;
    for (row, why, log) in first.failed() {
        let log = folder.join("first").join(log);
        ensure!(
            row.strategy == NO_STRATEGY,
            "{} with {} failed: {why}; see {}",
            row.workload,
            row.strategy,
            log.display()
        );
        let text = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
        ensure!(text.contains(NO_STRATEGY), "{} does not say what was wrong", log.display());
        failed += 1;
    }
    for profile in &first.profiles {
        let failed = matches!(profile.outcome, ProfileOutcome::Failed { .. });
        ensure!(
            failed == (profile.strategy == NO_STRATEGY),
            "the profile of {} under {}: {:?}",
            profile.workload,
            profile.strategy,
            profile.outcome
        );
    }
    ensure!(
        first.profiles.len() == 3,
        "{} profiles of one workload under three strategies",
        first.profiles.len()
    );
    let due = workloads.len() * little.runs as usize;
    ensure!(failed == due, "{failed} rows failed, where {due} have no strategy to run with");
    Ok(())
}

/// Measures with a QEMU that dies once, killed when the first run has ended: one run has to be reported as failed, with
/// its log, and the others must not suffer.
///
/// # Errors
/// When it is otherwise.
fn measure_with_a_death(project: &Project) -> Result<()> {
    let short = Measure { no_native: true, ..Measure::short(&["null", "ctx2", "hypercall", "fork"]) };
    let folder = project.out().join("bench-death");
    let mut killed = false;
    let results = measure(project, &short, &folder, || {
        if !killed {
            killed = kill_own();
        }
    })?;
    ensure!(killed, "there was no QEMU to kill");
    let failed: Vec<_> = results.failed().collect();
    let [(row, why, log)] = failed[..] else { bail!("{} runs failed, where one QEMU died", failed.len()) };
    ensure!(row.workload != "null", "the run that had ended is said to have failed: {why}");
    ensure!(why.contains("VM ended"), "the reason is told as `{why}`");
    let log = folder.join(log);
    let kept = fs::metadata(&log).with_context(|| format!("cannot read {}", log.display()))?;
    ensure!(kept.len() > 0, "{} is empty", log.display());
    let measured = results.rows.iter().filter(|row| row.span().is_some()).count();
    ensure!(measured == 3, "{measured} runs were measured, where three had a QEMU that lived");
    Ok(())
}

/// Kills one of this process's own QEMUs, as a shortage of memory would; whether there was one.
fn kill_own() -> bool {
    let is_ours = |stat: &str| {
        // The name stands in brackets; behind it the state and the parent (proc(5)). It is cut off after 15 letters.
        let (before, after) = stat.rsplit_once(')')?;
        let parent = after.split_whitespace().nth(1)?;
        Some(before.ends_with(&format!("({}", &PROGRAM[..15])) && parent == std::process::id().to_string())
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.map(|entry| entry.path()) {
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        if is_ours(&stat) == Some(true) {
            let number = process.file_name().unwrap_or_default();
            let kill = Command::new("sh").args(["-c", "kill -KILL $0"]).arg(number).status();
            return kill.is_ok_and(|status| status.success());
        }
    }
    false
}

impl Measure {
    /// A tenth of the operations of some workloads of the example guest, once, on `lguest`.
    fn short(workloads: &[&str]) -> Measure {
        Measure {
            guest: Guest::Mini,
            strategies: "lguest".to_owned(),
            workloads: workloads.iter().map(|name| (*name).to_owned()).collect(),
            runs: 1,
            seed: 42,
            scale: 10,
            hosts: vec![HostKernel::Plain],
            accel: Accelerator::Tcg,
            clock: Some(Time::Instructions),
            no_native: false,
            profile: vec!["none".to_owned()],
            source: Series::V6_1,
            kernel: None,
            bare_kernel: None,
            separate_boots: false,
            out: None,
            plugins: PluginArgs::default(),
        }
    }

    /// How time passes.
    ///
    /// # Errors
    /// When instructions shall be counted where nobody counts them.
    fn time(&self) -> Result<Time> {
        match (self.accel, self.clock) {
            (Accelerator::Tcg, clock) => Ok(clock.unwrap_or(Time::Instructions)),
            (Accelerator::Kvm, None | Some(Time::Wall)) => Ok(Time::Wall),
            (Accelerator::Kvm, Some(Time::Instructions)) => bail!(
                "--clock instructions: only QEMU's emulator counts each instruction; `--accel kvm` goes with `--clock wall`"
            ),
        }
    }
}

/// Runs all that was requested. Logs of what failed go to `out`; `witness` is called whenever a run has ended.
fn measure(
    project: &Project,
    args: &Measure,
    out: &Path,
    mut witness: impl FnMut() + Send,
) -> Result<Results> {
    let strategies = matrix::strategies(&args.strategies);
    if strategies.is_empty() {
        bail!("--strategies names none; `lguest,lru` would compare two");
    }
    let names: Vec<String> =
        workloads::named(args.guest, &args.workloads)?.into_iter().map(str::to_owned).collect();
    let cells = matrix::cells(&strategies, &names, args.runs, args.seed);
    let time = args.time()?;
    let profiled = profiles::chosen(&args.profile, &names, args.guest, time.into())?;
    ensure!(
        args.kernel.is_none() || args.guest == Guest::Linux,
        "--kernel is a Linux: it goes with `--guest linux`"
    );
    let native = !args.no_native && (args.kernel.is_none() || args.bare_kernel.is_some());
    let source = args.plugins.module(project)?;
    let machine = setup::ensure(project, false)?;
    args.accel.check()?;
    let flavours: Vec<Flavour> = args.hosts.iter().map(|&host| host.into()).collect();
    let built = programs::build_all(project, &machine, &source, &flavours, args.guest == Guest::Mini);
    let (modules, launcher) = (built.modules?, built.launcher?);
    let mini = built.guest.transpose()?;

    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for folder in [out.to_owned(), out.join(FAILED)] {
        forget(&folder)
            .with_context(|| format!("cannot remove an earlier run's files in {}", folder.display()))?;
    }

    let mut results =
        Results::new(configuration(project, args, time, &machine, strategies.clone(), names, &profiled));
    let native_cells = if native { Native::cells(&cells) } else { Vec::new() };
    let profiles = profiled.len() * strategies.len();
    let total = (cells.len() + native_cells.len() + profiles) * flavours.len();
    let mut progress = Progress::start_counted("runs of workloads", total as u64);
    let mut ended = 0;
    let mut done = || {
        ended += 1;
        progress.reached(ended);
        witness();
    };
    let before = developer_machine::load();
    let mut machines = BTreeMap::new();
    for (flavour, module) in flavours.into_iter().zip(modules) {
        let (clock, processor) = (time.into(), args.accel.processor());
        let files = match &mini {
            Some(kernel) => Files::mini(kernel),
            None => match &args.kernel {
                Some(kernel) => Files::given(project, &machine, kernel, args.bare_kernel.as_deref())?,
                None => Files::linux(project, &machine, args.source, flavour, native)?,
            },
        };
        let versions = &mut results.configuration.versions;
        versions.extend(files.version.map(|version| ("guest".to_owned(), version)));
        let native = Native {
            project,
            guest: args.guest,
            kernel: files.native_kernel,
            initrd: files.native_initrd,
            flavour,
            processor,
            clock,
            memory: MEMORY,
            scale: args.scale,
            out,
        };
        results.rows.extend(native.run(&native_cells, &mut done)?);
        if let Some(first) = native_cells.first() {
            machines.insert(native.name(), native.folder(first).join("command"));
        }
        let host = Host {
            project,
            kernels: &machine.kernels,
            contents: Contents { module, launcher: launcher.clone(), guests: files.guests },
            guest: args.guest,
            vm: Vm { name: format!("bench-{flavour}"), flavour, processors: 1, processor, clock },
            memory: MEMORY,
            scale: args.scale,
            out,
        };
        let rows = if args.separate_boots {
            separately(&host, &cells, &mut done)?
        } else {
            host.run(&cells, &mut done)?
        };
        results.rows.extend(rows);
        if let Some(kernel) = &mini {
            let (all, seed) = (&strategies, args.seed);
            results.profiles.extend(profiles::run(&host, kernel, &profiled, all, seed, &mut done)?);
        }
        machines.insert(host.vm.name.clone(), project.logs().join("vm").join(&host.vm.name).join("command"));
    }
    for (name, file) in machines {
        let line = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        results.configuration.qemu.insert(name, without_folders(&line));
    }
    progress.done();
    if time == Time::Wall {
        results.configuration.machine = developer_machine::describe(&before);
    }
    Ok(results)
}

/// Removes what an earlier run has left in a folder, which would be taken for this one's; nothing else.
fn forget(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let plot = name.ends_with(".svg") && plots::KINDS.iter().any(|plot| name.starts_with(plot));
        let log = folder.ends_with(FAILED) && name.ends_with(".log");
        if plot || log || [RESULTS, TABLE, PAGE, TABLES].contains(&name.as_ref()) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// What a guest is made of.
struct Files {
    /// In the host VM.
    guests: Vec<GuestFile>,
    /// The guest's version, if it is not that of this project.
    version: Option<String>,
    /// On the bare machine.
    native_kernel: PathBuf,
    native_initrd: Option<PathBuf>,
}

impl Files {
    /// The example guest, which is the same on both.
    fn mini(kernel: &Path) -> Files {
        let guests = vec![programs::as_guest(kernel.to_owned())];
        Files { guests, version: None, native_kernel: kernel.to_owned(), native_initrd: None }
    }

    /// Linux with the port, and without it if there is to be a baseline.
    fn linux(
        project: &Project,
        machine: &Machine,
        series: Series,
        flavour: Flavour,
        native: bool,
    ) -> Result<Files> {
        let recipe = Recipe::guest(series, flavour == Flavour::Pae);
        let guest = linux_guest::prepare(project, machine, &recipe)?;
        let guests = guest.files("linux").into();
        let version = Some(format!("Linux {}", guest.kernel.version));
        let bare = if native {
            linux_guest::prepare(project, machine, &Recipe { bare: true, ..recipe })?
        } else {
            guest
        };
        Ok(Files { guests, version, native_kernel: bare.kernel.image, native_initrd: Some(bare.initrd) })
    }

    /// A Linux of the user's, with the project's programs in its initial file system; on the bare machine another build
    /// of it, if there is to be a baseline.
    fn given(project: &Project, machine: &Machine, kernel: &Path, bare: Option<&Path>) -> Result<Files> {
        let cannot = |path: &Path| format!("cannot read {}", path.display());
        let image = fs::read(kernel).with_context(|| cannot(kernel))?;
        let Some(version) = linux_version(&image) else {
            bail!("{} is no Linux in an ELF file: nothing in it says `Linux version`", kernel.display())
        };
        if let Some(bare) = bare {
            fs::metadata(bare).with_context(|| cannot(bare))?;
        }
        let (initrd, _) = linux_guest::initial_file_system(project, machine, "given", &version, &[])?;
        let file = |name: &str, path: &Path| GuestFile { name: name.to_owned(), path: path.to_owned() };
        Ok(Files {
            guests: vec![file("linux", kernel), file("linux.initrd", &initrd)],
            version: Some(format!("Linux {version}")),
            native_kernel: bare.unwrap_or(kernel).to_owned(),
            native_initrd: Some(initrd),
        })
    }
}

/// The version that a Linux kernel's image states, such as `3.11.10`.
fn linux_version(image: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    let at = memchr::memmem::find(image, BANNER)? + BANNER.len();
    let word = image[at..].iter().take(64).take_while(|byte| byte.is_ascii_graphic());
    Some(word.map(|&byte| char::from(byte)).collect()).filter(|version: &String| !version.is_empty())
}

/// Runs the cells of each run of each strategy in a boot of their own.
fn separately(host: &Host<'_>, cells: &[Cell], mut done: impl FnMut()) -> Result<Vec<Row>> {
    let mut groups: BTreeMap<(u32, &str), Vec<Cell>> = BTreeMap::new();
    for cell in cells {
        groups.entry((cell.run, &cell.strategy)).or_default().push(cell.clone());
    }
    let mut rows = Vec::new();
    for group in groups.values() {
        rows.extend(host.run(group, &mut done)?);
    }
    Ok(rows)
}

fn configuration(
    project: &Project,
    args: &Measure,
    time: Time,
    machine: &Machine,
    strategies: Vec<String>,
    workloads: Vec<String>,
    profiled: &[String],
) -> Configuration {
    let hosts: Vec<String> = args.hosts.iter().map(|&host| Flavour::from(host).to_string()).collect();
    let mut command = format!(
        "cargo xtask bench --guest {} --strategies {} --workloads {} --runs {} --seed {} --scale {} --hosts {} --clock {}",
        args.guest.name(),
        strategies.join(","),
        args.workloads.join(","),
        args.runs,
        args.seed,
        args.scale,
        hosts.join(","),
        time.name()
    );
    if args.accel != Accelerator::Tcg {
        command.push_str(&format!(" --accel {}", args.accel.name()));
    }
    if args.no_native {
        command.push_str(" --no-native");
    }
    if args.separate_boots {
        command.push_str(" --separate-boots");
    }
    let profiled = if profiled.is_empty() { "none".to_owned() } else { profiled.join(",") };
    command.push_str(&format!(" --profile {profiled}"));
    if args.source != Series::V6_1 {
        command.push_str(&format!(" --source {}", args.source));
    }
    for (option, file) in [("--kernel", &args.kernel), ("--bare-kernel", &args.bare_kernel)] {
        if let Some(name) = file.as_deref().and_then(Path::file_name) {
            command.push_str(&format!(" {option} {}", name.to_string_lossy()));
        }
    }
    command.push_str(&args.plugins.as_typed());
    Configuration {
        command,
        versions: versions::all(project, machine),
        guest: args.guest.name().to_owned(),
        hosts,
        strategies,
        workloads,
        runs: args.runs,
        seed: args.seed,
        scale: args.scale,
        memory: format!("{MEMORY}M"),
        instruction_ns: instruction_ns(time.into()),
        machine: BTreeMap::new(),
        separate_boots: args.separate_boots,
        qemu: BTreeMap::new(),
    }
}

/// A command line with the folders taken off the files that it names.
fn without_folders(line: &str) -> String {
    let bare = |word: &str| match word.rsplit_once('/') {
        Some((folder, name)) if folder.starts_with('/') || folder.is_empty() => name.to_owned(),
        Some((folder, name)) if folder.starts_with("file:") => format!("file:{name}"),
        _ => word.to_owned(),
    };
    line.split_whitespace().map(bare).collect::<Vec<_>>().join(" ")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_emulator_counts_instructions() {
        let time = |accel, clock| Measure { accel, clock, ..Measure::short(&[]) }.time().map(Time::name);
        assert_eq!(time(Accelerator::Tcg, None).unwrap(), "instructions");
        assert_eq!(time(Accelerator::Tcg, Some(Time::Wall)).unwrap(), "wall");
        assert_eq!(time(Accelerator::Kvm, None).unwrap(), "wall");
        assert!(
            time(Accelerator::Kvm, Some(Time::Instructions))
                .unwrap_err()
                .to_string()
                .contains("--clock wall")
        );
    }

    #[test]
    fn only_an_earlier_runs_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let failed = folder.path().join(FAILED);
        fs::create_dir(&failed).unwrap();
        let ours = ["results.json", "report.html", "ratio-686.svg", "failed/a.log"];
        let others = ["thesis.tex", "photo.svg", "notes.log", "failed/why.txt"];
        for name in ours.iter().chain(&others) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        forget(folder.path()).unwrap();
        forget(&failed).unwrap();
        assert!(ours.iter().all(|name| !folder.path().join(name).exists()));
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
    }

    #[test]
    fn a_kernel_says_its_version() {
        let image = b"\x7fELF\0\0Linux version 3.11.10-lg+ (root@here) #1\0";
        assert_eq!(linux_version(image).as_deref(), Some("3.11.10-lg+"));
        assert_eq!(linux_version(b"\x7fELF"), None);
        assert_eq!(linux_version(b"Linux version "), None);
    }

    #[test]
    fn command_lines_lose_their_folders() {
        assert_eq!(
            without_folders(
                "qemu-system-i386 -kernel /a/b/vmlinuz -serial file:/c/kernel.log -append 'rdinit=/init quiet'\n"
            ),
            "qemu-system-i386 -kernel vmlinuz -serial file:kernel.log -append 'rdinit=/init quiet'"
        );
    }
}
