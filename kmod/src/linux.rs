//! The framework's [`Host`] on Linux: one virtual CPU and its guest's memory in the launcher.
//!
//! Guest-physical memory is a range of the launcher's address space, so everything that reads or writes
//! it works in the launcher's process only; `device` sees to that. Giving things back works from
//! anywhere, also while the launcher exits.

use crate::errno::Errno;
use crate::events;
use crate::module::VcpuArea;
use crate::plugin::Plugin;
use crate::request::Memory;
use crate::shim::{self, RawEventfd, RawRecording, RawVcpu};
use crate::sync::Mutex;
use crate::user::{CountedMemory, User};
use alloc_crate::boxed::Box;
use alloc_crate::sync::Arc;
use alloc_crate::vec::Vec;
use arch_i386::addr::{GuestFrame, GuestPhys, GuestVirt, HostFrame, PAGE_SIZE};
use arch_i386::hypercall::HypercallArgs;
use arch_i386::kernel_view::KernelView;
use arch_i386::lguest_data::{self, Timespec, ring_call, ring_status};
use arch_i386::regs::Regs;
use arch_i386::table::{TablePage, TrustedHost};
use arch_i386::trap::{GENERAL_PROTECTION, IN_SWITCHER};
use core::cell::Cell;
use core::mem::MaybeUninit;
use core::num::NonZeroU32;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use framework::counters::FrameCounters;
use framework::event::{Event, Events};
use framework::fallible::boxed_with;
use framework::host::{
    BadAddress, Capability, DoneInSwitcher, Exit, FilledInSwitcher, GuestEntry, Host, KnownFrame, NoFrame,
    OutOfMemory, PagingHost, Purpose, RecordingFull,
};
use framework::in_switcher::InSwitcher;
use framework::kill::Panicked;
use framework::ledger::{Forgotten, Ledger, TableKind};
use framework::stale::StaleSet;
use switcher::state::{FRAME_KNOWN, FRAME_SHIFT, FRAME_WRITABLE, Frames};
use switcher::stubs::stub;

/// A virtual CPU of the C side, which the process that made it may run.
pub struct Vcpu {
    raw: NonNull<RawVcpu>,
    /// The table of frames.
    _counted: CountedMemory,
}

// SAFETY: the C side allows every call from any thread but those that run the guest, which `device`
// allows to the process that made it only.
unsafe impl Send for Vcpu {}

impl Vcpu {
    /// One for the current process, and a guest of the user's with this memory: `EFAULT` if that is not the process's as a
    /// whole, `ENOMEM` when memory is short, `EDQUOT` when the user's guests may not take it, `EINTR` when a signal came
    /// meanwhile.
    pub fn new(memory: &Memory, user: &User) -> Result<Self, Errno> {
        if !shim::lg_user_range_ok(memory.base, memory.bytes()) {
            return Err(Errno::EFAULT);
        }
        // A word for each page.
        let counted = user.charge(memory.pages * 4)?;
        let mut error = 0;
        // SAFETY: `error` is valid for writes.
        let raw = unsafe { shim::lg_vcpu_create(memory.base, memory.pages, &mut error) };
        let raw = NonNull::new(raw).ok_or(Errno::of_kernel(error))?;
        Ok(Self { raw, _counted: counted })
    }

    /// The word of a page's frame, one of those that [`Vcpu::new`] was given.
    fn frame_word(&self, page: GuestFrame) -> u32 {
        // SAFETY: there is a word for each page of the memory, as long as the virtual CPU lives.
        unsafe { (*self.shared().frames.add(page.0 as usize)).load(Ordering::Relaxed) }
    }

    /// The words of all frames, for the Switcher.
    fn frames(&self, memory: &Memory, no_execute: bool) -> Frames {
        Frames {
            words: self.shared().frames.addr() as u32,
            pages: memory.pages,
            direct_map: shim::lg_direct_map(),
            clear_buffers: shim::lg_clears_buffers(),
            no_execute,
        }
    }

