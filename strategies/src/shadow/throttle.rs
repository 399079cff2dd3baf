//! The prefetch throttle: whether fault-around is suppressed.

/// A flush of everything has come too soon for fault-around to be worth its cost, if fewer than this many faults for each
/// page that may be filled have come since the last one.
const THRESHOLD: usize = 8;

/// How fast one flush of everything follows another, by the demand faults in between.
///
/// The kernel marks all of its memory as accessed, so that there is always something to fill. A guest that flushes
/// again and again drops it before it has used it. The throttle predicts that the guest goes on as it did last.
#[derive(Debug, Default)]
pub(super) struct PrefetchThrottle {
    /// Demand faults since the last flush of everything.
    faults: usize,
    /// The one before it came too soon, and this one may: prefetching is suppressed.
    suppressed: bool,
}

impl PrefetchThrottle {
    /// The guest flushes everything; so many pages may be filled at a fault.
    pub(super) const fn flushed(&mut self, around: usize) {
        self.suppressed = self.faults < THRESHOLD * around;
        self.faults = 0;
    }

    /// Counts a fault; whether its neighbours are not to be filled.
    pub(super) const fn is_suppressed(&mut self, around: usize) -> bool {
        self.faults += 1;
        self.suppressed = self.suppressed && self.faults < THRESHOLD * around;
        self.suppressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many faults fill no neighbours of so many that follow.
    fn suppressed(throttle: &mut PrefetchThrottle, faults: usize) -> usize {
        (0..faults).filter(|_| throttle.is_suppressed(16)).count()
    }

    #[test]
    fn fault_around_is_suppressed_while_one_flush_follows_another() {
        let enough = THRESHOLD * 16;
        let mut throttle = PrefetchThrottle::default();
        assert_eq!(suppressed(&mut throttle, enough - 1), 0, "nothing has been flushed yet");
        throttle.flushed(16);
        assert_eq!(suppressed(&mut throttle, 5), 5, "what was filled cannot have paid");
        throttle.flushed(16);
        assert_eq!(suppressed(&mut throttle, enough + 9), enough - 1, "until there have been enough again");
        throttle.flushed(16);
        assert_eq!(suppressed(&mut throttle, 5), 0, "the last flush was long ago");
    }
}
