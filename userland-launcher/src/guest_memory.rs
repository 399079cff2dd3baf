//! The guest's physical memory: one mapping in the launcher, which a guest that is running uses as well.
//!
//! Guest-physical address `a` is byte `a` of the mapping. Before the guest starts, the loaders fill it as
//! a plain byte slice ([`GuestMemory::bytes_mut`]). From then on the guest, and each device thread on
//! its behalf, may change any byte at any moment; so a shared [`GuestMemory`] hands out nothing but
//! atomics ([`GuestMemory::integers`]) and [`GuestSlice`]s, which copy in and out and are never
//! borrowed as `&[u8]`. All the unsafe code on guest memory is in this file.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};
use thiserror::Error;

/// A range that the guest named and that does not lie in its memory (or is not aligned as it must be).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "{len} bytes at guest-physical {start:#x} are not inside its {limit:#x} bytes of memory, or not aligned"
)]
pub struct OutOfBounds {
    /// The first guest-physical address of the range.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The bytes that the guest has.
    pub limit: u64,
}

/// A guest's physical memory, device pages included. Zero-filled; pages cost nothing until touched.
#[derive(Debug)]
pub struct GuestMemory {
    // Invariant: `len` bytes from `base` are mapped readable and writable until `drop`, and only this
    // value's references and the guest it was given to access them.
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for GuestMemory {}
// SAFETY: through a shared reference, memory is only reached by atomics.
unsafe impl Sync for GuestMemory {}

/// The integers that guest memory can be viewed as.
///
/// # Safety
/// Implementors are atomics: valid for every bit pattern, and changed behind a shared reference.
pub unsafe trait SharedInteger: Sized {}
// SAFETY: an atomic.
unsafe impl SharedInteger for AtomicU8 {}
// SAFETY: an atomic.
unsafe impl SharedInteger for AtomicU16 {}
// SAFETY: an atomic.
unsafe impl SharedInteger for AtomicU32 {}

impl GuestMemory {
    /// Maps `len` bytes (a multiple of the page size, not 0) wherever the process has room.
    ///
    /// The mapping is private, as Linux merges only private memory, and has huge pages for it without being asked. It reserves
    /// no swap, so that a big guest costs what it touches.
    ///
    /// # Errors
    /// The error of `mmap`; `ENOMEM` when the address space has no gap of that size.
    pub fn map(len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
        let address = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let base = NonNull::new(address.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, len })
    }

    /// Lets Linux merge its pages with equal ones (KSM).
    ///
    /// # Errors
    /// The error of `madvise`: `EINVAL` when the host's kernel cannot do that.
    pub fn make_mergeable(&mut self) -> io::Result<()> {
        self.advise(Advice::LinuxMergeable)
    }

    /// Has Linux hold it in huge pages where it can, also on a host where they are for those who request them.
    ///
    /// # Errors
    /// The error of `madvise`: `EINVAL` when the host's kernel cannot do that.
    pub fn request_huge_pages(&mut self) -> io::Result<()> {
        self.advise(Advice::LinuxHugepage)
    }

    /// Has Linux find a page for each of its pages now.
    ///
    /// # Errors
    /// The error of `madvise`: `EINVAL` when the host's kernel cannot do that (before Linux 5.14), `ENOMEM` or `EFAULT` when it has
    /// not that much memory.
    pub fn populate(&mut self) -> io::Result<()> {
        self.advise(Advice::LinuxPopulateWrite)
    }

    fn advise(&mut self, advice: Advice) -> io::Result<()> {
        // SAFETY: by the invariant the range is a mapping of ours; no advice that is given here changes what is in it.
        unsafe { madvise(self.base.as_ptr().cast(), self.len, advice) }.map_err(io::Error::from)
    }

    /// Bytes of memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none: never, as `mmap` refuses it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where guest-physical address 0 is in the launcher, for
    /// [`Request::Initialize`](arch_i386::launcher::Request::Initialize).
    #[must_use]
    pub fn base_address(&self) -> usize {
        self.base.as_ptr().expose_provenance()
    }

    /// All bytes, while no guest has them yet.
    ///
    /// A host takes the memory as an `Arc` and keeps it, so nobody can have `&mut self` once it runs.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped and initialised (by the kernel, to zero); `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }

