//! One virtqueue as its device sees it: takes chains of buffers that the guest offers, gives them back.
//!
//! The layout is that of the split ring (virtio 1.x specification, 2.7). On the lguest bus it has the legacy alignment of
//! 2.7.2, in guest memory that belongs to the launcher's device pages; on the PCI bus the guest chooses where each of its
//! three parts is:
//!
//! ```text
//!  descriptors   size x { address u64, length u32, flags u16, next u16 }   the guest's
//!  available     flags u16, index u16, size x u16, u16                     the guest's
//!  (padding to a multiple of 4096)
//!  used          flags u16, index u16, size x { head u32, length u32 }     ours
//! ```
//!
//! **Nothing in the ring is trusted.** Each word is read once and then checked: heads and links must be
//! below the size, a chain has at most `size` descriptors (so a loop ends), readable buffers come first,
//! and every buffer lies inside guest memory. The used index is kept here and never read back.
//! What breaks a rule is a [`RingError`], which ends the guest.

use crate::guest_memory::{GuestMemory, GuestSlice, OutOfBounds};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};
use thiserror::Error;

/// The alignment of the used ring: lguest's `LGUEST_VRING_ALIGN`.
pub const ALIGN: u32 = 4096;

/// Descriptor flags.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// In the available ring's flags: the guest requests no interrupt.
const NO_INTERRUPT: u16 = 1;
/// In the used ring's flags: the device requests no notification.
const NO_NOTIFY: u16 = 1;

/// `u32` words of a descriptor and of a used element, `u16` words before the rings' entries.
const DESCRIPTOR_WORDS: usize = 4;
const ELEMENT_WORDS: usize = 2;
const RING_HEADER: usize = 2;

/// What a guest did wrong with its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RingError {
    /// The available index ran ahead of the ring.
    #[error("offers {offered} chains at once in a ring of {size}")]
    TooManyOffered {
        /// How far the index is ahead of what was taken.
        offered: u16,
        /// Entries of the ring.
        size: u16,
    },
    /// A head or link is no descriptor's number.
    #[error("names descriptor {index} of {size}")]
    NoSuchDescriptor {
        /// The number named.
        index: u16,
        /// Entries of the ring.
        size: u16,
    },
    /// A chain is longer than the ring.
    #[error("makes a chain of descriptors that does not end")]
    Loop,
    /// An indirect table, which no device here offers to understand.
    #[error("uses an indirect descriptor, which was not offered")]
    Indirect,
    /// A device-readable buffer after a device-writable one.
    #[error("puts a readable buffer after a writable one")]
    ReadableAfterWritable,
    /// A buffer outside guest memory.
    #[error("gives a buffer that is not its own: {0}")]
    Buffer(#[from] OutOfBounds),
}

/// Bytes that a ring of `size` entries takes, from its first page.
#[must_use]
pub const fn ring_bytes(size: u16) -> u32 {
    used_offset(size) + 4 + 8 * size as u32 + 2
}

const fn avail_offset(size: u16) -> u32 {
    16 * size as u32
}

const fn used_offset(size: u16) -> u32 {
    (avail_offset(size) + 4 + 2 * size as u32 + 2).next_multiple_of(ALIGN)
}

/// Where a guest has a ring: its three parts, and its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Guest-physical address of the descriptors.
    pub descriptors: u64,
    /// The same of the available ring.
    pub available: u64,
    /// The same of the used ring.
    pub used: u64,
    /// Entries, a power of two.
    pub size: u16,
}

impl Ring {
    /// The legacy layout from `start` on.
    #[must_use]
    pub fn legacy(start: u32, size: u16) -> Self {
        let descriptors = u64::from(start);
        let available = descriptors + u64::from(avail_offset(size));
        Self { descriptors, available, used: descriptors + u64::from(used_offset(size)), size }
    }
}

