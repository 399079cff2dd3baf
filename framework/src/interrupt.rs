//! Virtual interrupts, and how a guest is made to run one of its handlers.
//!
//! A guest's interrupt flag is a word in its shared page. Before each entry the lowest pending,
//! unmasked interrupt is delivered if that word allows it; if not, `irq_pending` requires the guest to make a
//! hypercall when it enables interrupts again.
//!
//! One thing is done differently from lguest's `interrupts_and_traps.c`: there, `irq_pending` is never
//! cleared once it has been set, so that a guest makes needless hypercalls for ever after; here it is cleared as
//! soon as nothing is left.

use crate::bits::bits;
use crate::guest::Guest;
use crate::host::{BadAddress, Host};
use crate::kill::Kill;
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::lguest_data::{IRQ_ENABLED, offset};
use arch_i386::segment::{Descriptor, GUEST_CS, GUEST_PL, GateType};
use arch_i386::trap;

impl Guest {
    /// Delivers one virtual interrupt if that can be done now. Returns the interrupts that would wake a
    /// halted guest.
    pub(crate) fn deliver_interrupt<H: Host>(&mut self, host: &mut H) -> Result<u32, Kill> {
        let pending = host.pending_interrupts();
        if pending == 0 && !self.halted {
            return Ok(0);
        }
        let Some(data) = self.data else { return Ok(0) };
        let unmasked = !host.read_u32(GuestPhys(data.0 + offset::BLOCKED_INTERRUPTS))?;
        // One without a handler stays pending and wakes nobody.
        let ready = |irq: u32| self.segments.gate(trap::FIRST_EXTERNAL + irq as u8);
        let Some((irq, gate)) = bits(pending & unmasked).find_map(|irq| Some((irq, ready(irq)?))) else {
            // A guest that unmasks one says so to nobody.
            self.held_back = pending != 0;
            let handled = bits(unmasked).filter(|&irq| ready(irq).is_some());
            return Ok(handled.fold(0, |mask, irq| mask | 1 << irq));
        };
        // A guest halts by a hypercall outside the protected range, so a halted one can be woken.
        let eip = host.regs().eip;
        if !self.halted && self.noirq.contains(&eip) {
            // The guest does not know of it, so the next exit must not be long in coming.
            self.held_back = true;
            return Ok(0);
        }
        if core::mem::take(&mut self.halted) {
            host.write_u32(GuestPhys(data.0 + offset::IRQ_ENABLED), IRQ_ENABLED)?;
        } else if host.read_u32(GuestPhys(data.0 + offset::IRQ_ENABLED))? & IRQ_ENABLED == 0 {
            host.write_u32(GuestPhys(data.0 + offset::IRQ_PENDING), IRQ_ENABLED)?;
            return Ok(0);
        }
        host.clear_interrupt(irq);
        self.counters.interrupts += 1;
        self.call_handler(host, gate, None)?;
        self.write_time(host, data)?;
        let more = pending & unmasked & !(1 << irq) != 0;
        host.write_u32(GuestPhys(data.0 + offset::IRQ_PENDING), if more { IRQ_ENABLED } else { 0 })?;
        Ok(0)
    }

    /// Makes the guest continue in a handler, as the processor would: pushes the frame of an interrupt
    /// on its kernel stack (Intel SDM vol. 3A, 6.12.1) and points `cs:eip` at the handler.
    pub(crate) fn call_handler<H: Host>(
        &mut self,
        host: &mut H,
        gate: Descriptor,
        error_code: Option<u32>,
    ) -> Result<(), Kill> {
        let regs = *host.regs();
        let irq_enabled = match self.data {
            Some(data) => host.read_u32(GuestPhys(data.0 + offset::IRQ_ENABLED))?,
            None => 0,
        };
        // The real flag is always on while a guest runs; the guest is shown its own.
        let eflags = regs.eflags & !IRQ_ENABLED | irq_enabled & IRQ_ENABLED;

        let mut frame = Frame::new();
        let (ss, esp) = if regs.ss & 3 == GUEST_PL {
            (regs.ss, regs.esp)
        } else {
            frame.push(regs.ss);
            frame.push(regs.esp);
            (self.ss1, self.esp1.0)
        };
        frame.push(eflags);
        frame.push(regs.cs);
        frame.push(regs.eip);
        if let Some(code) = error_code {
            frame.push(code);
        }
        let esp = esp.wrapping_sub(frame.bytes().len() as u32);
        self.write_virtual(host, GuestVirt(esp), frame.bytes())?;

        let regs = host.regs();
        (regs.ss, regs.esp, regs.cs, regs.eip) = (ss, esp, GUEST_CS, gate.gate_offset());
        // As the processor does on entry to a handler.
        regs.eflags &= !(TRAP_FLAG | NESTED_TASK | RESUME_FLAG);
        if let (Some(GateType::Interrupt), Some(data)) = (gate.gate_type(), self.data) {
            host.write_u32(GuestPhys(data.0 + offset::IRQ_ENABLED), 0)?;
        }
        Ok(())
    }

    /// Stores bytes at a guest-virtual address, page by page.
    fn write_virtual<H: Host>(&mut self, host: &mut H, va: GuestVirt, bytes: &[u8]) -> Result<(), Kill> {
        let in_first_page = bytes.len().min((PAGE_SIZE - va.offset()) as usize);
        let (first, second) = bytes.split_at(in_first_page);
        let at = self.translate(host, va)?;
        host.write(at, first)?;
        if !second.is_empty() {
            let at = self.translate(host, GuestVirt(va.page().0.wrapping_add(PAGE_SIZE)))?;
            host.write(at, second)?;
        }
        Ok(())
    }

    /// Puts the wall clock into the shared page.
    pub(crate) fn write_time<H: Host>(&self, host: &mut H, data: GuestPhys) -> Result<(), BadAddress> {
        let now = host.wall_clock();
        let both = u64::from(now.nanoseconds) << 32 | u64::from(now.seconds);
        host.write_u64(GuestPhys(data.0 + offset::TIME), both)
    }
}

const TRAP_FLAG: u32 = arch_i386::RFlags::TRAP_FLAG.bits() as u32;
const NESTED_TASK: u32 = arch_i386::RFlags::NESTED_TASK.bits() as u32;
const RESUME_FLAG: u32 = arch_i386::RFlags::RESUME_FLAG.bits() as u32;

/// An interrupt frame, built downwards as the processor pushes it; six words at most.
struct Frame {
    words: [[u8; 4]; 6],
    start: usize,
}

impl Frame {
    const fn new() -> Self {
        Self { words: [[0; 4]; 6], start: 6 }
    }

    fn push(&mut self, word: u32) {
        self.start -= 1;
        self.words[self.start] = word.to_le_bytes();
    }

    fn bytes(&self) -> &[u8] {
        self.words[self.start..].as_flattened()
    }
}
