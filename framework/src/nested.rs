//! Traps within traps: a kernel whose handler comes, again and again, to the instruction that it handles the trap of, as an oops
//! does whose message cannot be printed. Nothing ever returns then, and without a limit it would go on until the stack has
//! grown through all of the guest's memory.

use crate::kill::Kill;
use arch_i386::addr::GuestVirt;

/// More than fit onto a kernel stack of 8 KiB: Linux needs 68 bytes for the registers alone.
const MAX_NESTED: u32 = 128;

/// The last trap of the guest's kernel, page faults apart, and how many came at its address, each deeper in the stack than
/// the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nested {
    eip: u32,
    esp: u32,
    times: u32,
}

impl Nested {
    /// Notes a trap that goes to the guest's handler.
    ///
    /// # Errors
    /// [`Kill::NestedTraps`] when there have been too many.
    pub const fn note(&mut self, vector: u8, (eip, esp): (u32, u32)) -> Result<(), Kill> {
        let times = if self.eip == eip && esp < self.esp { self.times + 1 } else { 1 };
        *self = Self { eip, esp, times };
        if times < MAX_NESTED {
            Ok(())
        } else {
            Err(Kill::NestedTraps { vector, eip: GuestVirt(eip), times })
        }
    }
}
