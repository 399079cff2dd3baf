//! One function of the PCI bus: a virtio 1.0 device by its configuration space and its registers (virtio 1.x specification,
//! 4.1).
//!
//! ```text
//!  configuration space                          the page of registers, BAR 0
//!  0x00 ids, command, status, class             0x000 common configuration
//!  0x10 BAR 0                                   0x100 interrupt status
//!  0x3c interrupt line and pin                  0x200 the device's own configuration
//!  0x40 capabilities: where the registers are,  0x300 notifications, four bytes a queue
//!       and a window on them
//! ```
//!
//! The line of a function is the first of the interrupts that its device has on the lguest bus, where each queue has one.
//! All of this runs in the guest's thread but for the interrupt status, which workers set.

use super::attached::Attached;
use super::config_port::OnPci;
use super::worker::{Context, Interrupt};
use super::{AnyDevice, Device};
use crate::outcome::{Outcome, Violation};
use crate::virtqueue::{Ring, Virtqueue};
use arch_i386::addr::PAGE_SIZE;
use std::sync::atomic::Ordering;

/// Bytes of a function's registers.
pub const PAGE: u32 = PAGE_SIZE;
/// Entries of a queue, as long as the guest does not choose fewer.
const QUEUE_SIZE: u16 = 256;

/// The parts of a function's page; each has a capability, which the guest finds it by.
const COMMON: u32 = 0;
const ISR: u32 = 0x100;
const DEVICE: u32 = 0x200;
const NOTIFY: u32 = 0x300;
/// Bytes of the common configuration.
const COMMON_BYTES: u32 = 56;
/// Bytes of each queue's notification.
const NOTIFY_BYTES: u32 = 4;

/// What the capabilities are of.
const CAP_COMMON: u8 = 1;
const CAP_NOTIFY: u8 = 2;
const CAP_ISR: u8 = 3;
const CAP_DEVICE: u8 = 4;
const CAP_WINDOW: u8 = 5;
/// PCI's number for a capability that its vendor describes.
const VENDOR_CAPABILITY: u8 = 9;

/// Places in the configuration space (PCI Local Bus Specification 3.0, 6.1).
const COMMAND: usize = 4;
const BAR: usize = 0x10;
const FIRST_CAPABILITY: usize = 0x40;
const CONFIG_BYTES: usize = 256;
/// In the command register: the function answers at its BAR.
const MEMORY: u8 = 1 << 1;

/// Status bits of a device.
const FEATURES_OK: u8 = 8;
const DRIVER_OK: u8 = 4;
const FAILED: u8 = 0x80;
/// Features of every device here: virtio 1.0; and of a console: the emergency write.
const VERSION_1: u64 = 1 << 32;
const EMERGENCY_WRITE: u64 = 1 << 2;
/// A console's configuration: `columns u16, rows u16, ports u32, emergency write u32`.
const CONSOLE_BYTES: usize = 12;
const EMERGENCY: u32 = 8;
/// What a register reads as that is not there.
const NO_VECTOR: u32 = 0xffff;

/// What the guest has chosen for one queue.
#[derive(Clone, Copy, Debug)]
struct Queue {
    ring: Ring,
    enabled: bool,
}

impl Queue {
    const NEW: Self =
        Self { ring: Ring { descriptors: 0, available: 0, used: 0, size: QUEUE_SIZE }, enabled: false };
}

/// What the guest has agreed on with the device so far; a reset forgets it.
#[derive(Debug)]
struct Agreed {
    status: u8,
    offered_word: u32,
    accepted_word: u32,
    accepted: u64,
    selected: u16,
    queues: Vec<Queue>,
}

impl Agreed {
    fn nothing(queues: usize) -> Self {
        let queues = vec![Queue::NEW; queues];
        Self { status: 0, offered_word: 0, accepted_word: 0, accepted: 0, selected: 0, queues }
    }
}

