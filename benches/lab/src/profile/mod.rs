//! `cargo xtask profile`: where the instructions of one workload go, by function.
//!
//! A guest does the workload in the host VM, or on the bare machine, with a plug-in in QEMU (`benches/lab/qemu-counter`) that
//! counts each instruction between the marks which the guest sets around what it measures. So the counts are exact and whole:
//! the guest's kernel and programs, the Switcher, the module, and the host's kernel with its interrupts. A
//! compiler merges functions into one another; what was merged counts for the function that is left.
//!
//! [`counter`] has it done, [`counts`] reads what the plug-in writes, [`symbols`] gives the addresses their names: those of the
//! guest from its ELF file or `System.map`, the others from the running kernel's `/proc/kallsyms`.

mod counter;
mod counts;
mod symbols;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};

pub use counter::{Counted, Counter, Work};
pub use counts::{Profile, WORLDS, World};
pub use symbols::Functions;

use crate::workloads::{Guest, MEMORY, is_boot, named};
use counter::Bare;
use linux_guest_builder::guest as linux_guest;
use linux_guest_builder::kernel::Recipe;
use linux_guest_builder::source::Series;
use xtask::flavour::Flavour;
use xtask::module::ModuleSource;
use xtask::process::Progress;
use xtask::programs;
use xtask::project::Project;
use xtask::setup::{self, Machine};
use xtask::tally::Tally;
use xtask::vm::{Contents, GuestFile};

/// What a guest runs under that has no host.
const BARE: &str = "the bare machine";

/// The example guest's seed.
const SEED: u32 = 42;

/// Options of `cargo xtask profile`.
#[derive(clap::Args)]
pub struct Args {
    /// What runs as the guest
    #[arg(long, value_enum, value_name = "GUEST", default_value = "mini")]
    guest: Guest,
    /// What it does; a wrong name makes it list what there is
    #[arg(long, value_name = "NAME", default_value = "fork")]
    workload: String,
    /// Percent of the workload's usual number of operations
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,
    /// The strategy that it runs under, as NAME or NAME:parameter=value
    #[arg(long, value_name = "NAME", default_value = "lguest")]
    strategy: String,
    /// On the bare machine: the same guest without a host
    #[arg(long, conflicts_with = "strategy")]
    bare: bool,
    /// On the kernel with three-level page tables (686-pae)
    #[arg(long)]
    pae: bool,
    /// Which of Debian's Linux sources the Linux guest is made of
    #[arg(long, value_enum, value_name = "VERSION", default_value = "6.1")]
    source: Series,
    /// Show this many functions
    #[arg(long, value_name = "N", default_value_t = 40)]
    top: usize,
    /// Write all functions as collapsed stacks, which programs that draw flame graphs read
    #[arg(long, value_name = "FILE")]
    collapsed: Option<PathBuf>,
}

impl Args {
    fn flavour(&self) -> Flavour {
        if self.pae { Flavour::Pae } else { Flavour::Plain }
    }

    fn work<'a>(&'a self, workload: &'a str) -> Work<'a> {
        let Args { guest, scale, ref strategy, .. } = *self;
        Work { strategy, memory: MEMORY, guest, workload, seed: SEED, scale }
    }
}

