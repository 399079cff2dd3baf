//! The two kernels that Debian ships for i386, which differ in their page-table format.

use std::fmt;

/// One of Debian's i386 kernel flavours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// `686`: two-level page tables with 32-bit entries.
    Plain,
    /// `686-pae`: three-level page tables with 64-bit entries.
    Pae,
}

impl Flavour {
    /// Both flavours, in the order in which they are built and tested.
    pub const ALL: [Flavour; 2] = [Flavour::Plain, Flavour::Pae];

    /// The suffix that Debian's package names carry.
    pub fn name(self) -> &'static str {
        match self {
            Flavour::Plain => "686",
            Flavour::Pae => "686-pae",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
