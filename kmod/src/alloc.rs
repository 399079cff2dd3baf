//! The kernel's memory for Rust's collections.
//!
//! Requests up to a page never fail, they wait; so ordinary code needs no error path. Larger ones may
//! fail, and whoever makes one uses `try_reserve` and its like.

use crate::shim;
use core::alloc::{GlobalAlloc, Layout};

struct KernelMemory;

#[global_allocator]
static MEMORY: KernelMemory = KernelMemory;

// SAFETY: `lg_alloc` gives memory of at least that size and alignment, which belongs to the caller until
// `lg_free`, or null.
unsafe impl GlobalAlloc for KernelMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        shim::lg_alloc(layout.size() as u32, layout.align() as u32)
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller got it from `alloc` and has no further use for it.
        unsafe { shim::lg_free(memory) }
    }
}
