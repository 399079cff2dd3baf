//! Part 6, the Switcher: no address in its window is the guest's.

use arch_i386::addr::GuestVirt;

/// Whether any of the `bytes` bytes from `va` lies in the Switcher's window, which begins at `window` and ends with the address
/// space. The guest chooses `va` and `bytes`; addresses wrap around at 4 GiB.
///
/// The hole: it trusts that the sum of two numbers of the guest's is no smaller than either.
pub fn reaches_the_window(window: GuestVirt, va: GuestVirt, bytes: u32) -> bool {
    bytes > 0 && va.0.wrapping_add(bytes - 1) >= window.0
}
