//! Part 6, solved.

use arch_i386::addr::GuestVirt;

/// Whether any of the `bytes` bytes from `va` lies in the Switcher's window.
pub fn reaches_the_window(window: GuestVirt, va: GuestVirt, bytes: u32) -> bool {
    // Up to the window there is room for this many bytes.
    bytes > 0 && bytes > window.0.saturating_sub(va.0)
}
