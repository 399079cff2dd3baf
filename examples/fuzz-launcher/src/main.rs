//! The hostile launcher of `cargo xtask fuzz`: lives of random guests under random attacks, one after the other.
//!
//! A *life* is a process that makes a guest ([`guest`]) and runs it, while threads and other processes attack both
//! ([`attack`]). All of it follows from the run's seed and the life's number, apart from how the processor's turns
//! fall. Whoever watches ([`watch`]) ends each life with `kill -9`, and then holds the module to its word: the process
//! ends at once, and nothing is left behind. What breaks it is a line that begins with `FAULT`. What the host's kernel
//! prints, and whether it lives at all, is seen from outside (`benches/attack/src/fuzz`).

mod attack;
mod dice;
mod guest;
mod life;
mod memory;
mod shared;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Random hostile launchers with random hostile guests.
#[derive(Parser)]
struct Cli {
    /// The run's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of the first life
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many lives at most
    #[arg(long, default_value_t = u64::MAX)]
    lives: u64,
    /// Begin no life after so many seconds
    #[arg(long, default_value_t = u64::MAX)]
    seconds: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let limit = Duration::from_secs(cli.seconds);
    match watch::run(cli.seed, cli.first, cli.lives, limit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            println!("FAULT {fault:#}");
            ExitCode::FAILURE
        }
    }
}
