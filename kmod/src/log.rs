//! The kernel's log, and what becomes of a panic.

use crate::shim;
use crate::user::User;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::Ordering;

/// The longest line, in bytes.
pub const LINE: usize = 400;

/// A line of text. What does not fit is cut off.
pub struct Line {
    bytes: [u8; LINE],
    used: usize,
    /// How many bytes may be used.
    room: usize,
}

/// Bytes of a panic's words that are kept beside its place.
const WORDS: usize = 250;

impl Line {
    pub fn new(text: fmt::Arguments<'_>) -> Self {
        let mut line = Self { bytes: [0; LINE], used: 0, room: LINE };
        line.add(LINE, text);
        line
    }

    /// Adds a text, up to so many bytes in all.
    fn add(&mut self, room: usize, text: fmt::Arguments<'_>) {
        self.room = room;
        // An error means that the rest was cut off.
        let _ = self.write_fmt(text);
    }

    /// The message of a plug-in's panic, and where it was. If the message itself panics, this does not return.
    fn of_panic(info: &PanicInfo<'_>) -> Self {
        let mut line = Self::new(format_args!(""));
        line.add(WORDS, format_args!("{}", info.message()));
        // It is one line, in whatever it is printed.
        line.bytes[..line.used]
            .iter_mut()
            .filter(|byte| byte.is_ascii_control())
            .for_each(|byte| *byte = b' ');
        line.add_place(info);
        line
    }

    /// Adds where a panic was.
    fn add_place(&mut self, info: &PanicInfo<'_>) {
        if let Some(at) = info.location() {
            self.add(self.bytes.len(), format_args!(" at {}:{}", at.file(), at.line()));
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    fn log(&self) {
        // SAFETY: pointer and length are of initialised bytes that live through the call.
        unsafe { shim::lg_log_error(self.bytes.as_ptr(), self.used as u32) }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.used..self.room];
        // As many whole characters.
        let fitting = text.floor_char_boundary(room.len());
        room[..fitting].copy_from_slice(&text.as_bytes()[..fitting]);
        self.used += fitting;
        if fitting == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Logs what went wrong in a request of the administrator's.
pub fn error(text: fmt::Arguments<'_>) {
    Line::new(text).log();
}

/// The same, with a text after it that is there whatever is cut off of the first one.
pub fn error_with_hint(text: fmt::Arguments<'_>, hint: &str) {
    let mut line = Line::new(format_args!(""));
    line.add(LINE - hint.len().min(LINE), text);
    line.add(LINE, format_args!("{hint}"));
    line.log();
}

/// Who has brought about what is to be logged.
#[derive(Clone, Copy)]
pub enum Cause<'a> {
    /// The administrator, who loads the module or writes to its parameters.
    Administrator,
    /// A launcher of this user's, which could do it without end: some of it is left out then, which the log notes.
    Launcher(&'a User),
}

impl Cause<'_> {
    /// Whether something that this has brought about may be logged; checked once for all the lines of it.
    pub fn may_log(self) -> bool {
        match self {
            Self::Administrator => true,
            Self::Launcher(user) => user.may_log(),
        }
    }
}

/// Logs what a launcher of the user's has brought about.
pub fn launcher_error(user: &User, text: fmt::Arguments<'_>) {
    if user.may_log() {
        error(text);
    }
}

/// A panic of plug-in code ends its guest. Any other is a defect of this module: the current process ends, as with any
/// BUG() of the kernel.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let plugin = shim::lg_plugin_at_work();
    // SAFETY: the C side's object lives for as long as its plug-in code is at work, in this task.
    let Some(at_work) = (unsafe { plugin.as_ref() }) else {
        let line = Line::new(format_args!("{info}"));
        // SAFETY: as in `Line::log`.
        unsafe { shim::lg_bug(line.bytes.as_ptr(), line.used as u32) }
    };
    let line = if at_work.state.swap(shim::PANICS, Ordering::Relaxed) == shim::PANICS {
        // The words may be made by plug-in code, and have panicked.
        let mut line = Line::new(format_args!("while another panic's words were written"));
        line.add_place(info);
        line
    } else {
        Line::of_panic(info)
    };
    // SAFETY: pointer and length are of initialised bytes. The current task is in the guard of this plug-in code, whose
    // promise it is that all between it and here may be given up.
    unsafe { shim::lg_plugin_panicked(plugin, line.bytes.as_ptr(), line.used as u32) }
}
