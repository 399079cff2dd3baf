//! Instructions that the launcher emulates for its guest: `in` and `out` of an immediate or DX's port, and `mov` (`movzx`,
//! `movsx`) between device memory and a general register or an immediate.
//!
//! These are all that Linux's accesses to PCI compile to (its `asm/io.h`). The host reads the instruction by the guest's
//! tables once, and says where in guest-physical memory it goes, so that nothing is looked up here. Anything else ends the
//! guest.

use arch_i386::launcher::{EIP, Emulation, GENERAL, IO_PORT};
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, Mnemonic, OpKind, Register};
use thiserror::Error;

/// An instruction that is not emulated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` at {eip:#x}, which is not emulated")]
pub struct NotEmulated {
    /// The instruction, as an assembler takes it.
    pub text: String,
    /// Its address.
    pub eip: u32,
}

/// What an instruction reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// From this port on.
    Port(u16),
    /// From this guest-physical address on.
    Memory(u32),
}

/// The part of a general register that an instruction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Its number, as instructions number them.
    register: usize,
    /// Its lowest bit.
    shift: u32,
    /// Its bytes: 1, 2 or 4.
    size: u32,
}

/// The lowest `size` bytes.
const fn mask(size: u32) -> u32 {
    u32::MAX >> (32 - 8 * size)
}

impl Part {
    fn new(register: Register) -> Option<Self> {
        let size = if register.is_gpr8() {
            1
        } else if register.is_gpr16() {
            2
        } else if register.is_gpr32() {
            4
        } else {
            return None;
        };
        let high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
        let register = register.full_register32().number();
        Some(Self { register, shift: if high { 8 } else { 0 }, size })
    }

    fn of(self, registers: &[u32; 9]) -> u32 {
        registers[self.register] >> self.shift & mask(self.size)
    }
}

/// What an instruction does at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Write(u32),
    /// What is read goes there, extended by its sign or by zeroes.
    Read(Part, bool),
}

/// An instruction that can be emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulated {
    /// Where it reads or writes.
    pub place: Place,
    /// How many bytes: 1, 2 or 4.
    pub size: u32,
    action: Action,
    /// The general registers before it.
    registers: [u32; 9],
    /// The address of the next one.
    next: u32,
}

impl Emulated {
    /// The instruction that the host has passed on.
    ///
    /// # Errors
    /// [`NotEmulated`].
    pub fn new(emulation: &Emulation) -> Result<Self, NotEmulated> {
        let eip = emulation.registers[8];
        let bytes = &emulation.instruction;
        let instruction = Decoder::with_ip(32, bytes, eip.into(), DecoderOptions::NONE).decode();
        let understood = if emulation.trap == IO_PORT {
            port(&instruction, &emulation.registers)
        } else {
            memory(&instruction, &emulation.registers)
                .map(|(size, action)| (Place::Memory(emulation.address.0), size, action))
        };
        let (place, size, action) = understood.ok_or_else(|| not_emulated(&instruction, eip))?;
        let next = eip.wrapping_add(instruction.len() as u32);
        Ok(Self { place, size, action, registers: emulation.registers, next })
    }

    /// What it writes; `None` for one that reads.
    #[must_use]
    pub const fn written(&self) -> Option<u32> {
        match self.action {
            Action::Write(value) => Some(value),
            Action::Read(..) => None,
        }
    }

    /// The registers that have other values after it, where `value` is what it has read: their offsets, as
    /// [`register`](arch_i386::launcher::register) has them, and values.
    pub fn results(&self, value: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
        let read = match self.action {
            Action::Write(_) => None,
            Action::Read(part, signed) => {
                let unused = 32 - 8 * self.size;
                let value = if signed {
                    ((value << unused).cast_signed() >> unused).cast_unsigned()
                } else {
                    value & mask(self.size)
                };
                let in_place = mask(part.size) << part.shift;
                let kept = self.registers[part.register] & !in_place;
                Some((GENERAL[part.register], kept | value << part.shift & in_place))
            }
        };
        read.into_iter().chain([(EIP, self.next)])
    }
}

fn not_emulated(instruction: &Instruction, eip: u32) -> NotEmulated {
    let mut text = String::new();
    GasFormatter::new().format(instruction, &mut text);
    NotEmulated { text, eip }
}

/// `in` and `out`.
fn port(instruction: &Instruction, registers: &[u32; 9]) -> Option<(Place, u32, Action)> {
    let (port, register) = match instruction.mnemonic() {
        Mnemonic::In => (1, 0),
        Mnemonic::Out => (0, 1),
        _ => return None,
    };
    let part = Part::new(instruction.op_register(register))?;
    let number = match instruction.op_kind(port) {
        OpKind::Immediate8 => instruction.immediate8().into(),
        // DX's.
        _ => registers[2] as u16,
    };
    let reads = instruction.mnemonic() == Mnemonic::In;
    let action = if reads { Action::Read(part, false) } else { Action::Write(part.of(registers)) };
    Some((Place::Port(number), part.size, action))
}

