//! Processes that a test makes, and that report to it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

/// A process that runs a part of a test; to be [joined](Worker::join).
#[must_use]
pub struct Worker {
    /// Its number.
    pub pid: Pid,
    report: OwnedFd,
}

impl Worker {
    /// Forks a process that does `work` and ends.
    pub fn spawn(work: impl FnOnce() -> Result<()>) -> Result<Worker> {
        let (report, writer) = pipe2(OFlag::O_CLOEXEC).context("no pipe")?;
        // SAFETY: the processes of tests have one thread when they make others.
        match unsafe { fork() }.context("no process")? {
            ForkResult::Child => {
                drop(report);
                let status = match work() {
                    Ok(()) => 0,
                    Err(error) => {
                        // Without a reader the report is lost.
                        let _ = File::from(writer).write_all(format!("{error:#}").as_bytes());
                        1
                    }
                };
                // SAFETY: it ends this process, at once: no destructor or buffer of the parent's may run here.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => Ok(Worker { pid: child, report }),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The work's own, and any end but an orderly one.
    pub fn join(self) -> Result<()> {
        let mut why = String::new();
        File::from(self.report).read_to_string(&mut why).context("a process's report cannot be read")?;
        match waitpid(self.pid, None).context("a process cannot be waited for")? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(..) if !why.is_empty() => bail!("{why}"),
            WaitStatus::Signaled(_, signal, _) => bail!("process {} was killed by {signal}", self.pid),
            status => bail!("process {} ended with {status:?}", self.pid),
        }
    }
}

/// Runs `work` in `count` processes at once; each receives its number, from 0.
pub fn in_parallel(count: u32, work: impl Fn(u32) -> Result<()>) -> Result<()> {
    let workers: Vec<Worker> =
        (0..count).map(|number| Worker::spawn(|| work(number))).collect::<Result<_>>()?;
    let results: Vec<Result<()>> = workers.into_iter().map(Worker::join).collect();
    for (number, result) in results.into_iter().enumerate() {
        result.with_context(|| format!("process {number} of {count}"))?;
    }
    Ok(())
}
