//! Page faults: demand-zero, copy-on-write, death.
//!
//! The error code gives the access, but its present bit reports only what the host's shadow tables had,
//! so what is there is looked up in the guest's own.

use crate::host;
use crate::ram::Ram;
use crate::state::{Kernel, kernel};
use crate::traps::{self, TrapFrame};
use arch_i386::addr::{GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, Flags};
use arch_i386::trap::PageFaultErrorCode;
use mini_guest::frames::OutOfFrames;
use mini_guest::layout::KERNEL_BASE;
use mini_guest::page_tables::Machine;
use mini_guest::regions::Backing;

/// A page of a program that it may read.
const USER_PAGE: Flags = Flags::PRESENT.union(Flags::USER_ACCESSIBLE).union(Flags::ACCESSED);
/// Flags of a page that has been given to a program to write to. Like Linux, the kernel marks it dirty
/// at once; that saves the host finding out.
const WRITTEN: Flags = Flags::WRITABLE.union(Flags::DIRTY);

/// Faults in a row at which there is nothing to fix, after which the host is taken to be at fault.
const MAX_NEEDLESS: u32 = 1000;

/// Why a fault cannot be fixed.
enum Refused {
    /// The program has no such right.
    Denied,
    /// There is no memory.
    OutOfFrames,
}

impl From<OutOfFrames> for Refused {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// A page fault, of a program or of the kernel on its behalf.
pub fn page_fault(frame: &mut TrapFrame) {
    let address = host::fault_address();
    let write = frame.error & PageFaultErrorCode::CAUSED_BY_WRITE.bits() as u32 != 0;
    if address < KERNEL_BASE {
        let mended = kernel().mend(GuestVirt(address), write);
        match mended {
            Ok(()) => return,
            Err(Refused::Denied) => {}
            Err(Refused::OutOfFrames) => panic!("{OutOfFrames}"),
        }
    }
    traps::unexpected(frame, address);
}

impl Kernel {
    /// Makes the page at `address` accessible to the current process if it has a right to it.
    fn mend(&mut self, address: GuestVirt, write: bool) -> Result<(), Refused> {
        let current = self.processes.current();
        let memory = self.memory.as_mut().ok_or(Refused::Denied)?;
        let task = &mut self.tasks[current];
        let tables = task.tables.as_mut().ok_or(Refused::Denied)?;
        let region = task.regions.find(address.0).ok_or(Refused::Denied)?;
        if write && !region.writable {
            return Err(Refused::Denied);
        }
        let page = address.page();
        let entry = tables.entry(&Ram, page);
        if entry.present() && (!write || entry.has(Flags::WRITABLE)) {
            // The host had not caught up with the tables. It reads them at each fault, so it has now.
            self.needless_faults += 1;
            assert!(
                self.needless_faults < MAX_NEEDLESS,
                "the host reports page faults again and again, now at {address} for {entry:?}"
            );
            return Ok(());
        }
        self.needless_faults = 0;
        let new = if entry.present() {
            let shared = arch_i386::addr::GuestFrame(entry.frame() as u32);
            let own = if memory.frames.references(shared) == 1 {
                shared
            } else {
                let copy = memory.frames.allocate()?;
                Ram.copy(shared, copy);
                memory.frames.release(shared);
                copy
            };
            Entry::new(own.0.into(), USER_PAGE | WRITTEN)
        } else {
            match region.backing {
                Backing::Zero => {
                    let zeroed = memory.frames.allocate()?;
                    Ram.zero(zeroed);
                    // Read first, a page may be written later without another fault: the host will notice.
                    let rights = match (region.writable, write) {
                        (_, true) => WRITTEN,
                        (true, false) => Flags::WRITABLE,
                        (false, false) => Flags::empty(),
                    };
                    Entry::new(zeroed.0.into(), USER_PAGE | rights)
                }
                Backing::Image(first) => {
                    let index = first + (page.0 - region.range.start) / PAGE_SIZE;
                    let cached = self.image.page(&mut memory.frames, index)?;
                    if write {
                        let copy = memory.frames.allocate()?;
                        Ram.copy(cached, copy);
                        Entry::new(copy.0.into(), USER_PAGE | WRITTEN)
                    } else {
                        memory.frames.share(cached);
                        Entry::new(cached.0.into(), USER_PAGE)
                    }
                }
            }
        };
        Ok(tables.set(&mut Ram, &mut memory.frames, page, new)?)
    }
}
