//! Allocations that fail with an error.
//!
//! `Box::new`, `vec!` and `format!` panic when memory is short. Inside a kernel that is an oops, or in a plug-in the end of
//! its guest, and who uses up the memory can provoke that. So the hypervisor's crates allocate by these functions, and by
//! the `try_reserve` of the collections.
//!
//! ```
//! use fallible::{OutOfMemory, boxed, filled};
//!
//! struct Table { entries: Box<[u32]> }
//!
//! fn table(entries: usize) -> Result<Box<Table>, OutOfMemory> {
//!     boxed(Table { entries: filled(0, entries)? })
//! }
//!
//! assert_eq!(table(1024).unwrap().entries.len(), 1024);
//! assert!(table(usize::MAX).is_err());
//! ```
#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::alloc::Layout;
use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::ptr::NonNull;

/// The host has no memory left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host is out of memory")]
pub struct OutOfMemory;

impl From<TryReserveError> for OutOfMemory {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

/// As `Box::new`. A value of more than a few hundred bytes is better made by [`boxed_with`].
///
/// # Errors
/// [`OutOfMemory`] when memory is short; the value is dropped.
pub fn boxed<T>(value: T) -> Result<Box<T>, OutOfMemory> {
    boxed_with(|| value)
}

/// A box with a value that is made when its memory is there. So the stack, of which a kernel has little, need not hold
/// the value while the allocator is at work, which may need much of the stack itself.
///
/// # Errors
/// [`OutOfMemory`] when memory is short; `make` is not called then.
#[inline]
pub fn boxed_with<T>(make: impl FnOnce() -> T) -> Result<Box<T>, OutOfMemory> {
    let layout = Layout::new::<T>();
    let place = if layout.size() == 0 {
        NonNull::dangling()
    } else {
        // SAFETY: the size is not 0.
        let place = unsafe { alloc::alloc::alloc(layout) };
        NonNull::new(place.cast::<T>()).ok_or(OutOfMemory)?
    };
    // SAFETY: the place is of the global allocator and the type's layout, or of no size, and ours alone; so it may be
    // written to and belong to a box. (Should `make` panic, it is not given back.)
    unsafe {
        make_at(place, make);
        Ok(Box::from_raw(place.as_ptr()))
    }
}

/// Makes a value in its place.
///
/// # Safety
/// The place may be written to.
#[inline(never)] // The compiler may make it in this frame first, which then goes before anything else is called.
unsafe fn make_at<T>(place: NonNull<T>, make: impl FnOnce() -> T) {
    // SAFETY: as the caller promises.
    unsafe { place.write(make()) }
}

/// As `vec![value; len]`, of a length that stays.
///
/// # Errors
/// [`OutOfMemory`] when memory is short.
pub fn filled<T: Clone>(value: T, len: usize) -> Result<Box<[T]>, OutOfMemory> {
    let mut items = Vec::new();
    items.try_reserve_exact(len)?;
    items.resize(len, value);
    Ok(items.into_boxed_slice())
}

/// As `Iterator::collect`, of items whose number is known.
///
/// # Errors
/// [`OutOfMemory`] when memory is short.
pub fn collected<T>(items: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>, OutOfMemory> {
    let mut collected = Vec::new();
    collected.try_reserve_exact(items.len())?;
    // No more than there is room for, whatever length the iterator reports.
    let room = collected.capacity();
    collected.extend(items.take(room));
    Ok(collected)
}

/// As `Vec::push`.
///
/// # Errors
/// [`OutOfMemory`] when memory is short; the item is dropped.
pub fn push<T>(items: &mut Vec<T>, item: T) -> Result<(), OutOfMemory> {
    items.try_reserve(1)?;
    items.push(item);
    Ok(())
}

/// As `format!`, for messages: what there is no memory for is cut off.
#[must_use]
pub fn text(arguments: fmt::Arguments<'_>) -> String {
    let mut text = Text(String::new());
    // An error means that the rest was cut off.
    let _ = text.write_fmt(arguments);
    text.0
}

struct Text(String);

impl Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0.try_reserve(piece.len()).map_err(|_| fmt::Error)?;
        self.0.push_str(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::{GlobalAlloc, System};
    use std::cell::Cell;
    use std::rc::Rc;

    thread_local! {
        /// How many allocations this thread may still make.
        static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    struct Limited;

    // SAFETY: everything is the system's, or null.
    unsafe impl GlobalAlloc for Limited {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            match LEFT.get().checked_sub(1) {
                None => core::ptr::null_mut(),
                Some(left) => {
                    LEFT.set(left);
                    // SAFETY: as the caller promises.
                    unsafe { System.alloc(layout) }
                }
            }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Limited = Limited;

    /// What comes of it when that many allocations can be made.
    fn with<R>(allocations: usize, action: impl FnOnce() -> R) -> R {
        LEFT.set(allocations);
        let result = action();
        LEFT.set(usize::MAX);
        result
    }

    #[test]
    fn a_box_holds_its_value_or_drops_it() {
        let value = Rc::new(7);
        let held = with(1, || boxed(Rc::clone(&value))).unwrap();
        assert_eq!((**held, Rc::strong_count(&value)), (7, 2));
        drop(held);
        assert_eq!(with(0, || boxed(Rc::clone(&value))).unwrap_err(), OutOfMemory);
        assert_eq!(Rc::strong_count(&value), 1);
        with(0, || boxed(())).unwrap();
    }

    #[test]
    fn a_slice_takes_one_allocation() {
        assert_eq!(*with(1, || filled(3_u64, 5)).unwrap(), [3; 5]);
        assert!(with(0, || filled(3_u64, 5)).is_err());
        assert_eq!(*with(1, || collected([1, 2].into_iter())).unwrap(), [1, 2]);
        assert!(with(0, || collected([1, 2].into_iter())).is_err());
        let mut items = Vec::new();
        assert!(with(0, || push(&mut items, 1)).is_err());
        assert!(with(1, || push(&mut items, 1)).is_ok());
        assert_eq!(items, [1]);
    }

    #[test]
    fn a_text_is_cut_off() {
        assert_eq!(text(format_args!("{}-{:>3}", "one", 2)), "one-  2");
        assert_eq!(with(0, || text(format_args!("{}", 1))), "");
        // The second piece does not fit what was taken for the first. (A constant would be joined to it.)
        let long = "2".repeat(32);
        assert_eq!(with(1, || text(format_args!("1{long}"))), "1");
    }
}
