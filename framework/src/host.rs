//! What the framework needs from the program that embeds it: the host.
//!
//! [`PagingHost`] is all that the shadow pager needs: the guest's memory, real pages under it, and
//! pages for tables. [`Host`] adds what running a guest takes: a clock, interrupts, and the world
//! switch itself. The kernel module implements both on Linux; tests and replay on plain memory.
//!
//! # What a strategy cannot do
//! A paging strategy is safe Rust that is not trusted. It is given a [`PagingHost`] for each call, and must not be able to
//! harm the host with it:
//!
//! * What names or takes real pages needs a [`Capability`], which this crate alone can make. Strategies get at real pages
//!   by [`tables`](crate::tables) only.
//! * Only a [`TrustedHost`](arch_i386::table::TrustedHost) can be a [`PagingHost`], which takes an `unsafe impl`. A strategy
//!   that wraps another one and observes its host does so by a [`Watched`](crate::watch::Watched) host.
//! * What it leaks is in the host's [`Ledger`](crate::ledger::Ledger), from which [`Host::reclaim`] gives it back. A
//!   strategy never sees a [`Host`].
//!
//! Every method runs with interrupts on and may sleep, except [`Host::enter`], which turns them off
//! itself for as long as the guest runs.

use crate::counters::FrameCounters;
use crate::in_switcher::InSwitcher;
use crate::kill::Panicked;
use crate::ledger::Forgotten;
pub use crate::paging_host::{
    BadAddress, Capability, KnownFrame, LAST_WORDS, NoFrame, PagingHost, Progress, Purpose, RecordingFull,
    reschedule_point,
};
use crate::segment::Segments;
use crate::shadow_root::ShadowRoot;
use arch_i386::addr::{GuestPhys, GuestVirt};
pub use arch_i386::done_in_switcher::{DoneInSwitcher, FilledInSwitcher};
use arch_i386::hypercall::HypercallArgs;
use arch_i386::kernel_view::KernelView;
use arch_i386::lguest_data::{RING_DONE, Timespec, ring_call, ring_status};
use arch_i386::regs::Regs;
use core::num::NonZeroU32;
pub use fallible::OutOfMemory;

/// The input of the world switch, to run a guest once.
#[derive(Debug)]
pub struct GuestEntry<'a> {
    /// The shadow page directory to load into CR3, the Switcher mapped in it.
    pub root: ShadowRoot<'a>,
    /// What the Switcher may do by itself on it.
    pub by_itself: InSwitcher,
    /// Both may differ from those of the last entry.
    pub fresh: bool,
    /// The guest's descriptor tables and what has changed in them since the last entry.
    pub segments: &'a mut Segments,
    /// CR0.TS is to be set while the guest runs.
    pub ts: bool,
}

/// Why a guest came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The vector, with [`IN_SWITCHER`](arch_i386::trap::IN_SWITCHER) added when the Switcher itself
    /// faulted. Hardware interrupts, NMIs and machine checks have been given to the host already.
    pub vector: u32,
    /// CR2, when the vector is a page fault's.
    pub cr2: GuestVirt,
}

/// What running a guest needs.
///
/// # Panics of a plug-in
/// A strategy or policy may panic at any point, and that ends its guest only. Three methods make it so, and
/// [`guarded`](crate::guarded) is their only caller:
///
/// * [`Host::guard`] runs a piece of the framework's code, and comes back also when plug-in code below it panics;
/// * [`Host::plug_in`] marks the calls into plug-in code below it. A panic outside of them is a defect of the framework or
///   the host, and is not caught;
/// * [`Host::reclaim`] takes back what the plug-in held.
///
/// A host on which panics unwind catches them. A host on which they do not goes back to [`Host::guard`] without running
/// any destructor of what is in between, which is as if all of it had been forgotten.
pub trait Host: PagingHost {
    /// Runs `call`. When a call of [`Host::plug_in`] within it panics, `call` is given up where it is, nothing of what
    /// that plug-in code has borrowed is used again, and the result is an error. Guards are not nested.
    ///
    /// # Errors
    /// [`Panicked`], with the panic's words, when plug-in code has panicked.
    fn guard<R>(&mut self, call: impl FnOnce(&mut Self) -> R) -> Result<R, Panicked>
    where
        Self: Sized;

    /// Calls plug-in code, within a [`Host::guard`]. The host's own code that `call` comes to, through the
    /// [`PagingHost`], is no plug-in code: a panic in it is the host's.
    fn plug_in<R>(&mut self, call: impl FnOnce(&mut dyn PagingHost) -> R) -> R
    where
        Self: Sized;

