//! The console: what the guest prints appears on standard output, what is typed reaches the guest.
//!
//! A guest is offered the size of the terminal, and the changes of it. When the guest sets the device up, a terminal is handed over to
//! it key by key, ctrl-C included. Three ctrl-C within a second leave the guest, whether it takes its input or not. In the background
//! of a shell the guest runs without what is typed, until it is brought to the foreground.

use super::config_port::ConfigPort;
use super::{AnyService, Device, QueueService, RequestService, Stop, Wait};
use crate::console_output::ConsoleOutput;
use crate::outcome::{Outcome, Violation};
use crate::terminal::{Terminal, Watcher};
use crate::virtqueue::{Chain, Virtqueue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Virtio's number for a console.
const ID: u8 = 3;
/// Feature: the configuration holds the size, columns and rows of 16 bits each.
const F_SIZE: u32 = 1 << 0;
/// What ctrl-C sends.
const CTRL_C: u8 = 3;
/// This many ctrl-C ...
const LEAVE_COUNT: usize = 3;
/// ... within this time leave the guest.
const LEAVE_TIME: Duration = Duration::from_secs(1);
/// So often a terminal is looked at in whose background the guest is. Not all shells send a signal with `fg`.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// Bytes of a file or pipe that are kept for a guest that does not take them.
const READ_AHEAD_MAX: usize = 4096;
/// Bytes typed ahead, or pasted, that are kept for a guest that does not take them.
const TYPED_AHEAD_MAX: usize = 1 << 20;

/// The console device.
pub struct Console {
    terminal: Arc<Terminal>,
    output: ConsoleOutput,
    /// Whether the guest is offered the terminal's size. That is decided once, since a guest learns of it once.
    has_size: bool,
    /// Keeps the configuration at the terminal's size.
    watcher: Option<Watcher>,
}

impl Console {
    /// A console between `terminal` and `output`.
    #[must_use]
    pub fn new(terminal: Arc<Terminal>, output: ConsoleOutput) -> Self {
        let has_size = terminal.size().is_some();
        Self { terminal, output, has_size, watcher: None }
    }
}

/// The configuration of a console of so many columns and rows.
fn config([columns, rows]: [u16; 2]) -> Vec<u8> {
    [columns.to_le_bytes(), rows.to_le_bytes()].concat()
}

impl Device for Console {
    fn id(&self) -> u8 {
        ID
    }

    fn name(&self) -> String {
        "console".into()
    }

    fn features(&self) -> u32 {
        if self.has_size { F_SIZE } else { 0 }
    }

    fn config(&self) -> Vec<u8> {
        if self.has_size { config(self.terminal.size().unwrap_or_default()) } else { Vec::new() }
    }

    fn queues(&self) -> u8 {
        2
    }

    fn connect(&mut self, port: ConfigPort) {
        if self.has_size {
            self.watcher = Some(self.terminal.watch_size(move |size| port.change(&config(size))));
        }
    }

    fn emergency_output(&self) -> Option<&ConsoleOutput> {
        Some(&self.output)
    }

    fn start(&mut self) -> Result<Vec<AnyService>, Outcome> {
        let failed = |error| Outcome::Failed { doing: "setting the terminal".into(), error };
        let is_ours = self.terminal.hand_over().map_err(failed)?;
        let input = Input {
            terminal: self.terminal.clone(),
            background: if is_ours { None } else { Some(looks().map_err(failed)?) },
            typed: VecDeque::new(),
            at_end: false,
            leave: LeaveKeys::default(),
        };
        Ok(vec![input.into(), Output(self.output.clone()).into()])
    }
}

/// What can be read each time that the terminal is to be looked at.
fn looks() -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let each = Itimerspec { it_interval: LOOK, it_value: LOOK };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &each)?;
    Ok(timer)
}

/// The queue of buffers that the guest offers for input.
pub struct Input {
    terminal: Arc<Terminal>,
    /// In the background of the terminal: when to look whether that has changed.
    background: Option<OwnedFd>,
    typed: VecDeque<u8>,
    at_end: bool,
    leave: LeaveKeys,
}

impl Input {
    /// Whether to read on: at a terminal always, for the sake of ctrl-C; what does not fit is dropped, as
    /// terminals do. From a file or pipe only when there is room.
    fn wants_more(&self) -> bool {
        !self.at_end && (self.typed.len() < READ_AHEAD_MAX || self.terminal.is_interactive())
    }

