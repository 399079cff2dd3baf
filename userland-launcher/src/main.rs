//! `lguest`: starts a kernel as a guest, shows its console, and exits with the guest's own result.
//!
//! This file connects the library with the real surroundings: standard input and output, signals,
//! `/dev/lguest`. It opens everything before it looks at anything that a guest could have made, and gives up its
//! rights in between. The README beside the sources lists the exit codes and shows uses.

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;
use std::cell::Cell;
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use userland_launcher::cli::{Cli, Command};
use userland_launcher::confinement::confine;
use userland_launcher::console_output::ConsoleOutput;
use userland_launcher::control::Control;
use userland_launcher::counters;
use userland_launcher::cpu_time;
use userland_launcher::files::Files;
use userland_launcher::gdb;
use userland_launcher::guest_views;
use userland_launcher::host::{DeviceFile, Host};
use userland_launcher::launch::{LaunchError, Prepared, Session};
use userland_launcher::monitor;
use userland_launcher::opener::Opener;
use userland_launcher::outcome::{Outcome, exit_code, in_full};
use userland_launcher::sockets::Sockets;
use userland_launcher::terminal::{self, Terminal};
use userland_launcher::top::{self, Screen, Top};
use userland_launcher::user::{USERS, User};

fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let cli = Cli::of(&line).unwrap_or_else(|error| error.exit());
    if let Some(Command::Top(top)) = &cli.command {
        return watch(top);
    }
    if let (Some(monitor), Some(command)) = (&cli.monitor, cli.send) {
        return send(monitor, command);
    }
    match launch(&cli) {
        Ok(outcome) => {
            if let Some(message) = outcome.message() {
                eprintln!("lguest: {message}");
            }
            ExitCode::from(&outcome)
        }
        Err(error) => {
            eprintln!("lguest: {}", in_full(error.as_ref()));
            exit_code::LAUNCHER.into()
        }
    }
}

/// Shows what the guests of this host do.
fn watch(top: &Top) -> ExitCode {
    let mut out = std::io::stdout();
    let lines = || terminal::lines(std::io::stdout());
    let is_terminal = std::io::stdout().is_terminal() && !top.once;
    let mut screen = Screen { out: &mut out, lines: is_terminal.then_some(&lines) };
    match top::run(top, Path::new(guest_views::FOLDER), &mut screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lguest: {}", in_full(&error));
            exit_code::LAUNCHER.into()
        }
    }
}

/// Sends a request to the monitor of another launcher, and prints the answer.
fn send(monitor: &Path, command: monitor::Command) -> ExitCode {
    match monitor::send(monitor, command) {
        Ok((answer, is_done)) => {
            // Whoever has seen enough of it may have closed the pipe.
            let _ = writeln!(std::io::stdout(), "{answer}");
            if is_done { ExitCode::SUCCESS } else { exit_code::LAUNCHER.into() }
        }
        Err(error) => {
            eprintln!("lguest: nobody answers at {}: {error}", monitor.display());
            exit_code::LAUNCHER.into()
        }
    }
}

fn launch(cli: &Cli) -> Result<Outcome, Box<dyn Error>> {
    let user = cli.user.as_deref().map(|text| {
        // Without a list of users only numbers can be used, which is what the error states.
        User::find(text, &std::fs::read_to_string(USERS).unwrap_or_default())
    });
    let user = user.transpose()?;
    // Before any file of the guest's is open, and before there are threads.
    let opener = Arc::new(match user {
        Some(_) => Opener::with_helper(&cli.device, cli.confine).map_err(LaunchError::Helper)?,
        None => Opener::direct(&cli.device),
    });
    // They are removed when this is dropped, which is at every end of this function.
    let sockets = Sockets::named(cli.sockets()).map_err(LaunchError::Remover)?;
    let mut counters = match &cli.counters {
        None => None,
        Some(path) => Some(counters::open(path.as_deref()).map_err(|source| LaunchError::Counters {
            path: path.clone().unwrap_or_else(|| "standard error".into()),
            source,
        })?),
    };
    let mut files = Files::open(cli, &sockets)?;
    let first = Cell::new(Some(DeviceFile::open(&opener)?));
    let output = ConsoleOutput::new(std::io::stdout());
    let terminal = Arc::new(Terminal::new(std::io::stdin().as_fd().try_clone_to_owned()?));
    if let Some(lacking) = confine(cli.confine, user, &opener.needs())? {
        eprintln!("lguest: {}", in_full(&lacking));
    }

    let control = Arc::new(Control::new()?);
    let session = Session::new(output.clone(), control.clone());
    if let Some(listener) = files.monitor.take() {
        monitor::serve(listener, control.clone(), Arc::new(session.ender())).map_err(LaunchError::Thread)?;
    }
    if let Some(listener) = files.gdb.take() {
        gdb::serve(listener, control, session.ender()).map_err(LaunchError::Thread)?;
        if let Some(address) = &cli.gdb {
            eprintln!("lguest: the guest waits for a debugger at {address}: {}", address.command());
        }
    }
    let is_first_life = Cell::new(true);
    // A signal would otherwise leave the terminal in the guest's hands.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGWINCH, SIGCONT])?;
    let (end, watched) = (session.ender(), terminal.clone());
    std::thread::spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGWINCH => watched.size_changed(),
                SIGCONT => watched.continued(),
                signal => end(Outcome::Signal(signal)),
            }
        }
    });
    if let Some(seconds) = cli.cpu_time {
        let end = session.ender();
        cpu_time::limit(seconds, move || end(Outcome::CpuTime(seconds))).map_err(LaunchError::Thread)?;
    }
    let ended = session.run(
        cli,
        &files,
        || {
            let prepared = Prepared::new(cli, &files, &terminal, &output)?;
            if is_first_life.take() {
                prepared.warnings().iter().for_each(|warning| eprintln!("lguest: {warning}"));
            }
            Ok(prepared)
        },
        || {
            let device = first.take().map_or_else(|| DeviceFile::open(&opener), Ok)?;
            Ok(Arc::new(device) as Arc<dyn Host>)
        },
    );
    terminal.give_back();
    let ended = ended?;
    if let Some(target) = &mut counters {
        let text = ended.counters().unwrap_or_else(|error| {
            eprintln!("lguest: the host gives no counters: {error}");
            String::new()
        });
        if let Err(error) = counters::report(target, &text, ended.ticks) {
            eprintln!("lguest: cannot write the counters: {error}");
        }
    }
    ended.close().map_err(|source| LaunchError::Recording(source).into())
}
