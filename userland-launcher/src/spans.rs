//! What the host did in a span of the guest's life that the guest itself marks.
//!
//! A guest marks a span by two strings on its early console, each a whole line:
//!
//! ```text
//! span begin NAME
//! span end NAME ANYTHING
//! ```
//!
//! The guest stands still while such a string is printed, so that the host's counters can be read at that very
//! instruction. With `--spans=FILE` the marks go to the file instead of the console, and behind the second stands
//! what each counter has counted in between, ` counter.NAME=VALUE`, but for those that have not moved: the host's, and
//! the processor's ([`hardware_counters`](crate::hardware_counters)) where there are any. The `NOTIFY` of the second mark is in
//! it: one hypercall and one world switch.
//!
//! A guest may mark what it likes: it gets no more than [`MARKS_MAX`] short lines, and the rest are console
//! output like any other.

use crate::hardware_counters::HardwareCounters;
use crate::host::Host;
use std::collections::HashMap;
use std::io::{self, Write};

/// The most marks that are written to the file.
const MARKS_MAX: u32 = 20_000;

/// The longest mark, in bytes.
const MARK_MAX: usize = 160;

const BEGIN: &str = "span begin ";
const END: &str = "span end ";

/// Where the marks of a guest go.
pub struct Spans {
    target: Box<dyn Write + Send>,
    marks: u32,
    /// Opened at the first mark, by the guest's own thread.
    hardware: Option<HardwareCounters>,
    /// All counters at the last beginning of a span.
    before: String,
}

impl Spans {
    /// Spans that are written to `target`.
    pub fn new(target: impl Write + Send + 'static) -> Self {
        Self { target: Box::new(target), marks: 0, hardware: None, before: String::new() }
    }

    /// Takes a string of the early console if it is a mark; whether it was.
    ///
    /// # Errors
    /// When the host gives no counters, or they cannot be written.
    pub fn take(&mut self, text: &[u8], host: &dyn Host) -> io::Result<bool> {
        let Some(mark) = mark(text).filter(|_| self.marks < MARKS_MAX) else { return Ok(false) };
        self.marks += 1;
        let hardware = self.hardware.get_or_insert_with(HardwareCounters::of_this_thread);
        let mut counters = host.counters()?;
        hardware.read(&mut counters)?;
        let mut line = mark.to_owned();
        if mark.starts_with(END) {
            line.push_str(&moved(&self.before, &counters));
        } else {
            self.before = counters;
        }
        line.push('\n');
        self.target.write_all(line.as_bytes())?;
        Ok(true)
    }
}

/// The line of a mark, without its end.
fn mark(text: &[u8]) -> Option<&str> {
    let line = str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let is_mark = line.starts_with(BEGIN) || line.starts_with(END);
    (is_mark && line.len() <= MARK_MAX && !line.contains(|c: char| c.is_control())).then_some(line)
}

/// By how much each counter went up.
fn moved(before: &str, after: &str) -> String {
    let counters = |text: &'_ str| -> Vec<(String, u64)> {
        let pair = |line: &str| {
            let (name, value) = line.trim().split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    };
    let before: HashMap<String, u64> = counters(before).into_iter().collect();
    let by = |(name, value): (String, u64)| {
        let moved = value.saturating_sub(before.get(&name).copied().unwrap_or(0));
        (moved > 0).then(|| format!(" counter.{name}={moved}"))
    };
    counters(after).into_iter().filter_map(by).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_memory::GuestMemory;
    use crate::host::HostError;
    use arch_i386::debug::Registers;
    use arch_i386::launcher::View;
    use arch_i386::paging::Paging;
    use std::io::Read;
    use std::os::fd::BorrowedFd;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    /// A host that counts how often its counters were requested.
    #[derive(Default)]
    struct Counting(AtomicU64);

    impl Host for Counting {
        fn counters(&self) -> io::Result<String> {
            let asked = self.0.fetch_add(1, Ordering::Relaxed);
            Ok(format!("world_switches {}\nstill 7\nmisses {}\n", 100 * asked, asked))
        }
        fn select_strategy(&self, _: &str) -> Result<(), HostError> {
            unreachable!("spans only ask for counters")
        }
        fn select_paging(&self, _: Paging) -> Result<(), HostError> {
            unreachable!("spans only ask for counters")
        }
        fn initialize(&self, _: Arc<GuestMemory>, _: u32, _: u32) -> Result<(), HostError> {
            unreachable!("spans only ask for counters")
        }
        fn read(&self, _: &mut [u8]) -> io::Result<usize> {
            unreachable!("spans only ask for counters")
        }
        fn interrupt(&self, _: u32) -> io::Result<()> {
            unreachable!("spans only ask for counters")
        }
        fn set_register(&self, _: u32, _: u32) -> io::Result<()> {
            unreachable!("spans only ask for counters")
        }
        fn attach_eventfd(&self, _: u32, _: BorrowedFd<'_>) -> io::Result<()> {
            unreachable!("spans only ask for counters")
        }
        fn view(&self, _: View) -> io::Result<String> {
            unreachable!("spans only ask for counters")
        }
        fn registers(&self) -> io::Result<Registers> {
            unreachable!("spans only ask for counters")
        }
        fn set_registers(&self, _: &Registers) -> io::Result<()> {
            unreachable!("spans only ask for counters")
        }
        fn intercept(&self, _: u32) -> io::Result<()> {
            unreachable!("spans only ask for counters")
        }
        fn pass_trap_on(&self) -> io::Result<()> {
            unreachable!("spans only ask for counters")
        }
        fn memory(&self) -> Option<Arc<GuestMemory>> {
            unreachable!("spans only ask for counters")
        }
        fn recording(&self) -> Result<Box<dyn Read + Send>, HostError> {
            unreachable!("spans only ask for counters")
        }
    }

    /// A file that the test can look into.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_second_mark_is_followed_by_what_has_moved() {
        let (host, file) = (Counting::default(), Kept::default());
        let mut spans = Spans::new(file.clone());
        // Without those of the machine that the test runs on.
        spans.hardware = Some(HardwareCounters::default());
        assert!(spans.take(b"span begin a\n", &host).unwrap());
        assert!(!spans.take(b"hello\n", &host).unwrap());
        assert!(spans.take(b"span end a ticks=5\n", &host).unwrap());
        let text = String::from_utf8(file.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "span begin a\nspan end a ticks=5 counter.world_switches=100 counter.misses=1\n");
    }

    #[test]
    fn only_short_whole_lines_are_marks() {
        assert_eq!(mark(b"span end x\n"), Some("span end x"));
        for text in ["span begin x", "span begin x\ny\n", " span end x\n", "span\n", "span end \x1b[2J\n"] {
            assert_eq!(mark(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(mark(format!("span begin {}\n", "x".repeat(160)).as_bytes()), None);
        assert_eq!(mark(b"span end \xff\n"), None);
    }

    #[test]
    fn a_guest_cannot_fill_the_disk() {
        let (host, file) = (Counting::default(), Kept::default());
        let mut spans = Spans::new(file.clone());
        for _ in 0..MARKS_MAX {
            assert!(spans.take(b"span begin a\n", &host).unwrap());
        }
        assert!(!spans.take(b"span begin a\n", &host).unwrap());
        assert_eq!(file.0.lock().unwrap().len(), MARKS_MAX as usize * "span begin a\n".len());
    }
}
