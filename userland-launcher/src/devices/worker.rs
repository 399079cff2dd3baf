//! The thread of one virtqueue: sleeps until the guest or the outside has something, and interrupts.

use super::{AnyService, QueueService, Stop};
use crate::guest_memory::GuestMemory;
use crate::host::Host;
use crate::outcome::Outcome;
use crate::virtqueue::{Ring, Virtqueue};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;

/// What wakes a worker: an eventfd that the host signals when the guest notifies the queue.
#[derive(Debug)]
pub struct Kick(OwnedFd);

impl Kick {
    /// A new one, not signalled.
    ///
    /// # Errors
    /// Too many open files.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Signals it.
    pub fn signal(&self) {
        // The one failure, a counter at its limit, means that it is signalled.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// It is not signalled any more.
    pub fn clear(&self) {
        // The one failure means that it was not signalled.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Kick {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How a worker interrupts the guest.
#[derive(Clone, Debug)]
pub struct Interrupt {
    /// The virtual interrupt.
    pub irq: u32,
    /// Where the guest finds out that it was this device, on a bus where it has to.
    pub status: Option<Arc<AtomicU8>>,
}

/// In the interrupt status: buffers were used (virtio 1.x specification, 4.1.4.5).
const USED_BUFFERS: u8 = 1;

/// The surroundings of a worker, the same for all of a guest.
#[derive(Clone)]
pub struct Context {
    /// Who takes interrupts.
    pub host: Arc<dyn Host>,
    /// Where rings and buffers are.
    pub memory: Arc<GuestMemory>,
    /// Called when a worker ends the guest.
    pub ended: Arc<dyn Fn(Outcome) + Send + Sync>,
}

/// A running worker. Dropping it stops the thread and waits for it.
#[derive(Debug)]
pub struct Worker {
    kick: Arc<Kick>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts `service` on a ring, for the device `name`.
    ///
    /// # Errors
    /// No more threads.
    pub fn start(
        context: Context,
        name: String,
        queue: (Ring, Interrupt),
        kick: Arc<Kick>,
        mut service: AnyService,
    ) -> io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let (my_kick, my_stopped) = (kick.clone(), stopped.clone());
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let result = serve(&context, &queue, &my_kick, &my_stopped, &mut service);
            match result {
                Ok(()) => {}
                Err(Stop::Ended(outcome)) => (context.ended)(outcome),
                Err(Stop::Violation(violation)) => {
                    (context.ended)(Outcome::Violation { device: format!("its {name}"), violation });
                }
            }
        })?;
        Ok(Self { kick, stopped, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        self.kick.signal();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

fn serve(
    context: &Context,
    (ring, interrupt): &(Ring, Interrupt),
    kick: &Kick,
    stopped: &AtomicBool,
    service: &mut AnyService,
) -> Result<(), Stop> {
    let failed = |doing: &str, error| Outcome::Failed { doing: doing.into(), error };
    let mut queue = Virtqueue::at(&context.memory, *ring)
        .map_err(|error| failed("placing a virtqueue", io::Error::other(error)))?;
    loop {
        queue.ignore_notifications();
        let wait = service.serve(&mut queue)?;
        if queue.wants_interrupt() {
            if let Some(status) = &interrupt.status {
                status.fetch_or(USED_BUFFERS, Ordering::Release);
            }
            match context.host.interrupt(interrupt.irq) {
                Ok(()) => {}
                // The guest has ended meanwhile; its own thread receives how.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                Err(error) => return Err(failed("interrupting the guest", error).into()),
            }
        }
        if stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        if wait.buffers && queue.await_notifications() {
            continue;
        }
        sleep(kick, service.source().filter(|_| wait.source)).map_err(|e| failed("waiting for work", e))?;
        kick.clear();
    }
}

/// Sleeps until the kick or the source has something.
fn sleep(kick: &Kick, source: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut fds = vec![PollFd::new(kick, PollFlags::IN)];
    fds.extend(source.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
