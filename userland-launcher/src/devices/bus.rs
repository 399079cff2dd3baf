//! The lguest bus: the device page and the rings above the guest's memory, and each device's status; and all devices.
//!
//! ```text
//!  ordinary memory | device page | ring of the first queue | ring of the second | ... | the PCI bus's device memory
//!                  ^ the guest finds it by the end of its memory map
//! ```
//!
//! Each device is on the [PCI bus](super::pci) as well: a guest uses the bus that it knows.
//!
//! The device page holds a [`DeviceDesc`] for each device with its variable parts (see there). Once the
//! guest runs it may overwrite the page, so that the launcher goes by its own copies and reads back only
//! what is the guest's to set: the status byte and the accepted features. The guest notifies the address of a
//! device's descriptor when it has changed the status (0 resets the device), and the address of a
//! ring when it has offered buffers.

use super::attached::Attached;
use super::config_port::ConfigPort;
use super::pci::Pci;
use super::worker::{Context, Interrupt, Kick};
use super::{AnyDevice, Device};
use crate::guest_memory::GuestMemory;
use crate::outcome::{Outcome, Violation};
use crate::virtqueue::{Ring, ring_bytes};
use arch_i386::addr::{GuestFrame, PAGE_SIZE};
use arch_i386::launcher::{DEVICE_MEMORY, DeviceDesc, Emulation, VirtqueueConfig};
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

impl Layout {
    /// The end of device memory in pages: a page for each device follows the guest's own.
    #[must_use]
    pub const fn device_limit(&self) -> u32 {
        self.page_limit + self.positions.len() as u32
    }
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

/// The devices of a guest that runs.
pub struct Bus {
    context: Context,
    attached: Vec<Attached>,
    positions: Vec<Position>,
    pci: Pci,
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
        for (device, position) in devices.into_iter().zip(&layout.positions) {
            let mut kicks = Vec::new();
            for queue in &position.queues {
                let kick = Kick::new().map_err(failed)?;
                let address = GuestFrame(queue.pfn).start().0;
                context.host.attach_eventfd(address, rustix::fd::AsFd::as_fd(&kick)).map_err(failed)?;
                kicks.push(Arc::new(kick));
            }
            let irq = position.queues.first().map_or(0, |queue| queue.irq.into());
            attached.push(Attached::new(device, kicks, irq));
        }
        let pci = Pci::new(&attached, GuestFrame(layout.page_limit));
        for ((attached, position), on_pci) in attached.iter_mut().zip(&layout.positions).zip(pci.places()) {
            attached.device.connect(ConfigPort {
                host: context.host.clone(),
                memory: context.memory.clone(),
                config: position.config,
                status: position.status(),
                irq: attached.irq,
                pci: on_pci,
            });
        }
        Ok(Self { context, attached, positions: layout.positions.clone(), pci, was_used: false })
    }

    /// Whether the guest has come so far as to set up a device.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.was_used
    }

    /// Emulates an instruction by which the guest uses the PCI bus.
    ///
    /// # Errors
    /// How the guest's life ends by this.
    pub fn emulate(&mut self, emulation: &Emulation) -> Result<(), Outcome> {
        self.was_used |= emulation.trap == DEVICE_MEMORY;
        self.pci.emulate(emulation, &mut self.attached, &self.context)
    }

    /// The guest has notified `address`, and no eventfd took it. Returns whether it is a device's.
    ///
    /// # Errors
    /// How the guest's life ends by this.
    pub fn notify(&mut self, address: u32) -> Result<bool, Outcome> {
        for (attached, position) in self.attached.iter_mut().zip(&self.positions) {
            if address == position.address {
                self.was_used = true;
                position.status_changed(attached, &self.context)?;
                return Ok(true);
            }
            let rings = position.queues.iter().map(|queue| GuestFrame(queue.pfn).start().0);
            if let Some((_, kick)) = rings.zip(&attached.kicks).find(|(ring, _)| *ring == address) {
                kick.signal();
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Position {
    fn status_changed(&self, attached: &mut Attached, context: &Context) -> Result<(), Outcome> {
        let status = read_byte(&context.memory, self.status())?;
        if status == 0 || status & STATUS_FAILED != 0 {
            self.reset(attached, &context.memory)
        } else if attached.runs() {
            Ok(())
        } else {
            self.start(attached, context)
        }
    }

    /// Stops the workers, and forgets what guest and device had agreed on.
    fn reset(&self, attached: &mut Attached, memory: &GuestMemory) -> Result<(), Outcome> {
        attached.stop();
        zero(memory, self.accepted, self.feature_len.into())?;
        for queue in &self.queues {
            zero(memory, GuestFrame(queue.pfn).start().0, ring_bytes(queue.num))?;
        }
        Ok(())
    }

    fn start(&self, attached: &mut Attached, context: &Context) -> Result<(), Outcome> {
        let mut accepted = 0;
        for i in 0..u32::from(self.feature_len) {
            accepted |= u32::from(read_byte(&context.memory, self.accepted + i)?) << (8 * i);
        }
        let offered = attached.device.features();
        if accepted & !offered != 0 {
            let violation = Violation::Features { offered: offered.into(), accepted: accepted.into() };
            return Err(Outcome::Violation { device: format!("its {}", attached.device.name()), violation });
        }
        let services = attached.device.start()?;
        let queues = self.queues.iter().map(|queue| {
            let ring = Ring::legacy(GuestFrame(queue.pfn).start().0, queue.num);
            Some((ring, Interrupt { irq: queue.irq.into(), status: None }))
        });
        attached.start(context, services, queues)
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
