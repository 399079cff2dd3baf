//! A guest and the loop that runs it.
//!
//! One call of [`Guest::run`] enters the guest again and again until the launcher has something to do.
//! Each round: do the hypercall that the guest came back with, pass on a notification, deliver a pending
//! interrupt, sleep if the guest is halted, enter the guest, handle its exit. Guests have one virtual CPU.
//!
//! # Bounds
//! Neither a guest nor another writer to its memory can keep the host at work without end: between two
//! checks whether the host has something else to do ([`Host::interrupted`], or the same check in
//! [`Host::enter`]) there are at most [`RING_ENTRIES_AT_ONCE`](crate::hypercall::RING_ENTRIES_AT_ONCE) ring
//! entries or one notification, and a call that may take long checks within
//! ([`PagingHost::reschedule_point`](crate::host::PagingHost::reschedule_point)).
//!
//! Source: lguest's `core.c`, `run_guest`.

use crate::counters::{FrameCounters, PagingCounters, RunCounters};
use crate::debugged::Debugged;
use crate::event::{Event, Events};
use crate::guarded::Guarded;
use crate::host::{Capability, GuestEntry, Host};
use crate::in_switcher::InSwitcher;
use crate::kill::{End, Kill, Panicked};
use crate::ledger::Forgotten;
use crate::nested::Nested;
use crate::pager::Pager;
use crate::registry::{BuildContext, ConfigError};
use crate::segment::Segments;
use crate::strategy::SwitcherWindow;
use crate::views::{self, View};
use alloc::boxed::Box;
use arch_i386::RFlags;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::launcher::Emulation;
use arch_i386::paging::Paging;
use arch_i386::regs::Regs;
use arch_i386::segment::{GUEST_CS, GUEST_DS};
use core::fmt;
use core::ops::Range;

/// Why [`Guest::run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The launcher must look at this address: a virtqueue, or an early console string.
    Notify(GuestPhys),
    /// A trap of this vector has stopped the guest, as the launcher has [asked](Guest::intercept).
    Trap(u8),
    /// The launcher must emulate this instruction; see [`device_access`](crate::device_access).
    Emulate(Emulation),
    /// The launcher has a signal to handle.
    Interrupted,
    /// The guest is dead; [`Guest::end`] returns why.
    Ended,
}

/// All state that the host keeps of one guest.
pub struct Guest {
    pub(crate) paging: Guarded,
    /// The format of the guest's page tables, and what is not the guest's of its address space.
    pub(crate) format: Paging,
    pub(crate) window: SwitcherWindow,
    pub(crate) segments: Segments,
    /// Where the shared page is, once the guest has named it.
    pub(crate) data: Option<GuestPhys>,
    /// Where the guest's kernel sees its memory.
    pub(crate) kernel_address: GuestVirt,
    /// Instructions that must not be interrupted.
    pub(crate) noirq: Range<u32>,
    pub(crate) ss1: u32,
    pub(crate) esp1: GuestVirt,
    pub(crate) stack_pages: u32,
    pub(crate) ts: bool,
    pub(crate) halted: bool,
    /// A debug trap has come since the guest last wrote to DR6.
    pub(crate) stepped: bool,
    pub(crate) nested: Nested,
    /// An interrupt waits for something that the guest does without a word to the host: for the end of instructions that must not be
    /// interrupted, or until it is unmasked.
    pub(crate) held_back: bool,
    /// The guest came back with a hypercall that has not been done yet.
    pub(crate) pending_hypercall: bool,
    /// The ring entry that comes next.
    pub(crate) ring_next: u32,
    /// The host may have something else to do, which is checked before the guest is entered again.
    pub(crate) host_work_pending: bool,
    /// The notification that the launcher must get before the guest goes on.
    pub(crate) notify: Option<GuestPhys>,
    /// The instruction that the launcher must emulate before the guest goes on.
    pub(crate) emulation: Option<Emulation>,
    pub(crate) counters: RunCounters,
    pub(crate) debugged: Debugged,
    end: Option<End>,
}

