//! Load and unload, and what the parameters request.
//!
//! Loading copies the Switcher's text into its area; every guest then takes one of the area's virtual CPUs.

use crate::constructors;
use crate::errno::Errno;
use crate::log::{self, Cause};
use crate::shim;
use crate::vcpu_numbers::{self, VcpuNumbers};
use alloc_crate::boxed::Box;
use arch_i386::addr::{GuestVirt, HostFrame, PAGE_SIZE};
use arch_i386::paging::{Pae, PageFormat, Paging, TwoLevel};
use core::fmt::{self, Write};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicPtr, Ordering};
use fallible::boxed;
use framework::registry::{self, Choice, ConfigError, RegistrationError};
use framework::strategy::Formats;
use strategies as _;
use switcher::area::Area;
use switcher::map::VcpuFrames;
use switcher::state::{Frames, HostContext, VcpuPages};
use switcher::text::Text;

/// What is fixed from load to unload.
pub struct Module {
    area: Area,
    numbers: VcpuNumbers,
    /// The page format of the host.
    pub paging: Paging,
    /// Whether the processor honours the no-execute bit.
    pub no_execute: bool,
    /// Where everything random begins.
    pub seed: u64,
}

/// How many guests there can be: as many as fit half of what a page-table page maps with PAE, so that the area has a good
/// chance to find a place within one.
pub const MAX_GUESTS: u32 = {
    let mut guests = 0;
    while Area::pages(guests + 1) <= Pae::LEAF_SPAN / PAGE_SIZE / 2 {
        guests += 1;
    }
    assert!(guests <= vcpu_numbers::MAX && guests <= Area::MAX_VCPUS);
    guests
};

/// Set between load and unload.
static MODULE: AtomicPtr<Module> = AtomicPtr::new(ptr::null_mut());

/// The module, for callers that keep it loaded by an open file.
///
/// # Panics
/// Before `lg_rust_init` and after `lg_rust_exit`.
pub fn module() -> &'static Module {
    let module = NonNull::new(MODULE.load(Ordering::Acquire)).expect("the module is loaded");
    // SAFETY: it is set to a live object and freed at unload only, when no file is open.
    unsafe { module.as_ref() }
}

/// The pages of one virtual CPU in the Switcher area.
pub struct VcpuArea {
    module: &'static Module,
    number: u32,
    // Invariant: the virtual CPU's pages and its host context, of which nobody else has a reference.
    pages: NonNull<VcpuPages>,
    context: NonNull<HostContext>,
}

impl VcpuArea {
    /// Takes a free one and makes it fresh; `None` when all are taken.
    pub fn take(module: &'static Module) -> Option<Self> {
        if shim::lg_fail_vcpu() {
            return None;
        }
        let number = module.numbers.take(module.area.vcpus())?;
        let (pages, context) = (module.area.state(number), module.area.host_context(number));
        let mut vcpu_area = Self { module, number, pages: in_area(pages), context: in_area(context) };
        vcpu_area.pages().initialise(&module.area, number);
        Some(vcpu_area)
    }

    /// The two pages.
    pub const fn pages(&mut self) -> &mut VcpuPages {
        // SAFETY: the area is mapped until unload, the virtual CPU is taken by `self` alone, so that `&mut self`
        // makes the reference unique, and all bytes are valid for the type.
        unsafe { self.pages.as_mut() }
    }

    /// The same, to look at.
    pub const fn shared_pages(&self) -> &VcpuPages {
        // SAFETY: as for `pages`.
        unsafe { self.pages.as_ref() }
    }

    /// Sets the shadow root that the next entry loads.
    pub const fn set_root(&mut self, root: HostFrame) {
        // SAFETY: as for `pages`; the context is mapped and taken like them.
        unsafe { self.context.as_mut() }.set_root(root);
    }

    /// Sets what the Switcher fills entries from.
    pub const fn set_frames(&mut self, frames: &Frames) {
        // SAFETY: as for `set_root`.
        unsafe { self.context.as_mut() }.set_frames(frames);
    }

    /// The area that it is in.
    pub const fn area(&self) -> &Area {
        &self.module.area
    }

    /// Its number.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The real pages that its guest is to see.
    pub fn frames(&self) -> VcpuFrames {
        let state = Area::state_page(self.number);
        // SAFETY: the area exists and has these pages.
        let frame = |page| HostFrame(unsafe { shim::lg_area_frame(page) });
        VcpuFrames { text: frame(0), state: frame(state), registers: frame(state + 1) }
    }
}

/// What lies at an address of the area.
fn in_area<T>(address: GuestVirt) -> NonNull<T> {
    // C mapped the area; Rust has no provenance for it but its address.
    NonNull::new(ptr::with_exposed_provenance_mut(address.0 as usize)).expect("the area is not at 0")
}

impl Drop for VcpuArea {
    fn drop(&mut self) {
        self.module.numbers.give_back(self.number);
    }
}

/// Bytes that one page-table page maps.
const fn span(paging: Paging) -> u32 {
    match paging {
        Paging::TwoLevel => TwoLevel::LEAF_SPAN,
        Paging::Pae => Pae::LEAF_SPAN,
    }
}

