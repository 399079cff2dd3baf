//! A device of a guest that runs, with what runs it, whichever bus the guest has found it on.

use super::worker::{Context, Interrupt, Kick, Worker};
use super::{AnyDevice, AnyService, Device};
use crate::outcome::Outcome;
use crate::virtqueue::Ring;
use std::sync::Arc;

/// One device with what runs it.
pub struct Attached {
    /// The device.
    pub device: AnyDevice,
    /// What wakes the worker of each of its queues.
    pub kicks: Vec<Arc<Kick>>,
    /// The first of its interrupts: all of them on a bus where it has one.
    pub irq: u32,
    /// Empty unless the guest has set the device up.
    workers: Vec<Worker>,
}

impl Attached {
    /// A device that the guest has not set up.
    #[must_use]
    pub const fn new(device: AnyDevice, kicks: Vec<Arc<Kick>>, irq: u32) -> Self {
        Self { device, kicks, irq, workers: Vec::new() }
    }

    /// Whether the guest has set it up.
    #[must_use]
    pub fn runs(&self) -> bool {
        !self.workers.is_empty()
    }

    /// Has each service do its work on the ring of the same place, if there is one.
    ///
    /// # Errors
    /// [`Outcome::Failed`].
    pub fn start(
        &mut self,
        context: &Context,
        services: Vec<AnyService>,
        queues: impl IntoIterator<Item = Option<(Ring, Interrupt)>>,
    ) -> Result<(), Outcome> {
        let name = self.device.name();
        for ((service, queue), kick) in services.into_iter().zip(queues).zip(&self.kicks) {
            let Some(queue) = queue else { continue };
            let worker = Worker::start(context.clone(), name.clone(), queue, kick.clone(), service)
                .map_err(|error| Outcome::Failed { doing: format!("starting the {name}"), error })?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Stops all of them, and waits until they have stopped.
    pub fn stop(&mut self) {
        self.workers.clear();
    }
}
