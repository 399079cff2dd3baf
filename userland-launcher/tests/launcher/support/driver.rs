//! The guest's side of a virtqueue: writes descriptors and offers chains, honestly or not.
//!
//! The layout is computed here a second time, from the formulas of virtio 1.x, 2.7 (and 2.7.2 for the
//! legacy alignment), so that the launcher's is checked.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use userland_launcher::guest_memory::GuestMemory;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// One queue of `size` entries whose ring begins at `start`.
#[derive(Clone, Copy)]
pub struct Driver<'m> {
    pub memory: &'m GuestMemory,
    pub start: u64,
    pub size: u16,
}

impl Driver<'_> {
    fn half(&self, address: u64) -> &AtomicU16 {
        &self.memory.integers::<AtomicU16>(address, 1).unwrap()[0]
    }

    fn word(&self, address: u64) -> &AtomicU32 {
        &self.memory.integers::<AtomicU32>(address, 1).unwrap()[0]
    }

    fn avail(&self) -> u64 {
        self.start + 16 * u64::from(self.size)
    }

    fn used(&self) -> u64 {
        (self.avail() + 6 + 2 * u64::from(self.size)).next_multiple_of(4096)
    }

    /// Writes descriptor `i`.
    pub fn describe(&self, i: u16, address: u64, len: u32, flags: u16, next: u16) {
        let at = self.start + 16 * u64::from(i);
        self.word(at).store(address as u32, Ordering::Relaxed);
        self.word(at + 4).store((address >> 32) as u32, Ordering::Relaxed);
        self.word(at + 8).store(len, Ordering::Relaxed);
        self.half(at + 12).store(flags, Ordering::Relaxed);
        self.half(at + 14).store(next, Ordering::Relaxed);
    }

    /// Writes descriptors `first, first + 1, ...` as one chain of `(address, len, writable)` buffers.
    pub fn describe_chain(&self, first: u16, buffers: &[(u64, u32, bool)]) {
        for (i, &(address, len, writable)) in (first..).zip(buffers) {
            let more = usize::from(i - first) + 1 < buffers.len();
            let flags = if writable { WRITE } else { 0 } | if more { NEXT } else { 0 };
            self.describe(i, address, len, flags, i + 1);
        }
    }

    /// Offers the chain that begins at `head`.
    pub fn offer(&self, head: u16) {
        let index = self.half(self.avail() + 2);
        let slot = u64::from(index.load(Ordering::Relaxed) % self.size);
        self.half(self.avail() + 4 + 2 * slot).store(head, Ordering::Relaxed);
        index.fetch_add(1, Ordering::Release);
    }

    /// Sets the available index without offering anything.
    pub fn set_available_index(&self, index: u16) {
        self.half(self.avail() + 2).store(index, Ordering::Release);
    }

    /// Enables interrupts, or disables them.
    pub fn want_interrupts(&self, wanted: bool) {
        self.half(self.avail()).store(u16::from(!wanted), Ordering::SeqCst);
    }

    /// Whether the device requests notifications.
    pub fn device_wants_notification(&self) -> bool {
        self.half(self.used()).load(Ordering::SeqCst) & 1 == 0
    }

    /// How many chains the device has given back, modulo 2^16.
    pub fn used_index(&self) -> u16 {
        self.half(self.used() + 2).load(Ordering::Acquire)
    }

    /// The element that the device wrote when it gave back chain number `n`: head and length.
    pub fn used_element(&self, n: u16) -> (u32, u32) {
        let at = self.used() + 4 + 8 * u64::from(n % self.size);
        (self.word(at).load(Ordering::Relaxed), self.word(at + 4).load(Ordering::Relaxed))
    }

    /// Puts bytes into guest memory.
    pub fn put(&self, address: u64, bytes: &[u8]) {
        let copied = self.memory.slice(address, bytes.len() as u64).unwrap().copy_from(bytes);
        assert_eq!(copied, bytes.len());
    }

    /// Bytes of guest memory.
    pub fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        assert_eq!(self.memory.slice(address, len as u64).unwrap().copy_to(&mut bytes), len);
        bytes
    }
}
