//! The guest's devices: virtio on the lguest bus and on a PCI bus.
//!
//! A [`Device`] describes what the guest sees of it (its id, features and configuration) and makes one
//! [`QueueService`] for each of its virtqueues when the guest has set it up. The [`bus`] lays devices out
//! in the device page and follows their status; [`pci`] does so for guests of Linux 4.1 and later; a [`worker`] thread runs
//! each service.
//!
//! | device | virtio id | queues |
//! | --- | --- | --- |
//! | [`console`] | 3 | input, output |
//! | [`block`] | 2 | requests |
//! | [`entropy`] | 4 | requests |
//! | [`network`] | 1 | receive, transmit |
//!
//! No device comes from outside, so each of the two traits has an enum of all that implement it, [`AnyDevice`] and
//! [`AnyService`]: `enum_dispatch` writes their matches and conversions, calls are static, and neither a device nor a
//! service is an allocation of its own.

pub mod attached;
pub mod block;
pub mod bus;
pub mod config_port;
pub mod console;
pub mod entropy;
pub mod network;
pub mod pci;
pub mod pci_function;
pub mod worker;

use crate::console_output::ConsoleOutput;
use crate::devices::config_port::ConfigPort;
use crate::outcome::{Outcome, Violation};
use crate::virtqueue::{Chain, RingError, Virtqueue};
use enum_dispatch::enum_dispatch;
use std::os::fd::BorrowedFd;

/// One virtio device, as its author writes it.
#[enum_dispatch]
pub trait Device: Send {
    /// The virtio device id.
    fn id(&self) -> u8;

    /// What to call it in messages.
    fn name(&self) -> String;

    /// The features it offers, one bit each. Ring features are not offered by any device here.
    fn features(&self) -> u32 {
        0
    }

    /// Its configuration bytes.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    /// How many virtqueues it has.
    fn queues(&self) -> u8;

    /// The host has the guest: from now on the device may change its configuration.
    fn connect(&mut self, _: ConfigPort) {}

    /// The guest is ready: makes a service for each virtqueue, in their order. Called again after a reset.
    ///
    /// # Errors
    /// [`Outcome::Failed`].
    fn start(&mut self) -> Result<Vec<AnyService>, Outcome>;

    /// The same for a guest that speaks virtio 1.0, where that makes a difference to what is in the buffers.
    ///
    /// # Errors
    /// [`Outcome::Failed`].
    fn start_version_1(&mut self) -> Result<Vec<AnyService>, Outcome> {
        self.start()
    }

    /// Where a guest's words go that it writes to the device's configuration before it has set up anything: a console's
    /// emergency write (virtio 1.x specification, 5.3.4).
    fn emergency_output(&self) -> Option<&ConsoleOutput> {
        None
    }
}

/// A device of any kind.
#[enum_dispatch(Device)]
#[allow(missing_docs)]
pub enum AnyDevice {
    Console(console::Console),
    Block(block::Block),
    Entropy(entropy::Entropy),
    Network(network::Network),
}

/// What a service needs before it can go on; either of the two will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// More buffers from the guest.
    pub buffers: bool,
    /// Input on [`QueueService::source`].
    pub source: bool,
}

/// Serves one virtqueue, in a thread of its own.
#[enum_dispatch]
pub trait QueueService: Send {
    /// Does all that can be done without waiting for the guest or for the source.
    ///
    /// # Errors
    /// [`Stop`]: the guest or the launcher is at its end.
    fn serve(&mut self, queue: &mut Virtqueue<'_>) -> Result<Wait, Stop>;

    /// Where input from outside comes from, if it does.
    fn source(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The service of any virtqueue.
#[enum_dispatch(QueueService)]
#[allow(missing_docs)]
pub enum AnyService {
    ConsoleInput(console::Input),
    ConsoleOutput(console::Output),
    Block(block::Requests),
    Entropy(entropy::Requests),
    Receive(network::Receive),
    Transmit(network::Transmit),
}

/// Why a queue's service cannot go on.
#[derive(Debug)]
pub enum Stop {
    /// The guest broke the device's rules.
    Violation(Violation),
    /// Something else that ends the guest.
    Ended(Outcome),
}

impl From<RingError> for Stop {
    fn from(error: RingError) -> Self {
        Self::Violation(error.into())
    }
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Outcome> for Stop {
    fn from(outcome: Outcome) -> Self {
        Self::Ended(outcome)
    }
}

/// A device whose queue is nothing but requests, each answered at once.
pub trait RequestService: Send {
    /// Answers one request; returns how many bytes of its writable buffers are new.
    ///
    /// # Errors
    /// [`Stop`].
    fn answer(&mut self, request: &mut Chain<'_>) -> Result<u32, Stop>;
}

impl<S: RequestService> QueueService for S {
    fn serve(&mut self, queue: &mut Virtqueue<'_>) -> Result<Wait, Stop> {
        while let Some(mut request) = queue.take()? {
            let written = self.answer(&mut request)?;
            queue.give_back(request.head, written);
        }
        Ok(Wait { buffers: true, source: false })
    }
}