/// `mov` and what extends.
fn memory(instruction: &Instruction, registers: &[u32; 9]) -> Option<(u32, Action)> {
    let signed = match instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movzx => false,
        Mnemonic::Movsx => true,
        _ => return None,
    };
    let size = instruction.memory_size().size() as u32;
    let action = match (instruction.op0_kind(), instruction.op1_kind()) {
        (OpKind::Register, OpKind::Memory) => Action::Read(Part::new(instruction.op0_register())?, signed),
        (OpKind::Memory, OpKind::Register) => {
            Action::Write(Part::new(instruction.op1_register())?.of(registers))
        }
        (OpKind::Memory, OpKind::Immediate8 | OpKind::Immediate16 | OpKind::Immediate32) => {
            Action::Write(instruction.immediate(1) as u32 & mask(size))
        }
        _ => return None,
    };
    matches!(size, 1 | 2 | 4).then_some((size, action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arch_i386::addr::GuestPhys;
    use arch_i386::launcher::{DEVICE_MEMORY, INSTRUCTION_MAX};

    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, EIP.
    const REGISTERS: [u32; 9] = [
        0xa0a1_a2a3,
        0xc0c1_c2c3,
        0xd0d1_0cf8,
        0xb0b1_b2b3,
        0x1011_1213,
        0x2021_2223,
        0x3031_3233,
        0x4041_4243,
        0x1000,
    ];

    fn emulated(trap: u8, code: &[u8]) -> Emulated {
        let mut instruction = [0; INSTRUCTION_MAX];
        instruction[..code.len()].copy_from_slice(code);
        let address = GuestPhys(0x50_0010);
        let emulated = Emulated::new(&Emulation { trap, instruction, address, registers: REGISTERS });
        emulated.unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_is_written_is_the_registers_part_or_the_immediate() {
        for (code, size, value) in [
            (&[0x88, 0x02][..], 1, 0xa3),
            // ah, bh.
            (&[0x88, 0x22], 1, 0xa2),
            (&[0x88, 0x3a], 1, 0xb2),
            (&[0x66, 0x89, 0x0a], 2, 0xc2c3),
            (&[0x89, 0x3a], 4, 0x4041_4243),
            // To an address of its own; with an index and a displacement.
            (&[0xa3, 1, 2, 3, 4], 4, 0xa0a1_a2a3),
            (&[0x66, 0xa3, 1, 2, 3, 4], 2, 0xa2a3),
            (&[0xa2, 1, 2, 3, 4], 1, 0xa3),
            (&[0x89, 0xb4, 0x8a, 1, 2, 3, 4], 4, 0x3031_3233),
            // Immediates.
            (&[0xc6, 0x02, 0x81], 1, 0x81),
            (&[0x66, 0xc7, 0x02, 0x34, 0x82], 2, 0x8234),
            (&[0xc7, 0x84, 0x8a, 1, 2, 3, 4, 0x78, 0x56, 0x34, 0x92], 4, 0x9234_5678),
        ] {
            let emulated = emulated(DEVICE_MEMORY, code);
            assert_eq!((emulated.place, emulated.size), (Place::Memory(0x50_0010), size), "{code:x?}");
            assert_eq!(emulated.written(), Some(value), "{code:x?}");
            let results: Vec<_> = emulated.results(0).collect();
            assert_eq!(results, [(48, 0x1000 + code.len() as u32)], "{code:x?}");
        }
    }

    #[test]
    fn what_is_read_goes_to_its_part_of_the_register() {
        // The register's offset and value when 0x87 84 82 81 has been read.
        for (code, size, offset, value) in [
            (&[0x8a, 0x02][..], 1, 24, 0xa0a1_a281),
            (&[0x8a, 0x22], 1, 24, 0xa0a1_81a3),
            (&[0x66, 0x8b, 0x0a], 2, 4, 0xc0c1_8281),
            (&[0x8b, 0x1a], 4, 0, 0x8784_8281),
            (&[0xa1, 1, 2, 3, 4], 4, 24, 0x8784_8281),
            (&[0xa0, 1, 2, 3, 4], 1, 24, 0xa0a1_a281),
            // movzx and movsx.
            (&[0x0f, 0xb6, 0x22], 1, 60, 0x81),
            (&[0x0f, 0xb7, 0x2a], 2, 20, 0x8281),
            (&[0x0f, 0xbe, 0x32], 1, 12, 0xffff_ff81),
            (&[0x0f, 0xbf, 0x3a], 2, 16, 0xffff_8281),
            (&[0x66, 0x0f, 0xbe, 0x12], 1, 8, 0xd0d1_ff81),
            (&[0x66, 0x0f, 0xb6, 0x12], 1, 8, 0xd0d1_0081),
        ] {
            let emulated = emulated(DEVICE_MEMORY, code);
            assert_eq!((emulated.size, emulated.written()), (size, None), "{code:x?}");
            let results: Vec<_> = emulated.results(0x8784_8281).collect();
            assert_eq!(results, [(offset, value), (48, 0x1000 + code.len() as u32)], "{code:x?}");
        }
    }

    #[test]
    fn ports_are_dx_s_or_immediate() {
        for (code, port, size, written) in [
            (&[0xee][..], 0xcf8, 1, Some(0xa3)),
            (&[0x66, 0xef], 0xcf8, 2, Some(0xa2a3)),
            (&[0xef], 0xcf8, 4, Some(0xa0a1_a2a3)),
            (&[0xe6, 0x80], 0x80, 1, Some(0xa3)),
            (&[0xec], 0xcf8, 1, None),
            (&[0x66, 0xed], 0xcf8, 2, None),
            (&[0xe5, 0x80], 0x80, 4, None),
        ] {
            let emulated = emulated(IO_PORT, code);
            let found = (emulated.place, emulated.size, emulated.written());
            assert_eq!(found, (Place::Port(port), size, written), "{code:x?}");
        }
        let results: Vec<_> = emulated(IO_PORT, &[0x66, 0xed]).results(0x8784_8281).collect();
        assert_eq!(results, [(24, 0xa0a1_8281), (48, 0x1002)]);
    }
}
