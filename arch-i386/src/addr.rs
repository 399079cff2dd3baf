//! Addresses, one newtype for each address space, so that the compiler keeps them apart.
//!
//! Four spaces meet in a shadow pager: what the guest's instructions name ([`GuestVirt`]), what the
//! guest takes for physical memory ([`GuestPhys`], which is an offset into the launcher's memory),
//! page numbers of the latter ([`GuestFrame`]), and page numbers of the real machine ([`HostFrame`]).

use core::fmt;

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: u32 = 1 << PAGE_SHIFT;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub $int);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(
    /// A guest-virtual (linear) address, in bytes.
    GuestVirt(u32)
);
address!(
    /// A guest-physical address, in bytes: an offset into the memory that the launcher gave.
    GuestPhys(u32)
);
address!(
    /// A guest-physical page number, already checked against the guest's memory size.
    GuestFrame(u32)
);
address!(
    /// A page number of the real machine.
    HostFrame(u32)
);

impl GuestVirt {
    /// The address of the page this one lies in.
    #[must_use]
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// The offset within the page, in bytes.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.0 & (PAGE_SIZE - 1)
    }
}

impl GuestPhys {
    /// The page this address lies in.
    #[must_use]
    pub const fn frame(self) -> GuestFrame {
        GuestFrame(self.0 >> PAGE_SHIFT)
    }
}

impl GuestFrame {
    /// The first byte of the page.
    #[must_use]
    pub const fn start(self) -> GuestPhys {
        GuestPhys(self.0 << PAGE_SHIFT)
    }
}
