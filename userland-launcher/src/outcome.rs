//! How a guest's life ended, and the exit code and message that report it.

use crate::guest_memory::OutOfBounds;
use crate::host::HostError;
use crate::instruction::NotEmulated;
use crate::virtqueue::RingError;
use crate::visible::visible;
use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::process::ExitCode;
use thiserror::Error;

/// Exit codes of the launcher that are not the guest's own. The README's table lists them all.
pub mod exit_code {
    /// The host or the launcher killed the guest.
    pub const KILLED: u8 = 120;
    /// The guest gave up by itself, as by a kernel panic.
    pub const CRASHED: u8 = 121;
    /// The guest requested more restarts than allowed.
    pub const RESTART_LIMIT: u8 = 122;
    /// The launcher could not do its work.
    pub const LAUNCHER: u8 = 125;
    /// Added to the number of the signal that ended the launcher.
    pub const SIGNAL: u8 = 128;
}

/// What a guest did to a device that ends it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// It broke a rule of the ring.
    #[error("it {0}")]
    Ring(#[from] RingError),
    /// A buffer of the wrong direction or size, in words that follow "it".
    #[error("it {0}")]
    Protocol(&'static str),
    /// It accepted features that were not offered.
    #[error("it accepts features {accepted:#x} of which only {offered:#x} are offered")]
    Features {
        /// The bits that the device offers.
        offered: u64,
        /// The bits that the guest accepted.
        accepted: u64,
    },
    /// It uses the PCI bus by another instruction than the launcher emulates.
    #[error("it executes {0}")]
    Instruction(#[from] NotEmulated),
    /// It reads or writes a register that is not there, or not of that size.
    #[error(
        "it reads or writes {size} bytes at {offset:#x} of its registers, where no register of that size is"
    )]
    Register {
        /// Where in the device's memory.
        offset: u32,
        /// Bytes.
        size: u32,
    },
    /// It starts a queue that is not in its memory.
    #[error("it starts a queue that is not its own: {0}")]
    QueuePlace(#[from] OutOfBounds),
    /// It notified an address with no meaning.
    #[error("it notifies {0:#x}, which is neither a device nor in its memory")]
    Notify(u32),
}

/// How one life of a guest ended.
#[derive(Debug)]
pub enum Outcome {
    /// The guest switched itself off, with this result.
    Exited(u8),
    /// The guest gave up, with this last word.
    Crashed(String),
    /// The host killed it, for this reason.
    KilledByHost(String),
    /// The launcher killed it, for what it did to this device.
    Violation {
        /// The device, or what else was misused.
        device: String,
        /// What it did.
        violation: Violation,
    },
    /// The guest requested a restart.
    Restart,
    /// The guest requested one restart more than this number, which was allowed.
    RestartLimit(u32),
    /// The user typed ctrl-C three times within a second.
    UserLeft,
    /// The monitor was requested to stop the guest.
    Stopped,
    /// The debugger was requested to kill it.
    KilledByDebugger,
    /// It has had all of the processor time that it was given, in seconds.
    CpuTime(NonZeroU32),
    /// A signal ended the launcher.
    Signal(i32),
    /// The host did not take the guest.
    NotStarted(HostError),
    /// The launcher could not go on.
    Failed {
        /// What it was doing.
        doing: String,
        /// Why that failed.
        error: io::Error,
    },
}

/// Begins the reason of a guest that shut itself down by [`Hypercall::Shutdown`].
///
/// [`Hypercall::Shutdown`]: arch_i386::hypercall::Hypercall::Shutdown
const SHUT_DOWN: &str = "CRASH: ";

impl Outcome {
    /// What the host's reason for a guest's death means, as [`Host::read`](crate::host::Host::read)
    /// gave it: up to the first NUL, in any encoding.
    ///
    /// A guest that shuts down passes `Power down` (as Linux does) or `exit N` with its result, 0 to 255;
    /// any other last word is a crash.
    #[must_use]
    pub fn from_death(reason: &[u8]) -> Self {
        let text = reason.split(|&b| b == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let Some(last_word) = text.strip_prefix(SHUT_DOWN) else {
            return Self::KilledByHost(text.into_owned());
        };
        let result = last_word.strip_prefix("exit ").and_then(|n| n.trim_end().parse().ok());
        match (last_word.trim_end(), result) {
            ("Power down", _) => Self::Exited(0),
            (_, Some(result)) => Self::Exited(result),
            _ => Self::Crashed(last_word.to_owned()),
        }
    }

    /// Whether the guest has come to its end, so that its thread and devices have stopped.
    #[must_use]
    pub fn is_the_guests_end(&self) -> bool {
        match self {
            Self::Exited(_)
            | Self::Crashed(_)
            | Self::KilledByHost(_)
            | Self::Restart
            | Self::RestartLimit(_) => true,
            Self::Violation { .. }
            | Self::UserLeft
            | Self::Stopped
            | Self::KilledByDebugger
            | Self::CpuTime(_)
            | Self::Signal(_)
            | Self::NotStarted(_)
            | Self::Failed { .. } => false,
        }
    }

    /// The launcher's exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Exited(result) => *result,
            Self::Crashed(_) => exit_code::CRASHED,
            Self::KilledByHost(_) | Self::Violation { .. } => exit_code::KILLED,
            Self::Restart | Self::RestartLimit(_) => exit_code::RESTART_LIMIT,
            Self::UserLeft => exit_code::SIGNAL + libc::SIGINT as u8,
            Self::Stopped => exit_code::SIGNAL + libc::SIGTERM as u8,
            Self::KilledByDebugger => exit_code::SIGNAL + libc::SIGKILL as u8,
            Self::CpuTime(_) => exit_code::SIGNAL + libc::SIGXCPU as u8,
            Self::Signal(signal) => exit_code::SIGNAL.wrapping_add(*signal as u8),
            Self::NotStarted(_) | Self::Failed { .. } => exit_code::LAUNCHER,
        }
    }

    /// What to report to the user, unless all went as the guest wanted. What the guest has a part in is one line of
    /// [`visible`] characters.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        Some(match self {
            Self::Exited(_) => return None,
            Self::Crashed(last_word) => format!("the guest crashed: {}", visible(last_word.trim_end())),
            Self::KilledByHost(reason) => {
                format!("the host killed the guest: {}", visible(reason.trim_end()))
            }
            Self::Violation { device, violation } => {
                format!("the launcher killed the guest for what it does to {device}: {violation}")
            }
            Self::Restart => "the guest asks to be restarted".to_owned(),
            Self::RestartLimit(limit) => {
                format!("the guest asks to be restarted for more than the {limit} times of --restart-limit")
            }
            Self::UserLeft => "left the guest by ctrl-C".to_owned(),
            Self::Stopped => "stopped by the monitor".to_owned(),
            Self::KilledByDebugger => "killed by the debugger".to_owned(),
            Self::CpuTime(seconds) => {
                format!("the guest has had the {seconds} s of processor time of --cpu-time")
            }
            Self::Signal(signal) => format!("ended by signal {signal}"),
            Self::NotStarted(error) => in_full(error),
            Self::Failed { doing, error } => format!("cannot go on {doing}: {error}"),
        })
    }
}

