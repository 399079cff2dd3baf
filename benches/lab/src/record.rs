//! `cargo xtask record`: one boot of Debian's kernel in which a guest is recorded; the trace, brought out and
//! replayed.
//!
//! The launcher writes the recording to a file in the VM while the guest runs. It leaves the VM on a serial line
//! of its own ([`EXPORTS`]), and goes into a file as an LZ4 frame of the binary form. Replayed on the strategy
//! that it was recorded on, it must agree with the guest's own counters.
//!
//! With `--load` it records a load of the library ([`crate::loads`]), whose trace is a Zstandard frame: a quarter as long.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arch_i386::paging::Paging;
use clap::Parser;
use framework::registry::Choice;
use sim::replay::{Replay, Report};
use sim::trace::{Reader, Writer, WrittenForm};
// Their registry entries are what is wanted of them.
use strategies as _;

use xtask::counters::Counters;
use xtask::demo::{HostArgs, Prepared, prepare};
use xtask::flavour::Flavour;
use xtask::process::{Progress, output};
use xtask::project::Project;
use xtask::qemu::EXPORTS;
use xtask::steps::{Event, Outcome, Step, parse};
use xtask::system_packages::install_missing;
use xtask::tally::Tally;
use xtask::vm::{GuestFile, Special};

use crate::loads::{self, LOADS, Load};

/// Options of `cargo xtask record`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    host: HostArgs,
    /// Record on this strategy, as NAME or NAME:parameter=value
    #[arg(long, value_name = "NAME", default_value = "lguest")]
    strategy: String,
    /// Drop all mappings at every switch, so that each interval's first touch of every page is recorded and the
    /// trace can be replayed on every strategy
    #[arg(long)]
    touch: bool,
    /// KiB that the host keeps of the recording until the launcher reads it
    #[arg(long, value_name = "KIB", default_value_t = 4096)]
    buffer: u32,
    /// Record this load of the library, with touches, or `all` of them (may be repeated)
    #[arg(long, value_name = "NAME", value_parser = loads::names(), conflicts_with_all = [
        "touch", "strategy", "guest", "initrd", "block", "smp", "words",
    ])]
    load: Vec<String>,
    /// Where the trace goes [default: guest.lgtrace.lz4]; with --load the folder for linux-NAME.lgtrace.zst [default: .]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The guest's command line
    #[arg(last = true, value_name = "WORD")]
    words: Vec<String>,
}

/// How the trace gets out of the VM: in pieces, so that there is always something to be seen.
const EXPORT: &str = "size=$(wc -c </tmp/trace)
    stty -F /dev/ttyS2 115200 raw -echo
    for piece in $(seq 0 $((size >> 20))); do
        dd if=/tmp/trace of=/dev/ttyS2 bs=1M skip=$piece count=1 2>/dev/null || fail 'the trace does not come out'
        echo \"piece $piece of $((size >> 20))\"
    done
    echo \"size $size\"";

/// What one boot records.
struct Job<'a> {
    /// The strategy under the recorder.
    of: &'a Choice,
    touch: bool,
    /// The command in the host VM that runs the guest.
    guest: String,
    output: PathBuf,
}

/// Records, and reports the result.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let of = &Choice::parse(&args.strategy).context("--strategy")?;
    if args.load.is_empty() {
        let guest = args.host.command(&recorder(args.touch, &args.strategy), RECORD, &args.words);
        let output = args.output.clone().unwrap_or_else(|| "guest.lgtrace.lz4".into());
        let job = Job { of, touch: args.touch, guest, output };
        return record(project, &prepare(project, &args.host, "record")?, args.buffer, &[], &job);
    }
    install_missing(project, &[("zstd", "packs the recorded loads")])?;
    let folder = args.output.clone().unwrap_or_else(|| ".".into());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut prepared = prepare(project, &args.host, "record")?;
    let guests = prepared.contents.guests.clone();
    for load in
        LOADS.iter().filter(|load| args.load.iter().any(|name| name == load.name || name == loads::ALL))
    {
        println!("{}: {}", load.name, load.what);
        let disk = loads::make_disk(project, load)?;
        prepared.vm.name = format!("record-{}", load.name);
        prepared.contents.guests.clone_from(&guests);
        prepared.contents.guests.push(GuestFile { name: DISK.to_owned(), path: disk });
        let output = folder.join(format!("linux-{}.lgtrace.zst", load.name));
        let job = Job { of, touch: true, guest: of_load(args, load), output };
        // The disk is in the host's memory twice while the host unpacks what it is started with.
        record(project, &prepared, args.buffer, &["-m".to_owned(), "1024".to_owned()], &job)?;
    }
    Ok(())
}