/// The device's side of one virtqueue.
#[derive(Debug)]
pub struct Virtqueue<'m> {
    memory: &'m GuestMemory,
    // Invariant: a power of two, and the slices below have lengths that follow from it.
    size: u16,
    descriptors: &'m [AtomicU32],
    avail: &'m [AtomicU16],
    used_header: &'m [AtomicU16],
    used_elements: &'m [AtomicU32],
    next_avail: u16,
    next_used: u16,
    /// Something was given back since the guest was last notified.
    untold: bool,
}

/// What the guest offered: one chain of buffers, to be answered by [`Virtqueue::give_back`].
#[derive(Debug)]
pub struct Chain<'m> {
    /// The chain's number, for [`Virtqueue::give_back`].
    pub head: u16,
    /// The buffers that the device reads, in order.
    pub readable: Buffers<'m>,
    /// The buffers that the device writes, in order.
    pub writable: Buffers<'m>,
}

impl<'m> Virtqueue<'m> {
    /// A ring of `size` entries (a power of two) at guest-physical `start`, from its beginning: nothing
    /// taken, nothing given back.
    ///
    /// # Errors
    /// [`OutOfBounds`] when the ring is not inside memory or not aligned. Ring addresses are the
    /// launcher's own choice, so this is a mistake of its layout and not the guest's.
    ///
    /// # Panics
    /// If `size` is not a power of two.
    pub fn new(memory: &'m GuestMemory, start: u32, size: u16) -> Result<Self, OutOfBounds> {
        Self::at(memory, Ring::legacy(start, size))
    }

    /// A ring whose parts may be anywhere, from its beginning.
    ///
    /// # Errors
    /// [`OutOfBounds`] when a part of the ring is not inside memory or not aligned as its words must be.
    ///
    /// # Panics
    /// If its size is not a power of two.
    pub fn at(memory: &'m GuestMemory, ring: Ring) -> Result<Self, OutOfBounds> {
        let Ring { descriptors, available, used, size } = ring;
        assert!(size.is_power_of_two(), "a ring of {size} entries");
        let n = u64::from(size);
        Ok(Self {
            memory,
            size,
            descriptors: memory.integers(descriptors, n * DESCRIPTOR_WORDS as u64)?,
            avail: memory.integers(available, RING_HEADER as u64 + n)?,
            used_header: memory.integers(used, RING_HEADER as u64)?,
            used_elements: memory.integers(used.saturating_add(4), n * ELEMENT_WORDS as u64)?,
            next_avail: 0,
            next_used: 0,
            untold: false,
        })
    }

