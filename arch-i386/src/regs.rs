//! The register frame that the Switcher saves at the end of a virtual CPU's register page.
//!
//! The upper part (from `eip`) is what the processor pushes on an interrupt from an outer ring (Intel
//! SDM vol. 3A, figure 6-4); the lower part is what the Switcher's stubs push below it. The order is
//! lguest's `struct lguest_regs`.

/// A guest's registers while it does not run. All words are 32 bits wide; selectors use the low 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Regs {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    pub ebp: u32,
    pub gs: u32,
    pub fs: u32,
    pub ds: u32,
    pub es: u32,
    /// The vector that ended the run, as its stub pushed it. The Switcher returns the vector in a
    /// register as well, and that one is to be trusted: this page is writable by the guest.
    pub trapnum: u32,
    /// The error code that the processor pushed, or 0.
    pub errcode: u32,
    pub eip: u32,
    pub cs: u32,
    pub eflags: u32,
    pub esp: u32,
    pub ss: u32,
}

/// `size_of::<Regs>()`, as a word for the Switcher's assembly.
pub const REGS_SIZE: u32 = 18 * 4;
const _: () = assert!(core::mem::size_of::<Regs>() == REGS_SIZE as usize);