#[unsafe(no_mangle)]
extern "C" fn lg_rust_init(
    levels: u32,
    no_execute: u32,
    max_guests: u32,
    seed_low: u32,
    seed_high: u32,
) -> i32 {
    constructors::run();
    if let Err(flaw) = registry::check() {
        log::error(format_args!("{flaw}"));
        return match flaw {
            RegistrationError::OutOfMemory(short) => Errno::from(short).negative(),
            _ => Errno::EINVAL.negative(),
        };
    }
    let paging = Paging::from_levels(levels).expect("C names the levels of a 32-bit kernel");
    let text = Text::of(paging);
    let bytes = text.bytes();
    let pages = Area::pages(max_guests);
    assert!(max_guests <= MAX_GUESTS, "C has checked max_guests");
    // SAFETY: pointer and length are of the Switcher's text.
    let base = unsafe { shim::lg_area_create(pages, span(paging), bytes.as_ptr(), bytes.len() as u32) };
    if base == 0 {
        return Errno::ENOMEM.negative();
    }
    let base = GuestVirt(base);
    let area = match paging {
        Paging::TwoLevel => Area::new::<TwoLevel>(base, max_guests),
        Paging::Pae => Area::new::<Pae>(base, max_guests),
    }
    .expect("C has put the area within one page table's reach");
    let (selector, entry) = text.entry(area.text());
    // SAFETY: the text is there.
    unsafe { shim::lg_vcpu_set_entry(selector, entry.0) };
    let module = boxed(Module {
        area,
        numbers: VcpuNumbers::new(),
        paging,
        no_execute: no_execute != 0,
        seed: u64::from(seed_high) << 32 | u64::from(seed_low),
    });
    let Ok(module) = module else {
        // SAFETY: no guest is there yet.
        unsafe { shim::lg_area_destroy() };
        return Errno::ENOMEM.negative();
    };
    MODULE.store(Box::into_raw(module), Ordering::Release);
    0
}

#[unsafe(no_mangle)]
extern "C" fn lg_rust_exit() {
    let module = MODULE.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: `lg_rust_init` made it, and no file is open, so that nobody has a reference.
    drop(unsafe { Box::from_raw(module) });
    // SAFETY: no guest is left.
    unsafe { shim::lg_area_destroy() };
}

/// Where all that can be chosen is listed, also when the module could not be loaded.
const HINT: &str = " (`modinfo lg`, or `modinfo ./lg.ko`, lists all strategies and parameters)";

/// Parses a strategy's text and checks that it can serve these formats; if not, one line is logged: the reason, and where the
/// valid choices are.
pub fn choose(text: &str, formats: Formats, cause: Cause<'_>) -> Result<Choice, Errno> {
    let choice = Choice::parse(text).and_then(|choice| choice.check_formats(formats).map(|()| choice));
    choice.map_err(|reason| {
        if cause.may_log() {
            let hint = if reason.is_of_a_name_or_value() { HINT } else { "" };
            log::error_with_hint(format_args!("{reason}"), hint);
        }
        if let ConfigError::OutOfMemory(short) = reason {
            return short.into();
        }
        Errno::EINVAL
    })
}

#[unsafe(no_mangle)]
extern "C" fn lg_rust_check_strategy(text: *const u8, length: u32, levels: u32) -> i32 {
    // SAFETY: C passes a buffer of that length.
    let bytes = unsafe { slice::from_raw_parts(text, length as usize) };
    let Ok(text) = str::from_utf8(bytes) else {
        log::error(format_args!("the strategy's name is not text"));
        return Errno::EINVAL.negative();
    };
    let paging = Paging::from_levels(levels).expect("C names the levels of a 32-bit kernel");
    choose(text, Formats::both(paging), Cause::Administrator).map_or_else(Errno::negative, |_| 0)
}

#[unsafe(no_mangle)]
extern "C" fn lg_rust_strategies(to: *mut MaybeUninit<u8>, size: u32) -> u32 {
    // SAFETY: C passes a buffer of that size, which nobody else uses.
    let mut buffer = Buffer { bytes: unsafe { slice::from_raw_parts_mut(to, size as usize) }, used: 0 };
    if writeln!(buffer, "{}(modinfo lg explains the parameters)", registry::summary()).is_err() {
        buffer.end_with("\n(cut off here; modinfo lists all)\n");
    }
    buffer.used as u32
}

/// Text in a buffer that C has; what does not fit is cut off.
struct Buffer<'a> {
    bytes: &'a mut [MaybeUninit<u8>],
    used: usize,
}

impl Buffer<'_> {
    /// Overwrites the last bytes with a text.
    fn end_with(&mut self, text: &str) {
        self.used = self.used.saturating_sub(text.len());
        // What is longer than the buffer is cut off again.
        let _ = self.write_str(text);
    }
}

impl Write for Buffer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.used;
        for (to, byte) in self.bytes[self.used..].iter_mut().zip(text.bytes()) {
            to.write(byte);
        }
        self.used += text.len().min(room);
        if text.len() <= room { Ok(()) } else { Err(fmt::Error) }
    }
}
