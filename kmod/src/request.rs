//! What a launcher writes to `/dev/lguest`, parsed and checked as far as that goes without the kernel.
//!
//! A write is a request word and its arguments (see [`arch_i386::launcher`]). What comes after the
//! arguments is ignored, as in lguest, whose launchers write more than they need.

use arch_i386::addr::{PAGE_SHIFT, PAGE_SIZE};
use arch_i386::debug::{INTERCEPTED, Operation};
use arch_i386::launcher::{self, STRATEGY_MAX, View};
use arch_i386::lguest_data::IRQS;
use arch_i386::paging::Paging;

/// Bytes of a write that are looked at.
pub const MAX: usize = 8 + STRATEGY_MAX;

/// Pages of which guest-physical addresses of 32 bits name each byte.
const ADDRESSABLE: u32 = 1 << (32 - PAGE_SHIFT);

/// The memory that a launcher gives its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Where it begins in the launcher; the start of a page.
    pub base: u32,
    /// How many pages; not 0, and ending below 4 GiB.
    pub pages: u32,
    /// Where the device memory ends that follows, in pages; not below `pages`.
    pub device_limit: u32,
}

impl Memory {
    fn checked(base: u32, pages: u32, device_limit: u32) -> Result<Self, Invalid> {
        if !base.is_multiple_of(PAGE_SIZE) {
            return Err(Invalid::MisalignedBase(base));
        }
        // The last page of the address space is nobody's, so the end fits a word.
        let end = u64::from(base) + u64::from(pages) * u64::from(PAGE_SIZE);
        if pages == 0 || end > u64::from(u32::MAX) {
            return Err(Invalid::PageLimit { base, pages });
        }
        if !(pages..=ADDRESSABLE).contains(&device_limit) {
            return Err(Invalid::DeviceLimit(device_limit));
        }
        Ok(Self { base, pages, device_limit })
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.pages * PAGE_SIZE
    }
}

/// A write that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Choose the strategy.
    Strategy(&'a str),
    /// The format of the guest's page tables.
    Paging(Paging),
    /// Make the guest.
    Initialize {
        /// Its memory.
        memory: Memory,
        /// Its first instruction.
        start: u32,
    },
    /// Raise a virtual interrupt, below [`IRQS`].
    Irq(u32),
    /// Signal an eventfd for notifications of an address.
    Eventfd {
        /// The address; not 0, which stands for no notification.
        address: u32,
        /// The launcher's file descriptor.
        fd: u32,
    },
    /// Read a register next.
    GetRegister(u32),
    /// Set a register.
    SetRegister {
        /// Which; see [`launcher::register`].
        offset: u32,
        /// To what.
        value: u32,
    },
    /// Have the guest trap.
    Trap(u32),
    /// Store the counters as text.
    Counters {
        /// Where in the launcher.
        address: u32,
        /// Bytes there is room for.
        len: u32,
    },
    /// Store a view as text.
    View {
        /// What to store.
        view: View,
        /// Where in the launcher.
        address: u32,
        /// Bytes there is room for.
        len: u32,
    },
    /// Store the guest's registers.
    Registers(u32),
    /// Take registers for the guest from this address.
    SetRegisters(u32),
    /// Intercept traps of these vectors, a bit each out of [`INTERCEPTED`].
    Intercept(u32),
    /// The trap that was intercepted is the guest's.
    PassTrapOn,
}

/// A write that makes no sense. The launcher gets `EINVAL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Fewer bytes than the request has arguments.
    Short,
    /// No request has that number.
    Unknown(u32),
    /// The base is not the start of a page.
    MisalignedBase(u32),
    /// No pages, or more than there can be above the base.
    PageLimit {
        /// The base.
        base: u32,
        /// The pages.
        pages: u32,
    },
    /// Device memory that ends before it begins, or that no address reaches.
    DeviceLimit(u32),
    /// No virtual interrupt has that number.
    Irq(u32),
    /// Address 0 cannot be notified.
    NullAddress,
    /// A strategy's text that is too long.
    StrategyLength(u32),
    /// A strategy's text that is no text.
    NotUtf8,
    /// Page tables with another number of levels than 2 or 3.
    Levels(u32),
    /// No view has that number.
    View(u32),
    /// No operation of a debugger has that number.
    Operation(u32),
    /// Other vectors than those that can be intercepted.
    Vectors(u32),
}

