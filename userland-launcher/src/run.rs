//! The run loop: lets the host run the guest and handles its messages, until its life ends.

use crate::console_output::ConsoleOutput;
use crate::control::Control;
use crate::devices::bus::Bus;
use crate::guest_memory::GuestMemory;
use crate::host::Host;
use crate::outcome::{Outcome, Violation};
use crate::spans::Spans;
use arch_i386::launcher::{ERESTART, Emulation};
use std::io;

/// Room for the reason of a guest's death: a shutdown message is at most
/// [`SHUTDOWN_MESSAGE`](arch_i386::hypercall::SHUTDOWN_MESSAGE) bytes, the host's own reasons are a line.
const MESSAGE_MAX: usize = 1024;

/// The longest early console string that is printed, in bytes; a guest that prints more in one notification
/// is cut short.
const EARLY_CONSOLE_MAX: u32 = 4096;

/// Why the host came back.
enum Exit {
    /// The guest notified this address.
    Notify(u32),
    /// The guest stands at an instruction that is to be emulated.
    Emulate(Emulation),
    /// Its life is over.
    Ended(Outcome),
}

/// Runs an initialised guest with `memory_top` bytes of ordinary memory to the end of this life.
pub fn run(
    host: &dyn Host,
    control: &Control,
    memory: &GuestMemory,
    memory_top: u32,
    bus: &mut Bus,
    console: &ConsoleOutput,
    mut spans: Option<Spans>,
) -> Outcome {
    loop {
        match next_exit(host, control) {
            Exit::Ended(outcome) => return outcome,
            Exit::Emulate(emulation) => {
                if let Err(outcome) = bus.emulate(&emulation) {
                    return outcome;
                }
            }
            Exit::Notify(address) => match bus.notify(address) {
                Ok(true) => {}
                Ok(false) if address < memory_top => {
                    let printed = early_text(memory, memory_top, address).and_then(|text| {
                        let mark = spans.as_mut().map_or(Ok(false), |spans| spans.take(&text, host));
                        match mark {
                            Ok(true) => Ok(()),
                            Ok(false) => console.write(&text),
                            Err(error) => Err(Outcome::Failed { doing: "writing down a span".into(), error }),
                        }
                    });
                    if let Err(error) = printed {
                        return error;
                    }
                }
                Ok(false) => {
                    let violation = Violation::Notify(address);
                    return Outcome::Violation { device: "the lguest bus".into(), violation };
                }
                Err(outcome) => return outcome,
            },
        }
    }
}

/// Runs the guest until there is something to decide.
fn next_exit(host: &dyn Host, control: &Control) -> Exit {
    let failed = |error| Exit::Ended(Outcome::Failed { doing: "running the guest".into(), error });
    let mut message = [0; MESSAGE_MAX];
    let mut died = false;
    loop {
        control.wait();
        match host.read(&mut message) {
            Ok(0) => return failed(io::ErrorKind::UnexpectedEof.into()),
            Ok(1) => control.trapped(message[0]),
            Ok(4) => {
                let [a, b, c, d, ..] = message;
                return Exit::Notify(u32::from_ne_bytes([a, b, c, d]));
            }
            Ok(len) if let Some(emulation) = Emulation::from_long(&message[..len.min(MESSAGE_MAX)]) => {
                return Exit::Emulate(emulation);
            }
            Ok(len) => return Exit::Ended(Outcome::from_death(&message[..len.min(MESSAGE_MAX)])),
            Err(e) => match e.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => {}
                Some(ERESTART) => return Exit::Ended(Outcome::Restart),
                // lguest's module: the guest has just died, the next read returns why.
                Some(libc::ENOENT) if !died => died = true,
                _ => return failed(e),
            },
        }
    }
}

/// The string at `address`, which the guest prints before it has a console device: up to its NUL, the end
/// of memory or [`EARLY_CONSOLE_MAX`], byte for byte.
fn early_text(memory: &GuestMemory, memory_top: u32, address: u32) -> Result<Vec<u8>, Outcome> {
    let len = (memory_top - address).min(EARLY_CONSOLE_MAX);
    let mut text = vec![0; len as usize];
    let slice = memory.slice(address.into(), len.into()).map_err(|_| Outcome::Violation {
        device: "the early console".into(),
        violation: Violation::Notify(address),
    })?;
    let copied = slice.copy_to(&mut text);
    text.truncate(text[..copied].iter().position(|&b| b == 0).unwrap_or(copied));
    Ok(text)
}
