//! Why a guest came back, and what is done about it.
//!
//! Page faults go to the paging strategy first, and those in device memory to the [launcher](crate::device_access);
//! general-protection faults may be an instruction that is [emulated](crate::emulate); the hypercall is remembered for the next round of the loop. What is left is the guest's
//! own trap and is reflected to its handler; without a handler the guest dies.
//!
//! Source: lguest's `x86/core.c`, `lguest_arch_handle_trap` and `emulate_insn`.

use crate::event::{Event, Events, FaultOutcome};
use crate::guest::Guest;
use crate::host::{Exit, Host};
use crate::kill::Kill;
use crate::strategy::Fault;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::kernel_view::KernelView;
use arch_i386::lguest_data::offset;
use arch_i386::regs::Regs;
use arch_i386::segment::{GUEST_PL, GateType};
use arch_i386::trap::{self, PageFaultErrorCode};

impl Guest {
    /// Handles the exit that ended the run.
    pub(crate) fn handle_exit<H: Host>(&mut self, host: &mut H, exit: Exit) -> Result<(), Kill> {
        // Before all others, as it is what most exits are.
        if exit.vector == u32::from(trap::HYPERCALL) {
            self.pending_hypercall = true;
            return Ok(());
        }
        if exit.vector == trap::HYPERCALL_MISSED {
            self.map_missed(host);
            self.pending_hypercall = true;
            return Ok(());
        }
        if exit.vector == trap::EVENTS_ONLY {
            self.host_interrupt();
            return Ok(());
        }
        let Ok(vector) = u8::try_from(exit.vector) else {
            let eip = GuestVirt(host.regs().eip);
            return Err(Kill::SwitcherFault { vector: exit.vector & 0xff, eip });
        };
        match vector {
            trap::PAGE_FAULT => {
                let error = PageFaultErrorCode::from_bits_truncate(host.regs().errcode.into());
                self.map_missed(host);
                let request =
                    self.paging.request(host, |strategy, host| strategy.demand_fault(host, exit.cr2, error));
                let fault = match request {
                    Ok(fault) => fault,
                    Err(Kill::DeviceMemory(page)) => {
                        Self::observe_fault(host, exit.cr2, FaultOutcome::PassedOn);
                        return self.access_device(host, page, exit.cr2);
                    }
                    Err(kill) => {
                        Self::observe_fault(host, exit.cr2, FaultOutcome::Killed);
                        return Err(kill);
                    }
                };
                if host.observes(Events::FAULT) {
                    let fixed = fault == Fault::Fixed;
                    let outcome = if fixed { FaultOutcome::Fixed } else { FaultOutcome::Reflected };
                    Self::observe_fault(host, exit.cr2, outcome);
                }
                if fault == Fault::Fixed {
                    return Ok(());
                }
                if let Some(data) = self.data {
                    host.write_u32(GuestPhys(data.0 + offset::CR2), exit.cr2.0)?;
                }
            }
            trap::GENERAL_PROTECTION if host.regs().errcode == 0 && self.emulate(host) => {
                return Ok(());
            }
            // The host has loaded the guest's FPU state by now.
            trap::DEVICE_NOT_AVAILABLE if !self.ts => return Ok(()),
            trap::NMI | trap::MACHINE_CHECK => {
                self.host_interrupt();
                return Ok(());
            }
            trap::FIRST_EXTERNAL.. if vector != trap::SYSCALL => {
                self.host_interrupt();
                return Ok(());
            }
            trap::DEBUG | trap::BREAKPOINT if self.debugged.stops_at(vector) => {
                self.host_work_pending = true;
                return Ok(());
            }
            _ => {}
        }
        self.reflect(host, vector, exit.cr2)
    }

    /// Passes on what became of the page fault that the guest has come back with.
    #[cold]
    #[inline(never)]
    fn observe_fault<H: Host>(host: &mut H, va: GuestVirt, outcome: FaultOutcome) {
        let error = PageFaultErrorCode::from_bits_truncate(host.regs().errcode.into());
        host.observe(Event::Fault { va, error, outcome });
    }

    /// Has the Switcher work on the guest's memory by itself, and reflect page faults to the guest's handler as it is now. Only
    /// one that turns interrupts off, as a page-fault handler should, is for the Switcher.
    pub(crate) fn prepare_switcher<H: Host>(&mut self, host: &mut H) {
        let gate =
            self.segments.gate(trap::PAGE_FAULT).filter(|gate| gate.gate_type() == Some(GateType::Interrupt));
        let handler = gate.map(|gate| GuestVirt(gate.gate_offset()));
        let view = self.data.and_then(|data| {
            let memory = (self.kernel_address, host.page_limit());
            KernelView::new(handler, self.format, data, memory, self.window.start())
        });
        host.set_kernel_view(view);
    }

    /// Maps what the Switcher has missed, for the next time.
    fn map_missed<H: Host>(&mut self, host: &mut H) {
        if let Some(va) = host.missed_by_switcher() {
            self.paging.call(host, |strategy, host| strategy.map_for_switcher(host, va));
        }
    }

    /// A real interrupt has come and been dealt with; it may have given the host something to do.
    fn host_interrupt(&mut self) {
        self.counters.host_interrupts += 1;
        self.host_work_pending = true;
    }

    /// Hands a trap to the guest's own handler.
    pub(crate) fn reflect<H: Host>(&mut self, host: &mut H, vector: u8, cr2: GuestVirt) -> Result<(), Kill> {
        let regs = host.regs();
        let Regs { cs, esp, errcode, .. } = *regs;
        let eip = GuestVirt(regs.eip);
        // A double fault or a spurious vector has no gate, since none is ever accepted for it.
        let Some(gate) = self.segments.gate(vector) else {
            let info = if vector == trap::PAGE_FAULT { cr2.0 } else { errcode };
            return Err(Kill::UnhandledTrap { vector: vector.into(), eip, info });
        };
        if vector != trap::PAGE_FAULT {
            self.counters.reflected_traps += 1;
            self.stepped |= vector == trap::DEBUG;
        }
        if cs & 3 == GUEST_PL {
            self.nested.note(vector, (eip.0, esp))?;
        }
        self.call_handler(host, gate, trap::has_error_code(vector).then_some(errcode))
    }
}
