//! A value behind one of the kernel's mutexes.

use crate::errno::Errno;
use crate::shim::{self, RawMutex};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use fallible::OutOfMemory;

/// As `std::sync::Mutex`, without poisoning: no plug-in code runs with one of the module's locks but a guest's session,
/// which outlives its panics; any other panic ends in BUG() and unlocks nothing.
pub struct Mutex<T> {
    raw: *mut RawMutex,
    value: UnsafeCell<T>,
}

// SAFETY: the mutex gives the value to one thread at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: the kernel's mutex may be used and destroyed from any thread.
unsafe impl<T: Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// With nothing to be locked before it.
    pub fn new(value: T) -> Result<Self, OutOfMemory> {
        Self::create(value, false)
    }

    /// To be locked by who may hold one of the others.
    pub fn new_inner(value: T) -> Result<Self, OutOfMemory> {
        Self::create(value, true)
    }

    fn create(value: T, inner: bool) -> Result<Self, OutOfMemory> {
        let raw = shim::lg_mutex_create(inner);
        if raw.is_null() { Err(OutOfMemory) } else { Ok(Self { raw, value: UnsafeCell::new(value) }) }
    }

    /// Waits for the value; `EINTR` when the process is killed meanwhile, which then runs no more of its own code.
    pub fn lock(&self) -> Result<Guard<'_, T>, Errno> {
        // SAFETY: `raw` is a mutex until `drop`.
        if unsafe { shim::lg_mutex_lock(self.raw) } { Ok(Guard(self)) } else { Err(Errno::EINTR) }
    }

    /// The value, if nobody has it.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        // SAFETY: as above.
        unsafe { shim::lg_mutex_try_lock(self.raw) }.then(|| Guard(self))
    }
}

impl<T> Drop for Mutex<T> {
    fn drop(&mut self) {
        // SAFETY: it was made by `new`, and with `&mut self` nobody holds it.
        unsafe { shim::lg_mutex_destroy(self.raw) }
    }
}

/// The right to use the value.
pub struct Guard<'a, T>(&'a Mutex<T>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mutex is ours until the guard goes.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the mutex is ours until the guard goes, and `&mut self` makes the reference unique.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: it was locked when the guard was made.
        unsafe { shim::lg_mutex_unlock(self.0.raw) }
    }
}
