//! The pages of a virtual CPU, as the processor and the Switcher's assembly use them.
//!
//! ```text
//!  state page (guest: read-only)            register page (guest: writable)
//!  +0x000 IDT, 256 gates                    +0x000 how often the Switcher has reflected a page
//!  +0x800 GDT, 32 descriptors                      fault, the address of the last one, and
//!  +0x900 TSS                                      how many of ring 1
//!  +0x968 what the way out begins with      +0x00c the stack that an NMI, or a fault of the
//!  +0x984 how page faults are reflected            Switcher itself, goes on with below the frame
//!         and filled                        +0xfb8 the guest's registers: the frame that traps
//!  +0x9b0 the roots that the Switcher              from the guest push downwards from the end
//!         may load, and what it has done
//! ```
//!
//! The guest's kernel can read the state page, for ring 1 is supervisor to the page tables. So it holds only
//! what the processor or the Switcher must find there while the guest's page tables are loaded:
//!
//! | what | who needs it | what a guest learns |
//! | --- | --- | --- |
//! | IDT, GDT, TSS | the processor, at every trap and segment load | what it has set itself, and addresses in the Switcher area |
//! | `guest_gdtr`, `guest_idtr` | `lgdt`, `lidt`; they could be elsewhere | what `sgdt` and `sidt` return to any program |
//! | `host_cr3` | the way out: nothing of the host is mapped before it is loaded | the physical address of its launcher's page directory |
//! | `host_context` | the way out, from the page just named to the next | an address in the Switcher area |
//! | `events` | the handler of NMIs and machine checks on the way out | that one came |
//! | `directory`, `view`, `fill_pages` | what the Switcher does of page faults | what it has set itself, and where the Switcher's window begins |
//! | `clear_buffers` | the way back from the host's page tables to the guest | whether its processor needs that |
//! | `published` | what the Switcher does by itself and writes down | the physical addresses of its own shadow roots |
//!
//! All else of the host's is in its [`HostContext`], on a page that no guest maps: the host's stack pointer, CR4,
//! the addresses of its descriptor tables, the guest's own CR3, and where the words of the guest's frames are.
//!
//! Sources: Intel SDM vol. 3A, 2.4 (table registers), 7.2.1 (TSS); lguest's `struct lguest_pages`.

use crate::area::{Area, HOST_CONTEXT_SIZE};
use crate::published::Published;
use arch_i386::RFlags;
use arch_i386::addr::{GuestPhys, GuestVirt, HostFrame, PAGE_SHIFT, PAGE_SIZE};
use arch_i386::done_in_switcher::{DoneInSwitcher, FilledInSwitcher};
use arch_i386::hypercall::Hypercall;
use arch_i386::kernel_view::KernelView;
use arch_i386::lguest_data::{RING_SIZE, ring_status};
use arch_i386::paging::Flags;
use arch_i386::regs::{REGS_SIZE, Regs};
use arch_i386::segment::{Descriptor, GDT_ENTRIES, IDT_ENTRIES, LGUEST_DS, index};
use core::mem::offset_of;

/// In the word of events that the world switch returns, the first bit of the number of machine checks; below is that of
/// NMIs.
pub const MACHINE_CHECKS_SHIFT: u32 = 16;

/// What `lgdt` and `lidt` load and `sgdt` and `sidt` store: 6 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, packed(2))]
pub(crate) struct TableRegister {
    limit: u16,
    pub(crate) base: u32,
}

/// A task-state segment: only the stacks of the inner rings, and the absence of I/O rights, matter.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Tss {
    link: u32,
    esp0: u32,
    ss0: u32,
    pub(crate) esp1: u32,
    pub(crate) ss1: u32,
    unused: [u32; 20],
    /// Low half: the debug-trap bit. High half: where the I/O permission bitmap would be.
    trap_and_io_bitmap: u32,
}

