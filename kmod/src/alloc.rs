//! The kernel's memory for Rust's collections.
//!
//! Every request may fail. `Box::new`, `vec!`, `format!` and a collection that grows by itself panic then, which is a BUG()
//! in the module's own code. So nothing here and in the crates below uses them, but [`fallible`] and `try_reserve`. The
//! parameter `fail_allocation` (`lg_fail.c`) and a test of the strategies fail each request once.

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
