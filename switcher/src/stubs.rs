//! The Switcher's entry points for traps from the guest, one for each vector, at the start of its text.
//!
//! Each pushes its vector and jumps. Those of exceptions, hypercalls among them, jump to where they are going; those of interrupts
//! come in groups with one jump for all, which saves more than half a kilobyte of the one page that the text has.

use arch_i386::addr::GuestVirt;
use arch_i386::segment::IDT_ENTRIES;
use arch_i386::trap;

/// Vectors below have a jump of their own.
pub(crate) const EXCEPTIONS: u32 = trap::FIRST_EXTERNAL as u32;

/// Bytes of an entry point below [`EXCEPTIONS`]: two of a push, and at most five of a jump.
pub(crate) const STUB_SIZE: u32 = 7;

/// Vectors of a group, as many as reach its jump by a short one.
pub(crate) const GROUP: u32 = 32;

/// Bytes of an entry point in a group.
const SHORT_STUB_SIZE: u32 = 4;

/// Bytes of a group, with its jump.
pub(crate) const GROUP_SIZE: u32 = GROUP * SHORT_STUB_SIZE + 5;

/// Bytes of them all.
pub const STUBS_SIZE: u32 = offset(u8::MAX - GROUP as u8 + 1) + GROUP_SIZE;

const _: () = assert!((IDT_ENTRIES as u32 - EXCEPTIONS).is_multiple_of(GROUP));

/// The offset of a vector's entry point in the text.
#[must_use]
pub const fn offset(vector: u8) -> u32 {
    let vector = vector as u32;
    if vector < EXCEPTIONS {
        return vector * STUB_SIZE;
    }
    let number = vector - EXCEPTIONS;
    EXCEPTIONS * STUB_SIZE + number / GROUP * GROUP_SIZE + number % GROUP * SHORT_STUB_SIZE
}

/// The address of the Switcher's entry point for `vector`.
#[must_use]
pub const fn stub(text: GuestVirt, vector: u8) -> u32 {
    text.0 + offset(vector)
}

/// The vector whose entry point an offset of the text is in; `None` in the jump of a group, and behind them all.
#[must_use]
pub fn vector_at(at: u32) -> Option<u8> {
    (0..=u8::MAX).rev().find(|&vector| offset(vector) <= at).filter(|&vector| {
        let size = if u32::from(vector) < EXCEPTIONS { STUB_SIZE } else { SHORT_STUB_SIZE };
        at - offset(vector) < size
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_follow_each_other() {
        assert_eq!(stub(GuestVirt(0xfe7c_0000), 0), 0xfe7c_0000);
        assert_eq!(stub(GuestVirt(0xfe7c_0000), 31), 0xfe7c_0000 + 31 * 7);
        // 32 short ones and a jump of five bytes are 133.
        let offsets = [32, 63, 64, 255].map(offset);
        assert_eq!(offsets, [224, 224 + 31 * 4, 224 + 133, 224 + 6 * 133 + 31 * 4]);
        assert_eq!(STUBS_SIZE, 224 + 7 * 133);
    }

    #[test]
    fn an_offset_belongs_to_one_vector() {
        for vector in 0..=u8::MAX {
            let size = if vector < 32 { 7 } else { 4 };
            let mut all = (0..size).map(|byte| vector_at(offset(vector) + byte));
            assert!(all.all(|found| found == Some(vector)), "vector {vector}");
        }
        // The first byte of a group's jump, and what follows the last.
        assert_eq!([224 + 128, 224 + 132, 224 + 7 * 133 - 1, 224 + 7 * 133].map(vector_at), [None; 4]);
    }
}