/// What the processor reads while the guest runs, and the first step of the way back to the host.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct StatePage {
    idt: [Descriptor; IDT_ENTRIES],
    gdt: [Descriptor; GDT_ENTRIES],
    pub(crate) tss: Tss,
    // From here on for the assembly in `text`, by offset.
    pub(crate) host_cr3: u32,
    /// The address of this virtual CPU's [`HostContext`].
    pub(crate) host_context: u32,
    /// What came while the Switcher was on its way out: NMIs in the low half, machine checks in the high half.
    pub(crate) events: u32,
    padding: u16,
    pub(crate) guest_gdtr: TableRegister,
    pub(crate) guest_idtr: TableRegister,
    more_padding: u16,
    /// Where the guest's kernel sees its page directory; 0 when the Switcher must not reflect page faults.
    pub(crate) directory: u32,
    pub(crate) view: KernelView,
    /// Pages of the guest's memory, if the Switcher may fill entries of shadow tables; 0 if not.
    pub(crate) fill_pages: u32,
    /// Not 0 where the processor's buffers are to be cleared before the guest goes on.
    pub(crate) clear_buffers: u32,
    /// What may be in the high half of an entry of the guest's, where it has one: the flag that forbids to execute, or nothing.
    pub(crate) no_execute: u32,
    pub(crate) published: Published,
    unused: [u8; PAGE_SIZE as usize - 0x9b0 - size_of::<Published>()],
}

/// The saved host context of a virtual CPU, and what is loaded for the guest while the host's page tables are still
/// loaded: on a page that no guest maps.
#[derive(Debug, Default)]
#[repr(C)]
pub struct HostContext {
    pub(crate) esp: u32,
    pub(crate) cr4: u32,
    pub(crate) guest_cr3: u32,
    /// The address of a word for each page of the guest's memory: see [`Frames`].
    pub(crate) frames: u32,
    /// Where the host sees physical memory, from 0 on.
    pub(crate) direct_map: u32,
    pub(crate) gdtr: TableRegister,
    pub(crate) idtr: TableRegister,
}

/// What the host knows of the frames of a guest's memory, for the Switcher to fill entries by itself.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// The address of a word for each page of the guest's: [`FRAME_KNOWN`], [`FRAME_WRITABLE`], and the frame's number from
    /// [`FRAME_SHIFT`] on. The host clears one when the frame goes, and then has the guest left and drops the entries of the
    /// frame before it runs again.
    pub words: u32,
    /// How many there are.
    pub pages: u32,
    /// Where the host sees physical memory, from 0 on; all table pages are mapped there.
    pub direct_map: u32,
    /// The processor's buffers are to be cleared before the guest runs.
    pub clear_buffers: bool,
    /// The processor can tell pages that may not be executed.
    pub no_execute: bool,
}

/// In the word of a frame: it is known to hold the page.
pub const FRAME_KNOWN: u32 = 1;
/// In the word of a frame: the guest may write to it.
pub const FRAME_WRITABLE: u32 = 2;
/// The flag that forbids to execute, in the high half of an entry.
const NO_EXECUTE: u32 = (Flags::NO_EXECUTE.bits() >> u32::BITS) as u32;
/// In the word of a frame, the first bit of its number.
pub const FRAME_SHIFT: u32 = 2;

impl HostContext {
    /// Sets the shadow root that the next entry loads.
    pub const fn set_root(&mut self, root: HostFrame) {
        self.guest_cr3 = root.0 << PAGE_SHIFT;
    }

    /// Sets what the Switcher fills entries from.
    pub const fn set_frames(&mut self, frames: &Frames) {
        (self.frames, self.direct_map) = (frames.words, frames.direct_map);
    }
}

/// The page that the guest can write.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct RegisterPage {
    /// Page faults that the Switcher has reflected since they were last taken, as far as the guest has left the number alone.
    pub(crate) reflected: u32,
    /// The address of the last of them.
    pub(crate) last_reflected: u32,
    /// How many of them were of ring 1 in this run.
    pub(crate) kernel_faults: u32,
    stack: [u8; (PAGE_SIZE - REGS_SIZE) as usize - 12],
    regs: Regs,
}

/// The two pages of one virtual CPU, as they follow each other in the Switcher area.
#[derive(Debug)]
#[repr(C)]
pub struct VcpuPages {
    state: StatePage,
    pub(crate) registers: RegisterPage,
}