    /// `count` integers from guest-physical address `start`.
    ///
    /// # Errors
    /// [`OutOfBounds`] when they do not all lie in memory, or `start` is not a multiple of their size.
    pub fn integers<T: SharedInteger>(&self, start: u64, count: u64) -> Result<&[T], OutOfBounds> {
        let size = size_of::<T>() as u64;
        let len = count.saturating_mul(size);
        let limit = self.len as u64;
        match start.checked_add(len) {
            Some(end) if end <= limit && start.is_multiple_of(size) => {}
            _ => return Err(OutOfBounds { start, len, limit }),
        }
        // SAFETY: the range is inside the mapping (so the casts lose nothing); the base is page-aligned,
        // so the start is aligned for T; atomics allow that others change them behind the reference.
        Ok(unsafe {
            let first = self.base.as_ptr().add(start as usize).cast::<T>();
            std::slice::from_raw_parts(first, count as usize)
        })
    }

    /// `len` bytes from guest-physical address `start`, to copy to or from.
    ///
    /// # Errors
    /// [`OutOfBounds`] when they do not all lie in memory.
    pub fn slice(&self, start: u64, len: u64) -> Result<GuestSlice<'_>, OutOfBounds> {
        self.integers(start, len).map(GuestSlice)
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: by the invariant nobody uses the mapping any more. The only failure is a bad range.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A range of guest memory, already checked to be inside it.
#[derive(Clone, Copy)]
pub struct GuestSlice<'m>(&'m [AtomicU8]);

impl<'m> GuestSlice<'m> {
    /// Bytes in the range.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether the range is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The first `at` bytes (or all, if there are fewer) and the rest.
    #[must_use]
    pub fn split_at(self, at: usize) -> (Self, Self) {
        let (front, back) = self.0.split_at(at.min(self.0.len()));
        (Self(front), Self(back))
    }

    /// Copies from the guest; returns how many bytes, the shorter of the two lengths.
    #[must_use]
    pub fn copy_to(self, target: &mut [u8]) -> usize {
        let n = self.len().min(target.len());
        let (head, words, tail) = as_words(&self.0[..n]);
        let (for_head, rest) = target[..n].split_at_mut(head.len());
        let (for_words, for_tail) = rest.split_at_mut(size_of_val(words));
        for (byte, source) in for_head.iter_mut().chain(for_tail).zip(head.iter().chain(tail)) {
            *byte = source.load(Relaxed);
        }
        for (bytes, source) in for_words.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&source.load(Relaxed).to_ne_bytes());
        }
        n
    }

    /// Copies to the guest; returns how many bytes, the shorter of the two lengths.
    #[must_use]
    pub fn copy_from(self, source: &[u8]) -> usize {
        let n = self.len().min(source.len());
        let (head, words, tail) = as_words(&self.0[..n]);
        let (for_head, rest) = source[..n].split_at(head.len());
        let (for_words, for_tail) = rest.split_at(size_of_val(words));
        for (byte, target) in for_head.iter().chain(for_tail).zip(head.iter().chain(tail)) {
            target.store(*byte, Relaxed);
        }
        for (bytes, target) in for_words.as_chunks::<4>().0.iter().zip(words) {
            target.store(u32::from_ne_bytes(*bytes), Relaxed);
        }
        n
    }
}

impl std::fmt::Debug for GuestSlice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GuestSlice({} bytes)", self.len())
    }
}

