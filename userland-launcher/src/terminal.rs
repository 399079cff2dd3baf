//! The terminal behind standard input: handed to the guest key by key, and given back as it was.

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// How many lines a terminal has, as far as it says; 24 otherwise.
pub fn lines(terminal: impl AsFd) -> usize {
    tcgetwinsize(terminal).ok().map(|size| size.ws_row).filter(|&rows| rows > 0).map_or(24, usize::from)
}

/// Gets the new size of a terminal, in columns and rows, for as long as it is kept.
pub type Watcher = Arc<Watch>;
type Watch = dyn Fn([u16; 2]) + Send + Sync;

/// Standard input, with the terminal settings it had if they have been changed.
pub struct Terminal {
    input: OwnedFd,
    saved: Mutex<Option<Termios>>,
    watcher: Mutex<Option<Weak<Watch>>>,
}

impl Terminal {
    /// Takes `input`, which may be a terminal or anything else.
    #[must_use]
    pub fn new(input: OwnedFd) -> Self {
        Self { input, saved: Mutex::new(None), watcher: Mutex::new(None) }
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

    /// If the input is a terminal, passes every key on as it is typed: no echo, no lines, no signals.
    ///
    /// # Errors
    /// The error of the terminal.
    pub fn hand_over(&self) -> io::Result<()> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_some() || !self.is_interactive() {
            return Ok(());
        }
        let original = tcgetattr(&self.input)?;
        let mut raw = original.clone();
        raw.local_modes -= LocalModes::ISIG | LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(&self.input, OptionalActions::Now, &raw)?;
        *saved = Some(original);
        Ok(())
    }

    /// Undoes [`Terminal::hand_over`].
    pub fn give_back(&self) {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(original) = saved.take() {
            // A terminal that is gone needs no settings.
            let _ = tcsetattr(&self.input, OptionalActions::Now, &original);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.give_back();
    }
}