impl From<&Outcome> for ExitCode {
    fn from(outcome: &Outcome) -> Self {
        outcome.code().into()
    }
}

/// An error's message with those of all its causes.
#[must_use]
pub fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A last word that would clear the screen, name the window and print a line in the launcher's name.
    const FORGED: &str =
        "the guest crashed: \\u{1b}[2J\\u{1b}]0;owned\\u{7} \u{fffd}31m\\r\\nlguest: all is well";

    #[test]
    fn the_last_word_of_a_guest_decides_its_exit_code() {
        for (reason, code, message) in [
            (&b"CRASH: Power down\0"[..], 0, None),
            (b"CRASH: Power down", 0, None),
            (b"CRASH: exit 0\0", 0, None),
            (b"CRASH: exit 7\0garbage", 7, None),
            (b"CRASH: exit 255\n\0", 255, None),
            (b"CRASH: exit 256\0", 121, Some("the guest crashed: exit 256")),
            (b"CRASH: exit -1\0", 121, Some("the guest crashed: exit -1")),
            (b"CRASH: exit\0", 121, Some("the guest crashed: exit")),
            (b"CRASH: Oops\0", 121, Some("the guest crashed: Oops")),
            (b"CRASH: \0", 121, Some("the guest crashed: ")),
            (b"bad read address 0x5\0", 120, Some("the host killed the guest: bad read address 0x5")),
            (b"exit 0\0", 120, Some("the host killed the guest: exit 0")),
            (b"CRASH: \x1b[2J\x1b]0;owned\x07 \x9b31m\r\nlguest: all is well\n\0", 121, Some(FORGED)),
            (b"bad \x1b[8m hypercall\0", 120, Some("the host killed the guest: bad \\u{1b}[8m hypercall")),
            (b"\xff\xfe!\0", 120, Some("the host killed the guest: \u{fffd}\u{fffd}!")),
        ] {
            let outcome = Outcome::from_death(reason);
            let shown = String::from_utf8_lossy(reason);
            assert_eq!(outcome.code(), code, "{shown}");
            assert_eq!(outcome.message().as_deref(), message, "{shown}");
        }
    }
}
