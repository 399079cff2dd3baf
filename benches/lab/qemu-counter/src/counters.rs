//! A counter for each instruction, and what of it lies within spans.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// An instruction: where it lies in QEMU's memory, and its address.
pub type Place = (u64, u64);

/// Where the host's kernel may be: above Linux's `PAGE_OFFSET` and the 16 MiB below its image, wherever it chose to
/// be in 768 MiB of memory; the firmware is above.
const HOST_KERNEL: std::ops::Range<u64> = 0xc100_0000..0xf000_0000;

/// Counters are made in blocks, as they may never move.
const BLOCK: usize = 4096;

/// All counters.
#[derive(Default)]
pub struct Counters {
    /// The number of each instruction.
    numbers: HashMap<Place, usize>,
    places: Vec<Place>,
    /// The counter of instruction `n` is `blocks[n / BLOCK][n % BLOCK]`.
    blocks: Vec<&'static [AtomicU64]>,
    /// The counters when the span began that is not over; instructions met later had none.
    begun: Option<Vec<u64>>,
    /// What was counted in the spans that are over.
    spans: Vec<u64>,
    linear: Option<Place>,
}

impl Counters {
    /// The counter of an instruction.
    pub fn of(&mut self, place: Place) -> &'static AtomicU64 {
        if self.linear.is_none() && HOST_KERNEL.contains(&place.1) {
            self.linear = Some(place);
        }
        let next = self.places.len();
        let number = *self.numbers.entry(place).or_insert(next);
        if number == next {
            self.places.push(place);
            if next.is_multiple_of(BLOCK) {
                let block: Vec<AtomicU64> = (0..BLOCK).map(|_| AtomicU64::new(0)).collect();
                self.blocks.push(block.leak());
            }
        }
        &self.blocks[number / BLOCK][number % BLOCK]
    }

    fn now(&self) -> Vec<u64> {
        let all = self.blocks.iter().copied().flatten().take(self.places.len());
        all.map(|counter| counter.load(Ordering::Relaxed)).collect()
    }

    /// A span begins. One that had begun before is forgotten.
    pub fn begin(&mut self) {
        self.begun = Some(self.now());
    }

    /// The span ends, if one had begun.
    pub fn end(&mut self) {
        let Some(before) = self.begun.take() else { return };
        let now = self.now();
        self.spans.resize(now.len(), 0);
        let before = before.into_iter().chain(std::iter::repeat(0));
        for ((sum, now), before) in self.spans.iter_mut().zip(now).zip(before) {
            *sum += now - before;
        }
    }

    /// Writes what was counted in spans.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        if let Some((host, address)) = self.linear {
            writeln!(to, "linear {host:x} {address:x}")?;
        }
        for ((host, address), &count) in self.places.iter().zip(&self.spans) {
            if count > 0 {
                writeln!(to, "{host:x} {address:x} {count}")?;
            }
        }
        to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(counters: &mut Counters, place: Place, times: u64) {
        counters.of(place).fetch_add(times, Ordering::Relaxed);
    }

    fn written(counters: &Counters) -> String {
        let mut text = Vec::new();
        counters.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn only_what_lies_in_a_span_is_written() {
        let mut counters = Counters::default();
        run(&mut counters, (0x10, 0x100), 5);
        counters.begin();
        run(&mut counters, (0x10, 0x100), 7);
        run(&mut counters, (0x20, 0x100), 2);
        counters.end();
        run(&mut counters, (0x20, 0x100), 100);
        run(&mut counters, (0x30, 0x300), 1);
        counters.end();
        counters.begin();
        run(&mut counters, (0x10, 0x100), 1);
        run(&mut counters, (0x30, 0x300), 4);
        counters.end();
        assert_eq!(written(&counters), "10 100 8\n20 100 2\n30 300 4\n");
    }

    #[test]
    fn a_span_without_an_end_does_not_count() {
        let mut counters = Counters::default();
        counters.begin();
        run(&mut counters, (1, 1), 1);
        counters.begin();
        run(&mut counters, (1, 1), 2);
        assert_eq!(written(&counters), "");
        counters.end();
        assert_eq!(written(&counters), "1 1 2\n");
    }

    #[test]
    fn counters_do_not_move() {
        let mut counters = Counters::default();
        let first = counters.of((0, 0));
        for number in 1..3 * BLOCK as u64 {
            counters.of((number, number)).store(number, Ordering::Relaxed);
        }
        assert!(std::ptr::eq(first, counters.of((0, 0))));
        assert!((1..3 * BLOCK as u64).all(|n| counters.of((n, n)).load(Ordering::Relaxed) == n));
    }

    #[test]
    fn the_first_instruction_of_the_hosts_kernel_is_named() {
        let mut counters = Counters::default();
        for place in [(0x7000, 0xffff_fff0), (0x8000, 0xc100_0010), (0x9000, 0xc100_0000)] {
            counters.of(place);
        }
        assert_eq!(written(&counters), "linear 8000 c1000010\n");
    }
}
