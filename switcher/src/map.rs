//! The one mapper: how the Switcher gets into a guest's shadow roots.
//!
//! A guest gets one level-1 page table for the Switcher's window, filled in once. Every shadow root of
//! that guest, on every strategy, points its window's entry there, so that no strategy knows more of
//! the Switcher than that entry, and switching roots or host CPUs changes nothing.

use crate::area::Area;
use arch_i386::addr::HostFrame;
use arch_i386::paging::{Entry, Flags, PageFormat};
use arch_i386::table::TablePage;

/// The real pages behind what one guest sees of the Switcher area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuFrames {
    /// The text, shared by all.
    pub text: HostFrame,
    /// The virtual CPU's state page.
    pub state: HostFrame,
    /// The virtual CPU's register page.
    pub registers: HostFrame,
}

/// Maps the Switcher's text and the two pages of `vcpu` in `leaf`, a zeroed level-1 table. The page of the host contexts
/// and other virtual CPUs' pages are left out. All three are supervisor pages, which rings 0 and 1 may use and ring 3 may
/// not; only the registers can be written. With `no_execute` (a processor and format that have the bit) only the text can
/// be executed.
///
/// # Panics
/// When the area has no such virtual CPU.
pub fn map<F: PageFormat>(
    leaf: &mut TablePage,
    area: &Area,
    vcpu: u32,
    frames: VcpuFrames,
    no_execute: bool,
) {
    // Accessed and dirty are set beforehand, so that the processor has nothing to write here.
    let text = Flags::PRESENT | Flags::ACCESSED;
    let mut state = text;
    state.set(Flags::NO_EXECUTE, no_execute);
    let registers = state | Flags::WRITABLE | Flags::DIRTY;

    let state_index = F::index(area.state(vcpu), 1);
    let mut store = |i, frame: HostFrame, flags| F::store(leaf, i, Entry::new(frame.0.into(), flags));
    store(F::index(area.text(), 1), frames.text, text);
    store(state_index, frames.state, state);
    store(state_index + 1, frames.registers, registers);
}

#[cfg(test)]
mod tests {
    extern crate alloc;

    use super::*;
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use arch_i386::addr::GuestVirt;
    use arch_i386::paging::{Pae, TwoLevel};
    use core::ptr::NonNull;

    #[repr(align(4096))]
    struct Page([u64; 512]);

    const FRAMES: VcpuFrames =
        VcpuFrames { text: HostFrame(0x100), state: HostFrame(0x1_2345), registers: HostFrame(0x23) };

    /// What a fresh table holds after `map`: index, frame and flags of each present entry.
    fn mapped<F: PageFormat>(base: u32, vcpu: u32, no_execute: bool) -> Vec<(usize, u64, Flags)> {
        let mut page = Box::new(Page([0; 512]));
        // SAFETY: the box is a page, aligned and initialised, and only used through the handle until it
        // is dropped at the end.
        let mut leaf = unsafe { TablePage::from_raw(NonNull::from(&mut page.0), HostFrame(7)) };
        let area = Area::new::<F>(GuestVirt(base), 4).unwrap();
        map::<F>(&mut leaf, &area, vcpu, FRAMES, no_execute);
        (0..F::ENTRIES)
            .map(|i| (i, F::load(&leaf, i)))
            .filter(|(_, entry)| *entry != Entry::EMPTY)
            .map(|(i, entry)| (i, entry.frame(), entry.flags()))
            .collect()
    }

    const READ: Flags = Flags::PRESENT.union(Flags::ACCESSED);
    const WRITE: Flags = READ.union(Flags::WRITABLE).union(Flags::DIRTY);

    #[test]
    fn a_guest_sees_the_text_and_its_own_two_pages() {
        // 0xfe7c0000 is page 0x3c0 of its 4 MiB, and page 0x1c0 of its 2 MiB.
        assert_eq!(
            mapped::<TwoLevel>(0xfe7c_0000, 2, false),
            [(0x3c0, 0x100, READ), (0x3c6, 0x1_2345, READ), (0x3c7, 0x23, WRITE)]
        );
        assert_eq!(
            mapped::<Pae>(0xfe7c_0000, 0, false),
            [(0x1c0, 0x100, READ), (0x1c2, 0x1_2345, READ), (0x1c3, 0x23, WRITE)]
        );
    }

    #[test]
    fn only_the_text_is_executable_where_the_processor_can_tell() {
        let entries = mapped::<Pae>(0xfe7c_0000, 3, true);
        let executable: Vec<_> =
            entries.iter().filter(|e| !e.2.contains(Flags::NO_EXECUTE)).map(|e| e.1).collect();
        assert_eq!((entries.len(), executable), (3, Vec::from([0x100])));
    }
}