/// Offset of the saved registers from the start of the virtual CPU.
pub(crate) const FRAME: u32 = 2 * PAGE_SIZE - REGS_SIZE;

const _: () = {
    assert!(size_of::<TableRegister>() == 6);
    assert!(size_of::<Tss>() == 104);
    assert!(size_of::<StatePage>() == PAGE_SIZE as usize);
    assert!(size_of::<VcpuPages>() == 2 * PAGE_SIZE as usize);
    assert!(offset_of!(VcpuPages, registers) + offset_of!(RegisterPage, regs) == FRAME as usize);
    assert!(offset_of!(StatePage, gdt) == 0x800);
    assert!(offset_of!(StatePage, tss) == 0x900);
    assert!(offset_of!(StatePage, host_cr3) == 0x968);
    assert!(offset_of!(StatePage, directory) == 0x984);
    assert!(offset_of!(StatePage, published) == 0x9b0);
    assert!(size_of::<HostContext>() == HOST_CONTEXT_SIZE as usize);
};

impl StatePage {
    /// Offset of the guest's GDT.
    #[cfg_attr(not(target_os = "none"), allow(dead_code, reason = "used by the assembly"))]
    pub(crate) const GDT: usize = offset_of!(StatePage, gdt);
}

/// The flags that a guest has for itself: the arithmetic ones, TF, DF, AC and ID.
pub(crate) const GUEST_FLAGS: u32 = (RFlags::CARRY_FLAG.bits()
    | RFlags::PARITY_FLAG.bits()
    | RFlags::AUXILIARY_CARRY_FLAG.bits()
    | RFlags::ZERO_FLAG.bits()
    | RFlags::SIGN_FLAG.bits()
    | RFlags::TRAP_FLAG.bits()
    | RFlags::DIRECTION_FLAG.bits()
    | RFlags::OVERFLOW_FLAG.bits()
    | RFlags::ALIGNMENT_CHECK.bits()
    | RFlags::ID.bits()) as u32;

/// The flags that are always set: bit 1, which is reserved, and IF. Clear stay IOPL (no port is a
/// guest's), VM (virtual-8086 mode would be entered from ring 0), NT (the guest's `iret` would switch
/// tasks) and RF.
pub(crate) const FIXED_FLAGS: u32 = 2 | RFlags::INTERRUPT_FLAG.bits() as u32;

/// The hypercalls that the Switcher can do by itself, a bit for each number: those of a switch to another process.
const QUICK_CALLS: u32 = 1 << Hypercall::FlushAsync as u32
    | 1 << Hypercall::NewPgtable as u32
    | 1 << Hypercall::SetStack as u32
    | 1 << Hypercall::LoadTls as u32
    | 1 << Hypercall::SwitchTo as u32;

/// What is before the first reflected fault of a run. (A fault at this very address goes to the host.)
pub(crate) const NO_ADDRESS: u32 = u32::MAX;