/// The same bytes with the aligned middle as words, to copy four at a time.
fn as_words(bytes: &[AtomicU8]) -> (&[AtomicU8], &[AtomicU32], &[AtomicU8]) {
    // SAFETY: both are integers in memory that anyone may change at any time. Where accesses of the two
    // sizes race, the bytes read are some mix of old and new: what a guest that races deserves.
    unsafe { bytes.align_to() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arch_i386::addr::PAGE_SIZE;
    use proptest::prelude::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const LEN: usize = 8192;

    fn pattern() -> GuestMemory {
        let mut memory = GuestMemory::map(LEN).unwrap();
        for (i, byte) in memory.bytes_mut().iter_mut().enumerate() {
            *byte = i as u8 ^ (i >> 8) as u8;
        }
        memory
    }

    /// What Linux says of the mapping at an address: its rights, and the flags of `VmFlags` (proc(5)).
    fn mapping(address: usize) -> (String, Vec<String>) {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let holds = |line: &&str| {
            let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-')) else {
                return false;
            };
            let number = |text| usize::from_str_radix(text, 16);
            matches!((number(start), number(end)), (Ok(start), Ok(end)) if (start..end).contains(&address))
        };
        let mut lines = maps.lines().skip_while(|line| !holds(line));
        let rights = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        (rights, flags.split_whitespace().map(str::to_owned).collect())
    }

    /// How many pages of it are in memory. The mapping says nothing of that: Linux may have made it one with its neighbour.
    fn resident(memory: &GuestMemory, len: usize) -> usize {
        const ENTRY: usize = 8;
        const PRESENT: u64 = 1 << 63;
        let mut entries = vec![0; len / PAGE_SIZE as usize * ENTRY];
        let first = memory.base_address() / PAGE_SIZE as usize * ENTRY;
        File::open("/proc/self/pagemap").unwrap().read_exact_at(&mut entries, first as u64).unwrap();
        let (entries, []) = entries.as_chunks() else { unreachable!() };
        entries.iter().filter(|&&entry| u64::from_ne_bytes(entry) & PRESENT != 0).count()
    }

    #[test]
    fn memory_is_private_and_advice_is_taken() {
        let mut memory = GuestMemory::map(16 << 20).unwrap();
        let (rights, flags) = mapping(memory.base_address());
        assert_eq!(rights, "rw-p");
        assert!(!flags.contains(&"mg".to_owned()) && !flags.contains(&"hg".to_owned()), "{flags:?}");
        // A kernel that can do neither says so.
        let taken = [memory.make_mergeable().is_ok(), memory.request_huge_pages().is_ok()];
        let (_, flags) = mapping(memory.base_address());
        assert_eq!(["mg", "hg"].map(|flag| flags.contains(&flag.to_owned())), taken, "{flags:?}");
    }

    #[test]
    fn all_of_it_can_be_had_before_it_is_touched() {
        const LEN: usize = 4 << 20;
        let pages = LEN / PAGE_SIZE as usize;
        let mut memory = GuestMemory::map(LEN).unwrap();
        memory.bytes_mut()[5000] = 7;
        // With a huge page at the most.
        assert!(resident(&memory, LEN) <= pages / 2, "it costs what is touched");
        memory.populate().unwrap();
        assert_eq!(resident(&memory, LEN), pages);
        assert_eq!(memory.bytes_mut()[4999..5002], [0, 7, 0]);
    }

    #[test]
    fn ranges_are_checked_against_overflow_and_the_end() {
        let memory = pattern();
        for (start, len) in
            [(0, 8193), (8192, 1), (8191, 2), (u64::MAX, 1), (u64::MAX, 2), (1, u64::MAX), (1 << 32, 1)]
        {
            let refused = OutOfBounds { start, len, limit: 8192 };
            assert_eq!(memory.slice(start, len).unwrap_err(), refused);
        }
        assert_eq!(memory.slice(8192, 0).unwrap().len(), 0);
        assert_eq!(memory.slice(0, 8192).unwrap().len(), 8192);
    }

    #[test]
    fn integers_must_be_aligned_and_inside() {
        let memory = pattern();
        assert!(memory.integers::<AtomicU16>(1, 1).is_err());
        assert!(memory.integers::<AtomicU32>(2, 1).is_err());
        assert!(memory.integers::<AtomicU32>(8188, 2).is_err());
        assert!(memory.integers::<AtomicU32>(0, u64::MAX).is_err());
        assert_eq!(memory.integers::<AtomicU32>(8188, 1).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn copies_are_exact_at_every_alignment(start in 0usize..64, len in 0usize..64, gap in 0usize..4) {
            let mut memory = pattern();
            let expected = memory.bytes_mut()[start..start + len].to_vec();
            let slice = memory.slice(start as u64, len as u64).unwrap();
            let mut read = vec![0xee; len + gap];
            prop_assert_eq!(slice.copy_to(&mut read), len);
            prop_assert_eq!(&read[..len], &expected[..]);
            prop_assert!(read[len..].iter().all(|&b| b == 0xee));

            let before = memory.bytes_mut().to_vec();
            let new: Vec<u8> = expected.iter().map(|b| !b).collect();
            prop_assert_eq!(memory.slice(start as u64, (len + gap) as u64).unwrap().copy_from(&new), len);
            let after = memory.bytes_mut();
            prop_assert_eq!(&after[start..start + len], &new[..]);
            prop_assert_eq!(&after[..start], &before[..start]);
            prop_assert_eq!(&after[start + len..], &before[start + len..]);
        }
    }
}