impl Guest {
    /// A guest that will begin at the guest-physical address `start`, with its registers set up. It has no strategy yet.
    #[must_use]
    pub fn new(context: &BuildContext, regs: &mut Regs, start: u32) -> Self {
        *regs = Regs {
            eip: start,
            cs: GUEST_CS,
            ds: GUEST_DS,
            es: GUEST_DS,
            ss: GUEST_DS,
            // Bit 1 always reads as one; a guest never really turns interrupts off.
            eflags: RFlags::INTERRUPT_FLAG.bits() as u32 | 2,
            ..Regs::default()
        };
        Self {
            paging: Guarded::none(),
            format: context.formats.guest,
            window: context.window,
            segments: Segments::new(),
            data: None,
            kernel_address: GuestVirt(0),
            noirq: 0..0,
            // lguest leaves these zero; a guest that takes a direct trap before SET_STACK dies of
            // a double fault.
            ss1: 0,
            esp1: GuestVirt(0),
            stack_pages: 0,
            ts: false,
            halted: false,
            stepped: false,
            nested: Nested::default(),
            held_back: false,
            pending_hypercall: false,
            ring_next: 0,
            host_work_pending: true,
            notify: None,
            emulation: None,
            counters: RunCounters::default(),
            debugged: Debugged::not(),
            end: None,
        }
    }

    /// Makes the guest's strategy by `build`, which then makes the first shadow page directory. On success and on failure,
    /// [`Guest::tear_down`] must follow in the end.
    ///
    /// # Errors
    /// [`SetUpError`] when the strategy cannot be made, has no memory or panics; the guest cannot run then.
    pub fn set_up<H: Host>(
        &mut self,
        host: &mut H,
        build: impl FnOnce() -> Result<Box<dyn Pager>, ConfigError>,
    ) -> Result<(), SetUpError> {
        let paging = &mut self.paging;
        let made = host.guard(|host| -> Result<(), SetUpError> {
            paging.build(host, build)?;
            Ok(paging.call(host, |strategy, host| strategy.set_up(host))?)
        });
        made.unwrap_or_else(|panicked| {
            self.abandon(panicked.clone());
            Err(panicked.into())
        })
    }

    /// Translates an address by the guest's own current tables. (What comes of it is an address that the guest has named,
    /// and is checked like every other when it is used.)
    ///
    /// # Errors
    /// Those of the strategy's `translate`.
    pub(crate) fn translate<H: Host>(&mut self, host: &mut H, va: GuestVirt) -> Result<GuestPhys, Kill> {
        self.paging.call(host, |strategy, host| strategy.translate(host, va))
    }

    /// The strategy has panicked: that is the guest's end.
    pub(crate) fn abandon(&mut self, panicked: Panicked) {
        self.paging.abandon();
        self.end.get_or_insert(panicked.into());
    }

    /// Runs the guest until the launcher has something to do.
    pub fn run<H: Host>(&mut self, host: &mut H) -> Outcome {
        host.guard(|host| self.rounds(host)).unwrap_or_else(|panicked| {
            self.abandon(panicked);
            Outcome::Ended
        })
    }

    /// Does something between two runs that may be the guest's end.
    pub(crate) fn end_at<H: Host>(
        &mut self,
        host: &mut H,
        act: impl FnOnce(&mut Self, &mut H) -> Result<(), Kill>,
    ) {
        if self.end.is_some() {
            return;
        }
        match host.guard(|host| act(self, host)) {
            Ok(Ok(())) => {}
            Ok(Err(kill)) => self.end = Some(kill.into()),
            Err(panicked) => self.abandon(panicked),
        }
    }

    /// Goes round the loop until the launcher has something to do.
    fn rounds<H: Host>(&mut self, host: &mut H) -> Outcome {
        // The launcher has dealt with what was reported to it last time.
        self.notify = None;
        self.host_work_pending = true;
        if self.end.is_some() {
            return Outcome::Ended;
        }
        self.try_rounds(host).unwrap_or_else(|end| {
            self.end = Some(end);
            Outcome::Ended
        })
    }