    /// The words of the C side's object that are for both sides.
    const fn shared(&self) -> &RawVcpu {
        // SAFETY: the object lives as long as `self`, and what `RawVcpu` shows of it are atomics, and a pointer that stays.
        unsafe { self.raw.as_ref() }
    }

    /// The C side's object; it lives as long as `self`.
    pub const fn raw(&self) -> *mut RawVcpu {
        self.raw.as_ptr()
    }

    /// Gives the FPU to the guest until the result goes.
    pub fn load(&self) -> Loaded {
        // SAFETY: the object lives.
        unsafe { shim::lg_vcpu_load(self.raw()) };
        Loaded(self.raw)
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more: `device` drops it when the file has no user left.
        unsafe { shim::lg_vcpu_destroy(self.raw()) }
    }
}

/// A guest whose FPU state is loaded. To be dropped before its [`Vcpu`].
pub struct Loaded(NonNull<RawVcpu>);

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: it was loaded by the same process in the same system call, in which the virtual CPU
        // lives.
        unsafe { shim::lg_vcpu_put(self.0.as_ptr()) }
    }
}

/// An eventfd of the launcher.
pub struct Eventfd(NonNull<RawEventfd>);

// SAFETY: the kernel's eventfds may be signalled and given back from any thread.
unsafe impl Send for Eventfd {}

impl Eventfd {
    /// The eventfd behind a descriptor of the current process, if it is one.
    pub fn from_fd(fd: i32) -> Option<Self> {
        NonNull::new(shim::lg_eventfd_get(fd)).map(Self)
    }

    fn signal(&self) {
        // SAFETY: a reference is held until `drop`.
        unsafe { shim::lg_eventfd_signal(self.0.as_ptr()) }
    }
}

impl Drop for Eventfd {
    fn drop(&mut self) {
        // SAFETY: the reference was taken by `from_fd`.
        unsafe { shim::lg_eventfd_put(self.0.as_ptr()) }
    }
}

/// A guest's recording, as the C side keeps it until it is read.
struct Recording(NonNull<RawRecording>);

// SAFETY: the C side requires one writer at a time, from any thread, which `&mut self` is.
unsafe impl Send for Recording {}

impl Recording {
    /// One for the guest with this number and plug-in code, a guest of the current process; `None` when memory is short.
    fn new(number: u32, plugin: &Plugin) -> Option<Self> {
        // SAFETY: the object lives.
        NonNull::new(unsafe { shim::lg_recording_create(number, plugin.raw().as_ptr()) }).map(Self)
    }

    /// Adds a piece if there is room for all of it.
    fn write(&mut self, piece: &[u8]) -> Result<(), RecordingFull> {
        // SAFETY: the object lives until `drop`; pointer and length are of `piece`.
        let written =
            unsafe { shim::lg_recording_write(self.0.as_ptr(), piece.as_ptr(), piece.len() as u32) };
        if written { Ok(()) } else { Err(RecordingFull) }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // SAFETY: nobody writes to it any more.
        unsafe { shim::lg_recording_end(self.0.as_ptr()) }
    }
}

/// Which notifications signal which eventfds, in the order in which they were attached.
pub type Eventfds = Arc<Mutex<Vec<(GuestPhys, Eventfd)>>>;

/// What the word of a known frame says.
const fn known(word: u32) -> KnownFrame {
    KnownFrame { frame: HostFrame(word >> FRAME_SHIFT), writable: word & FRAME_WRITABLE != 0 }
}

