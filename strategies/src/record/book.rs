//! The recording itself: what has been written of the guest's tables, and what is written next.
//!
//! [`Known`] is what a replay has of those tables. Everything that is read of the guest's memory is compared with it, and `w`
//! written for what differs. It never matters why an entry is read.

use super::known::{CHUNK, Chunk, Known, chunk_of};
use super::output::Output;
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::paging::{Entry, PageFormat};
use core::marker::PhantomData;
use framework::fallible::{OutOfMemory, filled};
use framework::host::{PagingHost, RecordingFull};
use framework::trace::{Header, Operation};
use framework::walk::{entry_address, frame_within, read_entry};

/// How many stacks are remembered as recorded: a page of them.
const STACKS: usize = PAGE_SIZE as usize / size_of::<Walked>();

/// For how many page directories it is kept apart whether their walks to stacks have to be recorded again.
const DIRECTORIES: usize = 64;

/// A kernel stack: where it ends, and its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stack {
    pub esp1: GuestVirt,
    pub pages: u32,
}

impl Stack {
    /// An address in each page.
    pub fn pages(self) -> impl Iterator<Item = GuestVirt> {
        (0..self.pages).map(move |page| GuestVirt(self.esp1.0.wrapping_sub(1).wrapping_sub(page * PAGE_SIZE)))
    }
}

/// The walks to a stack, as they have been recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Walked {
    directory: GuestPhys,
    stack: Stack,
    epoch: u64,
}

/// The walks to stacks that have been recorded, each at the one index that it can have.
pub type Stacks = Box<[Walked]>;

/// A recording. `F` is the format of the guest's tables.
pub struct Book<F> {
    known: Known,
    /// A bit for each page whose frame the recorded strategy has asked for.
    found: Vec<u32>,
    output: Output,
    stacks: Stacks,
    /// Goes up when an entry of those walks may have changed.
    epoch: u64,
    /// The same for one page directory; some share an index.
    epochs_of: [u64; DIRECTORIES],
    /// The lowest and the highest address of all stacks.
    lowest: GuestVirt,
    highest: GuestVirt,
    format: PhantomData<F>,
}

impl<F: PageFormat> Book<F> {
    /// What [`Book::new`] is made from, beside the output.
    ///
    /// # Errors
    /// [`OutOfMemory`] when memory is short.
    pub fn stacks() -> Result<Stacks, OutOfMemory> {
        filled(Walked::default(), STACKS)
    }

    pub const fn new(output: Output, stacks: Stacks) -> Self {
        Self {
            known: Known::new(),
            found: Vec::new(),
            output,
            stacks,
            epoch: 1,
            epochs_of: [0; DIRECTORIES],
            lowest: GuestVirt(u32::MAX),
            highest: GuestVirt(0),
            format: PhantomData,
        }
    }

    /// Begins the recording.
    ///
    /// # Errors
    /// [`RecordingFull`] when the host cannot keep the header, or has no memory.
    pub fn begin(&mut self, host: &mut dyn PagingHost, header: &Header) -> Result<(), RecordingFull> {
        let words = header.pages.div_ceil(u32::BITS) as usize;
        self.found = filled(0, words).map_err(|OutOfMemory| RecordingFull)?.into_vec();
        self.output.begin(host, header)
    }

    /// The host has named a page's frame.
    pub fn found(&mut self, page: GuestFrame) {
        let word = self.found.get_mut((page.0 / u32::BITS) as usize);
        *word.expect("the host has this page") |= 1 << (page.0 % u32::BITS);
    }

    /// Whether a replay's host knows a page's frame at this point: when the strategy has asked for it.
    pub fn has_found(&self, page: GuestFrame) -> bool {
        let word = self.found.get((page.0 / u32::BITS) as usize);
        word.is_some_and(|word| word >> (page.0 % u32::BITS) & 1 != 0)
    }

    /// Ends it.
    pub fn finish(&mut self, host: &mut dyn PagingHost) {
        self.output.finish(host);
    }

    /// Writes an operation.
    #[inline(always)] // as the encoder's
    pub fn put(&mut self, host: &mut dyn PagingHost, operation: Operation) {
        if self.output.put(host, operation).is_err() {
            self.known.forget();
            self.new_epoch();
        }
    }

    /// Writes a store of the guest's.
    #[inline(never)]
    fn put_write(&mut self, host: &mut dyn PagingHost, at: GuestPhys, value: Entry) {
        self.put(host, Operation::Write { at: at.0.into(), value: value.0 });
    }

    /// The entry at this address has been read from the guest's memory, and it is `now`.
    #[inline(always)] // Nearly all that is read has not changed.
    pub fn saw(&mut self, host: &mut dyn PagingHost, at: GuestPhys, now: Entry) {
        let aligned = at.0.is_multiple_of(F::ENTRY_SIZE);
        match self.known.get_mut(at).filter(|_| aligned) {
            Some(known) if entry_in::<F>(known, at) == now => {}
            Some(known) => {
                store_in::<F>(known, at, now);
                self.put_write(host, at, now);
            }
            None => self.saw_unknown(host, at),
        }
    }

    /// An entry has been read of which nothing is known. A page directory may lie anywhere, so that its entries may
    /// cross from one chunk to the next.
    #[cold]
    fn saw_unknown(&mut self, host: &mut dyn PagingHost, at: GuestPhys) {
        let (first, last) = (chunk_of(at), chunk_of(GuestPhys(at.0.wrapping_add(F::ENTRY_SIZE - 1))));
        self.record_chunk(host, first);
        if last != first {
            self.record_chunk(host, last);
        }
    }