    /// Whether the terminal may be read; takes it over when it may again. In the background it is not even polled: what is typed
    /// for others would wake the guest's console as long as they do not read it.
    fn is_in_foreground(&mut self) -> io::Result<bool> {
        match &self.background {
            None if self.terminal.is_in_background() => self.background = Some(looks()?),
            None => {}
            Some(timer) => {
                // It may be something else that has come.
                let _ = rustix::io::read(timer, &mut [0; 8]);
                // Of a terminal that is gone, the read is told.
                if self.terminal.hand_over().unwrap_or(true) {
                    self.background = None;
                }
            }
        }
        Ok(self.background.is_none())
    }

    /// Reads what is there.
    fn read(&mut self) -> Result<(), Stop> {
        let failed = |error| Outcome::Failed { doing: "looking at the terminal".into(), error };
        if !self.is_in_foreground().map_err(failed)? {
            return Ok(());
        }
        let mut fds = [PollFd::from_borrowed_fd(self.terminal.input(), PollFlags::IN)];
        if !self.wants_more() || !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1)) {
            return Ok(());
        }
        let mut buffer = [0; 256];
        let bytes = match rustix::io::read(self.terminal.input(), &mut buffer) {
            Ok(0) => &[],
            Ok(n) => &buffer[..n],
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            // A terminal that hung up: nobody will type any more. The guest can do without.
            Err(_) => &[],
        };
        self.at_end = bytes.is_empty();
        let now = Instant::now();
        for &byte in bytes {
            if self.leave.press(byte, now) && self.terminal.is_interactive() {
                return Err(Outcome::UserLeft.into());
            }
        }
        let room = TYPED_AHEAD_MAX.saturating_sub(self.typed.len());
        self.typed.extend(&bytes[..bytes.len().min(room)]);
        Ok(())
    }
}

impl QueueService for Input {
    fn serve(&mut self, queue: &mut Virtqueue<'_>) -> Result<Wait, Stop> {
        loop {
            self.read()?;
            if self.typed.is_empty() {
                return Ok(Wait { buffers: false, source: !self.at_end });
            }
            let Some(mut chain) = queue.take()? else {
                return Ok(Wait { buffers: true, source: self.wants_more() });
            };
            if chain.readable.left() > 0 {
                return Err(Violation::Protocol("puts output in the console's input queue").into());
            }
            let n = chain.writable.write(self.typed.make_contiguous()).unwrap_or(0);
            self.typed.drain(..n);
            queue.give_back(chain.head, n as u32);
        }
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.background.as_ref().map_or(self.terminal.input(), AsFd::as_fd))
    }
}

/// The queue of buffers with output of the guest.
pub struct Output(ConsoleOutput);

impl RequestService for Output {
    fn answer(&mut self, request: &mut Chain<'_>) -> Result<u32, Stop> {
        if request.writable.left() > 0 {
            return Err(Violation::Protocol("puts an empty buffer in the console's output queue").into());
        }
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = request.readable.read(&mut bytes) {
            self.0.write(&bytes[..n])?;
        }
        Ok(0)
    }
}

/// Recognises the keys that leave the guest.
#[derive(Default)]
struct LeaveKeys {
    /// When the latest consecutive ctrl-C were pressed, the oldest first.
    pressed: VecDeque<Instant>,
}

impl LeaveKeys {
    /// A key was pressed; returns whether it completes the sequence.
    fn press(&mut self, key: u8, now: Instant) -> bool {
        if key != CTRL_C {
            self.pressed.clear();
            return false;
        }
        self.pressed.push_back(now);
        if self.pressed.len() < LEAVE_COUNT {
            return false;
        }
        self.pressed.pop_front().is_some_and(|first| now.duration_since(first) <= LEAVE_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ctrl_c_within_a_second_leave() {
        let start = Instant::now();
        let pressed_at = |keys: &[(u8, u64)]| {
            let mut leave = LeaveKeys::default();
            keys.iter()
                .map(|&(key, ms)| leave.press(key, start + Duration::from_millis(ms)))
                .collect::<Vec<_>>()
        };
        assert_eq!(pressed_at(&[(3, 0), (3, 500), (3, 1000)]), [false, false, true]);
        assert_eq!(pressed_at(&[(3, 0), (3, 500), (3, 1001)]), [false, false, false]);
        // The window moves on: the last three count.
        assert_eq!(pressed_at(&[(3, 0), (3, 900), (3, 1100), (3, 1200)]), [false, false, false, true]);
        // Another key begins anew.
        assert_eq!(pressed_at(&[(3, 0), (3, 1), (b'x', 2), (3, 3), (3, 4)]), [false; 5]);
    }
}
