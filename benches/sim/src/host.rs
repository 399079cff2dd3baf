//! A host made of plain memory.
//!
//! Guest-physical memory is one vector of bytes; a guest's frame number is the host's too, so that what
//! the shadow tables hold can be read off without a translation. Table pages come from the heap and are
//! counted. Tables and frames can be made to fail on purpose, and a test can take frames away, as a host does that is short of
//! memory.

use arch_i386::addr::{GuestFrame, GuestPhys, HostFrame, PAGE_SIZE};
use arch_i386::paging::Paging;
use arch_i386::table::{TablePage, TrustedHost};
use framework::host::{
    BadAddress, Capability, KnownFrame, LAST_WORDS, NoFrame, OutOfMemory, PagingHost, Purpose, RecordingFull,
};
use framework::ledger::{Forgotten, Ledger, TableKind};
use framework::stale::StaleSet;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use arch_i386::addr::GuestVirt;
use framework::strategy::SwitcherWindow;

const PAGE: Layout = match Layout::from_size_align(PAGE_SIZE as usize, PAGE_SIZE as usize) {
    Ok(layout) => layout,
    Err(_) => panic!("a page has a layout"),
};

/// What is known of a page's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Unknown,
    ReadOnly,
    Writable,
}

/// The simulated host of one guest.
#[derive(Debug)]
pub struct SimHost {
    memory: Vec<u8>,
    pages: u32,
    /// Pages of device memory after those.
    device_pages: u32,
    /// Pages that were tables once, for the next one that is wanted: of any contents, and zeroed ones.
    spare: Vec<TablePage>,
    zeroed: Vec<TablePage>,
    /// All table pages ever made, by their frame numbers, which are above the guest's: for tests that look
    /// behind a strategy's back.
    second_handles: Vec<TablePage>,
    tables: usize,
    /// What is known of the frame of each guest page.
    words: Vec<Word>,
    /// Pages that can be had for reading only, as if others had them too.
    read_only: Vec<bool>,
    /// Frames that have gone, since the last [`SimHost::drop_stale`].
    stale: Option<Box<StaleSet>>,
    /// What the guest's strategy holds of it.
    ledger: Ledger,
    /// How many of these may still be had; `None` for any number.
    tables_left: Option<usize>,
    /// How many there may be at a time; `None` for any number.
    most_tables: Option<usize>,
    frames_left: Option<usize>,
    no_execute: bool,
    recording: Vec<u8>,
    /// How many more bytes of it may be kept; `None` for any number.
    recording_left: Option<usize>,
    /// The loss of a part of it may still be reported.
    last_words: bool,
    /// Page directories that the Switcher is said to have loaded by itself.
    loaded_in_switcher: Vec<GuestPhys>,
    /// A word of guest memory to which the launcher writes at every look, what it writes in turn, and how often it has.
    restless_word: Option<(GuestPhys, [u32; 2], usize)>,
    /// The Switcher's table.
    switcher: Option<TablePage>,
    /// Tables given back since the last point at which something else could have run, and the most of them.
    since_point: u64,
    longest_stretch: u64,
    /// How many such points there may be before the launcher is killed; `None` if it is not.
    points_left: Option<usize>,
}