    /// The host has stored an entry at this address, as it will for whoever replays this.
    pub fn stored(&mut self, at: GuestPhys, now: Entry) {
        if at.0.is_multiple_of(F::ENTRY_SIZE)
            && let Some(known) = self.known.get_mut(at)
        {
            store_in::<F>(known, at, now);
        }
    }

    /// Records what the guest has stored in the chunk at this address, a multiple of [`CHUNK`].
    pub fn record_chunk(&mut self, host: &mut dyn PagingHost, at: GuestPhys) {
        let mut bytes = [0; CHUNK];
        // A table outside memory has no contents, here or in the replay.
        if host.read(at, &mut bytes).is_err() {
            return;
        }
        let (words, _) = bytes.as_chunks::<4>();
        let now: Chunk = core::array::from_fn(|i| u32::from_le_bytes(words[i]));
        let before = match self.known.get_mut(at) {
            Some(known) if known.iter().zip(&now).all(|(known, now)| known == now) => return,
            Some(known) => Some(core::mem::replace(known, now)),
            None => {
                let before = self.known.elsewhere();
                self.known.insert(at, now);
                before
            }
        };
        for i in (0..CHUNK as u32).step_by(F::ENTRY_SIZE as usize) {
            let at = GuestPhys(at.0 + i);
            let value = entry_in::<F>(&now, at);
            if before.is_none_or(|before| entry_in::<F>(&before, at) != value) {
                self.put_write(host, at, value);
            }
        }
    }

    /// Records one entry, if it is in memory, and returns it.
    pub fn record_entry(&mut self, host: &mut dyn PagingHost, at: GuestPhys) -> Option<Entry> {
        let now = read_entry::<F>(host, at).ok()?;
        self.saw(host, at, now);
        Some(now)
    }

    /// Records the walk to an address, with `around` entries of the last table. Returns the last entry, if the
    /// walk comes that far.
    pub fn record_walk(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        va: GuestVirt,
        around: u32,
    ) -> Option<Entry> {
        let mut table = directory;
        for level in (2..=F::LEVELS).rev() {
            let entry = self.record_entry(host, entry_address::<F>(table, va, level))?;
            // Whoever walks into a malformed entry kills the guest there.
            table = frame_within(host, entry).filter(|_| entry.present())?.start();
        }
        let leaf = self.record_entry(host, entry_address::<F>(table, va, 1));
        if around > 1 {
            let first = F::index(va, 1) as u32 / around * around;
            let end = (first + around).min(F::ENTRIES as u32);
            let mut at = chunk_of(GuestPhys(table.0 + first * F::ENTRY_SIZE));
            while at.0 < table.0 + end * F::ENTRY_SIZE {
                self.record_chunk(host, at);
                at.0 += CHUNK as u32;
            }
        }
        leaf
    }

    // ---- The kernel stack ----

    /// The walks to stacks have to be recorded again.
    pub const fn new_epoch(&mut self) {
        self.epoch += 1;
    }

    /// The same, if the entry for this address may be one of theirs.
    pub fn new_epoch_at(&mut self, va: GuestVirt) {
        if (self.lowest..=self.highest).contains(&va.page()) {
            self.new_epoch();
        }
    }

    /// Those through this page directory have to be recorded again.
    pub const fn new_epoch_of(&mut self, directory: GuestPhys) {
        self.epochs_of[spread(directory.0) % DIRECTORIES] += 1;
    }

    /// Records the walks to the pages of the kernel stack, each with `around` entries of the last table. They must
    /// always be mapped, so a replay may need them where the recorded strategy did not.
    pub fn record_stack(
        &mut self,
        host: &mut dyn PagingHost,
        directory: GuestPhys,
        stack: Stack,
        around: u32,
    ) {
        // Both epochs only ever go up.
        let epoch = self.epoch + self.epochs_of[spread(directory.0) % DIRECTORIES];
        let place = spread(directory.0.wrapping_mul(31).wrapping_add(stack.esp1.0)) % STACKS;
        let walked = Walked { directory, stack, epoch };
        if self.stacks[place] != walked {
            self.stacks[place] = walked;
            for va in stack.pages() {
                self.lowest = self.lowest.min(va.page());
                self.highest = self.highest.max(va.page());
                self.record_walk(host, directory, va, around);
            }
        }
    }
}

/// Spreads what lies at regular distances, as directories and stacks do: a product with the golden ratio (Knuth, The
/// Art of Computer Programming, vol. 3, 6.4).
const fn spread(key: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b9) >> 16) as usize
}

/// The words of a chunk that the entry at this address, a multiple of its size, consists of.
const fn word_of(at: GuestPhys) -> usize {
    at.0 as usize % CHUNK / 4
}

/// The entry at this address, of its chunk.
fn entry_in<F: PageFormat>(chunk: &Chunk, at: GuestPhys) -> Entry {
    let low = chunk[word_of(at)].into();
    Entry(if F::ENTRY_SIZE == 4 { low } else { u64::from(chunk[word_of(at) + 1]) << 32 | low })
}

/// Puts an entry into the chunk of its address.
fn store_in<F: PageFormat>(chunk: &mut Chunk, at: GuestPhys, entry: Entry) {
    chunk[word_of(at)] = entry.0 as u32;
    if F::ENTRY_SIZE == 8 {
        chunk[word_of(at) + 1] = (entry.0 >> 32) as u32;
    }
}
