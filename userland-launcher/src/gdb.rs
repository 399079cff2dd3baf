//! GDB on a guest's kernel (`--gdb`): the GNU debugger's remote protocol, which the crate `gdbstub` speaks.
//!
//! The guest stands still at its first instruction until a debugger has been there. From then on one may come and go at any
//! time; while it is there, debug exceptions and breakpoints are its own first.

pub mod registers;
pub mod target;
pub mod walk;
pub mod wire;

use crate::control::Control;
use crate::devices::worker::Kick;
use crate::outcome::Outcome;
use gdbstub::common::Signal;
use gdbstub::conn::ConnectionExt;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub, SingleThreadStopReason};
use std::io;
use std::sync::Arc;
use target::Debugged;
use wire::{Listener, Wire};

/// Serves one debugger after the other, in a thread of its own, for as long as the launcher runs. The first guest of `control`
/// waits for the first of them.
///
/// # Errors
/// No more threads or files.
pub fn serve(
    listener: Listener,
    control: Arc<Control>,
    end: impl Fn(Outcome) + Send + 'static,
) -> io::Result<()> {
    let kick = Arc::new(Kick::new()?);
    control.await_debugger(kick.clone());
    std::thread::Builder::new().name("gdb".into()).spawn(move || {
        loop {
            let Ok(wire) = listener.accept() else { continue };
            control.hold();
            match converse(wire, &control, &kick) {
                Ok(DisconnectReason::Kill) => end(Outcome::KilledByDebugger),
                Ok(_) => {}
                Err(error) => eprintln!("lguest: the debugger is gone: {error}"),
            }
            control.end_session();
        }
    })?;
    Ok(())
}

/// Serves one debugger. The guest stands still; afterwards it may go on.
fn converse(wire: Wire, control: &Arc<Control>, kick: &Arc<Kick>) -> io::Result<DisconnectReason> {
    let mut debugged = Debugged::new(control.clone(), kick.clone())?;
    let reason = GdbStub::new(wire).run_blocking::<Waits>(&mut debugged);
    debugged.let_go();
    reason.map_err(io::Error::other)
}

/// Waits for the guest to stop, and for what GDB sends meanwhile.
enum Waits {}

impl Waits {
    /// What the guest has come to, if anything; it goes on by itself after what does not concern GDB.
    fn stop(target: &mut Debugged) -> io::Result<Option<SingleThreadStopReason<u32>>> {
        let Some(vector) = target.control.take_trap() else {
            return Ok(target.control.end().map(SingleThreadStopReason::Exited));
        };
        let reason = target.stopped(vector)?;
        if reason.is_none() {
            target.control.release();
        }
        Ok(reason)
    }
}

impl BlockingEventLoop for Waits {
    type Target = Debugged;
    type Connection = Wire;
    type StopReason = SingleThreadStopReason<u32>;

    fn wait_for_stop_reason(
        target: &mut Debugged,
        wire: &mut Wire,
    ) -> Result<Event<SingleThreadStopReason<u32>>, WaitForStopReasonError<io::Error, io::Error>> {
        loop {
            target.kick.clear();
            if let Some(reason) = Self::stop(target).map_err(WaitForStopReasonError::Target)? {
                return Ok(Event::TargetStopped(reason));
            }
            if wire.wait(target.kick.as_ref()).map_err(WaitForStopReasonError::Connection)? {
                return wire.read().map(Event::IncomingData).map_err(WaitForStopReasonError::Connection);
            }
        }
    }

    /// GDB wants the guest to stop wherever it is. It may just have done so, which GDB may know by now.
    fn on_interrupt(target: &mut Debugged) -> io::Result<Option<SingleThreadStopReason<u32>>> {
        if target.control.is_in_hand() {
            return Ok(None);
        }
        if let Some(reason) = Self::stop(target)? {
            return Ok(Some(reason));
        }
        target.control.hold();
        if let Some(vector) = target.control.take_trap()
            && let Some(reason) = target.stopped(vector)?
        {
            return Ok(Some(reason));
        }
        target.interrupted()?;
        Ok(Some(SingleThreadStopReason::Signal(Signal::SIGINT)))
    }
}
