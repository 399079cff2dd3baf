//! Panics of plug-ins on a simulated host, where they unwind: what its
//! [`Host`](framework::host::Host) is made of in this respect.

use arch_i386::addr::{GuestFrame, GuestPhys};
use arch_i386::table::{TablePage, TrustedHost};
use framework::event::{Event, Events};
use framework::host::{
    BadAddress, Capability, FilledInSwitcher, KnownFrame, NoFrame, OutOfMemory, PagingHost, Purpose,
    RecordingFull,
};
use framework::kill::Panicked;
use framework::ledger::TableKind;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Plug-in code is at work.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// The message of the last panic in it.
    static WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Only the hook for panics receives where a panic was.
fn note_panics() {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !INSIDE.get() {
                return others(info);
            }
            let words = info.payload_as_str().unwrap_or_default();
            let at = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
            WORDS.set(format!("{words} at {at}"));
        }));
    });
}

/// As [`Host::guard`](framework::host::Host::guard). A panic outside of plug-in code goes on.
///
/// # Errors
/// [`Panicked`].
pub fn guard<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    note_panics();
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        if !INSIDE.replace(false) {
            panic::resume_unwind(payload);
        }
        Panicked::new(format_args!("{}", WORDS.take()))
    })
}

/// As [`Host::plug_in`](framework::host::Host::plug_in).
pub fn plug_in<R>(host: &mut dyn PagingHost, call: impl FnOnce(&mut dyn PagingHost) -> R) -> R {
    INSIDE.set(true);
    let result = call(&mut Outside(host));
    INSIDE.set(false);
    result
}

/// The host as plug-in code sees it: what is called of it is the host's own code.
struct Outside<'a>(&'a mut dyn PagingHost);

impl Outside<'_> {
    fn call<R>(&mut self, call: impl FnOnce(&mut dyn PagingHost) -> R) -> R {
        INSIDE.set(false);
        let result = call(self.0);
        INSIDE.set(true);
        result
    }
}

// SAFETY: it passes everything on to a host, as it is.
unsafe impl TrustedHost for Outside<'_> {}

impl PagingHost for Outside<'_> {
    fn page_limit(&self) -> u32 {
        self.0.page_limit()
    }

    fn device_limit(&self) -> u32 {
        self.0.device_limit()
    }
    fn no_execute(&self) -> bool {
        self.0.no_execute()
    }
    fn read(&mut self, at: GuestPhys, into: &mut [u8]) -> Result<(), BadAddress> {
        self.call(|host| host.read(at, into))
    }
    fn write(&mut self, at: GuestPhys, from: &[u8]) -> Result<(), BadAddress> {
        self.call(|host| host.write(at, from))
    }
    fn frame(
        &mut self,
        page: GuestFrame,
        purpose: Purpose,
        token: Capability,
    ) -> Result<KnownFrame, NoFrame> {
        self.call(|host| host.frame(page, purpose, token))
    }
    fn known(&self, page: GuestFrame) -> Option<KnownFrame> {
        self.0.known(page)
    }
    fn has_stale(&self) -> bool {
        self.0.has_stale()
    }
    fn alloc_table(&mut self, kind: TableKind, token: Capability) -> Result<TablePage, OutOfMemory> {
        self.call(|host| host.alloc_table(kind, token))
    }
    fn free_table(&mut self, table: TablePage, token: Capability) {
        self.call(|host| host.free_table(table, token));
    }
    fn free_zeroed_table(&mut self, table: TablePage, token: Capability) {
        self.call(|host| host.free_zeroed_table(table, token));
    }
    fn filled_in_switcher(&self, token: Capability) -> &[FilledInSwitcher] {
        self.0.filled_in_switcher(token)
    }

    fn loaded_in_switcher(&self, token: Capability) -> &[GuestPhys] {
        self.0.loaded_in_switcher(token)
    }
    fn retract(&mut self, directory: GuestPhys) {
        self.call(|host| host.retract(directory));
    }
    fn reschedule_point(&mut self) -> bool {
        self.call(|host| host.reschedule_point())
    }
    fn record(&mut self, piece: &[u8]) -> Result<(), RecordingFull> {
        self.call(|host| host.record(piece))
    }
    fn observes(&self, events: Events) -> bool {
        self.0.observes(events)
    }
    fn observe(&mut self, event: Event) {
        self.call(|host| host.observe(event));
    }
}
