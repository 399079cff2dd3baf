//! Part 2, the pinned stack: which pages a SET_STACK is about.

use arch_i386::addr::GuestVirt;

/// The first addresses of the `pages` pages of a kernel stack, from its top down. `esp1` is the first byte *above* the stack:
/// the processor pushes below it.
///
/// The hole: the page of `esp1` itself is taken for the first one of the stack.
pub fn stack_pages(esp1: GuestVirt, pages: u32) -> Vec<GuestVirt> {
    (0..pages).map(|page| GuestVirt((esp1.0 & !0xfff).wrapping_sub(page * 0x1000))).collect()
}