    /// The next chain that the guest offers, if any.
    ///
    /// # Errors
    /// [`RingError`]: the queue must not be used further.
    pub fn take(&mut self) -> Result<Option<Chain<'m>>, RingError> {
        let size = self.size;
        // Acquire: what the guest wrote before it moved the index is seen below.
        let offered = self.avail[1].load(Ordering::Acquire).wrapping_sub(self.next_avail);
        if offered == 0 {
            return Ok(None);
        }
        if offered > size {
            return Err(RingError::TooManyOffered { offered, size });
        }
        let slot = usize::from(self.next_avail & (size - 1));
        let head = self.avail[RING_HEADER + slot].load(Ordering::Relaxed);
        let chain = self.walk(head)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(chain))
    }

    fn walk(&self, head: u16) -> Result<Chain<'m>, RingError> {
        let mut chain = Chain { head, readable: Buffers::default(), writable: Buffers::default() };
        let mut index = head;
        for _ in 0..self.size {
            let [low, high, len, flags_next] = self.descriptor(index)?;
            let (flags, next) = (flags_next as u16, (flags_next >> 16) as u16);
            if flags & INDIRECT != 0 {
                return Err(RingError::Indirect);
            }
            let buffer = self.memory.slice(u64::from(high) << 32 | u64::from(low), len.into())?;
            if flags & WRITE != 0 {
                chain.writable.push(buffer);
            } else if chain.writable.parts.is_empty() {
                chain.readable.push(buffer);
            } else {
                return Err(RingError::ReadableAfterWritable);
            }
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            index = next;
        }
        Err(RingError::Loop)
    }

    /// The four words of a descriptor, read once.
    fn descriptor(&self, index: u16) -> Result<[u32; DESCRIPTOR_WORDS], RingError> {
        if index >= self.size {
            return Err(RingError::NoSuchDescriptor { index, size: self.size });
        }
        let first = usize::from(index) * DESCRIPTOR_WORDS;
        Ok(std::array::from_fn(|i| self.descriptors[first + i].load(Ordering::Relaxed)))
    }

    /// Returns the chain `head` to the guest, `written` bytes of its writable buffers being new.
    pub fn give_back(&mut self, head: u16, written: u32) {
        let element = usize::from(self.next_used & (self.size - 1)) * ELEMENT_WORDS;
        self.used_elements[element].store(head.into(), Ordering::Relaxed);
        self.used_elements[element + 1].store(written, Ordering::Relaxed);
        self.next_used = self.next_used.wrapping_add(1);
        // Release: the guest that sees the index sees the element and the buffers' contents.
        self.used_header[1].store(self.next_used, Ordering::Release);
        self.untold = true;
    }

    /// Whether the guest is to be interrupted for what was given back since the last call.
    pub fn wants_interrupt(&mut self) -> bool {
        if !std::mem::take(&mut self.untold) {
            return false;
        }
        // The guest clears its flag, then looks at the used index; we moved the index, then look at the
        // flag. Without a full fence between, both could miss the other's store.
        fence(Ordering::SeqCst);
        self.avail[0].load(Ordering::Relaxed) & NO_INTERRUPT == 0
    }

    /// Disables the guest's notifications: the device is at work and will look by itself.
    pub fn ignore_notifications(&mut self) {
        self.used_header[0].store(NO_NOTIFY, Ordering::Relaxed);
    }

    /// Enables the guest's notifications. Returns whether it has offered something meanwhile, which it may
    /// have done without notifying: then look again before waiting.
    #[must_use]
    pub fn await_notifications(&mut self) -> bool {
        self.used_header[0].store(0, Ordering::Relaxed);
        // The mirror image of the fence in `wants_interrupt`.
        fence(Ordering::SeqCst);
        self.avail[1].load(Ordering::Relaxed) != self.next_avail
    }
}

/// A sequence of buffers in guest memory, consumed from the front by reading or writing.
#[derive(Debug, Default)]
pub struct Buffers<'m> {
    // Invariant: `left` is the sum of their lengths. Guest memory is below 4 GiB and a chain has at most
    // 2^15 parts, so the sum fits.
    parts: VecDeque<GuestSlice<'m>>,
    left: u64,
}

impl<'m> Buffers<'m> {
    fn push(&mut self, part: GuestSlice<'m>) {
        self.left += part.len() as u64;
        self.parts.push_back(part);
    }

    /// Bytes not yet consumed.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Keeps the first `at` bytes (or all, if there are fewer) and returns the rest.
    #[must_use]
    pub fn split_off(&mut self, at: u64) -> Self {
        let mut front = Self::default();
        let mut back = Self::default();
        for part in self.parts.drain(..) {
            let wanted = usize::try_from(at - front.left).unwrap_or(usize::MAX);
            let (left, right) = part.split_at(wanted);
            front.push(left);
            back.push(right);
        }
        *self = front;
        back
    }

    /// Moves bytes by `copy`, part by part, until it has moved `wanted` or there are no more.
    fn consume(&mut self, wanted: usize, mut copy: impl FnMut(GuestSlice<'m>, usize) -> usize) -> usize {
        let mut done = 0;
        while done < wanted
            && let Some(part) = self.parts.pop_front()
        {
            let n = copy(part, done);
            done += n;
            self.left -= n as u64;
            let (_, rest) = part.split_at(n);
            if !rest.is_empty() {
                self.parts.push_front(rest);
            }
        }
        done
    }
}

/// Reading consumes. Never fails; 0 means the end.
impl io::Read for Buffers<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        Ok(self.consume(target.len(), |part, done| part.copy_to(&mut target[done..])))
    }
}

/// Writing consumes. Never fails; 0 means that the buffers are full.
impl io::Write for Buffers<'_> {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        Ok(self.consume(source.len(), |part, done| part.copy_from(&source[done..])))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
