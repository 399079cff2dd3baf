//! Stops a running guest for a while, and reads its counters, from another thread than the guest's own; and lets a debugger know
//! where it has stopped.
//!
//! A guest runs as long as its thread reads the device, which a signal interrupts. One that comes just before the read
//! begins is lost, so it is repeated until the guest's thread has seen that it is to wait.

use crate::devices::worker::Kick;
use crate::guest_memory::GuestMemory;
use crate::host::Host;
use crate::kernel::Image;
use arch_i386::launcher::View;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
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
    #[error("the host gives no {0}: {1}")]
    Refused(&'static str, #[source] io::Error),
}

/// How long a guest's end waits for a debugger to be told of it.
const FAREWELL: Duration = Duration::from_secs(1);

/// A guest, for a debugger.
pub struct Guest {
    /// Who has its registers.
    pub host: Arc<dyn Host>,
    /// Its memory, once the host has it.
    pub memory: Option<Arc<GuestMemory>>,
    /// Where its kernel's file puts what.
    pub kernel: Arc<[Image]>,
}

/// A guest that runs.
struct Running {
    host: Arc<dyn Host>,
    kernel: Arc<[Image]>,
    /// Its thread, which stays there until this is taken away.
    thread: libc::pthread_t,
}

/// What is known of the guest.
#[derive(Default)]
struct State {
    /// The guest that runs.
    running: Option<Running>,
    /// Somebody has paused it.
    is_paused: bool,
    /// How many wait for it to stand still.
    stops: u32,
    /// A debugger wants it to stand still, or is expected.
    is_held: bool,
    /// The vector of the trap that has stopped it, for a debugger to look at.
    trap: Option<u8>,
    /// The exit code with which its life has ended, for a debugger to know.
    end: Option<u8>,
    /// A debugger is there.
    is_debugged: bool,
    /// Its thread waits.
    stands: bool,
}

impl State {
    fn should_stand(&self) -> bool {
        self.is_paused || self.stops > 0 || self.is_held
    }
}

/// A guest as others than its own thread see it.
#[derive(Default)]
pub struct Control {
    state: Mutex<State>,
    changed: Condvar,
    /// Signalled when there is something for a debugger.
    debugger: OnceLock<Arc<Kick>>,
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

    /// The guest of `host`, with this kernel, runs in the calling thread, until the returned value is dropped there.
    pub fn runs(&self, host: Arc<dyn Host>, kernel: Arc<[Image]>) -> impl Drop + use<'_> {
        /// Takes the guest away.
        struct Running<'a>(&'a Control);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.state().running = None;
                self.0.changed.notify_all();
            }
        }
        // SAFETY: has no conditions.
        let thread = unsafe { libc::pthread_self() };
        let mut state = self.state();
        state.running = Some(self::Running { host, kernel, thread });
        (state.trap, state.end) = (None, None);
        self.changed.notify_all();
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
            let Some(Running { thread, .. }) = state.running else { return Err(ControlError::NotRunning) };
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
        self.while_it_stands("counters", |host| host.counters())
    }

    /// A view of the guest, as [`Host::view`] returns it.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn view(&self, view: View) -> Result<String, ControlError> {
        self.while_it_stands("view of the guest", |host| host.view(view))
    }

    fn while_it_stands<R>(
        &self,
        what: &'static str,
        act: impl FnOnce(&dyn Host) -> io::Result<R>,
    ) -> Result<R, ControlError> {
        let mut state = self.state();
        state.stops += 1;
        let result = self.stand(state).and_then(|state| {
            let host = state.running.as_ref().map(|running| running.host.clone());
            drop(state);
            let host = host.ok_or(ControlError::NotRunning)?;
            act(host.as_ref()).map_err(|error| ControlError::Refused(what, error))
        });
        self.state().stops -= 1;
        self.changed.notify_all();
        result
    }

    /// From now on a debugger is told of what happens, by this. The guest that begins next waits for it.
    pub fn await_debugger(&self, kick: Arc<Kick>) {
        let _ = self.debugger.set(kick);
        self.state().is_held = true;
    }

    /// Has the guest stand still for a debugger; returns when it does. If none runs, the next one does so from its start.
    pub fn hold(&self) {
        let mut state = self.state();
        (state.is_held, state.is_debugged) = (true, true);
        loop {
            while state.running.is_none() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if self.stand(state).is_ok() {
                return;
            }
            state = self.state();
        }
    }

    /// The debugger lets the guest go on.
    pub fn release(&self) {
        let mut state = self.state();
        (state.is_held, state.trap, state.end) = (false, None, None);
        self.changed.notify_all();
    }

    /// The debugger is gone, and the guest may go on.
    pub fn end_session(&self) {
        self.state().is_debugged = false;
        self.release();
    }

    /// The vector of the trap that has stopped the guest, if nobody has asked yet: a trap is answered once.
    pub fn take_trap(&self) -> Option<u8> {
        self.state().trap.take()
    }

    /// The exit code with which the guest's life has ended since it was last released.
    pub fn end(&self) -> Option<u8> {
        self.state().end
    }

    /// Whether the guest stands still for a debugger that knows why.
    pub fn is_in_hand(&self) -> bool {
        let state = self.state();
        state.is_held && state.trap.is_none() && state.end.is_none()
    }

    /// The guest that runs.
    pub fn guest(&self) -> Option<Guest> {
        let state = self.state();
        let Running { host, kernel, .. } = state.running.as_ref()?;
        Some(Guest { host: host.clone(), memory: host.memory(), kernel: kernel.clone() })
    }

    /// Called by the guest's thread: a trap has stopped the guest, which the debugger gets to know of.
    pub fn trapped(&self, vector: u8) {
        let mut state = self.state();
        // Nobody there any more: it goes on as if nothing had happened.
        if state.is_debugged {
            (state.is_held, state.trap) = (true, Some(vector));
            self.debugger.get().inspect(|kick| kick.signal());
        }
    }

    /// Called by the guest's thread: the guest's life has ended. A debugger that is there gets to know of it, for which there is a
    /// moment.
    pub fn ended(&self, code: u8) {
        let mut state = self.state();
        (state.trap, state.end) = (None, Some(code));
        self.debugger.get().inspect(|kick| kick.signal());
        let there = |state: &mut State| state.is_debugged;
        drop(self.changed.wait_timeout_while(state, FAREWELL, there));
    }
}
