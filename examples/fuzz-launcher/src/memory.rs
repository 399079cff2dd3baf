//! The guest's memory, as the launcher has it.

use std::os::fd::RawFd;

use crate::dice::Dice;
use crate::guest::Kind;

/// The guest's memory in the launcher.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Where it begins.
    pub base: usize,
    /// Its length in bytes.
    pub len: usize,
    /// The file that it is of, if it is of one.
    pub file: Option<RawFd>,
    /// Whether children of this process share it.
    pub shared: bool,
}

impl Memory {
    /// New memory of so many pages.
    pub fn new(dice: &mut Dice, pages: u32, kind: Kind) -> Option<Memory> {
        let len = pages as usize * 4096;
        let (flags, file) = match if kind == Kind::Refilled { 1 } else { dice.below(3) } {
            0 => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None),
            1 => (libc::MAP_SHARED | libc::MAP_ANONYMOUS, None),
            _ => {
                // SAFETY: the name is a C string.
                let file = unsafe { libc::memfd_create(c"guest".as_ptr(), 0) };
                // SAFETY: no pointers.
                if file < 0 || unsafe { libc::ftruncate(file, len as i32 as libc::off_t) } != 0 {
                    return None;
                }
                (libc::MAP_SHARED, Some(file))
            }
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, where the kernel has room.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, file.unwrap_or(-1), 0) };
        let shared = flags & libc::MAP_SHARED != 0;
        (base != libc::MAP_FAILED).then_some(Memory { base: base as usize, len, file, shared })
    }

    /// Loads the guest.
    pub fn load(&self, contents: &[u8]) {
        // SAFETY: nothing else is in this memory, and it is as long as the smallest guest.
        unsafe { std::ptr::copy_nonoverlapping(contents.as_ptr(), self.base as *mut u8, contents.len()) };
    }
}
