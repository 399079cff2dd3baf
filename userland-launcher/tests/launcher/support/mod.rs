//! What the tests play: files, the guest's drivers, the host.

pub mod driver;
pub mod elf;
pub mod host;
pub mod session;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use userland_launcher::console_output::ConsoleOutput;
use userland_launcher::disk_file::DiskName;
use userland_launcher::terminal::Terminal;

/// Keeps what was shown.
#[derive(Clone, Default)]
pub struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    /// A console output that this screen shows.
    pub fn output(&self) -> ConsoleOutput {
        ConsoleOutput::new(self.clone())
    }

    /// All that was shown so far.
    pub fn shown(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A terminal that is a pipe, with the end to type at.
pub fn piped_terminal() -> (Arc<Terminal>, OwnedFd) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    (Arc::new(Terminal::new(read)), write)
}

/// A pseudo-terminal: the side that a person has, and the launcher's.
pub fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let launcher =
        rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (person, launcher)
}

/// A disk that the guest may write.
pub fn disk_name(path: &Path) -> DiskName {
    path.as_os_str().to_owned().into()
}
