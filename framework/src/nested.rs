//! Traps within traps: a kernel whose handler comes, again and again, to the instruction that it handles the trap of, as an oops
//! does whose message cannot be printed. Nothing ever returns then, and without a limit it would go on until the stack has
//! grown through all of the guest's memory.

use crate::kill::Kill;
use arch_i386::addr::{GuestVirt, PAGE_SIZE};
use arch_i386::kernel_view::MOST_KERNEL_FAULTS;
use arch_i386::trap;

/// More than fit onto a kernel stack of 8 KiB: Linux needs 68 bytes for the registers alone.
const MAX_NESTED: u32 = 128;

/// The last trap of the guest's kernel, and how many came at its address, each deeper in the stack than the one before.
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
        // One instruction may fault once for each of many processes, as a copy from a program does; their stacks are pages apart.
        // And for each that comes here, the Switcher may have reflected some.
        let (limit, most) = if vector == trap::PAGE_FAULT {
            (PAGE_SIZE, MAX_NESTED / (1 + MOST_KERNEL_FAULTS))
        } else {
            (u32::MAX, MAX_NESTED)
        };
        let within = self.eip == eip && esp < self.esp && self.esp - esp < limit;
        let times = if within { self.times + 1 } else { 1 };
        *self = Self { eip, esp, times };
        if times < most { Ok(()) } else { Err(Kill::NestedTraps { vector, eip: GuestVirt(eip), times }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Traps until the guest ends, at one address, with stack pointers so far apart.
    fn traps(vector: u8, apart: u32) -> Option<u32> {
        let mut nested = Nested::default();
        (0..1000).find(|n| nested.note(vector, (0xc010_0000, 0xc100_0000 - apart * n)).is_err())
    }

    #[test]
    fn page_faults_of_many_processes_are_no_end() {
        // Linux's stacks are 4 KiB (2.6) or 8 KiB long, aligned to their length.
        for apart in [4096, 8192] {
            assert_eq!(traps(trap::PAGE_FAULT, apart), None);
        }
        // The 42nd may be the 126th.
        assert_eq!(traps(trap::PAGE_FAULT, 16), Some(41));
        assert_eq!(traps(trap::GENERAL_PROTECTION, 8192), Some(MAX_NESTED - 1));
    }
}
