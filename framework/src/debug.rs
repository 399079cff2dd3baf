//! A guest under a debugger, which is its launcher: traps that stop it, and its registers.
//!
//! Nothing here gives a guest more than it has. Its registers are in a page that it can write, and made safe before each entry
//! whoever has written them; and a breakpoint comes to the host as any trap without a gate of the guest's.

use crate::debugged::Stop;
use crate::guest::Guest;
use crate::host::Host;
use crate::kill::Kill;
use arch_i386::addr::GuestVirt;
use arch_i386::debug::{INTERCEPTED, LEVELS_NONE, LEVELS_UNKNOWN, Registers};
use arch_i386::regs::Regs;
use arch_i386::trap;

impl Guest {
    /// From now on traps of these vectors, a bit each of [`INTERCEPTED`], stop the guest; all others are its own.
    pub fn intercept(&mut self, vectors: u32) {
        self.debugged.vectors = vectors & INTERCEPTED;
        self.segments.intercept_breakpoints(self.debugged.vectors & 1 << trap::BREAKPOINT != 0);
    }

    /// The trap that has stopped the guest is its own; nothing happens if there is none.
    pub const fn pass_trap_on(&mut self) {
        if let Stop::Reported(vector) = self.debugged.stop {
            self.debugged.stop = Stop::PassedOn(vector);
        }
    }

    /// Before the guest is entered: the vector that the launcher must get to know of, if there is one.
    pub(crate) fn take_stop<H: Host>(&mut self, host: &mut H) -> Result<Option<u8>, Kill> {
        match self.debugged.stop {
            Stop::None => {}
            Stop::Reportable(vector) => {
                self.debugged.stop = Stop::Reported(vector);
                return Ok(Some(vector));
            }
            Stop::Reported(_) => self.debugged.stop = Stop::None,
            Stop::PassedOn(vector) => {
                self.debugged.stop = Stop::None;
                self.reflect(host, vector, GuestVirt(0))?;
            }
        }
        Ok(None)
    }

    /// The guest's registers, while it does not run.
    pub fn registers<H: Host>(&mut self, host: &mut H) -> Registers {
        let (directory, levels) = self.current_directory(host);
        let Regs { eax, ebx, ecx, edx, esi, edi, ebp, gs, fs, ds, es, eip, cs, eflags, esp, ss, .. } =
            *host.regs();
        let [gs, fs, ds, es, cs, ss] = [gs, fs, ds, es, cs, ss].map(|selector| selector & 0xffff);
        Registers {
            eax,
            ecx,
            edx,
            ebx,
            esp,
            ebp,
            esi,
            edi,
            eip,
            eflags,
            cs,
            ss,
            ds,
            es,
            fs,
            gs,
            directory,
            levels,
        }
    }

    /// The address of the current page directory, and the levels of its tables, as [`Registers`] has them.
    fn current_directory<H: Host>(&mut self, host: &mut H) -> (u32, u32) {
        let (paging, levels) = (&mut self.paging, self.format.levels());
        let found = host.guard(|host| {
            if !paging.is_there() {
                return None;
            }
            paging.call(host, |strategy, _| {
                let inspect = strategy.inspect()?;
                if inspect.is_linear() {
                    return Some((0, LEVELS_NONE));
                }
                let mut found = None;
                inspect.directories(&mut |directory, current| {
                    if current {
                        found = Some((directory.0, levels));
                    }
                });
                found
            })
        });
        let found = found.unwrap_or_else(|panicked| {
            self.abandon(panicked);
            None
        });
        found.unwrap_or((0, LEVELS_UNKNOWN))
    }

    /// Gives the guest other registers, while it does not run. Where its page tables are stays as it is.
    pub fn set_registers<H: Host>(&mut self, host: &mut H, registers: Registers) {
        let Registers { eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, eflags, cs, ss, ds, es, fs, gs, .. } =
            registers;
        let regs = host.regs();
        *regs = Regs { eax, ebx, ecx, edx, esi, edi, ebp, gs, fs, ds, es, eip, cs, eflags, esp, ss, ..*regs };
    }
}