/// The command itself.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let [workload] = named(args.guest, std::slice::from_ref(&args.workload))?[..] else {
        anyhow::bail!("--workload {}: those are several, and one can be profiled", args.workload)
    };
    ensure!(!is_boot(workload), "--workload {workload}: a boot sets no marks between which to count");
    let machine = setup::ensure(project, false)?;
    let work = args.work(workload);
    let (place, counted) = if args.bare {
        (BARE, bare(project, &machine, args, &work))
    } else {
        (work.strategy, hosted(project, &machine, args, &work))
    };
    let Counted { operations, profile } = counted?;
    if let Some(file) = &args.collapsed {
        fs::write(file, profile.collapsed()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{operations} operations of `{workload}` under {place} on {}\n", args.flavour());
    println!("{}\n\n{}", by_world(&profile, operations), by_function(&profile, operations, args.top));
    Ok(())
}

/// The checks of this command, in the section of `cargo xtask test` with those of `bench`.
pub fn check(project: &Project, tally: &mut Tally) {
    tally.check("a profile names the functions of a Linux guest and of its host", profile_linux(project));
}

/// Profiles a few context switches of the Linux guest.
///
/// # Errors
/// When a function is missing that a switch by a pipe needs, or much has no name.
fn profile_linux(project: &Project) -> Result<()> {
    let args = Args {
        guest: Guest::Linux,
        workload: "ctx2".to_owned(),
        scale: 2,
        strategy: "shared".to_owned(),
        bare: false,
        pae: false,
        source: Series::V6_1,
        top: 0,
        collapsed: None,
    };
    let work = args.work(&args.workload);
    let Counted { operations, profile } = hosted(project, &setup::ensure(project, false)?, &args, &work)?;
    let functions = profile.sorted();
    for (world, function) in [(World::GuestKernel, "pipe_read"), (World::Module, "lg_vcpu_enter")] {
        let found = functions.iter().any(|(of, name, count)| (*of, *name) == (world, function) && *count > 0);
        ensure!(found, "no instruction of {function} ({world}) in {operations} switches");
    }
    ensure!(profile.of(World::Switcher) > 0, "no instruction of the Switcher in {operations} switches");
    let unknown: u64 =
        functions.iter().filter(|(_, name, _)| *name == "(unknown)").map(|(.., count)| count).sum();
    ensure!(
        unknown * 100 < profile.total(),
        "{unknown} of {} instructions are of no known function",
        profile.total()
    );
    Ok(())
}

/// Counts in the host VM.
fn hosted(project: &Project, machine: &Machine, args: &Args, work: &Work<'_>) -> Result<Counted> {
    let flavour = args.flavour();
    let mini = args.guest == Guest::Mini;
    let built = programs::build_all(project, machine, &ModuleSource::of(project), &[flavour], mini);
    let (module, launcher) = (built.modules?.swap_remove(0), built.launcher?);
    let Files { guests, functions } = match built.guest.transpose()? {
        Some(kernel) => Files::mini(kernel)?,
        None => Files::linux(project, machine, args)?,
    };
    let contents = Contents { module, launcher, guests };
    let counter = Counter::new(project, &machine.kernels, contents, functions, flavour)?;
    shown(work, work.strategy, || counter.count(work))
}

/// Counts on the bare machine.
fn bare(project: &Project, machine: &Machine, args: &Args, work: &Work<'_>) -> Result<Counted> {
    let Files { guests, functions } = match args.guest {
        Guest::Mini => Files::mini(programs::mini_guest(project, machine)?)?,
        Guest::Linux => Files::linux(project, machine, args)?,
    };
    let mut paths = guests.into_iter().map(|file| file.path);
    let kernel = paths.next().context("the guest has no kernel")?;
    let bare = Bare { project, kernel, initrd: paths.next(), functions: &functions, flavour: args.flavour() };
    shown(work, BARE, || bare.count(work))
}

/// Counts, and shows meanwhile what and where.
fn shown(work: &Work<'_>, place: &str, count: impl FnOnce() -> Result<Counted>) -> Result<Counted> {
    let progress = Progress::start(format!("`{}` under {place}, counted", work.workload));
    let counted = count()?;
    progress.done();
    Ok(counted)
}

/// What a guest is made of.
struct Files {
    /// Its kernel, and its initial file system if it has one.
    guests: Vec<GuestFile>,
    /// The kernel's functions.
    functions: Functions,
}

impl Files {
    fn mini(kernel: PathBuf) -> Result<Files> {
        let functions = Functions::of_elf_file(&kernel)?;
        Ok(Files { guests: vec![programs::as_guest(kernel)], functions })
    }

    fn linux(project: &Project, machine: &Machine, args: &Args) -> Result<Files> {
        let recipe = Recipe { bare: args.bare, ..Recipe::guest(args.source, args.pae) };
        let guest = linux_guest::prepare(project, machine, &recipe)?;
        let map = guest.kernel.system_map();
        let text = fs::read_to_string(&map).with_context(|| format!("cannot read {}", map.display()))?;
        let functions = Functions::of_system_map(&text).with_context(|| map.display().to_string())?;
        Ok(Files { guests: guest.files("linux").into(), functions })
    }
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
