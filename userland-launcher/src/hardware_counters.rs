//! What the processor counts of the guest's thread: cycles, instructions, TLB misses.
//!
//! The host's kernel counts them for the thread that runs the guest (perf_event_open(2)), in every ring: the guest, the
//! Switcher, the module and the launcher. They are there where the processor has counters and the thread may read the
//! kernel's, which root may. An emulator of a processor, such as QEMU's TCG, has none.

use std::fmt::Write;
use std::io;

use perf_event::events::{Cache, CacheId, CacheOp, CacheResult, Event, Hardware};
use perf_event::{Builder, CountAndTime, Counter, ReadFormat};

/// A miss of a TLB.
const fn miss(which: CacheId, operation: CacheOp) -> Cache {
    Cache { which, operation, result: CacheResult::MISS }
}

/// Counters of one thread.
#[derive(Default)]
pub struct HardwareCounters(Vec<(&'static str, Counter)>);

impl HardwareCounters {
    /// Those that the processor has, of the thread that calls this; none is no error.
    pub fn of_this_thread() -> Self {
        let mut all = Self::default();
        all.add("hw_cycles", Hardware::CPU_CYCLES);
        all.add("hw_instructions", Hardware::INSTRUCTIONS);
        all.add("hw_dtlb_load_misses", miss(CacheId::DTLB, CacheOp::READ));
        all.add("hw_dtlb_store_misses", miss(CacheId::DTLB, CacheOp::WRITE));
        all.add("hw_itlb_misses", miss(CacheId::ITLB, CacheOp::READ));
        all
    }

    fn add(&mut self, name: &'static str, event: impl Event) {
        let times = ReadFormat::TOTAL_TIME_ENABLED | ReadFormat::TOTAL_TIME_RUNNING;
        let counter = Builder::new(event).include_kernel().read_format(times).enabled(true).build();
        self.0.extend(counter.ok().map(|counter| (name, counter)));
    }

    /// Adds a line `NAME VALUE` for each counter, as the host's own counters have.
    ///
    /// # Errors
    /// When a counter cannot be read.
    pub fn read(&mut self, text: &mut String) -> io::Result<()> {
        for (name, counter) in &mut self.0 {
            if let Some(count) = exact(&counter.read_count_and_time()?) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{name} {count}");
            }
        }
        Ok(())
    }
}

/// A count that is no estimate: the processor has fewer counters than are wanted where one has not run all the time.
fn exact(count: &CountAndTime) -> Option<u64> {
    (count.time_running == count.time_enabled).then_some(count.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_event::events::Software;

    #[test]
    fn an_estimate_is_no_count() {
        let count = |time_running| CountAndTime { count: 7, time_enabled: 100, time_running };
        assert_eq!(exact(&count(100)), Some(7));
        assert_eq!(exact(&count(99)), None);
        assert_eq!(exact(&count(0)), None);
    }

    #[test]
    fn what_the_kernel_counts_is_a_line_and_what_it_does_not_have_is_none() {
        let mut counters = HardwareCounters::default();
        // The kernel counts page faults by itself, on a machine without counters as well.
        counters.add("page_faults", Software::PAGE_FAULTS);
        // There is no such cache event: a prefetch into the branch unit's cache.
        let none = Cache { which: CacheId::BPU, operation: CacheOp::PREFETCH, result: CacheResult::MISS };
        counters.add("no_such_event", none);
        if counters.0.is_empty() {
            eprintln!("this machine lets nobody but root count (/proc/sys/kernel/perf_event_paranoid)");
            return;
        }
        let mut read = || {
            let mut text = String::from("world_switches 1\n");
            counters.read(&mut text).unwrap();
            let value = text.strip_prefix("world_switches 1\npage_faults ").expect("one line more");
            value.trim_end().parse::<u64>().unwrap()
        };
        let before = read();
        let fresh = vec![1_u8; 64 << 20];
        assert!(std::hint::black_box(&fresh).iter().step_by(4096).all(|&byte| byte == 1));
        assert!(read() > before, "64 MiB of fresh memory are page faults");
    }
}