/// The host of one guest.
pub struct Linux {
    vcpu: Vcpu,
    /// The guest's strategy, as it is guarded.
    plugin: Plugin,
    vcpu_area: VcpuArea,
    memory: Memory,
    eventfds: Eventfds,
    no_execute: bool,
    /// Whether the Switcher may reflect page faults by itself.
    reflect: bool,
    /// Whether it may do the hypercalls of a switch to another process.
    switch: bool,
    /// What it may fill entries from, if it may.
    frames: Option<Frames>,
    /// With what the guest was last entered: the root, and what the Switcher may do by itself; and whether that is no more in
    /// place.
    shown: (HostFrame, InSwitcher),
    overtaken: bool,
    /// Frames that have gone.
    stale: Box<StaleSet>,
    /// What the guest's strategy holds of the kernel's.
    ledger: Ledger,
    /// The pending interrupts that the framework knows of. If there are others when the guest is about
    /// to be entered, they come first.
    seen: Cell<u32>,
    /// There is one as soon as something is recorded.
    recording: Option<Recording>,
    /// Zeroed pages for the next tables: at most [`SPARE_TABLES`].
    spare: Vec<TablePage>,
    /// The guest is gone, and what it holds is given back to the end, also by a process that is being killed.
    tears_down: bool,
}

/// How many table pages are kept for the next tables of the guest: those of a few processes. To zero a page and to
/// have it from the kernel takes more instructions than all else that is done with most tables.
const SPARE_TABLES: usize = 32;

impl Linux {
    /// With `memory`, the same that `vcpu` was made with, and whether the Switcher may fill entries of the guest's shadow tables.
    /// `ENOMEM` when memory is short.
    pub fn new(
        (vcpu, plugin): (Vcpu, Plugin),
        mut vcpu_area: VcpuArea,
        memory: Memory,
        eventfds: Eventfds,
        (no_execute, fill): (bool, bool),
    ) -> Result<Self, Errno> {
        let mut spare = Vec::new();
        spare.try_reserve_exact(SPARE_TABLES).map_err(|_| Errno::ENOMEM)?;
        let frames = fill.then(|| vcpu.frames(&memory, no_execute));
        if let Some(frames) = &frames {
            vcpu_area.set_frames(frames);
        }
        Ok(Self {
            vcpu,
            plugin,
            vcpu_area,
            memory,
            eventfds,
            no_execute,
            reflect: shim::lg_reflect(),
            switch: shim::lg_switch(),
            frames,
            shown: (HostFrame(0), InSwitcher::NOTHING),
            overtaken: true,
            stale: boxed_with(StaleSet::new)?,
            ledger: Ledger::default(),
            seen: Cell::new(0),
            recording: None,
            spare,
            tears_down: false,
        })
    }

    /// All that is done from now on is to give back what the guest holds.
    pub const fn begin_tear_down(&mut self) {
        self.tears_down = true;
    }

    pub const fn vcpu(&self) -> &Vcpu {
        &self.vcpu
    }

    /// The guest's number.
    pub const fn number(&self) -> u32 {
        self.vcpu_area.number()
    }

    /// Whose guest it is.
    pub const fn user(&self) -> &User {
        self.plugin.user()
    }

    /// Whether the last memory that was requested for the guest is more than its user's guests may take together.
    pub fn at_user_limit(&self) -> bool {
        self.plugin.at_user_limit()
    }

    /// What a launcher gets when memory that its guest needs was refused: `EDQUOT` for its user's limit, else `ENOMEM`.
    pub fn short_of(&self, OutOfMemory: OutOfMemory) -> Errno {
        if self.at_user_limit() { Errno::EDQUOT } else { Errno::ENOMEM }
    }

    /// Table pages that the guest's strategy holds.
    pub fn tables(&self) -> usize {
        self.ledger.tables()
    }

    /// Has `access` done with the launcher's address of a range of guest-physical memory. The address
    /// that it gets is of user space, as `new` has checked; it returns whether the pages could be had.
    fn access(&self, at: GuestPhys, len: u32, access: impl FnOnce(u32) -> bool) -> Result<(), BadAddress> {
        let within = at.0.checked_add(len).is_some_and(|end| end <= self.memory.bytes());
        if within && access(self.memory.base + at.0) { Ok(()) } else { Err(BadAddress(at)) }
    }