/// A function, and what the guest has made of it.
#[derive(Debug)]
pub struct Function {
    /// The configuration space, and which of its bits the guest may change.
    config: [u8; CONFIG_BYTES],
    writable: [u8; CONFIG_BYTES],
    /// Where the window on the registers is in it: its capability.
    window: usize,
    agreed: Agreed,
    /// The device's own configuration as the guest has last read it, and how often it has changed since then.
    device_config: Vec<u8>,
    generation: u8,
    on_pci: OnPci,
}

impl Function {
    /// The function of a device, with its registers at guest-physical `bar`.
    #[must_use]
    pub fn new(attached: &Attached, bar: u32) -> Self {
        let device = &attached.device;
        let id = device.id();
        let mut function = Self {
            config: [0; CONFIG_BYTES],
            writable: [0; CONFIG_BYTES],
            window: 0,
            agreed: Agreed::nothing(attached.kicks.len()),
            device_config: device_config(device),
            generation: 0,
            on_pci: OnPci::default(),
        };
        // Vendor and device; status: there are capabilities.
        function.put(0, &[0xf4, 0x1a, 0x40 + id, 0x10, 0, 0, 0x10, 0]);
        function.put(8, &[1, 0]);
        function.put(0xa, &class(id));
        function.put(BAR, &bar.to_le_bytes());
        function.put(0x2c, &[0xf4, 0x1a, id, 0]);
        function.put(0x34, &[FIRST_CAPABILITY as u8]);
        // The line, which a guest may note elsewhere, and pin A.
        function.put(0x3c, &[attached.irq as u8, 1]);
        function.allow(COMMAND, &[MEMORY | 1 << 2, 1 << 2]);
        function.allow(BAR, &(!(PAGE - 1)).to_le_bytes());
        function.allow(0xc, &[0xff, 0xff]);
        function.allow(0x3c, &[0xff]);
        function.add_capabilities();
        function
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.config[at..][..bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        self.writable[at..][..bits.len()].copy_from_slice(bits);
    }

    fn add_capabilities(&mut self) {
        let notifications = NOTIFY_BYTES * self.agreed.queues.len() as u32;
        let own = self.device_config.len() as u32;
        let mut at = FIRST_CAPABILITY;
        let mut last = 0x34;
        let parts = [
            (CAP_COMMON, COMMON, COMMON_BYTES, 16u8),
            (CAP_NOTIFY, NOTIFY, notifications, 20),
            (CAP_ISR, ISR, 1, 16),
            (CAP_DEVICE, DEVICE, own, 16),
            (CAP_WINDOW, 0, 0, 20),
        ];
        for (kind, offset, bytes, len) in parts {
            if kind == CAP_DEVICE && own == 0 {
                continue;
            }
            self.config[last] = at as u8;
            self.put(at, &[VENDOR_CAPABILITY, 0, len, kind]);
            self.put(at + 8, &offset.to_le_bytes());
            self.put(at + 12, &bytes.to_le_bytes());
            match kind {
                // What a queue's number is multiplied by.
                CAP_NOTIFY => self.put(at + 16, &NOTIFY_BYTES.to_le_bytes()),
                CAP_WINDOW => {
                    self.window = at;
                    // Which BAR; offset and length.
                    self.allow(at + 4, &[0xff]);
                    self.allow(at + 8, &[0xff; 8]);
                }
                _ => {}
            }
            last = at + 1;
            at += usize::from(len);
        }
    }

    /// The data of the window.
    const fn window_data(&self) -> usize {
        self.window + 16
    }

    fn word(&self, at: usize) -> u32 {
        let [a, b, c, d] = [at, at + 1, at + 2, at + 3].map(|at| self.config.get(at).copied().unwrap_or(0));
        u32::from_le_bytes([a, b, c, d])
    }

    /// What changes when the device, and not the guest, changes its configuration.
    #[must_use]
    pub fn on_pci(&self) -> OnPci {
        self.on_pci.clone()
    }

    /// Whether its registers are in the page at guest-physical `base`.
    #[must_use]
    pub fn answers_at(&self, base: u32) -> bool {
        self.config[COMMAND] & MEMORY != 0 && self.word(BAR) == base
    }

    /// Where the window is, and how many bytes wide, if that is an access to a register.
    fn through_window(&self) -> Option<(u32, u32)> {
        let (offset, size) = (self.word(self.window + 8), self.word(self.window + 12));
        let aligned = matches!(size, 1 | 2 | 4) && offset.is_multiple_of(size) && offset < PAGE;
        (self.config[self.window + 4] == 0 && aligned).then_some((offset, size))
    }

    /// Reads 1, 2 or 4 bytes of the configuration space, within a word.
    ///
    /// # Errors
    /// How the guest's life ends by this.
    pub fn read_config(&mut self, at: u32, size: u32, attached: &Attached) -> Result<u32, Outcome> {
        let at = at as usize;
        if at & !3 == self.window_data()
            && let Some((offset, bytes)) = self.through_window()
        {
            let value = self.read(offset, bytes, attached)?;
            self.put(self.window_data(), &value.to_le_bytes());
        }
        Ok(self.word(at) & u32::MAX >> (32 - 8 * size))
    }

    /// Writes 1, 2 or 4 bytes of the configuration space, within a word.
    ///
    /// # Errors
    /// How the guest's life ends by this.
    pub fn write_config(
        &mut self,
        at: u32,
        size: u32,
        value: u32,
        attached: &mut Attached,
        context: &Context,
    ) -> Result<(), Outcome> {
        let at = at as usize;
        if at & !3 == self.window_data() {
            self.put(at, &value.to_le_bytes()[..size as usize]);
            if let Some((offset, bytes)) = self.through_window() {
                let value = self.word(self.window_data()) & u32::MAX >> (32 - 8 * bytes);
                return self.write(offset, bytes, value, attached, context);
            }
            return Ok(());
        }
        let bytes = value.to_le_bytes();
        for (at, byte) in (at..).zip(&bytes[..size as usize]) {
            let bits = self.writable[at];
            self.config[at] = self.config[at] & !bits | byte & bits;
        }
        Ok(())
    }

    /// Reads a register.
    ///
    /// # Errors
    /// How the guest's life ends by this.
    pub fn read(&mut self, offset: u32, size: u32, attached: &Attached) -> Result<u32, Outcome> {
        let value = match offset {
            COMMON..COMMON_BYTES => self.read_common(offset, size, &attached.device),
            ISR if size == 1 => Some(self.on_pci.isr.swap(0, Ordering::AcqRel).into()),
            DEVICE..NOTIFY => self.read_device(offset - DEVICE, size, &attached.device),
            NOTIFY.. if self.queue_notified(offset, size).is_some() => Some(0),
            _ => None,
        };
        value.ok_or_else(|| outcome(attached, Violation::Register { offset, size }))
    }

    /// Writes a register.
    ///
    /// # Errors
    /// How the guest's life ends by this.
    pub fn write(
        &mut self,
        offset: u32,
        size: u32,
        value: u32,
        attached: &mut Attached,
        context: &Context,
    ) -> Result<(), Outcome> {
        let written = match offset {
            STATUS if size == 1 => return self.set_status(value as u8, attached, context),
            COMMON..COMMON_BYTES => self.write_common(offset, size, value),
            DEVICE..NOTIFY => return self.write_device(offset - DEVICE, size, value, attached),
            NOTIFY.. => self.queue_notified(offset, size).map(|queue| attached.kicks[queue].signal()),
            _ => None,
        };
        written.ok_or_else(|| outcome(attached, Violation::Register { offset, size }))
    }

    /// The queue that is notified by an access here.
    fn queue_notified(&self, offset: u32, size: u32) -> Option<usize> {
        let from_first = offset - NOTIFY;
        let queue = (from_first / NOTIFY_BYTES) as usize;
        let whole = from_first.is_multiple_of(NOTIFY_BYTES) && matches!(size, 2 | 4);
        (whole && queue < self.agreed.queues.len()).then_some(queue)
    }

    fn selected(&self) -> Option<&Queue> {
        self.agreed.queues.get(usize::from(self.agreed.selected))
    }

    fn read_common(&self, offset: u32, size: u32, device: &AnyDevice) -> Option<u32> {
        let Agreed { status, offered_word, accepted_word, accepted, selected, queues } = &self.agreed;
        let queue = self.selected();
        let ring = queue.map(|queue| queue.ring);
        let place = |of: fn(Ring) -> u64| ring.map_or(0, of);
        let (bytes, value) = match offset {
            0 => (4, *offered_word),
            4 => (4, word_of(offered(device), *offered_word)),
            8 => (4, *accepted_word),
            12 => (4, word_of(*accepted, *accepted_word)),
            16 | 26 => (2, NO_VECTOR),
            18 => (2, queues.len() as u32),
            STATUS => (1, (*status).into()),
            21 => (1, self.generation.into()),
            22 => (2, (*selected).into()),
            24 => (2, ring.map_or(0, |ring| ring.size.into())),
            28 => (2, queue.is_some_and(|queue| queue.enabled).into()),
            30 => (2, (*selected).into()),
            32 | 36 => (4, word_of(place(|ring| ring.descriptors), offset / 4 % 2)),
            40 | 44 => (4, word_of(place(|ring| ring.available), offset / 4 % 2)),
            48 | 52 => (4, word_of(place(|ring| ring.used), offset / 4 % 2)),
            _ => return None,
        };
        (bytes == size).then_some(value)
    }

    /// `None` for what is no register, or not of that size. What is not the guest's to write, or not now, is left as it is.
    fn write_common(&mut self, offset: u32, size: u32, value: u32) -> Option<()> {
        let agreed = &mut self.agreed;
        let settled = agreed.status & FEATURES_OK != 0;
        // A queue is the guest's to place until it is enabled.
        let queue = agreed.queues.get_mut(usize::from(agreed.selected)).filter(|queue| !queue.enabled);
        let bytes = match offset {
            0 | 4 | 8 | 12 | 32.. => 4,
            16 | 18 | 22 | 24 | 26 | 28 | 30 => 2,
            21 => 1,
            _ => return None,
        };
        if bytes != size || !offset.is_multiple_of(bytes) {
            return None;
        }
        match (offset, queue) {
            (0, _) => agreed.offered_word = value,
            (8, _) => agreed.accepted_word = value,
            (12, _) if !settled && agreed.accepted_word < 2 => {
                set_word(&mut agreed.accepted, agreed.accepted_word, value);
            }
            (22, _) => agreed.selected = value as u16,
            (24, Some(queue)) if is_queue_size(value) => queue.ring.size = value as u16,
            (28, Some(queue)) => queue.enabled = value == 1,
            (32 | 36, Some(queue)) => set_word(&mut queue.ring.descriptors, offset / 4 % 2, value),
            (40 | 44, Some(queue)) => set_word(&mut queue.ring.available, offset / 4 % 2, value),
            (48 | 52, Some(queue)) => set_word(&mut queue.ring.used, offset / 4 % 2, value),
            _ => {}
        }
        Some(())
    }

    fn set_status(&mut self, status: u8, attached: &mut Attached, context: &Context) -> Result<(), Outcome> {
        if status == 0 {
            // What runs for the lguest bus is not this bus's.
            if self.agreed.status & DRIVER_OK != 0 {
                attached.stop();
            }
            self.on_pci.used.store(false, Ordering::Release);
            self.agreed = Agreed::nothing(attached.kicks.len());
            self.on_pci.isr.store(0, Ordering::Release);
            return Ok(());
        }
        let new = status & !self.agreed.status;
        self.agreed.status |= status;
        if new & FAILED != 0 && self.agreed.status & DRIVER_OK != 0 {
            self.on_pci.used.store(false, Ordering::Release);
            attached.stop();
        }
        if new & FEATURES_OK != 0 {
            let accepted = self.agreed.accepted;
            let good = accepted & !offered(&attached.device) == 0 && accepted & VERSION_1 != 0;
            // A device that the guest uses on the lguest bus already is not to be had.
            if !good || attached.runs() {
                self.agreed.status &= !FEATURES_OK;
            }
        }
        if new & DRIVER_OK != 0 {
            if self.agreed.status & FEATURES_OK == 0 || attached.runs() {
                let protocol = Violation::Protocol("starts a device without an agreement on its features");
                return Err(outcome(attached, protocol));
            }
            return self.start(attached, context);
        }
        Ok(())
    }

    fn start(&self, attached: &mut Attached, context: &Context) -> Result<(), Outcome> {
        let interrupt = Interrupt { irq: attached.irq, status: Some(self.on_pci.isr.clone()) };
        let mut rings = Vec::new();
        for queue in &self.agreed.queues {
            if queue.enabled {
                Virtqueue::at(&context.memory, queue.ring)
                    .map_err(|place| outcome(attached, Violation::QueuePlace(place)))?;
            }
            rings.push(queue.enabled.then(|| (queue.ring, interrupt.clone())));
        }
        let services = attached.device.start_version_1()?;
        self.on_pci.used.store(true, Ordering::Release);
        attached.start(context, services, rings)
    }

    fn read_device(&mut self, offset: u32, size: u32, device: &AnyDevice) -> Option<u32> {
        let now = device_config(device);
        if now != self.device_config {
            self.generation = self.generation.wrapping_add(1);
            self.device_config = now;
        }
        let bytes = self.device_config.get(offset as usize..(offset + size) as usize)?;
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        Some(u32::from_le_bytes(word))
    }

    /// The emergency write; all else is not the guest's to change.
    fn write_device(&self, offset: u32, size: u32, value: u32, attached: &Attached) -> Result<(), Outcome> {
        if (offset + size) as usize > self.device_config.len() {
            return Err(outcome(attached, Violation::Register { offset: DEVICE + offset, size }));
        }
        match attached.device.emergency_output() {
            Some(output) if offset == EMERGENCY => output.write(&[value as u8]),
            _ => Ok(()),
        }
    }
}

/// The offset of the device status.
const STATUS: u32 = 20;

/// What a device is to PCI, by virtio's number for it: subclass, class.
const fn class(id: u8) -> [u8; 2] {
    match id {
        // Ethernet.
        1 => [0, 2],
        // Other mass storage.
        2 => [0x80, 1],
        // Other communication.
        3 => [0x80, 7],
        // Unassigned.
        _ => [0, 0xff],
    }
}

fn outcome(attached: &Attached, violation: Violation) -> Outcome {
    Outcome::Violation { device: format!("its {}", attached.device.name()), violation }
}

fn offered(device: &AnyDevice) -> u64 {
    let emergency = if device.emergency_output().is_some() { EMERGENCY_WRITE } else { 0 };
    VERSION_1 | emergency | u64::from(device.features())
}

/// The configuration of the device, with room for an emergency write where there is one.
fn device_config(device: &AnyDevice) -> Vec<u8> {
    let mut config = device.config();
    if device.emergency_output().is_some() {
        config.resize(CONSOLE_BYTES, 0);
    }
    config
}

/// A queue has a power of two of entries, as many as are offered at the most.
const fn is_queue_size(size: u32) -> bool {
    size.is_power_of_two() && size <= QUEUE_SIZE as u32
}

/// One of the two words of a long number; beyond them there is nothing.
const fn word_of(of: u64, index: u32) -> u32 {
    match index {
        0 => of as u32,
        1 => (of >> 32) as u32,
        _ => 0,
    }
}

/// Sets one of the two words of a long number.
const fn set_word(of: &mut u64, index: u32, value: u32) {
    let shift = 32 * index;
    *of = *of & !(0xffff_ffff << shift) | (value as u64) << shift;
}
