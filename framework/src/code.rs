//! The instruction at which a guest stands, read by the guest's own tables byte by byte, each byte once.

use crate::guest::Guest;
use crate::host::Host;
use arch_i386::addr::GuestVirt;
pub use arch_i386::launcher::INSTRUCTION_MAX;

/// An instruction as it is read.
pub struct Code<'g, 'h, H> {
    /// Whose it is.
    pub guest: &'g mut Guest,
    /// Its host.
    pub host: &'h mut H,
    eip: u32,
    bytes: [u8; INSTRUCTION_MAX],
    length: usize,
}

impl<'g, 'h, H: Host> Code<'g, 'h, H> {
    /// The instruction at which `guest` stands, of which nothing has been read yet.
    pub fn new(guest: &'g mut Guest, host: &'h mut H) -> Self {
        let eip = host.regs().eip;
        Self { guest, host, eip, bytes: [0; INSTRUCTION_MAX], length: 0 }
    }

    /// The next byte, if it can be had.
    pub fn next(&mut self) -> Option<u8> {
        let place = self.bytes.get_mut(self.length)?;
        let va = GuestVirt(self.eip.wrapping_add(self.length as u32));
        let at = self.guest.translate(self.host, va).ok()?;
        self.host.read(at, core::slice::from_mut(place)).ok()?;
        self.length += 1;
        Some(*place)
    }

    /// Reads as much as can be had of the longest instruction that there can be; returns whether that is anything.
    pub fn read_all(&mut self) -> bool {
        while self.next().is_some() {}
        self.length > 0
    }

    /// What has been read, and zeroes.
    pub const fn bytes(&self) -> [u8; INSTRUCTION_MAX] {
        self.bytes
    }

    /// The address after what has been read.
    pub const fn end(&self) -> u32 {
        self.eip.wrapping_add(self.length as u32)
    }
}
