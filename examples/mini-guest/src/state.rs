//! All state of the kernel, behind one lock.
//!
//! There is one processor and interrupts are out while the kernel works, so nobody ever waits for the
//! lock: taking it twice is a mistake in the kernel, and a panic.

use crate::fpu::Fpu;
use crate::host;
use crate::image::ImageCache;
use crate::ram::Ram;
use crate::scratch::Scratch;
use crate::tasks::Task;
use arch_i386::addr::{GuestPhys, PAGE_SHIFT};
use arch_i386::paging::Paging;
use core::mem::size_of;
use mini_guest::frames::{Frames, Slot};
use mini_guest::page_tables::AnyPageTables;
use mini_guest::processes::Processes;
use mini_programs::abi::{MAX_PROCESSES, RunOptions};
use spin::{Mutex, MutexGuard};

/// Memory: there from early in the boot on.
pub struct Memory {
    /// Free and used page frames.
    pub frames: Frames<'static>,
    /// The kernel's own page tables.
    pub tables: AnyPageTables,
    /// Where RAM ends, as far as this kernel uses it.
    pub ram: u32,
}

/// The kernel's state.
pub struct Kernel {
    /// `None` until `take_memory`.
    pub memory: Option<Memory>,
    options: Option<RunOptions>,
    /// Who runs and who waits.
    pub processes: Processes,
    /// Memory and registers of each process.
    pub tasks: [Task; MAX_PROCESSES],
    /// Whose numbers the FPU holds.
    pub fpu: Fpu,
    /// Pages of the programs' file that have been read.
    pub image: ImageCache,
    /// The kernel pages that every process verifies.
    pub scratch: Scratch,
    /// How many context switches there have been.
    pub switches: u32,
    /// How many page faults in a row left nothing to fix.
    pub needless_faults: u32,
}

static KERNEL: Mutex<Kernel> = Mutex::new(Kernel {
    memory: None,
    options: None,
    processes: Processes::new(),
    tasks: [const { Task::EMPTY }; MAX_PROCESSES],
    fpu: Fpu::new(),
    image: ImageCache::new(),
    scratch: Scratch::new(),
    switches: 0,
    needless_faults: 0,
});

/// The kernel's state, until the guard is dropped: before anything that switches to another process,
/// touches a program's memory or lets interrupts in.
pub fn kernel() -> MutexGuard<'static, Kernel> {
    KERNEL.try_lock().expect("the kernel's state is in use")
}

impl Kernel {
    /// Frames and page tables.
    pub fn memory(&mut self) -> &mut Memory {
        self.memory.as_mut().expect("memory is there before anything that uses it")
    }

    /// What the command line requested.
    pub fn options(&self) -> RunOptions {
        self.options.expect("options are there before the first process")
    }

    /// Prepares the first process, which runs as soon as the kernel idles.
    pub fn start(&mut self, options: RunOptions) {
        self.options = Some(options);
        self.create_init();
    }
}

/// Takes charge of all memory from `kernel_end` up to `ram` bytes and makes the kernel's page tables.
pub fn take_memory(paging: Paging, ram: u32, kernel_end: GuestPhys) {
    let slots_start = kernel_end.0.next_multiple_of(size_of::<Slot>() as u32);
    // A slot for each frame, at the start of the memory that it describes.
    let candidates = (ram.saturating_sub(slots_start)) >> PAGE_SHIFT;
    let first = (slots_start + candidates * size_of::<Slot>() as u32).next_multiple_of(1 << PAGE_SHIFT);
    let count = (ram >> PAGE_SHIFT).saturating_sub(first >> PAGE_SHIFT);
    assert!(count >= 256, "{} KiB of memory are too little; the guest needs 6 MiB", ram >> 10);
    let slots = arch_i386::addr::GuestVirt(mini_guest::layout::KERNEL_BASE + slots_start);
    // SAFETY: memory behind the kernel's image, within the lowest 8 MiB that the first tables map, and
    // nobody else's. It is written before it is used.
    let slots = unsafe {
        let first_slot = core::ptr::with_exposed_provenance_mut::<Slot>(slots.0 as usize);
        for i in 0..count as usize {
            first_slot.add(i).write(Slot::default());
        }
        core::slice::from_raw_parts_mut(first_slot, count as usize)
    };
    let mut frames = Frames::new(GuestPhys(first).frame(), slots);
    // The host does not know these tables yet, so the ring takes what would be reported to it.
    let tables = host::batch(|| AnyPageTables::kernel(paging, &mut Ram, &mut frames, ram))
        .unwrap_or_else(|error| panic!("making the kernel's page tables: {error}"));
    kernel().memory = Some(Memory { frames, tables, ram });
}
