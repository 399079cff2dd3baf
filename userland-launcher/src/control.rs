//! Stops a running guest for a while, and reads its counters, from another thread than the guest's own.
//!
//! A guest runs as long as its thread reads the device, which a signal interrupts. One that comes just before the read
//! begins is lost, so it is repeated until the guest's thread has seen that it is to wait.

use crate::host::Host;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;

/// The signal that interrupts a read. Its default would end the launcher; see [`Control::new`].
const INTERRUPTION: i32 = libc::SIGUSR1;
/// After this time the signal is repeated.
const AGAIN: Duration = Duration::from_millis(5);

/// Why nothing can be done with the guest.
#[derive(Debug, Error)]
pub enum ControlError {
    /// It has not begun, or has ended.
    #[error("no guest runs")]
    NotRunning,
    /// The host refuses.
    #[error("the host gives no counters: {0}")]
    Counters(#[from] io::Error),
}

/// What is known of the guest.
#[derive(Default)]
struct State {
    /// The guest that runs, with its thread, which stays there until this is taken away.
    running: Option<(Arc<dyn Host>, libc::pthread_t)>,
    /// Somebody has paused it.
    is_paused: bool,
    /// How many wait for it to stand still.
    stops: u32,
    /// Its thread waits.
    stands: bool,
}

impl State {
    fn should_stand(&self) -> bool {
        self.is_paused || self.stops > 0
    }
}

/// A guest as others than its own thread see it.
#[derive(Default)]
pub struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

impl Control {
    /// No guest yet. From now on the signal that interrupts guests does nothing else to this process.
    ///
    /// # Errors
    /// What sigaction(2) answers.
    pub fn new() -> io::Result<Self> {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: all zero is a valid `sigaction`: no flags, above all not SA_RESTART, which would begin the read anew.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int) = nothing;
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: the handler does nothing, which a handler may do at any moment.
        match unsafe { libc::sigaction(INTERRUPTION, &raw const action, std::ptr::null_mut()) } {
            0 => Ok(Self::default()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest of `host` runs in the calling thread, until the returned value is dropped there.
    pub fn runs(&self, host: Arc<dyn Host>) -> impl Drop + use<'_> {
        /// Takes the guest away.
        struct Running<'a>(&'a Control);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.state().running = None;
                self.0.changed.notify_all();
            }
        }
        // SAFETY: has no conditions.
        self.state().running = Some((host, unsafe { libc::pthread_self() }));
        Running(self)
    }

    /// Called by the guest's thread between two reads: waits as long as the guest is to stand still.
    pub fn wait(&self) {
        let mut state = self.state();
        while state.should_stand() {
            state.stands = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.stands = false;
    }

    /// Waits until the guest stands still, which it has been requested to do.
    fn stand<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Result<MutexGuard<'a, State>, ControlError> {
        loop {
            let Some((_, thread)) = state.running else { return Err(ControlError::NotRunning) };
            if state.stands {
                return Ok(state);
            }
            // SAFETY: the thread has not ended, as it takes `running` away before, for which it needs the lock.
            unsafe { libc::pthread_kill(thread, INTERRUPTION) };
            let waited = self.changed.wait_timeout(state, AGAIN);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Pauses the guest; returns when it stands still.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`].
    pub fn pause(&self) -> Result<(), ControlError> {
        let mut state = self.state();
        state.is_paused = state.running.is_some();
        self.stand(state).map(drop)
    }

    /// Lets a paused guest go on.
    pub fn proceed(&self) {
        self.state().is_paused = false;
        self.changed.notify_all();
    }

    /// Whether the guest is paused; `None` if there is none.
    pub fn is_paused(&self) -> Option<bool> {
        let state = self.state();
        state.running.as_ref().map(|_| state.is_paused)
    }

    /// The guest's counters, as [`Host::counters`] returns them. The host counts while the guest stands still only.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn counters(&self) -> Result<String, ControlError> {
        let mut state = self.state();
        state.stops += 1;
        let counters = self.stand(state).and_then(|state| {
            let host = state.running.as_ref().map(|(host, _)| host.clone());
            drop(state);
            Ok(host.ok_or(ControlError::NotRunning)?.counters()?)
        });
        self.state().stops -= 1;
        self.changed.notify_all();
        counters
    }
}
