//! Hypercalls: the numbers in `eax` and the arguments in `ebx`, `ecx`, `edx`, `esi`.
//!
//! A guest calls by `int $0x1f`, or queues the call in its [ring](crate::lguest_data::LguestData).
//! Numbers as in lguest's `asm/lguest_hcall.h` (Linux 3.11); 3, 11 and 12 were never reused. [`Hypercall::SwitchTo`] and
//! [`Hypercall::FlushUserOf`] are this project's own: lguest's hosts end a guest for them.

macro_rules! hypercalls {
    ($($(#[$doc:meta])* $name:ident = $n:literal),* $(,)?) => {
        /// What a guest can request of its host.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Hypercall { $($(#[$doc])* $name = $n),* }

        impl Hypercall {
            /// The first number beyond those of all calls.
            pub const END: u32 = {
                let mut end = 0;
                $(if end <= $n { end = $n + 1 })*
                end
            };

            /// The hypercall with this number, or `None` for a number that means nothing.
            #[must_use]
            pub const fn from_number(n: u32) -> Option<Self> {
                match n { $($n => Some(Self::$name),)* _ => None }
            }
        }
    };
}

hypercalls! {
    /// Do what the ring holds; nothing else.
    FlushAsync = 0,
    /// `(lguest_data physical)`: the first call, introduces the shared page.
    LguestInit = 1,
    /// `(message physical, reason)`: power off or restart; see [`SHUTDOWN_POWEROFF`].
    Shutdown = 2,
    /// `(page directory physical)`: load CR3.
    NewPgtable = 4,
    /// `(all)`: 0 flushes the user half of the current page directory, anything else everything.
    FlushTlb = 5,
    /// `(vector, low, high)`: one gate of the IDT.
    LoadIdtEntry = 6,
    /// `(ss1, esp1, pages)`: the kernel stack for traps from ring 3, `pages` pages below `esp1`.
    SetStack = 7,
    /// `(on)`: set or clear CR0.TS, so that the next FPU instruction traps.
    Ts = 8,
    /// `(nanoseconds)`: interrupt 0 after that long; 0 turns the clock off.
    SetClockevent = 9,
    /// Sleep until an interrupt.
    Halt = 10,
    /// `(page middle directory physical, index)`: a second-level PAE entry changed.
    SetPmd = 13,
    /// `(page directory physical, virtual, entry low, entry high)`: a page-table entry changed.
    SetPte = 14,
    /// `(page directory physical, index)`: a top-level entry changed.
    SetPgd = 15,
    /// `(array physical)`: three thread-local-storage descriptors.
    LoadTls = 16,
    /// `(physical)`: notify the launcher: a virtqueue's address, or an early console string.
    Notify = 17,
    /// `(index, low, high)`: one descriptor of the GDT.
    LoadGdtEntry = 18,
    /// Deliver pending interrupts now; nothing else.
    SendInterrupts = 19,
    /// `(page directory physical, esp1, pages, flush)`: load CR3, flush its user half unless `flush` is 0, and set the kernel stack as
    /// [`Hypercall::SetStack`] does, in the segment that the last of those has named. A switch to another process in one call.
    SwitchTo = 20,
    /// `(page directory physical, another, another, another)`: flushes the user half of the current page directory, and of each of these,
    /// 0 for none. What these hold at the moment does not matter: they may have been given back.
    FlushUserOf = 21,
}

/// Second argument of [`Hypercall::Shutdown`]: power off. The message is the guest's last word.
pub const SHUTDOWN_POWEROFF: u32 = 1;
/// Second argument of [`Hypercall::Shutdown`]: the guest requests a restart.
pub const SHUTDOWN_RESTART: u32 = 2;
/// Bytes of the message that [`Hypercall::Shutdown`] points to, terminator included.
pub const SHUTDOWN_MESSAGE: usize = 128;

/// One call as the guest's registers (or a ring entry) carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HypercallArgs {
    /// `eax`: the number.
    pub number: u32,
    /// `ebx`, `ecx`, `edx`, `esi`.
    pub args: [u32; 4],
}
