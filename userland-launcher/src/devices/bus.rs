//! The lguest bus: the device page and the rings above the guest's memory, and each device's status.
//!
//! ```text
//!  ordinary memory | device page | ring of the first queue | ring of the second | ...
//!                  ^ the guest finds it by the end of its memory map
//! ```
//!
//! The device page holds a [`DeviceDesc`] for each device with its variable parts (see there). Once the
//! guest runs it may overwrite the page, so that the launcher goes by its own copies and reads back only
//! what is the guest's to set: the status byte and the accepted features. The guest notifies the address of a
//! device's descriptor when it has changed the status (0 resets the device), and the address of a
//! ring when it has offered buffers.

use super::config_port::ConfigPort;
use super::worker::{Context, Kick, Worker};
use super::{AnyDevice, Device};
use crate::guest_memory::GuestMemory;
use crate::outcome::{Outcome, Violation};
use crate::virtqueue::ring_bytes;
use arch_i386::addr::{GuestFrame, PAGE_SIZE};
use arch_i386::launcher::{DeviceDesc, VirtqueueConfig};
use arch_i386::lguest_data::IRQS;
use std::io;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use thiserror::Error;

/// Entries of every virtqueue: three pages a ring.
pub const QUEUE_SIZE: u16 = 256;
/// The first interrupt of a device; 0 is the clock's.
const FIRST_IRQ: u32 = 1;
/// The status bit by which a guest gives up on a device.
const STATUS_FAILED: u8 = 0x80;

/// More devices than the bus has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many devices: the bus has {IRQS} interrupts and one page of descriptions; give fewer --block")]
pub struct TooManyDevices;

/// Where each device's parts are, and what the device page holds at the start.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The device page as the guest finds it.
    pub page: Vec<u8>,
    /// Where the device page is: the end of ordinary memory.
    pub first: GuestFrame,
    /// Pages of the guest in all: ordinary memory, the device page, the rings.
    pub page_limit: u32,
    positions: Vec<Position>,
}

/// Where one device is.
#[derive(Clone, Debug)]
struct Position {
    /// Guest-physical address of the descriptor.
    address: u32,
    /// Guest-physical address of the accepted features.
    accepted: u32,
    feature_len: u8,
    /// Guest-physical address of the configuration.
    config: u32,
    queues: Vec<VirtqueueConfig>,
}

impl Position {
    /// Guest-physical address of the status byte.
    const fn status(&self) -> u32 {
        self.address + offset_of!(DeviceDesc, status) as u32
    }
}

impl Layout {
    /// Places `devices` from page `first` on, which is the first above ordinary memory.
    ///
    /// # Errors
    /// [`TooManyDevices`].
    pub fn new(devices: &[AnyDevice], first: GuestFrame) -> Result<Self, TooManyDevices> {
        let mut layout = Self { page: Vec::new(), first, page_limit: first.0 + 1, positions: Vec::new() };
        let mut irq = FIRST_IRQ;
        for device in devices {
            layout.add(device, &mut irq)?;
        }
        // A descriptor of kind 0 ends the list, unless the page does.
        if layout.page.len() > PAGE_SIZE as usize {
            return Err(TooManyDevices);
        }
        layout.page.resize(PAGE_SIZE as usize, 0);
        Ok(layout)
    }

    fn add(&mut self, device: &AnyDevice, irq: &mut u32) -> Result<(), TooManyDevices> {
        let address = self.first.start().0 + self.page.len() as u32;
        let mut queues = Vec::new();
        for _ in 0..device.queues() {
            if *irq >= IRQS {
                return Err(TooManyDevices);
            }
            queues.push(VirtqueueConfig { num: QUEUE_SIZE, irq: *irq as u16, pfn: self.page_limit });
            *irq += 1;
            self.page_limit += ring_bytes(QUEUE_SIZE).div_ceil(PAGE_SIZE);
        }
        let features = device.features().to_le_bytes();
        let feature_len = features.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        let config = device.config();
        let config_len = u8::try_from(config.len()).map_err(|_| TooManyDevices)?;

        // The fields of a DeviceDesc, in its order.
        self.page.extend([device.id(), device.queues(), feature_len as u8, config_len, 0]);
        for queue in &queues {
            self.page.extend(queue.num.to_le_bytes());
            self.page.extend(queue.irq.to_le_bytes());
            self.page.extend(queue.pfn.to_le_bytes());
        }
        self.page.extend(&features[..feature_len]);
        let accepted = self.first.start().0 + self.page.len() as u32;
        self.page.extend(&[0; 4][..feature_len]);
        let config_address = self.first.start().0 + self.page.len() as u32;
        self.page.extend(config);
        self.positions.push(Position {
            address,
            accepted,
            feature_len: feature_len as u8,
            config: config_address,
            queues,
        });
        Ok(())
    }
}

