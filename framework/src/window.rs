//! The part of a guest's address space in which the Switcher is mapped.

use arch_i386::addr::{GuestVirt, HostFrame};
use arch_i386::table::TablePage;
use core::marker::PhantomData;

/// The part at the top of the address space in which every shadow root maps the Switcher.
///
/// One page-table page, made once for each guest by the Switcher's mapper, serves all of the guest's
/// shadow roots: it holds the Switcher's text and the two pages of this guest's virtual CPU.
///
/// Only who has that page-table page, which a host alone can have, can make one; strategies get theirs by a
/// [`BuildContext`](crate::registry::BuildContext). It is not `Send`, so that it stays with its guest.
///
/// ```compile_fail,E0451
/// # use arch_i386::addr::{GuestVirt, HostFrame};
/// # use framework::strategy::SwitcherWindow;
/// fn elsewhere(window: SwitcherWindow) -> SwitcherWindow {
///     SwitcherWindow { leaf: HostFrame(0x1234), ..window }
/// }
/// ```
///
/// What a strategy may know of it is where it begins:
///
/// ```
/// # use arch_i386::addr::{GuestVirt, HostFrame};
/// # use framework::strategy::SwitcherWindow;
/// fn elsewhere(window: SwitcherWindow) -> GuestVirt {
///     window.start()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitcherWindow {
    start: GuestVirt,
    leaf: HostFrame,
    not_send: PhantomData<*const ()>,
}

impl SwitcherWindow {
    /// The window that begins at `start`, a multiple of the page format's
    /// [`LEAF_SPAN`](arch_i386::paging::PageFormat::LEAF_SPAN), and is mapped by `leaf`.
    #[must_use]
    pub const fn new(start: GuestVirt, leaf: &TablePage) -> Self {
        Self { start, leaf: leaf.frame(), not_send: PhantomData }
    }

    /// The first address. Nothing from here up is the guest's.
    #[inline]
    #[must_use]
    pub const fn start(self) -> GuestVirt {
        self.start
    }

    /// The page-table page that maps the window.
    pub(crate) const fn leaf(self) -> HostFrame {
        self.leaf
    }
}