    /// Finds out which frame holds a page of the guest's.
    #[cold]
    fn learn(&mut self, page: GuestFrame, purpose: Purpose) -> Result<KnownFrame, NoFrame> {
        let _outside = self.plugin.outside();
        // SAFETY: the object lives, and the page is one of its guest's.
        let word = unsafe { shim::lg_frame_learn(self.vcpu.raw(), page.0, purpose as u32) };
        if word & FRAME_KNOWN == 0 { Err(NoFrame(page)) } else { Ok(known(word)) }
    }

    /// A zeroed page for a table, which counts as the guest's.
    pub fn take_table(&mut self) -> Result<TablePage, OutOfMemory> {
        if let Some(table) = self.spare.pop() {
            return Ok(table);
        }
        if !self.plugin.charge(PAGE_SIZE) {
            return Err(OutOfMemory);
        }
        let mut frame = 0;
        // SAFETY: `frame` is valid for writes.
        let page = unsafe { shim::lg_table_alloc(&mut frame) };
        let Some(page) = NonNull::new(page) else {
            self.plugin.uncharge(PAGE_SIZE);
            return Err(OutOfMemory);
        };
        // SAFETY: it is a fresh zeroed page, which is ours until `put_back`; `frame` is its number.
        Ok(unsafe { TablePage::from_raw(page, HostFrame(frame)) })
    }

    /// Notes that a table page has come back from the strategy.
    fn taken_back(&mut self, table: &TablePage) {
        let kind = self.ledger.take_back(table);
        if kind == TableKind::Root {
            // Whatever the strategy has retracted.
            self.vcpu_area.pages().retract_root(table.frame());
            self.overtaken = true;
        }
        self.observe(Event::TableFreed { frame: table.frame(), kind });
    }

    /// Has the next runs begin with this root; see [`GuestEntry`].
    #[cold]
    fn show(&mut self, (root, by_itself): (HostFrame, InSwitcher)) {
        self.vcpu_area.set_root(root);
        let pages = self.vcpu_area.pages();
        let InSwitcher { directory, publish, fill } = by_itself;
        let published = directory.filter(|_| publish && self.switch);
        pages.show(directory, published.is_some(), self.frames.as_ref().filter(|_| fill));
        if let Some(directory) = published {
            pages.publish(directory, root);
        }
        (self.shown, self.overtaken) = ((root, by_itself), false);
    }

    /// Has Linux pass an event on.
    #[cold]
    #[inline(never)] // Where it happens, there is only the look whether somebody watches.
    fn pass_on(&self, event: Event) {
        let _outside = self.plugin.outside();
        events::pass_on(self.vcpu_area.number(), event);
    }

    /// Gives a page from `take_table` back to the kernel.
    pub fn put_back(&mut self, table: TablePage) {
        self.plugin.uncharge(PAGE_SIZE);
        let (page, _) = table.into_raw();
        // SAFETY: it comes from `take_table`, and no other handle of it is used any more.
        unsafe { shim::lg_table_free(page.as_ptr()) }
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        while let Some(table) = self.spare.pop() {
            self.put_back(table);
        }
    }
}

// SAFETY: tables are pages that the kernel has given out to nobody else; frames are those of the memory that the launcher has
// given its guest, by the kernel's own word (lg_frames.c), and their entries are dropped before the guest runs without it.
unsafe impl TrustedHost for Linux {}

/// What takes or gives back something runs as the module's own code ([`Plugin::outside`]); the rest neither allocates nor
/// panics, so that it does not matter whose code it is.
impl PagingHost for Linux {
    fn page_limit(&self) -> u32 {
        self.memory.pages
    }

    fn device_limit(&self) -> u32 {
        self.memory.device_limit
    }

    fn no_execute(&self) -> bool {
        self.no_execute
    }

    fn read(&mut self, at: GuestPhys, into: &mut [u8]) -> Result<(), BadAddress> {
        let len = into.len() as u32;
        // SAFETY: the destination is `into`; `access` vouches for the source.
        self.access(at, len, |user| unsafe { shim::lg_copy_from_user(into.as_mut_ptr(), user, len) })
    }

