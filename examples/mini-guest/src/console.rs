//! Text for people, and the guest's last words.
//!
//! The console is the early one of a Linux guest: `NOTIFY` with the physical address of a string that ends
//! in a zero byte; the launcher has printed it when the call returns.

use crate::host;
use arch_i386::hypercall::{Hypercall, SHUTDOWN_MESSAGE, SHUTDOWN_POWEROFF, SHUTDOWN_RESTART};
use core::fmt::{self, Write};
use core::panic::PanicInfo;

/// Text on its way to the host: zero-terminated, in memory that has one physical address.
///
/// It is made on the kernel's stack, and those are contiguous.
struct Text {
    bytes: [u8; SHUTDOWN_MESSAGE],
    length: usize,
    /// Whether a full buffer goes to the console; otherwise the rest of the text is lost.
    print: bool,
}

impl Text {
    fn new(print: bool) -> Self {
        Self { bytes: [0; SHUTDOWN_MESSAGE], length: 0, print }
    }

    fn send(&mut self) {
        self.bytes[self.length] = 0;
        if self.length > 0 {
            host::call(Hypercall::Notify, [host::physical(self.bytes.as_ptr()).0, 0, 0]);
        }
        self.length = 0;
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // A zero byte would end the text early.
        for &byte in s.as_bytes().iter().filter(|&&byte| byte != 0) {
            if self.length == self.bytes.len() - 1 {
                if !self.print {
                    return Err(fmt::Error);
                }
                self.send();
            }
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Prints text as it is.
pub fn print_str(text: &str) {
    let mut out = Text::new(true);
    // Printing text never fails.
    let _ = out.write_str(text);
    out.send();
}

/// Prints a formatted line.
pub fn print(line: fmt::Arguments<'_>) {
    let mut out = Text::new(true);
    // As above.
    let _ = writeln!(out, "{line}");
    out.send();
}

/// Powers off with these last words.
pub fn shut_down(message: fmt::Arguments<'_>) -> ! {
    end(message, SHUTDOWN_POWEROFF)
}

/// Requests a restart.
pub fn restart() -> ! {
    print(format_args!("mini: restarting"));
    end(format_args!("restart"), SHUTDOWN_RESTART)
}

fn end(message: fmt::Arguments<'_>, how: u32) -> ! {
    let mut words = Text::new(false);
    // Words that do not fit are lost, by intention.
    let _ = words.write_fmt(message);
    words.bytes[words.length] = 0;
    loop {
        host::call(Hypercall::Shutdown, [host::physical(words.bytes.as_ptr()).0, how, 0]);
    }
}

/// Powers off with a result for the launcher to exit with.
pub fn exit(result: u32) -> ! {
    shut_down(format_args!("exit {result}"))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    host::disable_interrupts();
    match info.location() {
        Some(at) => shut_down(format_args!("mini: {} ({}:{})", info.message(), at.file(), at.line())),
        None => shut_down(format_args!("mini: {}", info.message())),
    }
}
