//! How much memory a guest gets, as a person writes it: `32M`, `1G`, `4096K`.

use arch_i386::addr::PAGE_SIZE;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Bytes of ordinary memory of a guest: whole pages between [`MemorySize::MIN`] and [`MemorySize::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(u32);

/// Why a text is no memory size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemorySizeError {
    /// Not a number with a unit.
    #[error("`{0}` is not an amount of memory: write a whole number and K, M or G, as in 32M")]
    Malformed(String),
    /// Less than any kernel can start in.
    #[error("{0} is too little memory for a guest: it takes at least {min}", min = MemorySize::MIN)]
    TooLittle(String),
    /// More than a 32-bit launcher can map.
    #[error("{0} is too much memory: the launcher is a 32-bit program and can map {max}", max = MemorySize::MAX)]
    TooMuch(String),
    /// Not a multiple of a page.
    #[error("{0} is not a multiple of a page, 4K")]
    Uneven(String),
}

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
const G: u64 = 1 << 30;

impl MemorySize {
    /// 1 MiB: kernels are linked above it.
    pub const MIN: Self = Self(M as u32);
    /// 2560 MiB: a 32-bit process has 3 GiB, of which its own program and libraries take the ends.
    pub const MAX: Self = Self(2560 * M as u32);

    /// The amount in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// The amount in pages: the number of the first page above ordinary memory.
    #[must_use]
    pub const fn pages(self) -> u32 {
        self.0 / PAGE_SIZE
    }
}

/// `bytes` rounded up to whole MiB, as an argument for `--memory`.
#[must_use]
pub fn in_mebibytes(bytes: u64) -> String {
    format!("{}M", bytes.div_ceil(M))
}

impl FromStr for MemorySize {
    type Err = MemorySizeError;

    fn from_str(text: &str) -> Result<Self, MemorySizeError> {
        let malformed = || MemorySizeError::Malformed(text.to_owned());
        let unit = match text.chars().last() {
            Some('k' | 'K') => K,
            Some('m' | 'M') => M,
            Some('g' | 'G') => G,
            _ => return Err(malformed()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        // Only too many digits are left as a reason to fail.
        let bytes = digits.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(unit);
        match u32::try_from(bytes) {
            Ok(bytes) if bytes <= Self::MAX.0 => {
                if bytes < Self::MIN.0 {
                    Err(MemorySizeError::TooLittle(text.to_owned()))
                } else if !bytes.is_multiple_of(PAGE_SIZE) {
                    Err(MemorySizeError::Uneven(text.to_owned()))
                } else {
                    Ok(Self(bytes))
                }
            }
            _ => Err(MemorySizeError::TooMuch(text.to_owned())),
        }
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::from(self.0) {
            bytes if bytes.is_multiple_of(M) => write!(f, "{}M", bytes / M),
            bytes => write!(f, "{}K", bytes / K),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary_and_take_either_case() {
        for (text, bytes) in [("32M", 32 << 20), ("1G", 1 << 30), ("4096K", 4 << 20), ("1028k", 1_052_672)] {
            assert_eq!(text.parse::<MemorySize>().map(MemorySize::bytes), Ok(bytes), "{text}");
        }
        assert_eq!("32M".parse::<MemorySize>().map(MemorySize::pages), Ok(8192));
    }

    #[test]
    fn each_mistake_has_its_own_answer() {
        let error = |text: &str| text.parse::<MemorySize>().unwrap_err();
        for text in ["", "M", "32", "32MB", "-1M", "+1M", "1.5G", "0x10M", "32 M", "３２M", "32é"] {
            assert_eq!(error(text), MemorySizeError::Malformed(text.into()));
        }
        assert_eq!(error("1020K"), MemorySizeError::TooLittle("1020K".into()));
        assert_eq!(error("0M"), MemorySizeError::TooLittle("0M".into()));
        for text in ["2561M", "4G", "99999999999999999999G", "18014398509481985K"] {
            assert_eq!(error(text), MemorySizeError::TooMuch(text.into()));
        }
        assert_eq!(error("1025K"), MemorySizeError::Uneven("1025K".into()));
    }

    #[test]
    fn display_can_be_given_back_as_an_argument() {
        for text in ["32M", "1028K", "2560M"] {
            assert_eq!(text.parse::<MemorySize>().unwrap().to_string(), text);
        }
        assert_eq!(in_mebibytes((9 << 20) + 1), "10M");
    }
}
