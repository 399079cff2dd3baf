//! What a guest's launcher emulates: accesses to device memory, and PCI's configuration cycles.
//!
//! Guests of Linux 4.1 to 4.13 find their devices on a PCI bus. The processor traps when they come to an instruction that
//! reads or writes one: with a page fault, as device memory has no shadow; with a general-protection fault, as ring 1 may
//! not use ports. The launcher gets the instruction as the result of its read, with what it needs to do it; it stores the
//! result by [`Guest::set_register`], moves the guest on in the same way, and reads again. What it cannot do it turns into a
//! trap of the guest's own ([`Guest::trap`]).
//!
//! A launcher that has declared no device memory has none of this: its guest's accesses to it are bad page-table entries,
//! and no device answers at PCI's ports (`emulate`).
//!
//! Source: Linux 4.1's `drivers/lguest/x86/core.c`, `setup_emulate_insn` and `setup_iomem_insn`, and `lguest_user.c`.

use crate::code::{Code, INSTRUCTION_MAX};
use crate::guest::Guest;
use crate::host::Host;
use crate::kill::Kill;
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt};
use arch_i386::launcher::{DEVICE_MEMORY, Emulation, IO_PORT, PCI_PORTS, register};
use arch_i386::trap;

/// The guest has no such register, or it is not the launcher's to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no register that can be used so is at offset {0}")]
pub struct BadRegister(pub u32);

/// The guest has no handler for this trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest has no handler for trap {0}")]
pub struct NoHandler(pub u32);

impl Guest {
    /// Whether an access of `size` bytes from `port` on is for the launcher.
    pub(crate) fn is_for_launcher<H: Host>(host: &H, port: u16, size: u32) -> bool {
        let (port, ports) = (u32::from(port), u32::from(PCI_PORTS.start)..u32::from(PCI_PORTS.end));
        host.device_limit() > host.page_limit() && port < ports.end && ports.start < port + size
    }

    /// The launcher is to emulate the instruction at which the guest stands, which uses a port.
    pub(crate) fn pass_on_port<H: Host>(&mut self, host: &mut H, instruction: [u8; INSTRUCTION_MAX]) {
        self.pass_on(host, IO_PORT, instruction, GuestPhys(0));
    }

    /// The launcher is to emulate the instruction at which the guest stands, which reads or writes at `va` in a page of
    /// device memory.
    ///
    /// # Errors
    /// [`Kill::DeviceAccess`] when there is no such instruction.
    pub(crate) fn access_device<H: Host>(
        &mut self,
        host: &mut H,
        page: GuestFrame,
        va: GuestVirt,
    ) -> Result<(), Kill> {
        let at = GuestPhys(page.start().0 | va.offset());
        let mut code = Code::new(self, host);
        if !code.read_all() {
            return Err(Kill::DeviceAccess { at, eip: GuestVirt(code.end()) });
        }
        let instruction = code.bytes();
        self.pass_on(host, DEVICE_MEMORY, instruction, at);
        Ok(())
    }

    fn pass_on<H: Host>(
        &mut self,
        host: &mut H,
        trap: u8,
        instruction: [u8; INSTRUCTION_MAX],
        address: GuestPhys,
    ) {
        self.counters.launcher_emulations += 1;
        let regs = host.regs();
        let registers =
            [regs.eax, regs.ecx, regs.edx, regs.ebx, regs.esp, regs.ebp, regs.esi, regs.edi, regs.eip];
        self.emulation = Some(Emulation { trap, instruction, address, registers });
        // Where the loop looks for it.
        self.host_work_pending = true;
    }

    /// One of the registers of the guest, which does not run; see [`register`].
    ///
    /// # Errors
    /// [`BadRegister`].
    pub fn register<H: Host>(host: &mut H, offset: u32) -> Result<u32, BadRegister> {
        register(host.regs(), offset).map(|(register, _)| *register).ok_or(BadRegister(offset))
    }

    /// Sets one of the registers of the guest, which does not run; see [`register`].
    ///
    /// # Errors
    /// [`BadRegister`]; also for one that is not the launcher's to set.
    pub fn set_register<H: Host>(host: &mut H, offset: u32, value: u32) -> Result<(), BadRegister> {
        match register(host.regs(), offset) {
            Some((register, true)) => *register = value,
            _ => return Err(BadRegister(offset)),
        }
        Ok(())
    }

    /// Ends the instruction at which the guest stands in a trap, as the processor would.
    ///
    /// # Errors
    /// [`NoHandler`]. A guest without a stack for its handler is killed.
    pub fn trap<H: Host>(&mut self, host: &mut H, vector: u32) -> Result<(), NoHandler> {
        let number = u8::try_from(vector).map_err(|_| NoHandler(vector))?;
        let gate = self.segments.gate(number).ok_or(NoHandler(vector))?;
        let code = trap::has_error_code(number).then_some(host.regs().errcode);
        self.end_at(host, |guest, host| guest.call_handler(host, gate, code));
        Ok(())
    }
}
