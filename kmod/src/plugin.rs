//! A guest's plug-in code, its strategy and policy, as the module has it: guarded against its panics, and its memory kept
//! account of.
//!
//! `lg_plugin.c` is the C side. A word that both sides have is set while plug-in code runs; the panic handler and
//! the allocator act by it. It is set by [`Plugin::inside`], and cleared for as long as code of the module runs that
//! plug-in code has called ([`Plugin::outside`]).

use crate::shim::{self, INSIDE, OUTSIDE, RawPlugin};
use crate::user::User;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering, compiler_fence};
use framework::kill::Panicked;

/// The plug-in code of one guest.
pub struct Plugin {
    raw: NonNull<RawPlugin>,
    /// Whose guest it is; the C side uses it for as long as there is `raw`.
    user: User,
}

// SAFETY: the C side allows any task to use it, one at a time, which the guest's session sees to.
unsafe impl Send for Plugin {}

impl Plugin {
    /// Of a new guest of the user's with so many pages; `None` when memory is short.
    pub fn new(user: &User, guest_pages: u32) -> Option<Self> {
        let user = user.clone();
        // SAFETY: the user lives as long as the result.
        let raw = NonNull::new(unsafe { shim::lg_plugin_create(user.raw(), guest_pages) })?;
        Some(Self { raw, user })
    }

    /// Whose guest it is.
    pub const fn user(&self) -> &User {
        &self.user
    }

    /// The C side's object; it lives as long as `self`.
    pub const fn raw(&self) -> NonNull<RawPlugin> {
        self.raw
    }

    /// Runs `call`, and comes back also when plug-in code within it panics.
    ///
    /// # Errors
    /// [`Panicked`] when plug-in code has panicked; then `call` was given up in the middle, without a destructor.
    ///
    /// # Safety
    /// The object lives. `call` may be given up wherever it calls plug-in code: nothing that it has on its stack needs its
    /// destructor, and nothing that plug-in code has borrowed is used again.
    pub unsafe fn guard<R, F: FnOnce() -> R>(plugin: NonNull<RawPlugin>, call: F) -> Result<R, Panicked> {
        struct Task<F, R> {
            call: Option<F>,
            result: Option<R>,
        }

        unsafe extern "C" fn run<R, F: FnOnce() -> R>(task: *mut c_void) {
            // SAFETY: it is the task below, which nobody else uses meanwhile.
            let task = unsafe { &mut *task.cast::<Task<F, R>>() };
            task.result = task.call.take().map(|call| call());
        }

        let mut task = Task { call: Some(call), result: None };
        // SAFETY: the object lives; `run` gets the task that it is for, which outlives the call. That the call may come
        // back without it is the caller's promise.
        let returned = unsafe { shim::lg_plugin_guard(plugin.as_ptr(), run::<R, F>, (&raw mut task).cast()) };
        match task.result {
            Some(result) if returned => Ok(result),
            // SAFETY: the object lives, and plug-in code is not at work.
            _ => Err(Panicked::new(format_args!("{}", unsafe { words(plugin) }))),
        }
    }

    /// For as long as the result lives, plug-in code is at work.
    #[inline]
    pub fn inside(&self) -> At {
        At::new(self.raw, INSIDE)
    }

    /// For as long as the result lives, the module's own code is, whoever has called it.
    #[inline]
    pub fn outside(&self) -> At {
        At::new(self.raw, OUTSIDE)
    }

    /// Whether that many bytes may still be taken of the host for the guest; then they are counted.
    pub fn charge(&self, bytes: u32) -> bool {
        // SAFETY: the object lives.
        unsafe { shim::lg_plugin_charge(self.raw.as_ptr(), bytes) }
    }

    /// Bytes that were counted are not taken any more.
    pub fn uncharge(&self, bytes: u32) {
        // SAFETY: the object lives.
        unsafe { shim::lg_plugin_uncharge(self.raw.as_ptr(), bytes) }
    }

    /// Whether no memory could be taken for the guest last time because its user's guests may not take more together.
    pub fn at_user_limit(&self) -> bool {
        // SAFETY: the object lives.
        unsafe { shim::lg_plugin_at_user_limit(self.raw.as_ptr()) }
    }

    /// Frees what plug-in code has allocated and not freed.
    ///
    /// # Safety
    /// The guest's strategy is gone, or forgotten.
    pub unsafe fn reclaim(&self) {
        // SAFETY: the object lives; the rest is the caller's promise.
        unsafe { shim::lg_plugin_reclaim(self.raw.as_ptr()) }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        unsafe { shim::lg_plugin_destroy(self.raw.as_ptr()) }
    }
}

/// The message of the last panic.
///
/// # Safety
/// The object lives, and its plug-in code is not at work as long as the text is used.
unsafe fn words<'a>(plugin: NonNull<RawPlugin>) -> &'a str {
    let mut length = 0;
    // SAFETY: `length` is valid for writes; so many bytes are there and stay until the next panic.
    let words = unsafe {
        let start = shim::lg_plugin_words(plugin.as_ptr(), &mut length);
        slice::from_raw_parts(start, length as usize)
    };
    str::from_utf8(words).unwrap_or("(words that are no text)")
}

/// Whose code is at work, until this goes; then it is whose it was before.
pub struct At {
    plugin: NonNull<RawPlugin>,
    before: u32,
}

impl At {
    #[inline]
    fn new(plugin: NonNull<RawPlugin>, now: u32) -> Self {
        // SAFETY: the object lives, in the host of which this is made for a call.
        let state: &AtomicU32 = unsafe { &(*plugin.as_ptr()).state };
        let before = state.load(Ordering::Relaxed);
        state.store(now, Ordering::Relaxed);
        // One task reads and writes it. But what was done before must have been done if plug-in code does not return.
        compiler_fence(Ordering::SeqCst);
        Self { plugin, before }
    }
}

impl Drop for At {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { &(*self.plugin.as_ptr()).state }.store(self.before, Ordering::Relaxed);
    }
}