impl VcpuPages {
    /// Makes the pages those of a new virtual CPU in `vcpu`: registers and gates zero, everything that
    /// no guest may set in place. Nothing of a former user stays.
    pub fn initialise(&mut self, area: &Area, vcpu: u32) {
        let state_address = area.state(vcpu).0;
        let at = |offset: usize| state_address + offset as u32;
        let table = |offset, entries| TableRegister {
            limit: (entries * size_of::<Descriptor>() - 1) as u16,
            base: at(offset),
        };
        let mut gdt = [Descriptor::default(); GDT_ENTRIES];
        gdt[index::LGUEST_CS] = Descriptor::FLAT_CODE;
        gdt[index::LGUEST_DS] = Descriptor::FLAT_DATA;
        let tss_limit = size_of::<Tss>() as u32 - 1;
        gdt[index::TSS] = Descriptor::tss(at(offset_of!(StatePage, tss)), tss_limit);

        let state = &mut self.state;
        state.idt = [Descriptor::default(); IDT_ENTRIES];
        state.gdt = gdt;
        state.tss = Tss {
            link: 0,
            esp0: state_address + FRAME + REGS_SIZE,
            ss0: LGUEST_DS,
            esp1: 0,
            ss1: 0,
            unused: [0; 20],
            // Beyond the limit: there is no bitmap, so no port may be used.
            trap_and_io_bitmap: (tss_limit + 1) << 16,
        };
        state.host_context = area.host_context(vcpu).0;
        (state.host_cr3, state.events, state.padding) = (0, 0, 0);
        state.guest_gdtr = table(offset_of!(StatePage, gdt), GDT_ENTRIES);
        state.guest_idtr = table(offset_of!(StatePage, idt), IDT_ENTRIES);
        state.more_padding = 0;
        (state.directory, state.view, state.published) = (0, KernelView::default(), Published::NONE);
        (state.fill_pages, state.clear_buffers, state.no_execute) = (0, 0, 0);
        state.unused.fill(0);

        (self.registers.reflected, self.registers.last_reflected) = (0, 0);
        self.registers.stack.fill(0);
        self.registers.regs = Regs::default();
    }

    /// The guest's registers while it does not run.
    pub const fn regs(&mut self) -> &mut Regs {
        &mut self.registers.regs
    }

    /// The descriptor tables that the processor uses for the guest. The descriptors of the GDT that
    /// [`VcpuPages::initialise`] filled must stay as they are.
    pub const fn tables(&mut self) -> (&mut [Descriptor; GDT_ENTRIES], &mut [Descriptor; IDT_ENTRIES]) {
        (&mut self.state.gdt, &mut self.state.idt)
    }

    /// Sets the stack for traps from ring 3 that go straight to the guest's kernel, of so many pages.
    pub const fn set_stack(&mut self, ss1: u32, esp1: u32, pages: u32) {
        (self.state.tss.ss1, self.state.tss.esp1) = (ss1, esp1);
        self.state.published.stack_pages = pages;
    }

    /// Sets the ring entry that comes next.
    pub const fn set_ring_next(&mut self, next: u32) {
        self.state.published.ring_next = next;
    }

    /// Sets where the guest's kernel sees its memory, for all runs from now on; `None`: the Switcher does nothing by itself.
    /// Nothing is published then. [`VcpuPages::show`] must follow before the next run.
    pub fn set_kernel_view(&mut self, view: Option<KernelView>) {
        self.state.view = view.unwrap_or_default();
        self.state.published.retract_all();
    }

    /// Sets by which page directory of the guest's the Switcher handles page faults by itself, as far as
    /// [`VcpuPages::set_kernel_view`] allows, whether it may do hypercalls, and fill entries from these frames, which are those
    /// that [`HostContext::set_frames`] has. Holds until the next call, or until the Switcher has loaded another page directory.
    pub fn show(&mut self, directory: Option<GuestPhys>, calls: bool, fill: Option<&Frames>) {
        self.state.directory = directory.and_then(|at| self.linear(at)).map_or(0, |at| at.0);
        (self.state.fill_pages, self.state.clear_buffers) =
            fill.map_or((0, 0), |frames| (frames.pages, frames.clear_buffers.into()));
        self.state.no_execute = if fill.is_some_and(|frames| frames.no_execute) { NO_EXECUTE } else { 0 };
        let set_pte = if fill.is_some() { 1 << Hypercall::SetPte as u32 } else { 0 };
        self.state.published.calls_allowed =
            if calls && self.ring_is_in_one_page() { QUICK_CALLS | set_pte } else { 0 };
    }

    /// Lets the Switcher load a root of this guest's by itself when the guest loads `directory`.
    pub fn publish(&mut self, directory: GuestPhys, root: HostFrame) {
        let linear = self.linear(directory);
        self.state.published.publish(directory, root, linear);
    }

    /// The Switcher must not load this page directory by itself any more.
    pub fn retract(&mut self, directory: GuestPhys) {
        self.state.published.retract(directory);
    }

    /// The Switcher must not load this root by itself any more.
    pub fn retract_root(&mut self, root: HostFrame) {
        self.state.published.retract_root(root);
    }