impl SimHost {
    /// A host whose guest has that many pages of zeroes.
    ///
    /// # Panics
    /// For more than 3 GiB: frame numbers above the guest's must be left for tables.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        assert!(pages <= 0xc_0000, "a simulated guest has at most 3 GiB");
        Self {
            memory: vec![0; pages as usize * PAGE_SIZE as usize],
            pages,
            device_pages: 0,
            spare: Vec::new(),
            zeroed: Vec::new(),
            second_handles: Vec::new(),
            tables: 0,
            words: vec![Word::Unknown; pages as usize],
            read_only: vec![false; pages as usize],
            stale: None,
            ledger: Ledger::default(),
            tables_left: None,
            most_tables: None,
            frames_left: None,
            no_execute: true,
            recording: Vec::new(),
            recording_left: None,
            last_words: true,
            loaded_in_switcher: Vec::new(),
            restless_word: None,
            switcher: None,
            since_point: 0,
            longest_stretch: 0,
            points_left: None,
        }
    }

    /// Has that many pages of device memory follow the guest's memory.
    pub const fn set_device_pages(&mut self, pages: u32) {
        self.device_pages = pages;
    }

    /// Says that the Switcher has loaded these page directories by itself, one after the other, since the last exit.
    pub fn load_in_switcher(&mut self, directories: Vec<GuestPhys>) {
        self.loaded_in_switcher = directories;
    }

    /// The most tables that were given back without a point at which something else could have run.
    #[must_use]
    pub fn longest_stretch(&self) -> u64 {
        self.longest_stretch
    }

    /// Has the launcher killed after so many further points at which something else can run; `None` while everything
    /// is given back.
    pub fn kill_launcher_after(&mut self, points: Option<usize>) {
        self.points_left = points;
    }

    /// The Switcher's window at `start`, with a table of its own, as the module would make one.
    ///
    /// # Panics
    /// When table pages have been made to fail already.
    pub fn window(&mut self, start: GuestVirt) -> SwitcherWindow {
        let table = match self.switcher.take() {
            Some(table) => table,
            None => self.take_table().expect("a new host has a table page"),
        };
        SwitcherWindow::new(start, self.switcher.insert(table))
    }

    /// Gives the Switcher's table back.
    pub fn remove_window(&mut self) {
        if let Some(table) = self.switcher.take() {
            self.put_back(table);
        }
    }

    /// A zeroed page for a table.
    fn take_table(&mut self) -> Result<TablePage, OutOfMemory> {
        if self.most_tables.is_some_and(|most| self.tables >= most) || !take(&mut self.tables_left) {
            return Err(OutOfMemory);
        }
        self.tables += 1;
        if let Some(table) = self.zeroed.pop() {
            return Ok(table);
        }
        if let Some(mut table) = self.spare.pop() {
            table.longs_mut().fill(0);
            return Ok(table);
        }
        // SAFETY: the layout is not empty.
        let page = unsafe { alloc_zeroed(PAGE) };
        let Some(page) = NonNull::new(page.cast()) else { handle_alloc_error(PAGE) };
        let frame = HostFrame(self.pages + self.second_handles.len() as u32);
        // SAFETY: a page-aligned, zeroed page that nothing else refers to.
        let table = unsafe { TablePage::from_raw(page, frame) };
        // SAFETY: the page lives as long as the host. A handle makes references only within its methods, and
        // no test uses this one while a strategy is at work.
        self.second_handles.push(unsafe { table.second_handle() });
        Ok(table)
    }

    fn put_back(&mut self, table: TablePage) {
        self.gave_back();
        self.spare.push(table);
    }

    fn gave_back(&mut self) {
        self.tables -= 1;
        self.since_point += 1;
        self.longest_stretch = self.longest_stretch.max(self.since_point);
    }

    /// Takes back what a strategy has forgotten, of which nothing may be left; returns what that was.
    pub fn reclaim(&mut self) -> Forgotten {
        while let Some((table, _)) = self.ledger.reclaim_table() {
            self.put_back(table);
        }
        self.ledger.take_forgotten()
    }

    /// Takes a page's frame away, as for the time being a host does that swaps it out. Shadow entries of it may be there
    /// until [`SimHost::drop_stale`].
    pub fn take_frame(&mut self, page: GuestFrame) {
        let word = &mut self.words[page.0 as usize];
        if std::mem::replace(word, Word::Unknown) != Word::Unknown {
            self.stale.get_or_insert_default().insert(HostFrame(page.0));
        }
    }

    /// From now on the page can be had for reading only, until it is to be written, as one that is shared; or not.
    pub fn share_page(&mut self, page: GuestFrame, shared: bool) {
        self.take_frame(page);
        self.read_only[page.0 as usize] = shared;
    }

    /// Takes for dropped what is stale, as a mistake would.
    pub fn lose_stale(&mut self) {
        self.stale = None;
    }

    /// Drops what [`Host::drop_stale`](framework::host::Host::drop_stale) has to.
    pub fn drop_stale(&mut self) -> Option<u64> {
        let stale = self.stale.take()?;
        Some(self.ledger.drop_stale(&stale, || {}))
    }

    /// Lets only that many further table pages be had.
    pub fn limit_tables(&mut self, left: Option<usize>) {
        self.tables_left = left;
    }

    /// Lets only so many table pages be had at a time, the Switcher's included.
    pub fn cap_tables(&mut self, most: Option<usize>) {
        self.most_tables = most;
    }

    /// Lets only that many further frames be learnt.
    pub fn limit_frames(&mut self, left: Option<usize>) {
        self.frames_left = left;
    }

    /// Lets only that many further bytes of a recording be kept.
    pub fn limit_recording(&mut self, left: Option<usize>) {
        self.recording_left = left;
    }

    /// Takes what has been recorded since the last time.
    pub fn take_recording(&mut self) -> Vec<u8> {
        self.last_words = true;
        std::mem::take(&mut self.recording)
    }

    /// Whether the processor knows the no-execute bit.
    pub fn set_no_execute(&mut self, known: bool) {
        self.no_execute = known;
    }

    /// Shadow entries that map something.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.ledger.entries() as u64
    }

    /// Pages of the guest's whose frames are known.
    #[must_use]
    pub fn frames_known(&self) -> u64 {
        self.words.iter().filter(|word| **word != Word::Unknown).count() as u64
    }

    /// Table pages given out, the Switcher's included.
    #[must_use]
    pub fn tables(&self) -> usize {
        self.tables
    }

    /// From now on the launcher writes these two values in turn to a word of guest memory, before each time that it is
    /// read.
    pub fn write_at_every_look(&mut self, at: GuestPhys, values: [u32; 2]) {
        self.restless_word = Some((at, values, 0));
    }

    /// Shows a table page to a test, as the processor would see it. The strategy must not be at work.
    ///
    /// # Panics
    /// When no table is in that frame.
    pub fn inspect_table<R>(&self, table: HostFrame, look: impl FnOnce(&TablePage) -> R) -> R {
        look(&self.second_handles[(table.0 - self.pages) as usize])
    }

    /// Lets a test change a table page behind the strategy's back, as broken memory would.
    ///
    /// # Panics
    /// When no table is in that frame.
    pub fn damage_table(&mut self, table: HostFrame, change: impl FnOnce(&mut TablePage)) {
        change(&mut self.second_handles[(table.0 - self.pages) as usize]);
    }

    /// The guest's own store of one entry; one that is outside memory is dropped.
    pub fn store(&mut self, paging: Paging, at: u64, value: u64) {
        let Ok(at) = u32::try_from(at) else { return };
        // Outside memory there is nothing to keep it.
        let _ = match paging {
            Paging::TwoLevel => self.write_u32(GuestPhys(at), value as u32),
            Paging::Pae => self.write_u64(GuestPhys(at), value),
        };
    }

    #[inline]
    fn bytes<const N: usize>(&mut self, at: GuestPhys) -> Result<&mut [u8; N], BadAddress> {
        let chunk = self.memory.get_mut(at.0 as usize..).and_then(<[u8]>::first_chunk_mut);
        chunk.ok_or(BadAddress(at))
    }

    fn range(&mut self, at: GuestPhys, len: usize) -> Result<&mut [u8], BadAddress> {
        let rest = self.memory.get_mut(at.0 as usize..);
        rest.and_then(|rest| rest.get_mut(..len)).ok_or(BadAddress(at))
    }
}

