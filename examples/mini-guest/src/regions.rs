//! Which addresses a process may use, and what appears there when they are touched.

use arch_i386::addr::PAGE_SIZE;
use arrayvec::ArrayVec;
use core::ops::Range;
use mini_programs::abi::MMAP_BASE;

/// The most regions of one process.
pub const MAX_REGIONS: usize = 16;

/// Where the pages of a region come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Zeroed memory.
    Zero,
    /// The program's file: these are the pages of its image from this one on.
    Image(u32),
}

/// A range of whole pages that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// First and one past the last address.
    pub range: Range<u32>,
    /// Whether the process may write there.
    pub writable: bool,
    /// What appears there.
    pub backing: Backing,
}

impl Region {
    /// The part of this region in `range`, which overlaps it.
    fn part(&self, range: Range<u32>) -> Self {
        let range = range.start.max(self.range.start)..range.end.min(self.range.end);
        let skipped = (range.start - self.range.start) / PAGE_SIZE;
        let backing = match self.backing {
            Backing::Zero => Backing::Zero,
            Backing::Image(page) => Backing::Image(page + skipped),
        };
        Self { range, writable: self.writable, backing }
    }
}

/// Why regions could not be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// Addresses that are not multiples of the page size, an empty range, or one outside the lower half.
    #[error("a range is not made of whole pages")]
    Alignment,
    /// The table of regions is full.
    #[error("a process has at most {MAX_REGIONS} regions")]
    TooMany,
    /// No free range is that long.
    #[error("no free address range is long enough")]
    NoRoom,
}

/// All regions of a process, in the order of their addresses.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    /// Invariant: sorted, not empty, not overlapping.
    regions: ArrayVec<Region, MAX_REGIONS>,
}

impl Regions {
    /// No regions.
    #[must_use]
    pub const fn new() -> Self {
        Self { regions: ArrayVec::new_const() }
    }

    /// The region that an address lies in.
    #[must_use]
    pub fn find(&self, address: u32) -> Option<&Region> {
        self.regions.iter().find(|region| region.range.contains(&address))
    }

    /// Their ranges, lowest first.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u32>> + Clone {
        self.regions.iter().map(|region| region.range.clone())
    }

    /// Whether the process may use all of `length` bytes from `address` on.
    #[must_use]
    pub fn allow(&self, address: u32, length: u32, write: bool) -> bool {
        let Some(end) = address.checked_add(length) else { return false };
        let mut next = address;
        while next < end {
            match self.find(next) {
                Some(region) if region.writable || !write => next = region.range.end,
                _ => return false,
            }
        }
        true
    }

    /// Adds a region in a free range.
    ///
    /// # Panics
    /// When the range is not free.
    pub fn add(&mut self, region: Region) -> Result<(), RegionError> {
        check(&region.range)?;
        let at = self.regions.iter().take_while(|other| other.range.end <= region.range.start).count();
        let overlaps = self.regions.get(at).is_some_and(|next| next.range.start < region.range.end);
        assert!(!overlaps, "{region:?} overlaps another region");
        self.regions.try_insert(at, region).map_err(|_| RegionError::TooMany)
    }

    /// Adds zeroed memory of `length` bytes, rounded up to pages, at the lowest free addresses from
    /// [`MMAP_BASE`] on, and returns where.
    pub fn add_anywhere(&mut self, length: u32, limit: u32) -> Result<u32, RegionError> {
        let length = length.checked_next_multiple_of(PAGE_SIZE).ok_or(RegionError::NoRoom)?;
        let mut start = MMAP_BASE;
        for region in &self.regions {
            if start.checked_add(length).is_some_and(|end| end <= region.range.start) {
                break;
            }
            start = start.max(region.range.end);
        }
        let end = start.checked_add(length).filter(|&end| end <= limit).ok_or(RegionError::NoRoom)?;
        self.add(Region { range: start..end, writable: true, backing: Backing::Zero })?;
        Ok(start)
    }

    /// Takes a range away, from however many regions it touches.
    pub fn remove(&mut self, range: Range<u32>) -> Result<(), RegionError> {
        check(&range)?;
        let mut kept = ArrayVec::new();
        for region in &self.regions {
            let before = region.range.start..range.start.min(region.range.end);
            let after = range.end.max(region.range.start)..region.range.end;
            let touched = region.range.start < range.end && range.start < region.range.end;
            let parts = if touched { [before, after] } else { [region.range.clone(), 0..0] };
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                kept.try_push(region.part(part)).map_err(|_| RegionError::TooMany)?;
            }
        }
        self.regions = kept;
        Ok(())
    }
}

fn check(range: &Range<u32>) -> Result<(), RegionError> {
    let whole = range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE);
    let sane = range.start < range.end && range.end <= crate::layout::KERNEL_BASE;
    if whole && sane { Ok(()) } else { Err(RegionError::Alignment) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const P: u32 = PAGE_SIZE;

    #[test]
    fn a_hole_splits_an_image_region_and_keeps_its_pages_in_place() {
        let mut regions = Regions::default();
        regions.add(Region { range: 10 * P..20 * P, writable: false, backing: Backing::Image(3) }).unwrap();
        regions.remove(12 * P..15 * P).unwrap();
        assert_eq!(regions.find(11 * P).unwrap().backing, Backing::Image(3));
        assert_eq!(regions.find(13 * P), None);
        let right = regions.find(15 * P + 7).unwrap();
        assert_eq!((right.range.clone(), right.backing), (15 * P..20 * P, Backing::Image(8)));
        assert!(regions.allow(15 * P, 5 * P, false));
        assert!(!regions.allow(15 * P, 1, true), "the image is read-only");
        assert!(!regions.allow(10 * P, 3 * P, false), "there is a hole");
        assert!(!regions.allow(u32::MAX - 1, 10, false), "a range that wraps is nowhere");
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "that is one of the odd ones")]
    fn odd_ranges_are_refused() {
        let mut regions = Regions::default();
        for range in [1..P, 0..P + 1, P..P, 2 * P..P, 0xbfff_f000..0xc000_1000] {
            assert_eq!(regions.remove(range.clone()), Err(RegionError::Alignment), "{range:?}");
        }
    }

    proptest! {
        /// Against a model that is a set of pages.
        #[test]
        fn regions_agree_with_a_set_of_pages(steps in prop::collection::vec((any::<bool>(), 0..40u32, 1..8u32), 1..40)) {
            let mut regions = Regions::default();
            let mut model = std::collections::BTreeSet::new();
            let first = MMAP_BASE / P;
            for (add, page, count) in steps {
                if add {
                    let expected = (first..).find(|&start| (start..start + count).all(|p| !model.contains(&p)));
                    match regions.add_anywhere(count * P - 5, MMAP_BASE + 1000 * P) {
                        Ok(start) => {
                            prop_assert_eq!(Some(start / P), expected);
                            model.extend(start / P..start / P + count);
                        }
                        Err(error) => prop_assert_eq!(error, RegionError::TooMany),
                    }
                } else {
                    let range = first + page..first + page + count;
                    match regions.remove(range.start * P..range.end * P) {
                        Ok(()) => model.retain(|page| !range.contains(page)),
                        Err(error) => prop_assert_eq!(error, RegionError::TooMany),
                    }
                }
                for page in first..first + 60 {
                    prop_assert_eq!(regions.find(page * P + 1).is_some(), model.contains(&page));
                }
            }
        }
    }
}
