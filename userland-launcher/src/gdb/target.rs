//! What GDB does with a guest that stands still: registers, memory, breakpoints, and how it goes on.
//!
//! A breakpoint is an `int3` in the guest's memory, where it is found again even if the guest maps that page elsewhere meanwhile.
//! GDB never sees it: who reads that byte gets what was there. A single step is TF in the guest's flags.

use super::registers::{I386, Shown};
use super::walk::translate;
use crate::control::{Control, Guest};
use crate::devices::worker::Kick;
use arch_i386::addr::PAGE_SIZE;
use arch_i386::debug::{INTERCEPTED, Registers};
use arch_i386::{RFlags, trap};
use gdbstub::common::Signal;
use gdbstub::stub::SingleThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps, SingleThreadSingleStep,
    SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{Breakpoints, BreakpointsOps, SwBreakpoint, SwBreakpointOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// The instruction of one byte that stops.
const INT3: u8 = 0xcc;
const TRAP_FLAG: u32 = RFlags::TRAP_FLAG.bits() as u32;
/// In a segment selector: the ring, of which 3 is that of programs.
const RING: u32 = 3;
/// What GDB is answered where nothing is mapped.
const EFAULT: u8 = libc::EFAULT as u8;

struct Breakpoint {
    /// What was there.
    byte: u8,
    /// By which addresses GDB knows the place.
    addresses: BTreeSet<u32>,
}

/// A guest under GDB.
pub struct Debugged {
    /// How it is stopped and goes on.
    pub control: Arc<Control>,
    /// What is signalled when it has stopped.
    pub kick: Arc<Kick>,
    /// What breakpoints have taken the place of, by guest-physical addresses.
    replaced: BTreeMap<u32, Breakpoint>,
    /// The guest is about to execute one instruction.
    steps: bool,
}

impl Debugged {
    /// The guest of `control`, which stands still: from now on its traps stop it.
    ///
    /// # Errors
    /// What the host answers.
    pub fn new(control: Arc<Control>, kick: Arc<Kick>) -> io::Result<Self> {
        let debugged = Self { control, kick, replaced: BTreeMap::new(), steps: false };
        debugged.guest()?.host.intercept(INTERCEPTED)?;
        Ok(debugged)
    }

    fn guest(&self) -> io::Result<Guest> {
        self.control.guest().ok_or_else(|| io::Error::other("no guest runs"))
    }

    fn translate(guest: &Guest, registers: &Registers, va: u32) -> Option<u32> {
        translate(guest.memory.as_ref()?, registers, &guest.kernel, va)
    }

    /// What has stopped the guest at a trap of this vector, if that is anything of GDB's. If not, the guest may go on.
    ///
    /// # Errors
    /// What the host answers.
    pub fn stopped(&mut self, vector: u8) -> io::Result<Option<SingleThreadStopReason<u32>>> {
        let guest = self.guest()?;
        let mut registers = guest.host.registers()?;
        let stepped = std::mem::take(&mut self.steps);
        if vector == trap::BREAKPOINT {
            let va = registers.eip.wrapping_sub(1);
            let at = Self::translate(&guest, &registers, va);
            if at.is_some_and(|at| self.replaced.contains_key(&at)) {
                registers.eip = va;
                registers.eflags &= !TRAP_FLAG;
                guest.host.set_registers(&registers)?;
                return Ok(Some(SingleThreadStopReason::SwBreak(())));
            }
        } else if stepped || registers.cs & RING != RING {
            registers.eflags &= !TRAP_FLAG;
            guest.host.set_registers(&registers)?;
            // Not stepped: the flag was left in a frame on the guest's stack, when a trap came in the middle of a step.
            return Ok(stepped.then_some(SingleThreadStopReason::DoneStep));
        }
        // One of the guest's own, in the middle of a step or not.
        self.steps = stepped;
        guest.host.pass_trap_on()?;
        Ok(None)
    }

    /// GDB has stopped the guest in the middle of whatever it does.
    ///
    /// # Errors
    /// What the host answers.
    pub fn interrupted(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.steps) {
            self.set_step(false)?;
        }
        Ok(())
    }

    fn set_step(&self, steps: bool) -> io::Result<()> {
        let host = self.guest()?.host;
        let mut registers = host.registers()?;
        registers.eflags = registers.eflags & !TRAP_FLAG | if steps { TRAP_FLAG } else { 0 };
        host.set_registers(&registers)
    }

    /// GDB goes, perhaps while the guest runs: the guest stands still, and is as it would be without, if it is still there.
    pub fn let_go(mut self) {
        if self.control.end().is_some() {
            return;
        }
        self.control.hold();
        if let Some(vector) = self.control.take_trap() {
            // GDB was not told of it. At a breakpoint, the instruction that it has taken the place of comes next.
            let _ = self.stopped(vector);
        }
        let replaced = std::mem::take(&mut self.replaced);
        let Ok(guest) = self.guest() else { return };
        for (at, breakpoint) in replaced {
            store(&guest, at, breakpoint.byte);
        }
        // What a host refuses here, a guest has that is at its end.
        let _ = self.interrupted();
        let _ = guest.host.intercept(0);
    }

    /// Has `act` done with each piece of a range of addresses that is in one page: where it is, and which bytes of the range that
    /// are. Returns how many bytes were mapped, up to the first that is not.
    fn pieces(
        &self,
        start: u32,
        len: usize,
        mut act: impl FnMut(&Guest, u32, std::ops::Range<usize>),
    ) -> usize {
        let Ok(guest) = self.guest() else { return 0 };
        let Ok(registers) = guest.host.registers() else { return 0 };
        let mut done = 0;
        while done < len {
            let va = start.wrapping_add(done as u32);
            let Some(at) = Self::translate(&guest, &registers, va) else { break };
            let end = len.min(done + (PAGE_SIZE - va % PAGE_SIZE) as usize);
            act(&guest, at, done..end);
            done = end;
        }
        done
    }
}