/// Takes one from a number that may be limited.
fn take(left: &mut Option<usize>) -> bool {
    match left {
        Some(0) => false,
        Some(left) => {
            *left -= 1;
            true
        }
        None => true,
    }
}

// SAFETY: tables are zeroed pages of the heap, each given out once, and frames are those of the guest's memory, which
// stay what they are.
unsafe impl TrustedHost for SimHost {}

impl PagingHost for SimHost {
    fn loaded_in_switcher(&self, _: Capability) -> &[GuestPhys] {
        &self.loaded_in_switcher
    }

    fn page_limit(&self) -> u32 {
        self.pages
    }

    fn device_limit(&self) -> u32 {
        self.pages + self.device_pages
    }

    fn no_execute(&self) -> bool {
        self.no_execute
    }

    fn read(&mut self, at: GuestPhys, into: &mut [u8]) -> Result<(), BadAddress> {
        into.copy_from_slice(self.range(at, into.len())?);
        Ok(())
    }

    fn write(&mut self, at: GuestPhys, from: &[u8]) -> Result<(), BadAddress> {
        self.range(at, from.len())?.copy_from_slice(from);
        Ok(())
    }

    fn read_u32(&mut self, at: GuestPhys) -> Result<u32, BadAddress> {
        if let Some((restless, values, looks)) = &mut self.restless_word
            && *restless == at
        {
            *looks += 1;
            let value = values[*looks % 2];
            self.write_u32(at, value)?;
        }
        self.bytes(at).map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn read_u64(&mut self, at: GuestPhys) -> Result<u64, BadAddress> {
        self.bytes(at).map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn write_u32(&mut self, at: GuestPhys, value: u32) -> Result<(), BadAddress> {
        self.bytes(at).map(|bytes| *bytes = value.to_le_bytes())
    }

    fn write_u64(&mut self, at: GuestPhys, value: u64) -> Result<(), BadAddress> {
        self.bytes(at).map(|bytes| *bytes = value.to_le_bytes())
    }

    fn frame(&mut self, page: GuestFrame, purpose: Purpose, _: Capability) -> Result<KnownFrame, NoFrame> {
        let missing = NoFrame(page);
        let word = self.words.get_mut(page.0 as usize).ok_or(missing)?;
        if *word == Word::Unknown || *word == Word::ReadOnly && purpose == Purpose::Writing {
            if purpose == Purpose::Ahead || !take(&mut self.frames_left) {
                return Err(missing);
            }
            let shared = &mut self.read_only[page.0 as usize];
            // A write ends the sharing.
            *shared &= purpose < Purpose::LikelyWriting;
            *word = if *shared { Word::ReadOnly } else { Word::Writable };
        }
        self.known(page).ok_or(missing)
    }

    fn known(&self, page: GuestFrame) -> Option<KnownFrame> {
        let known = |writable| Some(KnownFrame { frame: HostFrame(page.0), writable });
        match self.words.get(page.0 as usize)? {
            Word::Unknown => None,
            Word::ReadOnly => known(false),
            Word::Writable => known(true),
        }
    }

    fn has_stale(&self) -> bool {
        self.stale.is_some()
    }

    fn alloc_table(&mut self, kind: TableKind, _: Capability) -> Result<TablePage, OutOfMemory> {
        self.ledger.reserve()?;
        let mut table = self.take_table()?;
        // SAFETY: the ledger uses its handle when the strategy is gone.
        let second = unsafe { table.second_handle() };
        table.set_ticket(self.ledger.give_out(second, kind));
        Ok(table)
    }

    fn free_table(&mut self, table: TablePage, _: Capability) {
        self.ledger.take_back(&table);
        self.put_back(table);
    }

    fn free_zeroed_table(&mut self, table: TablePage, _: Capability) {
        debug_assert!(table.longs().iter().all(|&entries| entries == 0), "{table:?} is not zero");
        self.ledger.take_back(&table);
        self.gave_back();
        self.zeroed.push(table);
    }

    fn reschedule_point(&mut self) -> bool {
        self.since_point = 0;
        !take(&mut self.points_left)
    }

    fn record(&mut self, piece: &[u8]) -> Result<(), RecordingFull> {
        match self.recording_left.map(|left| left.checked_sub(piece.len())) {
            None => {}
            Some(Some(left)) => self.recording_left = Some(left),
            Some(None) if piece.len() <= LAST_WORDS && self.last_words => self.last_words = false,
            Some(None) => return Err(RecordingFull),
        }
        self.recording.extend_from_slice(piece);
        Ok(())
    }
}

impl Drop for SimHost {
    fn drop(&mut self) {
        for table in self.spare.drain(..).chain(self.zeroed.drain(..)).chain(self.switcher.take()) {
            let (page, _) = table.into_raw();
            // SAFETY: allocated above with this layout; the handle is gone.
            unsafe { dealloc(page.as_ptr().cast(), PAGE) };
        }
    }
}