    fn read_u32(&mut self, at: GuestPhys) -> Result<u32, BadAddress> {
        let mut word = 0;
        self.access(at, 4, |user| {
            // SAFETY: `access` vouches for the source.
            let found = unsafe { shim::lg_get_user_32(user) };
            word = found as u32;
            found >> 32 != 0
        })?;
        Ok(word)
    }

    fn read_u64(&mut self, at: GuestPhys) -> Result<u64, BadAddress> {
        let mut word = 0;
        // SAFETY: the destination is `word`; `access` vouches for the source.
        self.access(at, 8, |user| unsafe { shim::lg_get_user_64(&mut word, user) })?;
        Ok(word)
    }

    fn write(&mut self, at: GuestPhys, from: &[u8]) -> Result<(), BadAddress> {
        let len = from.len() as u32;
        self.access(at, len, |user| match from {
            // SAFETY: `access` vouches for the destination.
            [byte] => unsafe { shim::lg_put_user_8(user, *byte) },
            // SAFETY: the source is `from`; `access` vouches for the destination.
            _ => unsafe { shim::lg_copy_to_user(user, from.as_ptr(), len) },
        })
    }

    fn write_u32(&mut self, at: GuestPhys, value: u32) -> Result<(), BadAddress> {
        // SAFETY: `access` vouches for the destination.
        self.access(at, 4, |user| unsafe { shim::lg_put_user_32(user, value) })
    }

    #[inline]
    fn frame(&mut self, page: GuestFrame, purpose: Purpose, _: Capability) -> Result<KnownFrame, NoFrame> {
        if page.0 >= self.memory.pages {
            return Err(NoFrame(page));
        }
        match (self.known(page), purpose) {
            (Some(known), _) if known.writable || purpose != Purpose::Writing => Ok(known),
            // To look for a page takes longer than most faults that it could save.
            (_, Purpose::Ahead) => Err(NoFrame(page)),
            _ => self.learn(page, purpose),
        }
    }

    #[inline]
    fn known(&self, page: GuestFrame) -> Option<KnownFrame> {
        (page.0 < self.memory.pages)
            .then(|| self.vcpu.frame_word(page))
            .filter(|word| word & FRAME_KNOWN != 0)
            .map(known)
    }

    fn has_stale(&self) -> bool {
        // SAFETY: the object lives.
        unsafe { shim::lg_frames_stale(self.vcpu.raw()) }
    }

    fn alloc_table(&mut self, kind: TableKind, _: Capability) -> Result<TablePage, OutOfMemory> {
        let _outside = self.plugin.outside();
        self.ledger.reserve()?;
        let mut table = self.take_table()?;
        // SAFETY: the ledger uses its handle when nothing is left of the strategy, or it is not at work: a handle makes
        // references only within its methods.
        let second = unsafe { table.second_handle() };
        table.set_ticket(self.ledger.give_out(second, kind));
        self.observe(Event::TableAllocated { frame: table.frame(), kind });
        Ok(table)
    }

    fn free_table(&mut self, table: TablePage, _: Capability) {
        let _outside = self.plugin.outside();
        self.taken_back(&table);
        self.put_back(table);
    }

    fn free_zeroed_table(&mut self, table: TablePage, _: Capability) {
        let _outside = self.plugin.outside();
        self.taken_back(&table);
        if self.spare.len() < SPARE_TABLES {
            self.spare.push(table);
        } else {
            self.put_back(table);
        }
    }

    fn filled_in_switcher(&self, _: Capability) -> &[FilledInSwitcher] {
        self.vcpu_area.shared_pages().filled()
    }

    fn loaded_in_switcher(&self, _: Capability) -> &[GuestPhys] {
        self.vcpu_area.shared_pages().loaded()
    }

    fn retract(&mut self, directory: GuestPhys) {
        self.vcpu_area.pages().retract(directory);
        self.overtaken = true;
    }

