//! What happens to guests, on its way to Linux's trace events (`lg_trace.c`).

use crate::shim;
use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};
use framework::event::{Event, Events};
use framework::ledger::TableKind;

/// The kinds of events that somebody watches, a bit each. C sets them.
#[unsafe(no_mangle)]
static lg_rust_observed: AtomicU32 = AtomicU32::new(0);

/// What a table is for, as C has it.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Table {
    Root,
    Directory,
    Level1,
}

impl From<TableKind> for Table {
    fn from(kind: TableKind) -> Self {
        match kind {
            TableKind::Root => Self::Root,
            TableKind::Directory => Self::Directory,
            TableKind::Level1(_) => Self::Level1,
        }
    }
}

/// Whether somebody watches events of one of these kinds.
///
/// It is on the path of every exit, where two instructions are what it may cost as long as nobody watches anything. The compiler
/// makes three of a load that is atomic.
#[inline(always)]
pub fn are_observed(events: Events) -> bool {
    // SAFETY: it reads the word, which is aligned, and goes to one of two places of this function.
    unsafe {
        asm!(
            "cmp dword ptr [{observed}], 0",
            "jne {some}",
            observed = sym lg_rust_observed,
            some = label { return lg_rust_observed.load(Ordering::Relaxed) & events.bits() != 0 },
            options(nostack, readonly)
        );
    }
    false
}

/// Has Linux pass on that this has happened to a guest.
pub fn pass_on(guest: u32, event: Event) {
    match event {
        Event::Exit { kind, vector, eip } => shim::lg_trace_exit(guest, kind as u32, vector, eip.0),
        Event::Hypercall { call, ring } => {
            let [a, b, c, d] = call.args;
            shim::lg_trace_hypercall(guest, ring.into(), call.number, a, b, c, d);
        }
        Event::Fault { va, error, outcome } => {
            shim::lg_trace_fault(guest, va.0, error.bits() as u32, outcome as u32);
        }
        Event::Load { directory, hit } => shim::lg_trace_load(guest, directory.0, hit.into()),
        Event::Eviction { victim, incoming } => shim::lg_trace_evict(guest, victim.0, incoming.0),
        Event::Flush(flush) => shim::lg_trace_flush(guest, flush as u32),
        Event::TableAllocated { frame, kind } => {
            shim::lg_trace_table_alloc(guest, frame.0, Table::from(kind) as u32);
        }
        Event::TableFreed { frame, kind } => {
            shim::lg_trace_table_free(guest, frame.0, Table::from(kind) as u32);
        }
        Event::InSwitcher { calls, ring_calls, reflected, fills } => {
            shim::lg_trace_in_switcher(guest, calls, ring_calls, reflected, fills);
        }
    }
}