/// One device with what runs it.
struct Attached {
    device: AnyDevice,
    position: Position,
    kicks: Vec<Arc<Kick>>,
    /// Empty unless the guest has set the device up.
    workers: Vec<Worker>,
}

/// The devices of a guest that runs.
pub struct Bus {
    context: Context,
    attached: Vec<Attached>,
    was_used: bool,
}

impl Bus {
    /// Connects the devices that `layout` was made of with the host, which has the guest already.
    ///
    /// # Errors
    /// [`Outcome::Failed`].
    pub fn new(context: Context, devices: Vec<AnyDevice>, layout: &Layout) -> Result<Self, Outcome> {
        let failed = |error| Outcome::Failed { doing: "connecting a device with the host".into(), error };
        let mut attached = Vec::new();
        for (mut device, position) in devices.into_iter().zip(&layout.positions) {
            let mut kicks = Vec::new();
            for queue in &position.queues {
                let kick = Kick::new().map_err(failed)?;
                let address = GuestFrame(queue.pfn).start().0;
                context.host.attach_eventfd(address, rustix::fd::AsFd::as_fd(&kick)).map_err(failed)?;
                kicks.push(Arc::new(kick));
            }
            if let Some(queue) = position.queues.first() {
                device.connect(ConfigPort {
                    host: context.host.clone(),
                    memory: context.memory.clone(),
                    config: position.config,
                    status: position.status(),
                    irq: queue.irq.into(),
                });
            }
            attached.push(Attached { device, position: position.clone(), kicks, workers: Vec::new() });
        }
        Ok(Self { context, attached, was_used: false })
    }

    /// Whether the guest has come so far as to set up a device.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.was_used
    }

    /// The guest has notified `address`, and no eventfd took it. Returns whether it is a device's.
    ///
    /// # Errors
    /// How the guest's life ends by this.
    pub fn notify(&mut self, address: u32) -> Result<bool, Outcome> {
        for attached in &mut self.attached {
            if address == attached.position.address {
                self.was_used = true;
                attached.status_changed(&self.context)?;
                return Ok(true);
            }
            let rings = attached.position.queues.iter().map(|queue| GuestFrame(queue.pfn).start().0);
            if let Some((_, kick)) = rings.zip(&attached.kicks).find(|(ring, _)| *ring == address) {
                kick.signal();
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Attached {
    fn status_changed(&mut self, context: &Context) -> Result<(), Outcome> {
        let status = read_byte(&context.memory, self.position.status())?;
        if status == 0 || status & STATUS_FAILED != 0 {
            self.reset(&context.memory)
        } else if self.workers.is_empty() {
            self.start(context)
        } else {
            Ok(())
        }
    }

    /// Stops the workers, and forgets what guest and device had agreed on.
    fn reset(&mut self, memory: &GuestMemory) -> Result<(), Outcome> {
        self.workers.clear();
        zero(memory, self.position.accepted, self.position.feature_len.into())?;
        for queue in &self.position.queues {
            zero(memory, GuestFrame(queue.pfn).start().0, ring_bytes(queue.num))?;
        }
        Ok(())
    }

    fn start(&mut self, context: &Context) -> Result<(), Outcome> {
        let name = self.device.name();
        let mut accepted = 0;
        for i in 0..u32::from(self.position.feature_len) {
            accepted |= u32::from(read_byte(&context.memory, self.position.accepted + i)?) << (8 * i);
        }
        let offered = self.device.features();
        if accepted & !offered != 0 {
            let violation = Violation::Features { offered, accepted };
            return Err(Outcome::Violation { device: format!("its {name}"), violation });
        }
        let services = self.device.start()?;
        for ((service, queue), kick) in services.into_iter().zip(&self.position.queues).zip(&self.kicks) {
            let worker = Worker::start(context.clone(), name.clone(), *queue, kick.clone(), service)
                .map_err(|error| Outcome::Failed { doing: format!("starting the {name}"), error })?;
            self.workers.push(worker);
        }
        Ok(())
    }
}

/// The launcher's own layout is inside memory; if not, that is no guest's doing.
fn layout_error(error: crate::guest_memory::OutOfBounds) -> Outcome {
    Outcome::Failed { doing: "using the device pages".into(), error: io::Error::other(error) }
}

fn read_byte(memory: &GuestMemory, address: u32) -> Result<u8, Outcome> {
    let byte = memory.integers::<AtomicU8>(address.into(), 1).map_err(layout_error)?;
    Ok(byte[0].load(Ordering::Acquire))
}

fn zero(memory: &GuestMemory, address: u32, len: u32) -> Result<(), Outcome> {
    let bytes = memory.integers::<AtomicU8>(address.into(), len.into()).map_err(layout_error)?;
    bytes.iter().for_each(|byte| byte.store(0, Ordering::Release));
    Ok(())
}