    /// A process that is being killed never enters its guest again: a signal that waits stops `lg_vcpu_enter`, and
    /// this one cannot be taken back.
    fn reschedule_point(&mut self) -> bool {
        let _outside = self.plugin.outside();
        shim::lg_vcpu_reschedule_point() && !self.tears_down
    }

    fn record(&mut self, piece: &[u8]) -> Result<(), RecordingFull> {
        let _outside = self.plugin.outside();
        if self.recording.is_none() {
            self.recording = Recording::new(self.vcpu_area.number(), &self.plugin);
        }
        self.recording.as_mut().ok_or(RecordingFull)?.write(piece)
    }

    #[inline]
    fn observes(&self, events: Events) -> bool {
        events::are_observed(events)
    }

    #[inline]
    fn observe(&mut self, event: Event) {
        if events::are_observed(event.kind()) {
            self.pass_on(event);
        }
    }
}

impl Host for Linux {
    fn guard<R>(&mut self, call: impl FnOnce(&mut Self) -> R) -> Result<R, Panicked> {
        let plugin = self.plugin.raw();
        // SAFETY: the object lives as long as `self`. `framework::guarded` calls this and no one else, and promises what is
        // required.
        unsafe { Plugin::guard(plugin, || call(self)) }
    }

    fn plug_in<R>(&mut self, call: impl FnOnce(&mut dyn PagingHost) -> R) -> R {
        let _inside = self.plugin.inside();
        call(self)
    }

    fn reclaim(&mut self, _: Capability) -> Forgotten {
        while let Some((table, kind)) = self.ledger.reclaim_table() {
            self.observe(Event::TableFreed { frame: table.frame(), kind });
            self.put_back(table);
            // What is given back is given back to the end.
            shim::lg_vcpu_reschedule_point();
        }
        // SAFETY: the framework calls this when the strategy is gone or abandoned, and then enters the guest no more.
        unsafe { self.plugin.reclaim() };
        self.ledger.take_forgotten()
    }

    fn drop_stale(&mut self) -> Option<u64> {
        // SAFETY: the object lives, and there are as many words as C stores.
        if !unsafe { shim::lg_frames_take(self.vcpu.raw(), self.stale.words_mut().as_mut_ptr()) } {
            return None;
        }
        if cfg!(feature = "plant-no-drop") {
            return Some(0);
        }
        // A process that is being killed never enters its guest again.
        Some(self.ledger.drop_stale(&self.stale, || _ = shim::lg_vcpu_reschedule_point()))
    }

    fn frame_counters(&self) -> FrameCounters {
        let (mut known, mut gone, mut retried) = (0, 0, 0);
        // SAFETY: the object lives, and all three are valid for writes.
        unsafe { shim::lg_frames_counts(self.vcpu.raw(), &mut known, &mut gone, &mut retried) };
        let [frames_known, frames_gone, frames_retried] = [known, gone, retried].map(u64::from);
        FrameCounters { frames_known, frames_gone, frames_retried }
    }

    fn ring_entry(&mut self, data: GuestPhys, index: u32) -> Result<Option<HypercallArgs>, BadAddress> {
        let mut call = MaybeUninit::<HypercallArgs>::uninit();
        let mut found = 0;
        self.access(data, lguest_data::SIZE, |data| {
            let (status, from) = (data + ring_status(index), data + ring_call(index));
            // SAFETY: the destination is `call`; `access` vouches for the sources, which are within the shared page: the
            // index is one of the ring's.
            found = unsafe { shim::lg_get_ring_entry(call.as_mut_ptr().cast(), status, from) };
            found >= 0
        })?;
        // SAFETY: then all of it has been read.
        Ok((found > 0).then(|| unsafe { call.assume_init() }))
    }

    fn regs(&mut self) -> &mut Regs {
        self.vcpu_area.pages().regs()
    }

    fn set_kernel_stack(&mut self, ss1: u32, esp1: GuestVirt, pages: u32) {
        self.vcpu_area.pages().set_stack(ss1, esp1.0, pages);
    }

