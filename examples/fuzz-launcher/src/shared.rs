//! What a life and whoever watches it both see.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Figures in memory that outlives the processes of a life.
#[derive(Debug, Default)]
pub struct Shared {
    /// Times that a guest was entered, by the module's counters.
    pub entries: AtomicU64,
    /// Hypercalls, direct and from rings, by the module's counters.
    pub hypercalls: AtomicU64,
    /// Page faults of guests, by the module's counters.
    pub faults: AtomicU64,
    /// What attackers did.
    pub attacks: AtomicU64,
    /// Requests written to the device.
    pub requests: AtomicU64,
    /// Guests that were killed with a reason or ended by themselves.
    pub ends: AtomicU64,
    /// Guests that were never made.
    pub refused: AtomicU64,
    /// The life's guest is made, or never will be.
    pub begun: AtomicU32,
    /// The module has blamed itself: an audit failed.
    pub blamed: AtomicU32,
}

impl Shared {
    /// Makes one that all children of this process share.
    pub fn new() -> &'static Shared {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address that the kernel chooses; nothing is mapped there yet.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED, "no page to share");
        // SAFETY: it is never unmapped, zero is a valid value of every field, and atomics may be shared.
        unsafe { &*page.cast::<Shared>() }
    }

    /// Operations of all kinds.
    pub fn operations(&self) -> u64 {
        [&self.entries, &self.hypercalls, &self.attacks, &self.requests]
            .iter()
            .map(|figure| figure.load(Ordering::Relaxed))
            .sum()
    }
}