    /// What the Switcher has done by itself since the last call; `None` when it has done nothing.
    #[inline]
    pub fn take_done(&mut self) -> Option<DoneInSwitcher> {
        let Published { calls, fill_words, idle_set_ptes, .. } = self.state.published;
        (calls | fill_words | idle_set_ptes != 0).then(|| self.done())
    }

    #[cold]
    #[inline(never)] // Most exits come without.
    fn done(&mut self) -> DoneInSwitcher {
        let StatePage { published, tss, gdt, .. } = &mut self.state;
        let done = DoneInSwitcher {
            fill_words: published.fill_words,
            idle_set_ptes: published.idle_set_ptes,
            calls: published.calls,
            ring_calls: published.ring_calls,
            ring_next: published.ring_next,
            esp1: GuestVirt(tss.esp1),
            stack_pages: published.stack_pages,
            loads: published.loads,
            tls: (published.tls_loads != 0)
                .then(|| core::array::from_fn(|number| gdt[index::TLS_MIN + number])),
        };
        (published.calls, published.ring_calls, published.loads, published.tls_loads) = (0, 0, 0, 0);
        (published.fill_words, published.fill_root, published.idle_set_ptes) = (0, 0, 0);
        done
    }

    /// The account of the entries that it has filled: as many of these words as the last [`VcpuPages::take_done`] has counted.
    #[inline]
    #[must_use]
    pub const fn filled(&self) -> &[FilledInSwitcher] {
        &self.state.published.filled
    }

    /// The page directories that it has loaded: as many of these as the last [`VcpuPages::take_done`] has counted.
    #[inline]
    #[must_use]
    pub const fn loaded(&self) -> &[GuestPhys] {
        &self.state.published.loaded
    }

    /// To be called before each run.
    pub const fn begin_run(&mut self) {
        // No fault is the second one at its address yet.
        self.registers.last_reflected = NO_ADDRESS;
        self.registers.kernel_faults = 0;
    }

    /// Where the guest's kernel sees a page directory by which page faults may be reflected.
    fn linear(&self, directory: GuestPhys) -> Option<GuestVirt> {
        let view = &self.state.view;
        (view.fault_handler != GuestVirt(0)).then(|| view.linear(directory, PAGE_SIZE)).flatten()
    }

    /// Whether the guest's kernel sees the status bytes of the ring, and all of them in one page: that is what the
    /// Switcher needs to mark calls as done.
    fn ring_is_in_one_page(&self) -> bool {
        let KernelView { data, low_memory, .. } = self.state.view;
        let status = |number| GuestVirt(data.0.wrapping_add(ring_status(number)));
        low_memory != 0 && status(0).page() == status(RING_SIZE as u32 - 1).page()
    }

    /// How many page faults the Switcher has reflected since the last call. The guest may have forged the number.
    pub const fn take_reflected(&mut self) -> u32 {
        core::mem::replace(&mut self.registers.reflected, 0)
    }

