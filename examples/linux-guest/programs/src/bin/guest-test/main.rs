//! `guest-test`: checked stress of the Linux that it runs on, from user space.
//!
//! ```text
//! guest-test [OPTIONS] NAME...|all|short|list
//! guest-test --serve ADDRESS:PORT
//! ```
//!
//! It is meant for a Linux that runs as a guest, and every test passes on bare Linux too: what fails in the
//! guest only is the guest's or its hypervisor's. Each test runs in a process of its own with a time limit,
//! and is reported by one line on standard output; so is the whole:
//!
//! ```text
//! guest: seed 1
//! guest: ok NAME
//! guest: FAILED NAME: why
//! guest: skipped NAME: what it lacks here
//! guest: 30 passed, 0 failed, 2 skipped
//! ```
//!
//! The exit status is 0 if none failed, 1 if one did, 2 for wrong usage. README.md lists what the tests need.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`registry`] | the list of all tests |
//! | [`runner`] | one test after the other: processes, time limits, verdicts |
//! | [`attempt`] | code that may fault, and the signal that it got |
//! | [`process`] | processes that report to their maker |
//! | [`random`] | seeded random numbers |
//! | [`peer`] | the host's side of the tests of network and clock (`--serve`) |
//! | all others | the tests, by subject |

mod attempt;
mod clock;
mod disk;
mod ending;
mod entropy;
mod faults;
mod fpu;
mod memory;
mod modules;
mod network;
mod peer;
mod process;
mod processes;
mod random;
mod registry;
mod runner;
mod segments;
mod signals;
mod timers;
mod trace;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::runner::Selection;

/// Checked stress of the Linux that it runs on, from user space.
#[derive(Parser)]
#[command(name = "guest-test")]
pub struct Options {
    /// Tests to run, in this order; or `all`, `short` (the quick ones), `list`
    #[arg(value_name = "NAME", required_unless_present = "serve")]
    names: Vec<String>,

    /// Where everything random begins
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Seconds that a test may take
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    limit: u64,

    /// Count a test that lacks something here as failed
    #[arg(long)]
    strict: bool,

    /// With --strict: a test that may lack something here all the same (may be repeated, or a list)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    may_lack: Vec<String>,

    /// Processes of the memory test at a time
    #[arg(long, value_name = "N", default_value_t = 6)]
    processes: u32,

    /// Operations of each process of the memory test [default: 12000; 1500 with `short`]
    #[arg(long, value_name = "N")]
    operations: Option<u32>,

    /// Where another machine runs `guest-test --serve`, for the tests of network and clock
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "192.168.19.1:7019")]
    peer: SocketAddr,

    /// Seconds for which the clock is compared with the peer's [default: 60; 10 with `short`]
    #[arg(long, value_name = "SECONDS")]
    drift_seconds: Option<u64>,

    /// A disk to overwrite; it must begin with the words `guest-test scratch disk`
    #[arg(long, value_name = "DEVICE", default_value = "/dev/vda")]
    disk: PathBuf,

    /// An image of an ext4 file system, to be copied and mounted
    #[arg(long, value_name = "FILE", default_value = "/images/ext4.img")]
    image: PathBuf,

    /// A kernel module to load and unload [default: the first that can be found below /lib/modules]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,

    /// Answer the tests of network and clock on another machine, until killed
    #[arg(long, value_name = "ADDRESS:PORT")]
    serve: Option<SocketAddr>,
}

/// The settings of a test.
pub struct Settings {
    /// Seed of everything random.
    pub seed: u64,
    /// Processes of the memory test.
    pub processes: u32,
    /// Operations of each of them.
    pub operations: u32,
    /// Address of the machine that helps.
    pub peer: SocketAddr,
    /// How long clocks are compared.
    pub drift: Duration,
    /// A disk that may be overwritten.
    pub disk: PathBuf,
    /// An ext4 image.
    pub image: PathBuf,
    /// A module that may be loaded.
    pub module: Option<PathBuf>,
}

impl Settings {
    fn new(options: Options, short: bool) -> Settings {
        Settings {
            seed: options.seed,
            processes: options.processes,
            operations: options.operations.unwrap_or(if short { 1500 } else { 12_000 }),
            peer: options.peer,
            drift: Duration::from_secs(options.drift_seconds.unwrap_or(if short { 10 } else { 60 })),
            disk: options.disk,
            image: options.image,
            module: options.module,
        }
    }
}

fn main() -> ExitCode {
    if processes::repeat_arguments() {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    if let Some(address) = options.serve {
        let Err(error) = peer::serve(address) else { return ExitCode::SUCCESS };
        eprintln!("guest-test: {error:#}");
        return ExitCode::FAILURE;
    }
    let selection = match Selection::parse(&options.names) {
        Ok(selection) => selection,
        Err(error) => {
            eprintln!("guest-test: {error}");
            return ExitCode::from(2);
        }
    };
    match selection {
        Selection::List => {
            for test in registry::TESTS {
                let mark = if test.alone {
                    "alone"
                } else if test.short {
                    "short"
                } else {
                    ""
                };
                println!("{:24} {mark:6} {}", test.name, test.help);
            }
            ExitCode::SUCCESS
        }
        Selection::Tests { tests, short } => {
            let limit = Duration::from_secs(options.limit);
            let must_run = options.strict.then(|| options.may_lack.clone());
            let settings = Settings::new(options, short);
            if runner::run(&tests, &settings, limit, must_run.as_deref()) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