/// The arguments alone, as [`check`] gives them.
#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// The checks of this command, in the section of `cargo xtask test` with those of `bench`: a guest with device memory, under
/// strategies with and without a use for pages that the host has found ahead, on both kernels.
pub fn check(project: &Project, tally: &mut Tally) {
    let file = project.out().join("recorded-tests.lgtrace.lz4");
    for (strategy, flavour) in [("lru", None), ("shared:prefetch-on-trial=off", Some("--pae"))] {
        let options = ["record", "--guest", "mini", "--strategy", strategy, "--output"];
        let options = options.into_iter().map(OsString::from).chain([file.clone().into()]);
        let options =
            options.chain(flavour.map(OsString::from)).chain(["--", "test=quick"].map(OsString::from));
        let recorded = run(project, &Line::parse_from(options).args);
        tally.check(&format!("a recording on {strategy} comes to the guest's counters"), recorded);
    }
}

/// How long a step may take.
const HOUR: Duration = Duration::from_secs(3600);

/// Options of the launcher for a recording.
const RECORD: &str = "--record /tmp/trace";

/// The name of the disk of a load in the host VM.
const DISK: &str = "loads.img";

/// The strategy that records.
fn recorder(touch: bool, of: &str) -> String {
    format!("record:touch={},of={of}", if touch { "all" } else { "off" })
}

/// The command in the host VM that runs `load`.
fn of_load(args: &Args, load: &Load) -> String {
    let options = format!("{RECORD} --block /guests/{DISK},readonly");
    let words = ["on-disk".to_owned(), load.words.to_owned()];
    format!(
        "export MEMORY={}M\n{}",
        load.memory,
        args.host.command(&recorder(true, &args.strategy), &options, &words)
    )
}

/// Boots with more `options` for QEMU, and keeps the recording.
fn record(
    project: &Project,
    prepared: &Prepared,
    buffer: u32,
    options: &[String],
    job: &Job<'_>,
) -> Result<()> {
    let Prepared { machine, contents, vm } = prepared;
    let steps = steps(buffer, &job.guest);
    // A load says nothing while it works.
    let special = Special { options, silence: HOUR, ..Special::default() };
    let boot = vm.run_special(special, project, &machine.kernels, contents, &steps, show)?;
    let logs = boot.logs();
    boot.check(&steps)?;
    let [_, guest, export, ..] = &boot.outcomes[..] else { bail!("the VM did not do its steps.\n{logs}") };
    let recording = boot.folder.join(EXPORTS);
    check_size(&recording, export)?;

    let progress = Progress::start("replay");
    let shadow = match vm.flavour {
        Flavour::Plain => Paging::TwoLevel,
        Flavour::Pae => Paging::Pae,
    };
    let report = keep(&recording, &job.output, job.of, shadow)?;
    progress.done();
    let counters = Counters::from_output(&guest.output);
    let differences = differences(&report, &counters, job.touch);
    ensure!(
        differences.is_empty(),
        "the recording does not come to what the guest's counters say: {}.\n{logs}",
        differences.join(", ")
    );
    let size = fs::metadata(&job.output)?.len();
    println!("{}: {} operations in {size} bytes", job.output.display(), report.ops);
    Ok(())
}

fn steps(buffer: u32, guest: &str) -> Vec<Step> {
    let load = format!("load seed=42 recording_kib={buffer}");
    vec![
        Step::new("load", load),
        Step { limit: HOUR, ..Step::new("guest", guest) },
        Step { limit: HOUR, ..Step::new("export", EXPORT) },
        Step::new("unload", "unload"),
    ]
}

/// Shows what the guest prints.
fn show(line: &str) {
    match parse(line) {
        Event::Output(text) if !text.starts_with("counter ") && !text.starts_with("piece ") => {
            println!("  | {text}")
        }
        _ => {}
    }
}

