//! Lines of output, put together on the stack and written at once, so that nothing can fall into one.

use crate::system;

const STDOUT: i32 = 1;
const STDERR: i32 = 2;

/// A line that grows; what does not fit is cut off.
pub struct Line {
    bytes: [u8; 120],
    len: usize,
}

impl Line {
    /// An empty one.
    pub fn new() -> Line {
        Line { bytes: [0; 120], len: 0 }
    }

    /// Adds `text`.
    pub fn text(mut self, text: &str) -> Line {
        for byte in text.bytes() {
            self.push(byte);
        }
        self
    }

    /// Adds a space and a number in decimal.
    pub fn number(self, number: u64) -> Line {
        self.text(" ").digits(number)
    }

    /// Adds a number in decimal.
    pub fn digits(mut self, mut number: u64) -> Line {
        let mut digits = [0; 20];
        let mut count = 0;
        loop {
            digits[count] = b'0' + (number % 10) as u8;
            count += 1;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        for digit in digits[..count].iter().rev() {
            self.push(*digit);
        }
        self
    }

    /// Writes it to standard output, with a line break at its end.
    pub fn print(self) {
        self.write(STDOUT);
    }

    /// Writes it to standard error, with a line break at its end.
    pub fn mark(self) {
        self.write(STDERR);
    }

    fn write(mut self, file: i32) {
        self.len = self.len.min(self.bytes.len() - 1);
        self.push(b'\n');
        // Where the console does not take it, no error can be reported.
        let _ = system::write(file, &self.bytes[..self.len]);
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }
}