    /// Takes back every table page that has not come back, and all memory that the guest's strategy had; returns the number
    /// of pages. The strategy is gone or abandoned, and the guest is never
    /// entered again.
    fn reclaim(&mut self, _: Capability) -> Forgotten;

    /// Drops every shadow entry whose frame does not hold a page of the guest's any more, in the tables of its
    /// [`Ledger`](crate::ledger::Ledger). Returns how many entries that were, `None` when no frame has gone since the last
    /// time. To be called outside of plug-in code, before the guest is entered; frames that go later end its run, like a
    /// hardware interrupt.
    fn drop_stale(&mut self) -> Option<u64>;

    /// What has become of the guest's pages so far; a host that never takes one away has nothing to report.
    fn frame_counters(&self) -> FrameCounters {
        FrameCounters::default()
    }

    /// Reads an entry of the ring of hypercalls in the guest's shared page, which is at `data`: the call, unless its status
    /// byte is [`RING_DONE`]. `index` is below [`RING_SIZE`](arch_i386::lguest_data::RING_SIZE).
    ///
    /// Each hypercall looks there first, so that a host may want to do it in one go.
    ///
    /// # Errors
    /// As [`PagingHost::read`].
    fn ring_entry(&mut self, data: GuestPhys, index: u32) -> Result<Option<HypercallArgs>, BadAddress> {
        let mut byte = [RING_DONE];
        self.read(GuestPhys(data.0 + ring_status(index)), &mut byte)?;
        if byte == [RING_DONE] {
            return Ok(None);
        }
        let call = data.0 + ring_call(index);
        let mut word = |number: u32| self.read_u32(GuestPhys(call + number * 4));
        Ok(Some(HypercallArgs { number: word(0)?, args: [word(1)?, word(2)?, word(3)?, word(4)?] }))
    }

    /// The guest's registers while it does not run.
    fn regs(&mut self) -> &mut Regs;

    /// Sets the guest's kernel stack for traps from ring 3 that take no exit, of all entries from now on: selector,
    /// address, and how many pages it has. All are 0 until then.
    fn set_kernel_stack(&mut self, ss1: u32, esp1: GuestVirt, pages: u32);

    /// Sets what the Switcher must know to work on the guest's memory by itself, of all entries from now on; nothing until
    /// then, and with `None`. A host whose Switcher never does so need not look at it.
    fn set_kernel_view(&mut self, _: Option<KernelView>) {}

    /// Sets which ring entry comes next; 0 until then. Only for a Switcher that does hypercalls by itself.
    fn set_ring_next(&mut self, _: u32) {}

    /// What the Switcher has done of hypercalls and demand faults by itself in the last run; `None` when it has done nothing. To be called after
    /// each run, before anything else.
    fn take_done_in_switcher(&mut self) -> Option<DoneInSwitcher> {
        None
    }

    /// How many page faults the Switcher has reflected by itself since the last call. The guest may have forged the number.
    fn take_reflected(&mut self) -> u32 {
        0
    }

    /// Runs the guest until something happens. If the host has something else to do, now or before the
    /// guest is done, that looks like a hardware interrupt.
    fn enter(&mut self, entry: GuestEntry<'_>) -> Exit;

    /// After an exit with a page fault or with [`HYPERCALL_MISSED`](arch_i386::trap::HYPERCALL_MISSED): the address of the guest's
    /// kernel that the Switcher missed when it looked at the fault or the hypercall, so that it could not go on. It need not be one
    /// that the guest maps.
    fn missed_by_switcher(&self) -> Option<GuestVirt> {
        None
    }

    /// Whether the run loop is to return to the launcher (a signal). Also where a host reschedules. Checked
    /// when the loop begins, after each hardware interrupt and sleep, every few ring entries, and after each
    /// notification that was delivered.
    fn interrupted(&mut self) -> bool;

    /// The virtual interrupts that are pending, a bit each.
    fn pending_interrupts(&self) -> u32;

    /// Marks one virtual interrupt as no longer pending.
    fn clear_interrupt(&mut self, irq: u32);

    /// Sleeps until one of the virtual interrupts in `mask` is pending or the launcher has a signal.
    fn wait(&mut self, mask: u32);

    /// Raises virtual interrupt 0 after that many nanoseconds; `None` stops the clock.
    fn set_timer(&mut self, delay: Option<NonZeroU32>);

    /// The wall clock.
    fn wall_clock(&mut self) -> Timespec;

    /// The speed of the time-stamp counter in kHz; 0 when it is not constant.
    fn tsc_khz(&self) -> u32;

    /// Delivers a notification of this address without the run loop returning, if the launcher has attached
    /// something to it (an eventfd). Returns whether it was delivered.
    fn notify(&mut self, address: GuestPhys) -> bool;
}