    fn set_kernel_view(&mut self, view: Option<KernelView>) {
        let handler = |view: &KernelView| if self.reflect { view.fault_handler } else { GuestVirt(0) };
        let view = view.map(|view| KernelView { fault_handler: handler(&view), ..view });
        self.vcpu_area.pages().set_kernel_view(view);
        self.overtaken = true;
    }

    fn set_ring_next(&mut self, next: u32) {
        self.vcpu_area.pages().set_ring_next(next);
    }

    #[inline]
    fn take_done_in_switcher(&mut self) -> Option<DoneInSwitcher> {
        let done = self.vcpu_area.pages().take_done()?;
        self.overtaken |= done.loads > 0;
        Some(done)
    }

    fn take_reflected(&mut self) -> u32 {
        self.vcpu_area.pages().take_reflected()
    }

    fn enter(&mut self, entry: GuestEntry<'_>) -> Exit {
        let text = self.vcpu_area.area().text();
        if entry.fresh || self.overtaken {
            let shown = (entry.root.frame(), entry.by_itself);
            if self.overtaken || self.shown != shown {
                self.show(shown);
            }
        }
        let pages = self.vcpu_area.pages();
        let (gdt, idt) = pages.tables();
        entry.segments.sync(gdt, idt, |vector| stub(text, vector));
        if !pages.sanitise() {
            return Exit { vector: IN_SWITCHER | u32::from(GENERAL_PROTECTION), cr2: GuestVirt(0) };
        }
        pages.begin_run();
        let state: *mut _ = pages;
        // SAFETY: the pages are those of a virtual CPU in the area that the Switcher's text is in, `root` maps
        // both, as every shadow root of this guest does, and the registers have been made safe. While the guest runs it
        // writes to the register page; no reference to it exists then.
        let vector =
            unsafe { shim::lg_vcpu_enter(self.vcpu.raw(), state.cast(), self.seen.get(), entry.ts.into()) };
        Exit { vector, cr2: GuestVirt(self.vcpu.shared().cr2.load(Ordering::Relaxed)) }
    }

    fn missed_by_switcher(&self) -> Option<GuestVirt> {
        match self.vcpu.shared().missed.load(Ordering::Relaxed) {
            0 => None,
            at => Some(GuestVirt(at)),
        }
    }

    fn interrupted(&mut self) -> bool {
        // SAFETY: the object lives.
        unsafe { shim::lg_vcpu_interrupted(self.vcpu.raw()) }
    }

    fn pending_interrupts(&self) -> u32 {
        let pending = self.vcpu.shared().pending.load(Ordering::Acquire);
        self.seen.set(pending);
        pending
    }

    fn clear_interrupt(&mut self, irq: u32) {
        self.vcpu.shared().pending.fetch_and(!(1 << irq), Ordering::AcqRel);
        self.seen.set(self.seen.get() & !(1 << irq));
    }

    fn wait(&mut self, mask: u32) {
        // SAFETY: the object lives.
        unsafe { shim::lg_vcpu_wait(self.vcpu.raw(), mask) }
    }

    fn set_timer(&mut self, delay: Option<NonZeroU32>) {
        // SAFETY: the object lives.
        unsafe { shim::lg_vcpu_set_timer(self.vcpu.raw(), delay.map_or(0, NonZeroU32::get)) }
    }

    fn wall_clock(&mut self) -> Timespec {
        let mut now = Timespec::default();
        // SAFETY: both words are valid for writes.
        unsafe { shim::lg_wall_clock(&mut now.seconds, &mut now.nanoseconds) };
        now
    }

    fn tsc_khz(&self) -> u32 {
        shim::lg_tsc_khz()
    }

    fn notify(&mut self, address: GuestPhys) -> bool {
        // A process that is being killed notifies nobody any more.
        let Ok(eventfds) = self.eventfds.lock() else { return false };
        let listener = eventfds.iter().find(|(attached, _)| *attached == address);
        listener.inspect(|(_, eventfd)| eventfd.signal()).is_some()
    }
}
