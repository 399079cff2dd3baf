//! A guest as others can look at it while it lives: its folder in debugfs, and how they come to it.
//!
//! `lg_views.c` is the C side, and `lg_vcpu.c` explains what a visitor is.

use crate::errno::Errno;
use crate::shim::{self, RawText, RawVcpu, RawViews};
use crate::user::User;
use core::ffi::c_void;
use core::fmt::{self, Write};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicPtr, Ordering};

/// A guest's folder, if there is one.
pub struct Views(AtomicPtr<RawViews>);

impl Views {
    /// None yet.
    pub const fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Makes the folder of the current process's guest with this number. Where there can be none, the guest lives without.
    ///
    /// # Safety
    /// `file` is what `lg_rust_show` gets, and may get until [`Views::remove`] returns. This is called once.
    pub unsafe fn create(&self, file: *const c_void, number: u32, user: &User) {
        // SAFETY: the user has a reference; the rest is the caller's promise.
        let made = unsafe { shim::lg_views_create(file, number, user.raw()) };
        self.0.store(made, Ordering::Release);
    }

    /// Removes the folder; returns when nobody looks any more.
    pub fn remove(&self) {
        let made = self.0.swap(ptr::null_mut(), Ordering::AcqRel);
        if !made.is_null() {
            // SAFETY: `create` made it, and nobody else has taken it out.
            unsafe { shim::lg_views_remove(made) }
        }
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.remove();
    }
}

/// For as long as this lives, who runs the guest lets others have its session.
pub struct Visit(*mut RawVcpu);

impl Visit {
    /// Asks for the session.
    ///
    /// # Safety
    /// The virtual CPU lives as long as the result.
    pub unsafe fn announce(vcpu: *mut RawVcpu) -> Self {
        // SAFETY: the caller's promise.
        unsafe { shim::lg_vcpu_visit(vcpu) };
        Self(vcpu)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // SAFETY: it lives, and the visit was announced.
        unsafe { shim::lg_vcpu_visited(self.0) }
    }
}

/// Measures a text.
struct Measure(u32);

impl Write for Measure {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0 = self.0.checked_add(piece.len() as u32).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// A text for a reader, and how much of its room is used.
pub struct Text {
    raw: NonNull<RawText>,
    room: u32,
    used: u32,
}

impl Text {
    fn new(room: u32) -> Result<Self, Errno> {
        let mut error = 0;
        // SAFETY: `error` is valid for writes.
        let raw = NonNull::new(unsafe { shim::lg_text_create(room, &mut error) });
        Ok(Self { raw: raw.ok_or(Errno::of_kernel(error))?, room, used: 0 })
    }

    /// What is written.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: there are so many bytes behind the length, which are ours, and so many of them have been written.
        unsafe {
            let start = (&raw const (*self.raw.as_ptr()).bytes).cast::<u8>();
            slice::from_raw_parts(start, self.used as usize)
        }
    }

    /// Gives it to C, which destroys it.
    pub fn into_raw(self) -> *mut RawText {
        let raw = self.raw.as_ptr();
        // SAFETY: it is ours, and has this word.
        unsafe { (*raw).length = self.used };
        core::mem::forget(self);
        raw
    }
}

impl Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        // SAFETY: there are so many bytes behind the length, which are ours.
        let bytes = unsafe {
            let start = (&raw mut (*self.raw.as_ptr()).bytes).cast::<MaybeUninit<u8>>();
            slice::from_raw_parts_mut(start, self.room as usize)
        };
        let end = self.used as usize + piece.len();
        for (to, byte) in
            bytes.get_mut(self.used as usize..end).ok_or(fmt::Error)?.iter_mut().zip(piece.bytes())
        {
            to.write(byte);
        }
        self.used = end as u32;
        Ok(())
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: it is ours.
        unsafe { shim::lg_text_destroy(self.raw.as_ptr()) }
    }
}

/// How much longer a text may be when it is written than when it was measured: the counters of frames may have grown.
const GROWTH: u32 = 64;

/// The text that `write` writes. `write` is called twice, and may fail when its process is being killed.
pub fn text(mut write: impl FnMut(&mut dyn Write) -> fmt::Result) -> Result<Text, Errno> {
    let mut length = Measure(0);
    write(&mut length).map_err(|fmt::Error| Errno::EINTR)?;
    let mut text = Text::new(length.0.saturating_add(GROWTH))?;
    write(&mut text).map_err(|fmt::Error| Errno::EINTR)?;
    Ok(text)
}
