//! A guest on a scripted host, and somebody who does something with it meanwhile.

use super::elf::Elf;
use super::host::ScriptedHost;
use super::{Screen, piped_terminal};
use clap::Parser;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use userland_launcher::cli::Cli;
use userland_launcher::control::Control;
use userland_launcher::files::Files;
use userland_launcher::host::Host;
use userland_launcher::launch::{Prepared, Session};
use userland_launcher::outcome::Outcome;
use userland_launcher::sockets::Sockets;

/// A session that can be run.
pub struct Played {
    /// What it has opened.
    pub files: Files,
    /// How its guest is stopped and goes on.
    pub control: Arc<Control>,
    /// The session.
    pub session: Session,
    /// The socket by which the guest can be seen to.
    pub socket: PathBuf,
    cli: Cli,
    screen: Screen,
    _folder: TempDir,
}

impl Played {
    /// The session of a guest with this option, which takes a socket.
    pub fn with_socket(option: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (kernel, socket) = (folder.path().join("kernel"), folder.path().join("socket"));
        std::fs::write(&kernel, Elf::good().bytes()).unwrap();
        let line = ["lguest", "--memory", "2M", option, socket.to_str().unwrap(), kernel.to_str().unwrap()];
        let cli = Cli::parse_from(line);
        let files = Files::open(&cli, &Sockets::default()).unwrap();
        let control = Arc::new(Control::new().unwrap());
        let screen = Screen::default();
        let session = Session::new(screen.output(), control.clone());
        Self { files, control, session, socket, cli, screen, _folder: folder }
    }

    /// Runs the guest of `host`, and meanwhile `act`, in another thread; returns how the guest ended. An act that fails ends it.
    pub fn run(self, host: &Arc<ScriptedHost>, act: impl FnOnce() + Send + 'static) -> Outcome {
        let Self { files, session, cli, screen, .. } = &self;
        let end = session.ender();
        let actor = std::thread::spawn(move || {
            let acted = catch_unwind(AssertUnwindSafe(act));
            if acted.is_err() {
                end(Outcome::Stopped);
            }
            acted
        });
        let (terminal, _keyboard) = piped_terminal();
        let ended = session.run(
            cli,
            files,
            || Prepared::new(cli, files, &terminal, &screen.output()),
            || Ok(host.clone() as Arc<dyn Host>),
        );
        actor.join().unwrap().unwrap();
        ended.unwrap().outcome
    }
}