impl<'a> Request<'a> {
    /// Parses the first bytes of a write; [`MAX`] of them are enough.
    ///
    /// # Errors
    /// [`Invalid`] when the request is unknown or too short, or has an argument that makes no sense.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Invalid> {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |i: usize| words.get(i).map(|&word| u32::from_le_bytes(word)).ok_or(Invalid::Short);
        let number = word(0)?;
        Ok(match launcher::Request::from_number(number).ok_or(Invalid::Unknown(number))? {
            launcher::Request::Initialize => {
                let (base, pages) = (word(1)?, word(2)?);
                // Launchers from before Linux 4.1 have no such word.
                let memory = Memory::checked(base, pages, word(4).unwrap_or(pages))?;
                Self::Initialize { memory, start: word(3)? }
            }
            launcher::Request::GetRegister => Self::GetRegister(word(1)?),
            launcher::Request::SetRegister => Self::SetRegister { offset: word(1)?, value: word(2)? },
            launcher::Request::Trap => Self::Trap(word(1)?),
            launcher::Request::Irq => match word(1)? {
                irq if irq < IRQS => Self::Irq(irq),
                irq => return Err(Invalid::Irq(irq)),
            },
            launcher::Request::Eventfd => match word(1)? {
                0 => return Err(Invalid::NullAddress),
                address => Self::Eventfd { address, fd: word(2)? },
            },
            launcher::Request::Strategy => {
                let len = word(1)?;
                if len as usize > STRATEGY_MAX {
                    return Err(Invalid::StrategyLength(len));
                }
                let text = bytes.get(8..8 + len as usize).ok_or(Invalid::Short)?;
                Self::Strategy(str::from_utf8(text).map_err(|_| Invalid::NotUtf8)?)
            }
            launcher::Request::Paging => {
                let levels = word(1)?;
                Self::Paging(Paging::from_levels(levels).ok_or(Invalid::Levels(levels))?)
            }
            launcher::Request::Counters => Self::Counters { address: word(1)?, len: word(2)? },
            launcher::Request::View => {
                let view = View::from_number(word(1)?).ok_or(Invalid::View(word(1)?))?;
                Self::View { view, address: word(2)?, len: word(3)? }
            }
            launcher::Request::Debug => {
                match Operation::from_number(word(1)?).ok_or(Invalid::Operation(word(1)?))? {
                    Operation::Registers => Self::Registers(word(2)?),
                    Operation::SetRegisters => Self::SetRegisters(word(2)?),
                    Operation::Intercept => match word(2)? {
                        vectors if vectors & !INTERCEPTED == 0 => Self::Intercept(vectors),
                        vectors => return Err(Invalid::Vectors(vectors)),
                    },
                    Operation::PassOn => Self::PassTrapOn,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn parse(request: &[u32]) -> Result<Request<'static>, Invalid> {
        Request::parse(words(request).leak())
    }

    #[test]
    fn every_request_is_recognised() {
        let memory = Memory { base: 0xb000_0000, pages: 0x2000, device_limit: 0x2000 };
        assert_eq!(memory.bytes(), 32 << 20);
        assert_eq!(
            parse(&[0, 0xb000_0000, 0x2000, 0x10_0000]),
            Ok(Request::Initialize { memory, start: 0x10_0000 })
        );
        assert_eq!(
            parse(&[0, 0xb000_0000, 0x2000, 0x10_0000, 0x2004]),
            Ok(Request::Initialize { memory: Memory { device_limit: 0x2004, ..memory }, start: 0x10_0000 })
        );
        assert_eq!(parse(&[5, 48]), Ok(Request::GetRegister(48)));
        assert_eq!(parse(&[6, 24, 7]), Ok(Request::SetRegister { offset: 24, value: 7 }));
        assert_eq!(parse(&[7, 13]), Ok(Request::Trap(13)));
        assert_eq!(parse(&[2, 31]), Ok(Request::Irq(31)));
        assert_eq!(parse(&[4, 0x200_0000, 5]), Ok(Request::Eventfd { address: 0x200_0000, fd: 5 }));
        assert_eq!(parse(&[0x101, 16, 100]), Ok(Request::Counters { address: 16, len: 100 }));
        assert_eq!(parse(&[0x102, 2]), Ok(Request::Paging(Paging::TwoLevel)));
        assert_eq!(parse(&[0x102, 3]), Ok(Request::Paging(Paging::Pae)));
        assert_eq!(
            parse(&[0x103, 2, 16, 100]),
            Ok(Request::View { view: View::Tables, address: 16, len: 100 })
        );
        assert_eq!(parse(&[0x104, 0, 16]), Ok(Request::Registers(16)));
        assert_eq!(parse(&[0x104, 1, 16]), Ok(Request::SetRegisters(16)));
        // Vectors 1 and 3.
        assert_eq!(parse(&[0x104, 2, 0b1010]), Ok(Request::Intercept(0b1010)));
        assert_eq!(parse(&[0x104, 3]), Ok(Request::PassTrapOn));
        let mut strategy = words(&[0x100, 3]);
        strategy.extend(b"lru and more");
        assert_eq!(Request::parse(&strategy), Ok(Request::Strategy("lru")));
    }

    #[test]
    fn what_is_missing_is_noticed() {
        assert_eq!(Request::parse(b""), Err(Invalid::Short));
        assert_eq!(Request::parse(b"\0\0\0"), Err(Invalid::Short));
        for complete in [
            &[0, 0x1000, 1, 0][..],
            &[2, 0],
            &[4, 4, 0],
            &[5, 0],
            &[6, 0, 0],
            &[7, 0],
            &[0x100, 0],
            &[0x101, 0, 0],
            &[0x102, 2],
            &[0x103, 1, 0, 0],
            &[0x104, 0, 0],
            &[0x104, 1, 0],
            &[0x104, 2, 0],
            &[0x104, 3],
        ] {
            assert!(parse(complete).is_ok());
            assert_eq!(parse(&complete[..complete.len() - 1]), Err(Invalid::Short), "{complete:?}");
        }
        assert_eq!(parse(&[0x100, 5, 0x6c]), Err(Invalid::Short));
    }

    #[test]
    fn unknown_numbers_are_refused() {
        for number in [1, 3, 8, 0xff, 0x105, u32::MAX] {
            assert_eq!(parse(&[number, 0, 0, 0]), Err(Invalid::Unknown(number)));
        }
    }

    #[test]
    fn memory_is_whole_pages_below_4_gib() {
        let initialize = |base, pages| parse(&[0, base, pages, 0]);
        assert_eq!(initialize(0x1004, 1), Err(Invalid::MisalignedBase(0x1004)));
        for (base, pages) in [
            (0x1000, 0),
            (0x1000, 0xf_ffff),
            (0, 0x10_0000),
            (0, u32::MAX),
            (0xffff_f000, 1),
            (0xffff_f000, 0x10_0001),
        ] {
            assert_eq!(initialize(base, pages), Err(Invalid::PageLimit { base, pages }));
        }
        assert!(initialize(0x1000, 0xf_fffe).is_ok());
    }

    #[test]
    fn device_memory_begins_where_memory_ends() {
        for (limit, good) in [(0x1fff, false), (0x2000, true), (0x10_0000, true), (0x10_0001, false)] {
            let parsed = parse(&[0, 0xb000_0000, 0x2000, 0, limit]);
            assert_eq!(parsed.is_ok(), good, "{limit:#x}");
            assert!(good || parsed == Err(Invalid::DeviceLimit(limit)));
        }
    }

    #[test]
    fn arguments_out_of_range_are_refused() {
        assert_eq!(parse(&[2, 32]), Err(Invalid::Irq(32)));
        assert_eq!(parse(&[4, 0, 1]), Err(Invalid::NullAddress));
        assert_eq!(parse(&[0x100, 257]), Err(Invalid::StrategyLength(257)));
        for levels in [0, 1, 4, u32::MAX] {
            assert_eq!(parse(&[0x102, levels]), Err(Invalid::Levels(levels)));
        }
        assert_eq!(parse(&[0x100, u32::MAX]), Err(Invalid::StrategyLength(u32::MAX)));
        assert_eq!(parse(&[0x100, 4, 0xffff_ffff]), Err(Invalid::NotUtf8));
        assert_eq!(parse(&[0x103, 0, 0, 0]), Err(Invalid::View(0)));
        assert_eq!(parse(&[0x104, 4, 0]), Err(Invalid::Operation(4)));
        for vectors in [1, 1 << 2, 1 << 14, u32::MAX] {
            assert_eq!(parse(&[0x104, 2, vectors]), Err(Invalid::Vectors(vectors)));
        }
    }
}
