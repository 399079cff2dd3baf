//! What a guest's life cost: the host's counters and the time-stamp counter, as lines for a person or a
//! script.
//!
//! Each line is `counter NAME VALUE`. The last is `counter ticks N`: how far the time-stamp counter went
//! from just before the guest's first instruction to its end, as the launcher saw it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The processor's time-stamp counter.
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86")]
    use core::arch::x86::_rdtsc;
    #[cfg(target_arch = "x86_64")]
    use core::arch::x86_64::_rdtsc;
    // SAFETY: Linux lets user programs execute rdtsc, and every processor with PSE (lguest's least) has it.
    unsafe { _rdtsc() }
}

/// Opens where the counters shall go before the guest starts, so that a wrong path is noticed then:
/// standard error if there is no path.
///
/// # Errors
/// When the file cannot be made.
pub fn open(path: Option<&Path>) -> io::Result<Box<dyn Write>> {
    Ok(match path {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(io::stderr()),
    })
}

/// Writes the lines. `counters` is what the host gave: a `name value` pair a line.
///
/// # Errors
/// When `target` cannot be written to.
pub fn report(target: &mut dyn Write, counters: &str, ticks: u64) -> io::Result<()> {
    for line in counters.lines().filter(|line| !line.trim().is_empty()) {
        writeln!(target, "counter {}", line.trim())?;
    }
    writeln!(target, "counter ticks {ticks}")?;
    target.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_becomes_a_line() {
        let mut lines = Vec::new();
        report(&mut lines, "hits 12\nmisses 0\n\n", 1 << 40).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert_eq!(lines, "counter hits 12\ncounter misses 0\ncounter ticks 1099511627776\n");
    }

    #[test]
    fn ticks_advance() {
        let before = ticks();
        assert!(ticks() > before);
    }
}
