//! How much of the host's processor time a guest may have (`--cpu-time`).
//!
//! That is the launcher's own, which the guest's is a part of, and its devices'. A thread looks at the process's clock. (Linux's own
//! limit, `RLIMIT_CPU`, would end the launcher by a signal, and the guest without its outcome.)

use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

/// How exact it is.
const TICK: Duration = Duration::from_millis(10);

/// What this process and its threads have had.
fn used() -> Duration {
    // Such a clock never runs backwards, and has no times before 0.
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

/// From now on this process and its threads have so many seconds. Then `over` is called.
///
/// # Errors
/// No more threads.
pub fn limit(seconds: NonZeroU32, over: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let end = used() + Duration::from_secs(seconds.get().into());
    std::thread::Builder::new().name("cpu-time".into()).spawn(move || {
        loop {
            let left = end.saturating_sub(used());
            if left.is_zero() {
                return over();
            }
            // Two busy threads have had it in half of that.
            std::thread::sleep((left / 2).max(TICK));
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_end_comes_after_that_much_work() {
        let over = Arc::new(AtomicBool::new(false));
        let (before, seen) = (used(), over.clone());
        limit(NonZeroU32::MIN, move || seen.store(true, Ordering::Relaxed)).unwrap();
        // Sleeping is no work.
        std::thread::sleep(Duration::from_millis(200));
        while !over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        // Where nothing else has taken the processor from this process's threads meanwhile, it is hardly more.
        let took = used() - before;
        assert!(took >= Duration::from_secs(1), "{took:?}");
    }
}
