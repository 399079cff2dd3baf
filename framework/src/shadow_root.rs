//! The shadow root that the world switch loads (ARCHITECTURE.md, invariant 9).

use arch_i386::addr::HostFrame;
use core::fmt;
use core::marker::PhantomData;

/// A shadow root that a guest may run on: the host loads its page into CR3.
///
/// Whoever has one has it from [`Tables::current_root`](crate::tables::Tables::current_root): it is the root of shadow tables, in
/// which the Switcher is mapped, and as long as it is there, the tables are borrowed and stay as they are. A strategy that
/// wraps another one hands the other's on.
///
/// ```
/// # use arch_i386::{addr::HostFrame, paging::TwoLevel};
/// # use framework::tables::{RootId, ShadowRoot, Tables};
/// struct Strategy {
///     tables: Tables<TwoLevel, TwoLevel>,
/// }
///
/// impl Strategy {
///     fn root(&self) -> ShadowRoot<'_> {
///         self.tables.current_root()
///     }
/// }
/// ```
///
/// What does not compile is to make one of a number,
///
/// ```compile_fail,E0451
/// # use arch_i386::{addr::HostFrame, paging::TwoLevel};
/// # use framework::tables::{RootId, ShadowRoot, Tables};
/// fn root(tables: &Tables<TwoLevel, TwoLevel>) -> ShadowRoot<'_> {
///     ShadowRoot { frame: HostFrame(0x1234), ..tables.current_root() }
/// }
/// ```
///
/// to keep one beyond its tables,
///
/// ```compile_fail,E0515
/// # use arch_i386::{addr::HostFrame, paging::TwoLevel};
/// # use framework::tables::{RootId, ShadowRoot, Tables};
/// fn root(tables: Tables<TwoLevel, TwoLevel>) -> ShadowRoot<'static> {
///     tables.current_root()
/// }
/// ```
///
/// to keep one while they change,
///
/// ```compile_fail,E0502
/// # use arch_i386::{addr::HostFrame, paging::TwoLevel};
/// # use framework::{host::PagingHost, tables::{RootId, ShadowRoot, Tables}};
/// fn remove(host: &mut dyn PagingHost, tables: &mut Tables<TwoLevel, TwoLevel>, id: RootId) -> HostFrame {
///     let root = tables.current_root();
///     tables.remove_root(host, id);
///     root.frame()
/// }
/// ```
///
/// and to carry one from one guest to another in a `static`, whose type must be `Sync`:
///
/// ```compile_fail,E0277
/// # use framework::tables::ShadowRoot;
/// # use std::sync::Mutex;
/// static KEPT: Mutex<Option<ShadowRoot<'static>>> = Mutex::new(None);
/// ```
///
/// as, for example, a page number can be:
///
/// ```
/// # use arch_i386::addr::HostFrame;
/// # use std::sync::Mutex;
/// static KEPT: Mutex<Option<HostFrame>> = Mutex::new(None);
/// ```
#[derive(Clone, Copy)]
pub struct ShadowRoot<'t> {
    frame: HostFrame,
    /// It borrows tables, and is neither `Send` nor `Sync`, like them.
    tables: PhantomData<(&'t (), *const ())>,
}

impl ShadowRoot<'_> {
    /// Of tables that are borrowed, and not changed, for as long as the result lives.
    #[inline]
    pub(crate) const fn new(frame: HostFrame) -> Self {
        Self { frame, tables: PhantomData }
    }

    /// The page that CR3 is to point at.
    #[inline]
    #[must_use]
    pub const fn frame(self) -> HostFrame {
        self.frame
    }
}

impl PartialEq for ShadowRoot<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.frame == other.frame
    }
}

impl Eq for ShadowRoot<'_> {}

impl fmt::Debug for ShadowRoot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShadowRoot").field(&self.frame).finish()
    }
}