    /// The same, up to the guest's end.
    fn try_rounds<H: Host>(&mut self, host: &mut H) -> Result<Outcome, End> {
        loop {
            if self.pending_hypercall {
                self.do_hypercalls(host)?;
            }
            if let Some(address) = self.notify {
                if !host.notify(address) {
                    return Ok(Outcome::Notify(address));
                }
                self.notify = None;
                // The ring may hold the next one already, and whoever listens may refill it.
                self.host_work_pending |= !cfg!(feature = "plant-endless-ring");
            }
            if self.host_work_pending {
                self.host_work_pending = false;
                if let Some(emulation) = self.emulation.take() {
                    return Ok(Outcome::Emulate(emulation));
                }
                self.count_reflections(host);
                if let Some(vector) = self.take_stop(host)? {
                    return Ok(Outcome::Trap(vector));
                }
                if host.interrupted() {
                    return Ok(Outcome::Interrupted);
                }
                if let Some(dropped) = host.drop_stale() {
                    self.counters.dropped_entries += dropped;
                    self.paging.call(host, |strategy, host| strategy.keep_stack(host))?;
                }
            }
            if self.pending_hypercall {
                // The ring has stopped on its way: the rest of it comes first.
                continue;
            }
            if core::mem::take(&mut self.held_back) {
                self.paging.refresh();
            }
            let deliverable = self.deliver_interrupt(host)?;
            if self.halted {
                host.wait(deliverable);
                self.host_work_pending = true;
                continue;
            }
            self.counters.world_switches += 1;
            let (root, by_itself, fresh) = self.paging.current(host);
            let (by_itself, fresh) =
                if self.held_back { (InSwitcher::NOTHING, true) } else { (by_itself, fresh) };
            let segments = &mut self.segments;
            let exit = host.enter(GuestEntry { root, by_itself, fresh, segments, ts: self.ts });
            if let Some(done) = host.take_done_in_switcher() {
                self.catch_up(host, done)?;
            }
            if host.observes(Events::AT_EXIT) {
                Self::observe_exit(host, exit);
            }
            self.handle_exit(host, exit)?;
        }
    }

    /// Why the guest is dead, if it is.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The counters of the run loop and of the pager; the latter are 0 when the strategy has panicked.
    #[must_use]
    pub fn counters<H: Host>(&mut self, host: &mut H) -> Counters {
        let paging = &mut self.paging;
        let counted = host.guard(|host| {
            if !paging.is_there() {
                return PagingCounters::default();
            }
            paging.call(host, |strategy, _| strategy.counters())
        });
        let paging = counted.unwrap_or_else(|panicked| {
            self.abandon(panicked);
            PagingCounters::default()
        });
        self.count_reflections(host);
        let reflected_faults = paging.reflected_faults + self.counters.switcher_reflections;
        let paging = PagingCounters { reflected_faults, ..paging };
        Counters { run: self.counters, paging, frames: host.frame_counters() }
    }

    /// Writes a view of the guest, which must not be running. Nothing is written of the shadow tables of a strategy that has
    /// panicked, or that does not let itself be [inspected](crate::inspect).
    ///
    /// # Errors
    /// Those of `out`; and when the process that looks is being killed, or the strategy panics on it.
    pub fn show<H: Host>(&mut self, host: &mut H, view: View, out: &mut dyn fmt::Write) -> fmt::Result {
        if view == View::Counters {
            return write!(out, "{}", self.counters(host));
        }
        let paging = &mut self.paging;
        let stack = views::stack_range(self.esp1, self.stack_pages);
        let shown = host.guard(|host| {
            if !paging.is_there() {
                return Ok(());
            }
            paging.call(host, |strategy, host| match strategy.inspect() {
                None => Ok(()),
                Some(inspect) if view == View::Directories => {
                    views::write_directories(inspect, host, stack, out)
                }
                Some(inspect) => views::write_tables(inspect, host, view == View::Tables, out),
            })
        });
        shown.unwrap_or_else(|panicked| {
            self.abandon(panicked);
            Err(fmt::Error)
        })
    }

    /// Counts what the Switcher has reflected: before anybody looks, and after hardware interrupts, so that the host's number
    /// never wraps.
    fn count_reflections<H: Host>(&mut self, host: &mut H) {
        let reflected = host.take_reflected();
        self.counters.switcher_reflections += u64::from(reflected);
        if reflected > 0 && host.observes(Events::IN_SWITCHER) {
            host.observe(Event::InSwitcher { calls: 0, ring_calls: 0, reflected, fills: 0 });
        }
    }

    /// Gives back everything that the guest holds of the host's. Returns what its strategy had leaked, or, if it has
    /// panicked, held.
    pub fn tear_down<H: Host>(mut self, host: &mut H) -> Forgotten {
        host.set_timer(None);
        let paging = &mut self.paging;
        if host.guard(|host| paging.tear_down(host)).is_err() {
            paging.abandon();
        }
        // What the strategy has kept is gone, before the host takes back its tables.
        host.reclaim(Capability::new())
    }
}

/// Why a guest could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum SetUpError {
    /// There is no such strategy here.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host has no memory for it.
    #[error(transparent)]
    Killed(#[from] Kill),
    /// The strategy panicked.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// All counters of a guest; displays as `name value` lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The run loop's.
    pub run: RunCounters,
    /// The pager's.
    pub paging: PagingCounters,
    /// The host's.
    pub frames: FrameCounters,
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.run.fmt(f)?;
        self.paging.fmt(f)?;
        self.frames.fmt(f)
    }
}
