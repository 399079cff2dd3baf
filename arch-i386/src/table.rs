//! One page of memory that holds a page table, reached without copying.
//!
//! Shadow tables are read by the processor, so they live in pages that the host's allocator gave out.
//! [`TablePage`] is the owner's handle: whoever holds it may read and write the page, nobody else does
//! but the processor, and that only while the guest runs and no Rust code does on its behalf.

use crate::addr::{HostFrame, PAGE_SIZE};
use core::ptr::NonNull;

/// Exclusive ownership of one page that holds a page table.
///
/// There is no `Drop`: the page belongs to a host's allocator and goes back by the host's
/// `free_table`. Dropping the handle leaks the page until the host reclaims it.
#[derive(Debug)]
#[must_use = "dropping the handle leaks the page; give it back to the host"]
pub struct TablePage {
    // Invariant: points to one page, aligned to its size, initialised, used through this handle only.
    page: NonNull<[u64; 512]>,
    frame: HostFrame,
    ticket: u32,
}

// SAFETY: the handle owns its page exclusively and the page has no thread affinity.
unsafe impl Send for TablePage {}
// SAFETY: a shared handle gives out shared references only.
unsafe impl Sync for TablePage {}

/// A type that may stand for a host towards the code that keeps shadow page tables.
///
/// Safe code can hold and pass on such a host, and cannot be one: so a paging strategy never gets between its
/// shadow tables and the pages that they are made of.
///
/// # Safety
/// What the type does for the framework's `PagingHost` must be so:
///
/// * A table page that it gives out is zeroed, is nobody else's, and stays so until it comes back or the host reclaims it.
/// * A frame that it returns holds a page of that guest's memory. When it no longer does, the host drops each entry of the
///   frame in the tables that it has given out, before the guest runs again. If the frame is said to be writable, the guest may
///   write to it without anybody else seeing it who should not.
/// * It keeps no copy of the capability that those methods are called with.
pub unsafe trait TrustedHost {}

impl TablePage {
    /// Takes over a page.
    ///
    /// # Safety
    /// `page` is aligned to 4096 bytes, initialised, valid for reads and writes until the handle is
    /// taken apart again with [`TablePage::into_raw`], and not accessed by other Rust code meanwhile.
    /// `frame` is its page number.
    pub unsafe fn from_raw(page: NonNull<[u64; 512]>, frame: HostFrame) -> Self {
        debug_assert_eq!(page.as_ptr().addr() % PAGE_SIZE as usize, 0);
        Self { page, frame, ticket: 0 }
    }

    /// Gives the page back to the allocator it came from.
    #[must_use]
    pub fn into_raw(self) -> (NonNull<[u64; 512]>, HostFrame) {
        (self.page, self.frame)
    }

    /// Where the page is in the real machine.
    #[must_use]
    pub const fn frame(&self) -> HostFrame {
        self.frame
    }

    /// The number by which the host finds the page in its own books when the page comes back; 0 at first.
    #[must_use]
    pub const fn ticket(&self) -> u32 {
        self.ticket
    }

    /// Sets the number that [`TablePage::ticket`] returns.
    pub const fn set_ticket(&mut self, ticket: u32) {
        self.ticket = ticket;
    }

    /// The page again, by a second handle, for the host's own books.
    ///
    /// # Safety
    /// While either handle is used, the other one is not.
    pub const unsafe fn second_handle(&self) -> Self {
        Self { page: self.page, frame: self.frame, ticket: self.ticket }
    }

    /// The page as 8-byte entries.
    #[inline]
    #[must_use]
    pub fn longs(&self) -> &[u64; 512] {
        // SAFETY: by the type's invariant.
        unsafe { self.page.as_ref() }
    }

    /// The page as 8-byte entries, to be changed.
    #[inline]
    pub fn longs_mut(&mut self) -> &mut [u64; 512] {
        // SAFETY: by the type's invariant; `&mut self` makes the access exclusive.
        unsafe { self.page.as_mut() }
    }

    /// The page as 4-byte entries.
    #[inline]
    #[must_use]
    pub fn words(&self) -> &[u32; 1024] {
        // SAFETY: by the type's invariant; the same 4096 initialised bytes, more weakly aligned.
        unsafe { self.page.cast::<[u32; 1024]>().as_ref() }
    }

    /// The page as 4-byte entries, to be changed.
    #[inline]
    pub fn words_mut(&mut self) -> &mut [u32; 1024] {
        // SAFETY: as above; `&mut self` makes the access exclusive.
        unsafe { self.page.cast::<[u32; 1024]>().as_mut() }
    }
}
