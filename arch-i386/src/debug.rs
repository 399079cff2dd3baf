//! What a debugger in a launcher exchanges with the host: operations of [`Request::Debug`], and a guest's registers.
//!
//! A guest whose launcher has asked for some of its traps ([`Operation::Intercept`]) stops at each of them: the read of
//! `/dev/lguest` returns one byte, the vector. The launcher may then look at the registers, change them, pass the trap on to the
//! guest, and has the guest go on by the next read. Registers may be looked at whenever no read is under way.
//!
//! [`Request::Debug`]: crate::launcher::Request::Debug

use crate::trap;

/// The second word of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Operation {
    /// `address`: store the [`Registers`] there.
    Registers = 0,
    /// `address`: the guest goes on with the [`Registers`] there. The flags are the guest's own as ever, segments are at its
    /// own risk, and where its page tables are is not to be changed.
    SetRegisters = 1,
    /// `vectors`: from now on traps of these, a bit each out of [`INTERCEPTED`], end a read.
    Intercept = 2,
    /// The trap that the last read has returned is the guest's own after all.
    PassOn = 3,
}

impl Operation {
    /// The operation with this number.
    #[must_use]
    pub const fn from_number(n: u32) -> Option<Self> {
        Some(match n {
            0 => Self::Registers,
            1 => Self::SetRegisters,
            2 => Self::Intercept,
            3 => Self::PassOn,
            _ => return None,
        })
    }
}

/// The vectors that a launcher may ask for, a bit each: debug exceptions and `int3`.
pub const INTERCEPTED: u32 = 1 << trap::DEBUG | 1 << trap::BREAKPOINT;

/// No page directory has been loaded yet: the guest sees its memory mapped linearly.
pub const LEVELS_NONE: u32 = 0;
/// The guest's strategy does not show which page directory is the current one.
pub const LEVELS_UNKNOWN: u32 = 1;

/// A guest's registers; the general and segment ones in the order of GDB's `i386` target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Registers {
    pub eax: u32,
    pub ecx: u32,
    pub edx: u32,
    pub ebx: u32,
    pub esp: u32,
    pub ebp: u32,
    pub esi: u32,
    pub edi: u32,
    pub eip: u32,
    pub eflags: u32,
    pub cs: u32,
    pub ss: u32,
    pub ds: u32,
    pub es: u32,
    pub fs: u32,
    pub gs: u32,
    /// The guest-physical address of the current page directory, or what CR3 holds with PAE.
    pub directory: u32,
    /// How many levels its tables have: 2, 3, [`LEVELS_NONE`] or [`LEVELS_UNKNOWN`].
    pub levels: u32,
}

/// How many words that are.
pub const WORDS: usize = 18;
const _: () = assert!(size_of::<Registers>() == WORDS * 4);

impl Registers {
    /// As words, in their order.
    #[must_use]
    pub const fn to_words(self) -> [u32; WORDS] {
        let Self { eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, eflags, .. } = self;
        let Self { cs, ss, ds, es, fs, gs, directory, levels, .. } = self;
        [eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, eflags, cs, ss, ds, es, fs, gs, directory, levels]
    }

    /// From words, in their order.
    #[must_use]
    pub const fn from_words(words: [u32; WORDS]) -> Self {
        let [eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, eflags, cs, ss, ds, es, fs, gs, directory, levels] =
            words;
        Self {
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
}