/// Stores a byte of the guest's memory; returns whether it is there.
fn store(guest: &Guest, at: u32, byte: u8) -> bool {
    let memory = guest.memory.as_ref();
    memory
        .and_then(|memory| memory.slice(at.into(), 1).ok())
        .is_some_and(|slice| slice.copy_from(&[byte]) == 1)
}

impl Target for Debugged {
    type Arch = I386;
    type Error = io::Error;

    fn base_ops(&mut self) -> BaseOps<'_, I386, io::Error> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    /// What goes from process to process need not be short.
    fn use_rle(&self) -> bool {
        false
    }
}

impl SingleThreadBase for Debugged {
    fn read_registers(&mut self, registers: &mut Shown) -> TargetResult<(), Self> {
        registers.0 = self.guest()?.host.registers()?;
        Ok(())
    }

    fn write_registers(&mut self, registers: &Shown) -> TargetResult<(), Self> {
        Ok(self.guest()?.host.set_registers(&registers.0)?)
    }

    fn read_addrs(&mut self, start: u32, data: &mut [u8]) -> TargetResult<usize, Self> {
        let len = data.len();
        let done = self.pieces(start, len, |guest, at, range| {
            let piece = &mut data[range];
            let slice =
                guest.memory.as_ref().and_then(|memory| memory.slice(at.into(), piece.len() as u64).ok());
            let copied = slice.map_or(0, |slice| slice.copy_to(piece));
            piece[copied..].fill(0);
            for (&place, breakpoint) in self.replaced.range(at..at + piece.len() as u32) {
                piece[(place - at) as usize] = breakpoint.byte;
            }
        });
        if done == 0 && len > 0 { Err(TargetError::Errno(EFAULT)) } else { Ok(done) }
    }

    fn write_addrs(&mut self, start: u32, data: &[u8]) -> TargetResult<(), Self> {
        // All of it or nothing.
        if self.pieces(start, data.len(), |_, _, _| {}) < data.len() {
            return Err(TargetError::Errno(EFAULT));
        }
        let mut replaced = std::mem::take(&mut self.replaced);
        self.pieces(start, data.len(), |guest, at, range| {
            for (at, &byte) in (at..).zip(&data[range]) {
                match replaced.get_mut(&at) {
                    Some(breakpoint) => breakpoint.byte = byte,
                    None => _ = store(guest, at, byte),
                }
            }
        });
        self.replaced = replaced;
        Ok(())
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadResume for Debugged {
    /// Signals mean nothing to a kernel.
    fn resume(&mut self, _: Option<Signal>) -> io::Result<()> {
        self.control.release();
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Debugged {
    fn step(&mut self, _: Option<Signal>) -> io::Result<()> {
        self.set_step(true)?;
        self.steps = true;
        self.control.release();
        Ok(())
    }
}

impl Breakpoints for Debugged {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Debugged {
    fn add_sw_breakpoint(&mut self, va: u32, _: usize) -> TargetResult<bool, Self> {
        let guest = self.guest()?;
        let registers = guest.host.registers()?;
        let Some(at) = Self::translate(&guest, &registers, va) else { return Ok(false) };
        if let Some(breakpoint) = self.replaced.get_mut(&at) {
            breakpoint.addresses.insert(va);
            return Ok(true);
        }
        let mut byte = [0];
        if self.read_addrs(va, &mut byte)? == 0 || !store(&guest, at, INT3) {
            return Ok(false);
        }
        self.replaced.insert(at, Breakpoint { byte: byte[0], addresses: BTreeSet::from([va]) });
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, va: u32, _: usize) -> TargetResult<bool, Self> {
        // Wherever the guest has that address mapped by now.
        let found = self.replaced.iter_mut().find_map(|(&at, breakpoint)| {
            let known = breakpoint.addresses.remove(&va);
            known.then_some((at, breakpoint.byte, breakpoint.addresses.is_empty()))
        });
        let Some((at, byte, is_last)) = found else { return Ok(false) };
        if !is_last {
            return Ok(true);
        }
        self.replaced.remove(&at);
        Ok(store(&self.guest()?, at, byte))
    }
}
