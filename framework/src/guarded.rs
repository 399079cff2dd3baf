//! The one way into a guest's strategy: every call of plug-in code goes through here.
//!
//! A strategy, or the policy in it, may panic. Then the guest ends with the panic's words, the strategy is *abandoned*
//! (never called again, and never dropped), and the host takes back what it held. [`Host`] describes what the host does for
//! that.
//!
//! # Why this is sound
//! Where panics do not unwind, the frames between the panic and the guard go without their destructors being run. Safe code
//! must allow that, since [`core::mem::forget`] is safe, as long as nothing that the lost frames had borrowed is in an
//! invalid state:
//!
//! * The strategy may be in any state. It is abandoned.
//! * The host's own code is never among the lost frames, since a panic in it is not caught. So no lock of the host is
//!   held, and nothing of the host's is half changed.
//! * The lost frames of the framework are those of the run loop. What they change of a guest are plain values, each of
//!   which is valid by itself; an ended guest is never entered again.

use crate::host::{Host, PagingHost};
use crate::in_switcher::InSwitcher;
use crate::kill::Kill;
use crate::pager::Pager;
use crate::shadow_root::ShadowRoot;
use alloc::boxed::Box;
use arch_i386::addr::HostFrame;

/// A guest's strategy, as the run loop has it. All methods that take a host are to be called within [`Host::guard`].
pub(crate) struct Guarded {
    strategy: Option<Box<dyn Pager>>,
    /// The strategy's answer to [`Pager::entry`], the page of the root, as long as it has not been called for anything else: so
    /// that an entry into the guest takes no call. Tables that nobody has called are as they were.
    current: Option<(HostFrame, InSwitcher)>,
    /// [`Guarded::current`] has not returned that yet.
    fresh: bool,
}

fn entry_of(strategy: &dyn Pager) -> (HostFrame, InSwitcher) {
    let (root, by_itself) = strategy.entry();
    (root.frame(), by_itself)
}

impl Guarded {
    /// None yet.
    pub(crate) const fn none() -> Self {
        Self { strategy: None, current: None, fresh: true }
    }

    /// Has the strategy made.
    ///
    /// # Errors
    /// Those of `build`, when it cannot make the strategy.
    pub(crate) fn build<H: Host, E>(
        &mut self,
        host: &mut H,
        build: impl FnOnce() -> Result<Box<dyn Pager>, E>,
    ) -> Result<(), E> {
        self.strategy = Some(host.plug_in(|_| build())?);
        Ok(())
    }

    /// Calls the strategy.
    ///
    /// # Panics
    /// When there is none, which is a defect of the run loop.
    #[inline]
    pub(crate) fn call<H: Host, R>(
        &mut self,
        host: &mut H,
        call: impl FnOnce(&mut dyn Pager, &mut dyn PagingHost) -> R,
    ) -> R {
        self.current = None;
        let strategy = self.strategy.as_deref_mut().expect("a guest that lives has a strategy");
        host.plug_in(|host| call(strategy, host))
    }

    /// Calls the strategy for what is the last thing, as a rule, before the guest is entered, and finds out with what.
    ///
    /// # Errors
    /// Those of `call`.
    ///
    /// # Panics
    /// As [`Guarded::call`].
    #[inline]
    pub(crate) fn request<H: Host, R>(
        &mut self,
        host: &mut H,
        call: impl FnOnce(&mut dyn Pager, &mut dyn PagingHost) -> Result<R, Kill>,
    ) -> Result<R, Kill> {
        self.current = None;
        let Self { strategy, current, fresh } = self;
        let strategy = strategy.as_deref_mut().expect("a guest that lives has a strategy");
        host.plug_in(|host| {
            let answer = call(strategy, host)?;
            (*current, *fresh) = (Some(entry_of(strategy)), true);
            Ok(answer)
        })
    }

    /// What the guest is entered with now, and whether that may differ from what this returned last.
    ///
    /// # Panics
    /// As [`Guarded::call`].
    #[inline]
    pub(crate) fn current<H: Host>(&mut self, host: &mut H) -> (ShadowRoot<'_>, InSwitcher, bool) {
        let (root, by_itself) = match self.current {
            Some(current) => current,
            None => self.find_current(host),
        };
        let fresh = core::mem::replace(&mut self.fresh, false);
        (ShadowRoot::new(root), by_itself, fresh)
    }

    #[inline(never)] // Seldom: before the first request, and after one that may come at any time.
    fn find_current<H: Host>(&mut self, host: &mut H) -> (HostFrame, InSwitcher) {
        let current = self.call(host, |strategy, _| entry_of(strategy));
        self.fresh = true;
        *self.current.insert(current)
    }

    /// The next [`Guarded::current`] is a fresh one, whether the strategy is called until then or not.
    pub(crate) const fn refresh(&mut self) {
        self.fresh = true;
    }

    /// Whether there is a strategy that can be called.
    pub(crate) const fn is_there(&self) -> bool {
        self.strategy.is_some()
    }

    /// Gives up a strategy that has panicked.
    pub(crate) fn abandon(&mut self) {
        core::mem::forget(self.strategy.take());
    }

    /// Has the strategy give back what it holds, and drops it.
    pub(crate) fn tear_down<H: Host>(&mut self, host: &mut H) {
        if self.is_there() {
            self.call(host, |strategy, host| strategy.tear_down(host));
        }
        let strategy = self.strategy.take();
        host.plug_in(|_| drop(strategy));
    }
}
