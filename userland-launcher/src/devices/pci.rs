//! A PCI bus: the same devices as on the [lguest bus](super::bus), for guests of Linux 4.1 to 4.13, which look for them here.
//!
//! ```text
//!  bus 0   device 0        a host bridge
//!          device 1 ...    a virtio device each, the console first, where Linux expects it
//! ```
//!
//! Configuration cycles are made by the two ports of PCI's first mechanism (PCI Local Bus Specification 3.0, 3.2.2.3.2); the
//! devices' registers are in device memory, a page for each device. The host passes the guest's instructions for both on
//! ([`instruction`](crate::instruction)), and everything here runs in the guest's thread.

use super::attached::Attached;
use super::config_port::OnPci;
use super::pci_function::{Function, PAGE};
use super::worker::Context;
use crate::instruction::{Emulated, Place};
use crate::outcome::{Outcome, Violation};
use arch_i386::addr::{GuestFrame, PAGE_SHIFT};
use arch_i386::launcher::{Emulation, PCI_PORTS};
use std::io;

/// Bytes of each of the two ports.
const PORT_BYTES: u16 = 4;
/// In the address port: configuration cycles are made.
const ENABLE: u32 = 1 << 31;
/// What a read gets where nothing answers.
const NOTHING: u32 = u32::MAX;
/// A host bridge, as QEMU numbers its own, which nothing needs a driver for: vendor and device, status, class.
const BRIDGE: [u32; 3] = [0x0008_1b36, 0, 0x0600_0000];

/// The bus, and what the guest has made of it.
#[derive(Debug)]
pub struct Pci {
    functions: Vec<Function>,
    address: u32,
}

impl Pci {
    /// A bus with a function for each of `attached`, whose registers are in device memory from page `first` on.
    #[must_use]
    pub fn new(attached: &[Attached], first: GuestFrame) -> Self {
        let pages = (first.0..).map(|page| GuestFrame(page).start().0);
        let functions =
            attached.iter().zip(pages).map(|(attached, bar)| Function::new(attached, bar)).collect();
        Self { functions, address: 0 }
    }

    /// Each device's place on the bus, as it knows it itself.
    pub fn places(&self) -> impl Iterator<Item = OnPci> {
        self.functions.iter().map(Function::on_pci)
    }

    /// Emulates an instruction of the guest's.
    ///
    /// # Errors
    /// How the guest's life ends by this.
    pub fn emulate(
        &mut self,
        emulation: &Emulation,
        attached: &mut [Attached],
        context: &Context,
    ) -> Result<(), Outcome> {
        let instruction = Emulated::new(emulation).map_err(|what| violation("the PCI bus", what.into()))?;
        let size = instruction.size;
        let value = match (instruction.place, instruction.written()) {
            (Place::Port(port), None) => self.read_port(port, size, attached)?,
            (Place::Port(port), Some(value)) => {
                self.write_port(port, size, value, attached, context)?;
                0
            }
            (Place::Memory(address), written) => {
                self.access_memory(address, size, written, attached, context)?
            }
        };
        let failed = |error: io::Error| Outcome::Failed { doing: "moving the guest on".into(), error };
        for (register, value) in instruction.results(value) {
            context.host.set_register(register, value).map_err(failed)?;
        }
        Ok(())
    }

    /// The place of an access to a port in the four bytes that it belongs to, and whether those are the address.
    fn port(port: u16, size: u32) -> Option<(u32, bool)> {
        let offset = u32::from(port.checked_sub(PCI_PORTS.start)?);
        let (byte, bytes) = (offset % u32::from(PORT_BYTES), u32::from(PORT_BYTES));
        (byte + size <= bytes && PCI_PORTS.contains(&port)).then_some((byte, offset < bytes))
    }

    fn read_port(&mut self, port: u16, size: u32, attached: &mut [Attached]) -> Result<u32, Outcome> {
        Ok(match Self::port(port, size) {
            Some((byte, true)) => self.address >> (8 * byte),
            Some((byte, false)) => match self.selected() {
                Some((0, register)) => BRIDGE.get(register as usize / 4).copied().unwrap_or(0) >> (8 * byte),
                Some((device, register)) => {
                    let index = device - 1;
                    let Some(function) = self.functions.get_mut(index) else { return Ok(NOTHING) };
                    function.read_config(register + byte, size, &attached[index])?
                }
                None => NOTHING,
            },
            None => NOTHING,
        })
    }

    fn write_port(
        &mut self,
        port: u16,
        size: u32,
        value: u32,
        attached: &mut [Attached],
        context: &Context,
    ) -> Result<(), Outcome> {
        match Self::port(port, size) {
            Some((byte, true)) => {
                let mut bytes = self.address.to_le_bytes();
                bytes[byte as usize..][..size as usize]
                    .copy_from_slice(&value.to_le_bytes()[..size as usize]);
                self.address = u32::from_le_bytes(bytes);
            }
            Some((byte, false)) => {
                let Some((device @ 1.., register)) = self.selected() else { return Ok(()) };
                let index = device - 1;
                let Some(function) = self.functions.get_mut(index) else { return Ok(()) };
                function.write_config(register + byte, size, value, &mut attached[index], context)?;
            }
            None => {}
        }
        Ok(())
    }

    /// The device and the register that the address names, if it is on this bus.
    const fn selected(&self) -> Option<(usize, u32)> {
        let [register, device_function, bus, _] = self.address.to_le_bytes();
        if self.address & ENABLE == 0 || bus != 0 || device_function & 7 != 0 {
            return None;
        }
        Some((device_function as usize >> 3, register as u32 & !3))
    }

    fn access_memory(
        &mut self,
        address: u32,
        size: u32,
        written: Option<u32>,
        attached: &mut [Attached],
        context: &Context,
    ) -> Result<u32, Outcome> {
        let (base, offset) = (address >> PAGE_SHIFT << PAGE_SHIFT, address & (PAGE - 1));
        let mut all = self.functions.iter_mut().zip(attached);
        let Some((function, attached)) = all.find(|(function, _)| function.answers_at(base)) else {
            return Ok(NOTHING);
        };
        match written {
            Some(value) => function.write(offset, size, value, attached, context).map(|()| 0),
            None => function.read(offset, size, attached),
        }
    }
}

/// The guest's end for what it has done to a device.
fn violation(device: &str, violation: Violation) -> Outcome {
    Outcome::Violation { device: device.into(), violation }
}