    /// Makes the saved registers safe for the `iret` that enters the guest. Returns `false` when the code or
    /// stack segment names ring 0, from which no guest comes.
    #[must_use]
    pub const fn sanitise(&mut self) -> bool {
        let regs = &mut self.registers.regs;
        regs.eflags = regs.eflags & GUEST_FLAGS | FIXED_FLAGS;
        regs.cs & 3 != 0 && regs.ss & 3 != 0
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;

    use super::*;
    use alloc::boxed::Box;
    use arch_i386::paging::{Pae, Paging};

    fn fresh() -> Box<VcpuPages> {
        // SAFETY: all zeroes is a valid value of every field.
        let mut pages = unsafe { Box::<VcpuPages>::new_zeroed().assume_init() };
        pages.registers.stack[100] = 7;
        pages.registers.regs.eax = 7;
        pages.state.idt[3].low = 7;
        pages.state.events = 7;
        pages.state.unused[7] = 7;
        pages.state.directory = 7;
        pages.state.published.calls_allowed = 7;
        pages.state.published.roots[15][3].cr3 = 7;
        pages.registers.reflected = 7;
        pages.initialise(&Area::new::<Pae>(GuestVirt(0xfe7c_0000), 4).unwrap(), 1);
        pages
    }

    /// The base that a segment descriptor names.
    fn base(descriptor: Descriptor) -> u32 {
        descriptor.high & 0xff00_0000 | (descriptor.high & 0xff) << 16 | descriptor.low >> 16
    }

    #[test]
    fn tables_and_stack_are_where_vcpu_1_is() {
        let pages = fresh();
        let state = 0xfe7c_4000;
        assert_eq!(({ pages.state.guest_idtr.base }, { pages.state.guest_idtr.limit }), (state, 0x7ff));
        assert_eq!(
            ({ pages.state.guest_gdtr.base }, { pages.state.guest_gdtr.limit }),
            (state + 0x800, 0xff)
        );
        assert_eq!(base(pages.state.gdt[16]), state + 0x900);
        assert_eq!(pages.state.gdt[16].low & 0xffff, 0x67);
        assert_eq!((pages.state.tss.esp0, pages.state.tss.ss0), (state + 0x2000, 0x58));
    }

    #[test]
    fn no_port_is_the_guests() {
        // The bitmap begins where the segment has ended.
        assert_eq!(fresh().state.tss.trap_and_io_bitmap, 0x0068_0000);
    }

    #[test]
    fn nothing_of_a_former_user_stays() {
        let pages = fresh();
        assert_eq!(pages.registers.regs, Regs::default());
        assert_eq!((pages.registers.stack[100], pages.state.idt[3].low, pages.state.events), (0, 0, 0));
        assert_eq!(pages.state.unused[7], 0);
        assert_eq!((pages.state.directory, pages.registers.reflected), (0, 0));
        let published = &pages.state.published;
        assert_eq!((published.calls_allowed, published.roots[15][3].cr3), (0, 0));
    }

    /// The words of the state page that a guest reads beyond what it has set itself.
    #[test]
    fn the_state_page_holds_nothing_of_the_host_but_its_cr3() {
        let mut pages = fresh();
        pages.state.host_cr3 = 0x0123_4000;
        // SAFETY: the page consists of integers without gaps.
        let words: &[u32; 1024] = unsafe { &*(&raw const pages.state).cast() };
        let tables = 0x900 / 4;
        let known = [
            // The TSS: esp0, ss0, and where the I/O permission bitmap would be.
            (tables + 1, 0xfe7c_6000),
            (tables + 2, 0x58),
            (tables + 25, 0x0068_0000),
            (0x968 / 4, 0x0123_4000),
            // The second of the contexts on the area's second page.
            (0x96c / 4, 0xfe7c_1020),
            // Limit and base of the two tables, from 0x976 on.
            (0x974 / 4, 0x00ff_0000),
            (0x978 / 4, 0xfe7c_4800),
            (0x97c / 4, 0x4000_07ff),
            (0x980 / 4, 0xfe7c),
            // By what page directories are hashed at first.
            (0xfd8 / 4, 0x9e37_79b1),
        ];
        for (index, &word) in words.iter().enumerate().skip(tables) {
            let expected = known.iter().find(|(at, _)| *at == index).map_or(0, |(_, word)| *word);
            assert_eq!(word, expected, "at offset {:#x}", index * 4);
        }
    }

    /// A view of 16 MiB at 3 GiB with the shared page at `data`.
    fn view(fault_handler: Option<GuestVirt>, data: u32) -> Option<KernelView> {
        let window = GuestVirt(0xfe60_0000);
        KernelView::new(fault_handler, Paging::Pae, GuestPhys(data), (GuestVirt(0xc000_0000), 0x1000), window)
    }

    const HANDLER: Option<GuestVirt> = Some(GuestVirt(0xc010_0000));

    #[test]
    fn a_directory_is_shown_only_where_the_guests_kernel_sees_it() {
        let mut pages = fresh();
        pages.show(Some(GuestPhys(0x2000)), true, None);
        assert_eq!(
            (pages.state.directory, pages.state.published.calls_allowed),
            (0, 0),
            "there is no view yet"
        );
        pages.set_kernel_view(view(HANDLER, 0x5000));
        for (directory, shown) in [
            (Some(0x2000), 0xc000_2000),
            (Some(0xff_f000), 0xc0ff_f000),
            (Some(0xff_f004), 0),
            (Some(0xffff_f000), 0),
            (None, 0),
        ] {
            pages.show(directory.map(GuestPhys), false, None);
            assert_eq!(pages.state.directory, shown, "{directory:x?}");
        }
        for none in [None, view(None, 0x5000)] {
            pages.set_kernel_view(none);
            pages.show(Some(GuestPhys(0)), false, None);
            assert_eq!(pages.state.directory, 0);
        }
    }

    #[test]
    fn calls_are_the_switchers_only_where_the_ring_is_in_one_page() {
        let mut pages = fresh();
        // FLUSH_ASYNC, NEW_PGTABLE, SET_STACK, LOAD_TLS, SWITCH_TO. The status bytes are the 64 from 24 on.
        for (data, calls) in
            [(0x5000, 0x11_0091), (0x5fa8, 0x11_0091), (0x5fa9, 0), (0x5fe7, 0), (0x5fe8, 0x11_0091)]
        {
            pages.set_kernel_view(view(None, data));
            pages.show(None, true, None);
            assert_eq!(pages.state.published.calls_allowed, calls, "{data:#x}");
        }
        pages.show(None, false, None);
        assert_eq!(pages.state.published.calls_allowed, 0);
    }

    #[test]
    fn another_view_takes_what_was_published_for_the_old_one() {
        let mut pages = fresh();
        pages.set_kernel_view(view(HANDLER, 0x5000));
        pages.publish(GuestPhys(0x2000), HostFrame(0x77));
        let roots = |pages: &VcpuPages| {
            let roots = pages.state.published.roots.as_flattened().iter();
            roots.filter(|root| root.cr3 != 0).map(|root| root.linear).collect::<alloc::vec::Vec<_>>()
        };
        assert_eq!(roots(&pages), [0xc000_2000]);
        pages.set_kernel_view(view(None, 0x5000));
        assert_eq!(roots(&pages), []);
        pages.publish(GuestPhys(0x2000), HostFrame(0x77));
        assert_eq!(roots(&pages), [0], "there is no handler");
    }

    #[test]
    fn what_the_switcher_has_done_is_taken_once() {
        let mut pages = fresh();
        pages.set_kernel_view(view(HANDLER, 0x5000));
        pages.publish(GuestPhys(0x2000), HostFrame(0x77));
        pages.publish(GuestPhys(0x9000), HostFrame(0x78));
        assert_eq!(pages.take_done(), None);
        let loads = [0x9000, 0x2000, 0x9000].map(GuestPhys);
        pages.state.published.loaded[..3].copy_from_slice(&loads);
        let published = &mut pages.state.published;
        (published.calls, published.ring_calls, published.ring_next, published.loads) = (4, 5, 6, 3);
        published.idle_set_ptes = 9;
        (pages.state.tss.esp1, pages.state.published.stack_pages) = (0xc000_8000, 2);
        let done = DoneInSwitcher {
            fill_words: 0,
            idle_set_ptes: 9,
            calls: 4,
            ring_calls: 5,
            ring_next: 6,
            esp1: GuestVirt(0xc000_8000),
            stack_pages: 2,
            loads: 3,
            tls: None,
        };
        assert_eq!((pages.take_done(), pages.take_done()), (Some(done), None));
        pages.state.published.idle_set_ptes = 1;
        assert_eq!(pages.take_done().map(|done| (done.calls, done.idle_set_ptes)), Some((0, 1)));
        assert_eq!(pages.loaded()[..3], loads);
    }

    #[test]
    fn what_the_switcher_has_filled_is_taken_once() {
        let mut pages = fresh();
        // A root, and under it: nothing was there; something was; by a call; cleared by one. A CR3 with a bit and addresses with bits
        // are what the text stores.
        let stored = [0x7_7020u32, 0x40_0000, 0x40_1001, 0x40_2008, 0xbfff_f019];
        for (place, word) in pages.state.published.filled.iter_mut().zip(stored) {
            // SAFETY: a word, of which every value is one.
            *place = unsafe { core::mem::transmute::<u32, FilledInSwitcher>(word) };
        }
        (pages.state.published.fill_words, pages.state.published.fill_root) = (5, 0x7_7000);
        let fills = |pages: &mut VcpuPages| pages.take_done().map(|done| (done.fill_words, done.calls));
        assert_eq!((fills(&mut pages), fills(&mut pages)), (Some((5, 0)), None));
        assert_eq!(pages.state.published.fill_root, 0, "the next account begins with a root as well");
        assert_eq!(pages.filled()[0].root(), Some(HostFrame(0x77)));
        let expected = [
            (0x40_0000, false, false, false),
            (0x40_1000, true, false, false),
            (0x40_2000, false, true, false),
            (0xbfff_f000, true, true, true),
        ];
        for (filled, (page, replaced, by_call, cleared)) in pages.filled()[1..].iter().zip(expected) {
            assert_eq!((filled.root(), filled.page()), (None, GuestVirt(page)));
            assert_eq!((filled.replaced(), filled.by_call(), filled.cleared()), (replaced, by_call, cleared));
        }
    }

    #[test]
    fn set_pte_is_the_switchers_where_it_may_fill() {
        let mut pages = fresh();
        pages.set_kernel_view(view(HANDLER, 0x5000));
        let frames = Frames {
            words: 0xf800_0000,
            pages: 0x1000,
            direct_map: 0xc000_0000,
            clear_buffers: true,
            no_execute: true,
        };
        pages.show(Some(GuestPhys(0x2000)), true, Some(&frames));
        // SET_PTE is number 14 (lguest's <asm/lguest_hcall.h>).
        assert_eq!(pages.state.published.calls_allowed, 0x11_0091 | 1 << 14);
        let words =
            |pages: &VcpuPages| (pages.state.fill_pages, pages.state.clear_buffers, pages.state.no_execute);
        assert_eq!(words(&pages), (0x1000, 1, 0x8000_0000));
        pages.show(Some(GuestPhys(0x2000)), false, Some(&frames));
        assert_eq!((pages.state.published.calls_allowed, pages.state.fill_pages), (0, 0x1000));
        pages.show(Some(GuestPhys(0x2000)), true, None);
        assert_eq!((pages.state.published.calls_allowed, pages.state.fill_pages), (0x11_0091, 0));
    }

    #[test]
    fn reflected_faults_are_counted_once() {
        let mut pages = fresh();
        (pages.registers.reflected, pages.registers.last_reflected) = (3, 0x1234);
        pages.registers.kernel_faults = 2;
        assert_eq!((pages.take_reflected(), pages.take_reflected()), (3, 0));
        pages.begin_run();
        assert_eq!((pages.registers.last_reflected, pages.registers.kernel_faults), (u32::MAX, 0));
    }

    #[test]
    fn flags_that_would_hurt_the_host_are_masked() {
        let mut pages = fresh();
        *pages.regs() = Regs { cs: 0x61, ss: 0x69, eflags: u32::MAX, ..Regs::default() };
        assert!(pages.sanitise());
        // ID, AC; OF, DF, IF, TF, SF, ZF; AF, PF, bit 1, CF.
        assert_eq!(pages.regs().eflags, 0x0024_0fd7);
        pages.regs().eflags = 0;
        assert!(pages.sanitise());
        assert_eq!(pages.regs().eflags, 0x202);
    }

    #[test]
    fn ring_0_is_refused() {
        let mut pages = fresh();
        for (cs, ss, accepted) in
            [(0x61, 0x69, true), (0x73, 0x7b, true), (0x50, 0x69, false), (0x61, 0x58, false)]
        {
            (pages.regs().cs, pages.regs().ss) = (cs, ss);
            assert_eq!(pages.sanitise(), accepted, "cs {cs:#x} ss {ss:#x}");
        }
    }
}
