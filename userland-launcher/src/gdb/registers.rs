//! The i386 as GDB sees it: the order and size of its registers.
//!
//! GDB describes the target by itself when it is only named (`i386`): sixteen registers of four bytes, then those of the
//! floating-point unit and of SSE. The latter are the host's to keep, and not shown: GDB prints them as unavailable.

use arch_i386::debug::{self, Registers};
use gdbstub::arch::{self, Arch};

/// The architecture.
pub enum I386 {}

impl Arch for I386 {
    type Usize = u32;
    type Registers = Shown;
    type BreakpointKind = usize;
    type RegId = ();

    fn target_description_xml() -> Option<&'static str> {
        Some("<target version=\"1.0\"><architecture>i386</architecture></target>")
    }
}

/// Registers of GDB's; the others are where the page tables are.
const SHOWN: usize = debug::WORDS - 2;
/// Bytes behind them: eight registers of ten bytes and as many of four, eight of sixteen, and one of four.
const HIDDEN: usize = 8 * 10 + 8 * 4 + 8 * 16 + 4;

/// A guest's registers as GDB reads and writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown(pub Registers);

impl arch::Registers for Shown {
    type ProgramCounter = u32;

    fn pc(&self) -> u32 {
        self.0.eip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        let words = self.0.to_words().map(u32::to_le_bytes);
        words[..SHOWN].as_flattened().iter().for_each(|&byte| write_byte(Some(byte)));
        (0..HIDDEN).for_each(|_| write_byte(None));
    }

    /// Of what is hidden, nothing is taken.
    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let (words, _) = bytes.as_chunks::<4>();
        let mut all = self.0.to_words();
        for (word, bytes) in all[..SHOWN].iter_mut().zip(words.get(..SHOWN).ok_or(())?) {
            *word = u32::from_le_bytes(*bytes);
        }
        self.0 = Registers::from_words(all);
        Ok(())
    }
}