/// What came out of the VM must be what was in it.
fn check_size(recording: &Path, export: &Outcome) -> Result<()> {
    let size = export.output.iter().find_map(|line| line.trim().strip_prefix("size ")?.parse::<u64>().ok());
    let size = size.context("the VM does not say how long the trace is")?;
    let found = fs::metadata(recording).with_context(|| recording.display().to_string())?.len();
    ensure!(found == size, "the trace has {size} bytes, of which {found} came out of the VM");
    Ok(())
}

/// Writes the recording to where it is wanted, compressed, and replays it.
fn keep(recording: &Path, output: &Path, of: &Choice, shadow: Paging) -> Result<Report> {
    let input = File::open(recording).with_context(|| recording.display().to_string())?;
    let reader = Reader::new(BufReader::new(input)).context("the recording")?;
    let header = reader.header();
    // What `zstd` is to pack is written beside it first.
    let zstandard = output.extension().is_some_and(|extension| extension == "zst");
    let written = if zstandard { output.with_extension("") } else { output.to_owned() };
    let file = File::create(&written).with_context(|| format!("cannot make {}", written.display()))?;
    let form = WrittenForm { binary: true, compressed: !zstandard };
    let mut writer = Writer::new(BufWriter::new(file), form, &header)?;
    let mut replay = Replay::on_host(&header, of, shadow)?;
    for operation in reader {
        let operation = operation.context("the recording (--buffer makes the host keep more of it)")?;
        writer.write(&operation)?;
        replay.step(&operation);
    }
    writer.finish()?;
    if zstandard {
        pack(&written)?;
    }
    Ok(replay.finish(of, false))
}

/// Packs a file into one beside it, of the same name with `.zst` behind it, and removes it.
fn pack(file: &Path) -> Result<()> {
    // Level 19 has the largest window that readers of the format must accept (RFC 8878, 3.1.1.1.2).
    output(Command::new("zstd").args(["-19", "-q", "-f", "--rm", "--"]).arg(file)).map(drop)
}

/// What the guest's counters and the replay's do not agree on.
fn differences(report: &Report, guest: &Counters, touch: bool) -> Vec<String> {
    // With touches the strategy has been made to drop more than it would.
    let dropped_more = ["demand_faults", "filled_ahead", "released_entries", "visited_entries"];
    let replayed = report.counters.iter().filter(|(name, _)| !(touch && dropped_more.contains(name)));
    let differing = replayed.filter(|(name, value)| guest.get(name) != Some(*value));
    let told = |counter: Option<u64>| counter.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
    differing.map(|(name, value)| format!("{name} {value}, not {}", told(guest.get(name)))).collect()
}

#[cfg(test)]
mod tests {
    use framework::counters::PagingCounters;

    use super::*;

    #[test]
    fn a_counter_that_differs_is_named_with_both_values() {
        let counters =
            PagingCounters { page_directory_loads: 7, demand_faults: 3, ..PagingCounters::default() };
        let report = Report {
            strategy: "lru".to_owned(),
            ops: 10,
            killed: None,
            hit: 0,
            batches: 0,
            counters,
            entries: 0,
            frames_known: 0,
            table_pages: 0,
            directories: None,
            after_free: (0, 0),
        };
        let said = |demand_faults| -> Vec<String> {
            let other = PagingCounters { demand_faults, ..counters };
            other.iter().map(|(name, value)| format!("counter {name} {value}")).collect()
        };
        assert!(differences(&report, &Counters::from_output(&said(3)), false).is_empty());
        let guest = Counters::from_output(&said(9));
        assert_eq!(differences(&report, &guest, false), ["demand_faults 3, not 9"]);
        assert!(
            differences(&report, &guest, true).is_empty(),
            "touches are more faults than the strategy has"
        );
        let silent = differences(&report, &Counters::default(), false);
        assert!(silent.contains(&"page_directory_loads 7, not nothing".to_owned()), "{silent:?}");
    }

    #[test]
    fn a_trace_that_came_out_in_part_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [0; 7]).unwrap();
        let export = |size: &str| Outcome { status: Some(0), output: vec![format!("size {size}")] };
        assert!(check_size(file.path(), &export("7")).is_ok());
        let error = check_size(file.path(), &export("8")).unwrap_err().to_string();
        assert_eq!(error, "the trace has 8 bytes, of which 7 came out of the VM");
    }
}
