//! The error numbers of the kernel's interfaces.

use fallible::OutOfMemory;

/// An error number, as `errno` has it: positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

#[allow(missing_docs)]
impl Errno {
    pub const EPERM: Self = Self(1);
    pub const ENOENT: Self = Self(2);
    pub const EINTR: Self = Self(4);
    pub const EBADF: Self = Self(9);
    pub const ENOMEM: Self = Self(12);
    pub const EFAULT: Self = Self(14);
    pub const EBUSY: Self = Self(16);
    pub const EINVAL: Self = Self(22);
    pub const EMFILE: Self = Self(24);
    pub const EFBIG: Self = Self(27);
    pub const ENOSPC: Self = Self(28);
    pub const ERANGE: Self = Self(34);
    pub const EOVERFLOW: Self = Self(75);
    pub const EDQUOT: Self = Self(122);
    pub const ERESTART: Self = Self(arch_i386::launcher::ERESTART);
    /// For the kernel only, which makes `EINTR` of it or restarts the system call.
    pub const ERESTARTSYS: Self = Self(512);

    /// What one of the kernel's functions has returned, which is negative.
    #[must_use]
    pub const fn of_kernel(error: i32) -> Self {
        Self(error.wrapping_neg())
    }

    /// As the kernel's functions return it.
    #[must_use]
    pub const fn negative(self) -> i32 {
        -self.0
    }
}

impl From<OutOfMemory> for Errno {
    fn from(OutOfMemory: OutOfMemory) -> Self {
        Self::ENOMEM
    }
}
