//! The hypervisor's logic, without a privileged instruction and independent of Linux.
//!
//! The same code runs inside the kernel module, in tests and benchmarks on a simulated host, and under
//! Miri; the [`Host`](host::Host) trait is the seam. The crate has three layers, to be read in this
//! order:
//!
//! 1. **The guest's life**: [`guest`] is the loop that enters a guest and looks at why it came back;
//!    `hypercall`, `interrupt` and `trap` each do one kind of request, `emulate` does what a guest's kernel may not execute,
//!    [`device_access`] what its launcher does of that, both by `code`, the instruction; `nested` ends a guest whose handlers only fault, [`segment`] keeps the guest's descriptors.
//! 2. **The plug-in surface**: [`strategy`] (all of paging), [`pager`] (what is done for every strategy), [`inspect`] (what
//!    a strategy lets be seen), [`policy`] (just the choice of which shadow
//!    page directory is evicted), [`registry`] (how either is found by name) and [`parameter`] (what can
//!    be set).
//! 3. **What strategies are made of**: [`walk`] reads the guest's own tables, [`tables`] owns the shadow ones; a strategy
//!    gets at real pages by these only. The strategies themselves, and the cache of shadow page directories that most of
//!    them share, are in the crate `strategies`.
//!
//! [`guarded`] is the one way from the first layer into the plug-ins: a plug-in that panics ends its guest only.
//!
//! [`audit`] checks what can be proved of the shadow tables while a guest runs; [`defect`] is what it finds.
//!
//! [`host`] is what all of it needs from its host ([`paging_host`] the part that strategies see), [`window`] and
//! [`shadow_root`] what passes between tables and world switch, [`ledger`] how a host gets back what a strategy leaks,
//! [`watch`] how one strategy observes the host of another, [`bits`] what sets of numbers are gone through by. [`kill`] has the reasons why a guest dies, [`config_error`]
//! those why a strategy's text is refused, [`counters`] what is counted, [`event`] what can be watched as it happens, [`views`] what
//! can be read of a running guest, and [`trace`] how a guest's requests are recorded.
//!
//! Here belongs what every strategy or every host needs. What one strategy needs is in `strategies`, and nothing here depends
//! on Linux or executes a privileged instruction. No file imports another one that imports it, in however many steps.
//!
//! Nothing here may end the host's kernel when memory is short: every allocation is made by [`fallible`], or by the
//! `try_reserve` of the collections.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub use fallible;

pub mod audit;
pub mod bits;
mod code;
pub mod config_error;
pub mod counters;
mod debug;
mod debugged;
pub mod defect;
pub mod device_access;
mod emulate;
pub mod event;
pub mod guarded;
pub mod guest;
pub mod host;
mod hypercall;
pub mod in_switcher;
pub mod inspect;
mod interrupt;
pub mod kill;
pub mod ledger;
mod nested;
pub mod pager;
pub mod paging_host;
pub mod parameter;
pub mod policy;
pub mod registry;
pub mod segment;
pub mod shadow_root;
pub mod stale;
pub mod strategy;
pub mod tables;
pub mod trace;
mod trap;
pub mod views;
pub mod walk;
pub mod watch;
pub mod window;
