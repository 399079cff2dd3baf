//! The terminal behind standard input: handed to the guest key by key, and given back as it was.
//!
//! In the background of a shell (`lguest … &`) it is somebody else's: who sets or reads it there is stopped (SIGTTOU, SIGTTIN).

use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// How many lines a terminal has, as far as it says; 24 otherwise.
pub fn lines(terminal: impl AsFd) -> usize {
    tcgetwinsize(terminal).ok().map(|size| size.ws_row).filter(|&rows| rows > 0).map_or(24, usize::from)
}

/// Gets the new size of a terminal, in columns and rows, for as long as it is kept.
pub type Watcher = Arc<Watch>;
type Watch = dyn Fn([u16; 2]) + Send + Sync;

/// Whose the terminal's settings are.
enum Settings {
    /// As the launcher has found them.
    Found,
    /// The guest's; these were found.
    Guests(Termios),
    /// There is no guest any more that they could be for.
    GivenBack,
}

/// Standard input, with the terminal settings it had if they have been changed.
pub struct Terminal {
    input: OwnedFd,
    settings: Mutex<Settings>,
    watcher: Mutex<Option<Weak<Watch>>>,
}

impl Terminal {
    /// Takes `input`, which may be a terminal or anything else.
    #[must_use]
    pub fn new(input: OwnedFd) -> Self {
        Self { input, settings: Mutex::new(Settings::Found), watcher: Mutex::new(None) }
    }

    /// The input, to read and poll.
    #[must_use]
    pub fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    /// Whether somebody types.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        isatty(&self.input)
    }

    /// Its columns and rows, if it is a terminal that has any.
    #[must_use]
    pub fn size(&self) -> Option<[u16; 2]> {
        let size = tcgetwinsize(&self.input).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some([size.ws_col, size.ws_row])
    }

    /// From now on `watcher` gets each new size, instead of the one before. It gets the present one at once.
    pub fn watch_size(&self, watcher: impl Fn([u16; 2]) + Send + Sync + 'static) -> Watcher {
        let watcher: Watcher = Arc::new(watcher);
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(&watcher));
        self.size_changed();
        watcher
    }

    /// The terminal may have another size than before (SIGWINCH).
    pub fn size_changed(&self) {
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(watcher), Some(size)) = (watcher.as_ref().and_then(Weak::upgrade), self.size()) {
            watcher(size);
        }
    }

    /// Whether the input is a terminal that this process is in the background of.
    #[must_use]
    pub fn is_in_background(&self) -> bool {
        // Where it does not control this process, nobody is stopped for its sake.
        tcgetpgrp(&self.input).is_ok_and(|foreground| foreground != getpgrp())
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// If the input is a terminal, passes every key on as it is typed: no echo, no lines, no signals. In the background it is
    /// left alone; returns whether it was not.
    ///
    /// # Errors
    /// The error of the terminal.
    pub fn hand_over(&self) -> io::Result<bool> {
        self.set(&mut self.settings())
    }

    /// The process goes on after a stop (SIGCONT), during which a shell may have set the terminal.
    pub fn continued(&self) {
        let mut settings = self.settings();
        if matches!(*settings, Settings::Guests(_)) {
            // A terminal that is gone needs no settings.
            let _ = self.set(&mut settings);
        }
    }

    fn set(&self, settings: &mut Settings) -> io::Result<bool> {
        if self.is_in_background() {
            return Ok(false);
        }
        if matches!(settings, Settings::GivenBack) || !self.is_interactive() {
            return Ok(true);
        }
        let found = tcgetattr(&self.input)?;
        let mut raw = found.clone();
        raw.local_modes -= LocalModes::ISIG | LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(&self.input, OptionalActions::Now, &raw)?;
        if matches!(settings, Settings::Found) {
            *settings = Settings::Guests(found);
        }
        Ok(true)
    }

    /// Undoes [`Terminal::hand_over`], for good. In the background a shell has done so.
    pub fn give_back(&self) {
        let mut settings = self.settings();
        if let Settings::Guests(found) = std::mem::replace(&mut *settings, Settings::GivenBack)
            && !self.is_in_background()
        {
            // A terminal that is gone needs no settings.
            let _ = tcsetattr(&self.input, OptionalActions::Now, &found);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.give_back();
    }
}
