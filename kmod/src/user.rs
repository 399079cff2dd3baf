//! The user who has opened `/dev/lguest`, to whom the file's guest counts, and its memory and lines of the log.
//!
//! `lg_user.c` is the C side, and explains who that is.

use crate::errno::Errno;
use crate::shim::{self, RawUser};

/// A reference on a user.
pub struct User(*mut RawUser);

// SAFETY: the C side's functions may be called from any thread, with several of them at once.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

impl User {
    /// Takes over a reference.
    ///
    /// # Safety
    /// It is the caller's, who does not use it any more.
    pub const unsafe fn from_raw(raw: *mut RawUser) -> Self {
        Self(raw)
    }

    /// The C side's object; it lives as long as `self`.
    pub const fn raw(&self) -> *mut RawUser {
        self.0
    }

    /// Whether something that a launcher of the user's has brought about may be logged.
    pub fn may_log(&self) -> bool {
        // SAFETY: there is a reference.
        unsafe { shim::lg_log_for_user(self.raw()) }
    }

    /// Counts one more guest, for as long as the result lives; `None` when the user may have no more.
    pub fn add_guest(&self) -> Option<CountedGuest> {
        // SAFETY: there is a reference.
        unsafe { shim::lg_user_add_guest(self.raw()) }.then(|| CountedGuest(self.clone()))
    }

    /// Counts memory, for as long as the result lives: `EDQUOT` when the user's guests may not take more.
    pub fn charge(&self, bytes: u32) -> Result<CountedMemory, Errno> {
        // SAFETY: there is a reference.
        let counted = unsafe { shim::lg_user_charge(self.raw(), bytes) };
        if counted { Ok(CountedMemory { user: self.clone(), bytes }) } else { Err(Errno::EDQUOT) }
    }
}

impl Clone for User {
    fn clone(&self) -> Self {
        // SAFETY: there is a reference.
        unsafe { shim::lg_user_get(self.raw()) };
        Self(self.0)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: the reference is `self`'s.
        unsafe { shim::lg_user_put(self.raw()) }
    }
}

/// One of a user's guests.
pub struct CountedGuest(User);

impl Drop for CountedGuest {
    fn drop(&mut self) {
        // SAFETY: there is a reference, and the guest was counted.
        unsafe { shim::lg_user_remove_guest(self.0.raw()) }
    }
}

/// Memory of a user's guest.
pub struct CountedMemory {
    user: User,
    bytes: u32,
}

impl Drop for CountedMemory {
    fn drop(&mut self) {
        // SAFETY: there is a reference, and so much was counted.
        unsafe { shim::lg_user_uncharge(self.user.raw(), self.bytes) }
    }
}
