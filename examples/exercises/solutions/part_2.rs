//! Part 2, solved.

use arch_i386::addr::GuestVirt;

/// The first addresses of the pages of a kernel stack, from its top down.
pub fn stack_pages(esp1: GuestVirt, pages: u32) -> Vec<GuestVirt> {
    let top = esp1.0.wrapping_sub(1) & !0xfff;
    (0..pages).map(|page| GuestVirt(top.wrapping_sub(page * 0x1000))).collect()
}
