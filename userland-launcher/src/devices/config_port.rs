//! How a device changes its configuration while a guest uses it.
//!
//! The bus of lguest has no interrupt for that. So the device raises that of its first queue: a driver that finds no used
//! buffer then ignores the interrupt (lguest's own), or looks whether the configuration has changed. On a PCI bus, the interrupt
//! status tells.

use crate::guest_memory::GuestMemory;
use crate::host::Host;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// The status bit by which a driver says that it uses the device (virtio 1.x, 2.1).
const STATUS_DRIVER_OK: u8 = 4;
/// In the interrupt status: the configuration has changed (virtio 1.x specification, 4.1.4.5).
const CONFIGURATION: u8 = 2;

/// What a guest sees that uses the device on the PCI bus.
#[derive(Clone, Debug, Default)]
pub struct OnPci {
    /// Whether the guest uses it there.
    pub used: Arc<AtomicBool>,
    /// The interrupt status.
    pub isr: Arc<AtomicU8>,
}

/// The configuration of one device of a guest that the host has.
pub struct ConfigPort {
    /// Who takes interrupts.
    pub host: Arc<dyn Host>,
    /// Where the device page is.
    pub memory: Arc<GuestMemory>,
    /// Guest-physical address of the configuration.
    pub config: u32,
    /// Guest-physical address of the status byte.
    pub status: u32,
    /// The interrupt of the device's first queue.
    pub irq: u32,
    /// The device on the PCI bus.
    pub pci: OnPci,
}

impl ConfigPort {
    /// Gives the device this configuration, of the length that it has had from the start, and interrupts a guest that uses the
    /// device. A guest that ends meanwhile needs neither.
    pub fn change(&self, config: &[u8]) {
        let bytes = |address: u32, len: usize| {
            // The bus has laid them out within the memory.
            self.memory.integers::<AtomicU8>(address.into(), len as u64).unwrap_or_default()
        };
        for (to, &byte) in bytes(self.config, config.len()).iter().zip(config) {
            to.store(byte, Ordering::Release);
        }
        let uses = |status: &AtomicU8| status.load(Ordering::Acquire) & STATUS_DRIVER_OK != 0;
        let on_pci = self.pci.used.load(Ordering::Acquire);
        if on_pci {
            self.pci.isr.fetch_or(CONFIGURATION, Ordering::Release);
        }
        if on_pci || bytes(self.status, 1).iter().any(uses) {
            let _ = self.host.interrupt(self.irq);
        }
    }
}
