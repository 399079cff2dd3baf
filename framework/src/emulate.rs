//! Instructions that a guest's kernel executes although ring 1 may not, and how each ends (Intel SDM vol. 2).
//!
//! lguest's guests request what they need by hypercalls. But Linux of 2.6.23 to 4.13 has these in places that know nothing of
//! that: drivers that look for hardware, the debugger, what prints an oops.
//!
//! | instruction | becomes |
//! | --- | --- |
//! | `in`, `out`, `outs` | no device answers: reads give all ones, writes reach nothing; but the [launcher](crate::device_access) may have devices at PCI's ports |
//! | `cli`, `sti` | nothing: the guest's interrupt flag is in its `lguest_data` |
//! | `hlt` | HALT |
//! | `clts` | TS is clear |
//! | `mov` from CR0, CR2, CR4 | what it would be on a processor without a host |
//! | `mov` from and to debug registers | no breakpoint is ever set; DR6 reports a single step until it is written |
//! | `wbinvd`, `invd` | nothing: caches are the host's |
//!
//! All others are the guest's own general-protection faults: `rdmsr` and `wrmsr`, for which Linux has handlers that go on, and
//! what would change tables behind the host's back (`lgdt`, `mov` to CR3).

use crate::code::Code;
use crate::guest::Guest;
use crate::host::Host;
use arch_i386::addr::GuestPhys;
use arch_i386::lguest_data::offset;
use arch_i386::paging::Paging;
use arch_i386::regs::Regs;
use arch_i386::segment::GUEST_PL;

/// CR0 of Linux: protection, MP, ET, NE, WP, AM, paging; and TS.
const CR0: u32 = 0x8005_0033;
const CR0_TS: u32 = 1 << 3;
/// CR4 with three levels.
const CR4_PAE: u32 = 1 << 5;
/// DR6 and DR7 without a breakpoint; and the bit that says that the last instruction was stepped over.
const DR6: u32 = 0xffff_0ff0;
const DR6_STEPPED: u32 = 1 << 14;
const DR7: u32 = 0x400;

const EFLAGS_DF: u32 = 1 << 10;

/// The prefixes that matter here.
#[derive(Clone, Copy, Default)]
struct Prefixes {
    operand_size: bool,
    repeat: bool,
}

/// Who emulates an instruction.
enum Done {
    /// It has been done, but for the step to the next instruction.
    Here,
    /// The launcher is to do it; nothing has been done.
    ByLauncher,
}

/// A general register by its number in an instruction.
fn register(regs: &mut Regs, number: u8) -> &mut u32 {
    match number & 7 {
        0 => &mut regs.eax,
        1 => &mut regs.ecx,
        2 => &mut regs.edx,
        3 => &mut regs.ebx,
        4 => &mut regs.esp,
        5 => &mut regs.ebp,
        6 => &mut regs.esi,
        _ => &mut regs.edi,
    }
}

impl Guest {
    /// Emulates the instruction at which the guest's kernel stands, or has the launcher do it; returns whether it was one of
    /// those.
    pub(crate) fn emulate<H: Host>(&mut self, host: &mut H) -> bool {
        if host.regs().cs & 3 != GUEST_PL {
            return false;
        }
        let mut code = Code::new(self, host);
        let Some(done) = code.execute() else { return false };
        match done {
            Done::Here => {
                let next = code.end();
                self.counters.emulated_instructions += 1;
                host.regs().eip = next;
            }
            Done::ByLauncher => {
                let instruction = code.bytes();
                self.pass_on_port(host, instruction);
            }
        }
        true
    }
}

impl<H: Host> Code<'_, '_, H> {
    /// Does the instruction; `None` for one that is not emulated, of which nothing is done.
    fn execute(&mut self) -> Option<Done> {
        let mut prefixes = Prefixes::default();
        loop {
            match self.next()? {
                0x66 => prefixes.operand_size = true,
                0xf2 | 0xf3 => prefixes.repeat = true,
                // Segments; the address size.
                0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0x67 => {}
                opcode => return self.one_byte(opcode, prefixes),
            }
        }
    }

    fn one_byte(&mut self, opcode: u8, prefixes: Prefixes) -> Option<Done> {
        // Of those that come in two sizes.
        let (size, ones) = match (opcode & 1, prefixes.operand_size) {
            (0, _) => (1, 0xff),
            (_, true) => (2, 0xffff),
            (_, false) => (4, u32::MAX),
        };
        match opcode {
            // in, out: the port of an immediate byte, and DX's.
            0xe4..=0xe7 | 0xec..=0xef => {
                let port = if opcode & 8 == 0 { self.next()?.into() } else { self.host.regs().edx as u16 };
                if Guest::is_for_launcher(self.host, port, size) {
                    return Some(Done::ByLauncher);
                }
                if opcode & 2 == 0 {
                    self.host.regs().eax |= ones;
                }
            }
            // outs
            0x6e | 0x6f => {
                let regs = self.host.regs();
                let count = if prefixes.repeat { core::mem::take(&mut regs.ecx) } else { 1 };
                let bytes = count.wrapping_mul(size);
                let down = regs.eflags & EFLAGS_DF != 0;
                regs.esi = if down { regs.esi.wrapping_sub(bytes) } else { regs.esi.wrapping_add(bytes) };
            }
            // cli, sti
            0xfa | 0xfb => {}
            // hlt
            0xf4 => self.guest.halted = true,
            0x0f => {
                let opcode = self.next()?;
                self.two_bytes(opcode)?;
            }
            _ => return None,
        }
        Some(Done::Here)
    }

    fn two_bytes(&mut self, opcode: u8) -> Option<()> {
        match opcode {
            // clts
            0x06 => self.guest.ts = false,
            // invd, wbinvd
            0x08 | 0x09 => {}
            // mov from a control register
            0x20 => {
                let operands = self.next()?;
                let value = self.control_register(operands >> 3 & 7)?;
                *register(self.host.regs(), operands) = value;
            }
            // mov from and to a debug register
            0x21 => {
                let operands = self.next()?;
                let value = match operands >> 3 & 7 {
                    // Where nobody has forbidden it (CR4.DE), 4 and 5 are names of 6 and 7.
                    4 | 6 => DR6 | if self.guest.stepped { DR6_STEPPED } else { 0 },
                    5 | 7 => DR7,
                    _ => 0,
                };
                *register(self.host.regs(), operands) = value;
            }
            0x23 => {
                let operands = self.next()?;
                if matches!(operands >> 3 & 7, 4 | 6) {
                    self.guest.stepped &= *register(self.host.regs(), operands) & DR6_STEPPED != 0;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn control_register(&mut self, number: u8) -> Option<u32> {
        match number {
            0 => Some(CR0 | if self.guest.ts { CR0_TS } else { 0 }),
            2 => {
                let data = self.guest.data?;
                self.host.read_u32(GuestPhys(data.0 + offset::CR2)).ok()
            }
            4 if self.guest.format == Paging::Pae => Some(CR4_PAE),
            4 => Some(0),
            _ => None,
        }
    }
}
