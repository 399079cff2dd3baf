//! The paging trace: a guest's requests to its pager, one operation after the other.
//!
//! The vocabulary that recording (`strategies`, in the module) and replay (`sim`, anywhere) share, so
//! it needs neither a file nor an allocator. `docs/trace-format.md` defines what each operation means;
//! [`Display`](fmt::Display) writes the text form, a header or an operation with its line ends, and
//! [`binary`] a form of a few bytes an operation. Either form closes with an end mark ([`TEXT_END`],
//! [`binary::Encoder::end`]), without which a trace that was cut would be taken for a shorter one.

use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Pae, PageFormat, Paging, TwoLevel};
use core::fmt;

pub mod binary;

/// The last line of a whole trace in the text form, its line end included.
pub const TEXT_END: &str = "end\n";

/// The header of a trace, before its first operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The guest's page format.
    pub paging: Paging,
    /// Guest-physical memory, in pages.
    pub pages: u32,
    /// The seed of everything random.
    pub seed: u64,
    /// Possible host CPUs.
    pub cpus: u32,
    /// The first address of the Switcher.
    pub switcher: GuestVirt,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `w PA VAL`: the guest stores one entry. The address may lie outside memory.
    Write {
        /// Guest-physical, up to 36 bits wide with PAE.
        at: u64,
        /// 4 or 8 bytes.
        value: u64,
    },
    /// `init K`.
    Init(GuestVirt),
    /// `cr3 PA`.
    LoadPageDirectory(GuestPhys),
    /// `acc VA k|u r|w`.
    Access {
        /// The address touched.
        va: GuestVirt,
        /// From ring 3.
        user: bool,
        /// A write.
        write: bool,
    },
    /// `pf VA ERR`.
    PageFault {
        /// The address.
        va: GuestVirt,
        /// The processor's error code.
        error: u32,
    },
    /// `pte PGD VA VAL`.
    SetPte {
        /// The page directory.
        directory: GuestPhys,
        /// The address.
        va: GuestVirt,
        /// The new entry.
        value: u64,
    },
    /// `pgd PGD IDX`.
    SetPgd(GuestPhys, u32),
    /// `pmd PMD IDX`.
    SetPmd(GuestPhys, u32),
    /// `flush user`.
    FlushUser,
    /// `flush of PGD`.
    FlushUserOf(GuestPhys),
    /// `flush all`.
    FlushAll,
    /// `stack ESP N`.
    SetStack(GuestVirt, u32),
    /// `run CPU`.
    Run(u32),
    /// `pa VA`.
    Translate(GuestVirt),
    /// `lost N`: that many operations of a recording are missing here.
    Lost(u64),
}

/// A header that describes no possible guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum HeaderError {
    #[error("paging {0}; it is 2 or 3 levels")]
    Paging(u64),
    #[error("{0} pages; 1 to {max} are possible", max = MAX_PAGES)]
    Pages(u64),
    #[error(
        "the Switcher at {0:#x}; it must start at a multiple of {1:#x} and, with a page and two for each CPU, fit below the next"
    )]
    Switcher(u64, u32),
}

/// The most memory that a trace may give its guest, in pages (3 GiB).
const MAX_PAGES: u64 = 0xc_0000;

/// Bits of a guest-physical address that an operation may name (Intel SDM vol. 3A, 4.1.4: 36 with PAE on
/// the processors of lguest's time).
#[must_use]
pub const fn physical_bits(paging: Paging) -> u32 {
    match paging {
        Paging::TwoLevel => 32,
        Paging::Pae => 36,
    }
}

impl Header {
    /// A header of these numbers, as a trace gives them.
    ///
    /// # Errors
    /// [`HeaderError`] when the levels are not 2 or 3, the pages none or too many, or the Switcher is misplaced.
    pub fn new(levels: u64, pages: u64, seed: u64, cpus: u64, switcher: u64) -> Result<Self, HeaderError> {
        let (paging, span) = match levels {
            2 => (Paging::TwoLevel, TwoLevel::LEAF_SPAN),
            3 => (Paging::Pae, Pae::LEAF_SPAN),
            _ => return Err(HeaderError::Paging(levels)),
        };
        if !(1..=MAX_PAGES).contains(&pages) {
            return Err(HeaderError::Pages(pages));
        }
        let room = u64::from(span / PAGE_SIZE);
        let fits = cpus.checked_mul(2).is_some_and(|pages| pages < room);
        match u32::try_from(switcher) {
            Ok(start) if start != 0 && start.is_multiple_of(span) && fits => {
                let (pages, cpus) = (pages as u32, cpus as u32);
                Ok(Self { paging, pages, seed, cpus, switcher: GuestVirt(start) })
            }
            _ => Err(HeaderError::Switcher(switcher, span)),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { paging, pages, seed, cpus, switcher } = self;
        writeln!(f, "lgtrace 1\npaging {}\npages {pages}\nseed {seed}", paging.levels())?;
        writeln!(f, "cpus {cpus}\nswitcher {:#x}", switcher.0)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Write { at, value } => writeln!(f, "w {at:#x} {value:#x}"),
            Self::Init(kernel_address) => writeln!(f, "init {:#x}", kernel_address.0),
            Self::LoadPageDirectory(directory) => writeln!(f, "cr3 {:#x}", directory.0),
            Self::Access { va, user, write } => {
                let (user, write) = (if user { 'u' } else { 'k' }, if write { 'w' } else { 'r' });
                writeln!(f, "acc {:#x} {user} {write}", va.0)
            }
            Self::PageFault { va, error } => writeln!(f, "pf {:#x} {error:#x}", va.0),
            Self::SetPte { directory, va, value } => {
                writeln!(f, "pte {:#x} {:#x} {value:#x}", directory.0, va.0)
            }
            Self::SetPgd(directory, index) => writeln!(f, "pgd {:#x} {index}", directory.0),
            Self::SetPmd(middle, index) => writeln!(f, "pmd {:#x} {index}", middle.0),
            Self::FlushUser => f.write_str("flush user\n"),
            Self::FlushUserOf(directory) => writeln!(f, "flush of {:#x}", directory.0),
            Self::FlushAll => f.write_str("flush all\n"),
            Self::SetStack(esp1, pages) => writeln!(f, "stack {:#x} {pages}", esp1.0),
            Self::Run(cpu) => writeln!(f, "run {cpu}"),
            Self::Translate(va) => writeln!(f, "pa {:#x}", va.0),
            Self::Lost(operations) => writeln!(f, "lost {operations}"),
        }
    }
}
