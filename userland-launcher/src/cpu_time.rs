//! How much of the host's processor time a guest may have (`--cpu-time`).
//!
//! That is the launcher's own, which the guest's is a part of, and its devices'. Linux counts it, and sends a signal when
//! there is no more (setrlimit(2), `RLIMIT_CPU`).

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::num::NonZeroU32;

/// From now on this process and its threads have so many seconds. Then Linux sends SIGXCPU, each second again.
///
/// # Errors
/// When the process may not have so much.
pub fn limit(seconds: NonZeroU32) -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.cast_unsigned();
    let wanted = used + u64::from(seconds.get());
    let Rlimit { maximum, .. } = getrlimit(Resource::Cpu);
    match setrlimit(Resource::Cpu, Rlimit { current: Some(wanted), maximum }) {
        // `ulimit -t` has set a lower one.
        Err(Errno::INVAL) => Err(io::Error::other("this process may not have so much; see ulimit -t")),
        result => Ok(result?),
    }
}
