//! The FPU's registers, which change hands only when somebody uses them.
//!
//! After a switch to a process that is not the owner of what the registers hold, the task-switched flag
//! (a hypercall here, `LHCALL_TS`) makes its first FPU instruction trap; only then are they exchanged.

use crate::host;
use crate::state::Kernel;
use arch_i386::hypercall::Hypercall;
use core::arch::asm;
use mini_guest::processes::Pid;

/// The registers as `fnsave` stores them, 108 bytes, of somebody who has used the FPU.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Registers([u32; 27]);

/// Who has the FPU.
pub struct Fpu {
    /// Whose numbers it holds.
    owner: Option<Pid>,
    /// Whether the next use traps, as reported to the host last.
    trapping: bool,
}

impl Fpu {
    /// Nobody has used it.
    pub const fn new() -> Self {
        Self { owner: None, trapping: false }
    }
}

impl Kernel {
    /// `next` is about to run: unless the FPU is its already, its first use has to trap.
    pub fn fpu_switch(&mut self, next: Pid) {
        let trap = self.fpu.owner != Some(next);
        if trap != self.fpu.trapping {
            self.fpu.trapping = trap;
            host::queue(Hypercall::Ts, [trap.into(), 0, 0, 0]);
        }
    }

    /// The current process has trapped on an FPU instruction.
    pub fn fpu_wanted(&mut self, current: Pid) {
        host::call(Hypercall::Ts, [0; 3]);
        self.fpu.trapping = false;
        if let Some(owner) = self.fpu.owner {
            self.tasks[owner].fpu = Some(save());
        }
        restore(self.tasks[current].fpu.as_ref());
        self.fpu.owner = Some(current);
    }

    /// `child` starts with what the FPU holds for the current process.
    pub fn fpu_fork(&mut self, current: Pid, child: Pid) {
        if self.fpu.owner == Some(current) {
            let registers = save();
            restore(Some(&registers));
            self.tasks[current].fpu = Some(registers);
        }
        self.tasks[child].fpu = self.tasks[current].fpu;
    }

    /// The current process has no FPU registers any more.
    pub fn fpu_forget(&mut self, current: Pid) {
        self.tasks[current].fpu = None;
        if self.fpu.owner == Some(current) {
            self.fpu.owner = None;
            self.fpu_switch(current);
        }
    }
}

/// Takes the registers out of the FPU, which is left initialised.
fn save() -> Registers {
    let mut registers = Registers([0; 27]);
    // SAFETY: stores exactly that many bytes. The kernel itself uses no FPU.
    unsafe { asm!("fnsave [{}]", in(reg) &raw mut registers, options(nostack)) };
    registers
}

/// Puts registers into the FPU; initial ones for somebody who has not used it.
fn restore(registers: Option<&Registers>) {
    match registers {
        // SAFETY: reads exactly that many bytes, which `fnsave` has written.
        Some(registers) => unsafe { asm!("frstor [{}]", in(reg) registers, options(nostack)) },
        // SAFETY: the kernel itself uses no FPU.
        None => unsafe { asm!("fninit", options(nomem, nostack)) },
    }
}
