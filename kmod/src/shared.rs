//! The numbers that the C side has from Rust. `cargo xtask build` reads them out of the compiled object and writes them
//! as `lg_shared.h`, one `#define` for each; so the module's two sides cannot differ. The C side asserts that the kernel
//! and its own structures agree.

use crate::errno::Errno;
use crate::events::Table;
use crate::log;
use crate::module::MAX_GUESTS;
use crate::shim::{self, RawPlugin, RawText, RawVcpu};
use arch_i386::addr::PAGE_SIZE;
use arch_i386::hypercall::{Hypercall, HypercallArgs};
use arch_i386::launcher::STRATEGY_MAX;
use arch_i386::lguest_data::RING_DONE;
use arch_i386::segment::{Descriptor, GDT_ENTRIES, index};
use arch_i386::trap;
use core::mem::offset_of;
use framework::event::{Events, ExitKind, FaultOutcome, Flush};
use framework::host::{LAST_WORDS, Purpose};
use framework::stale::StaleSet;
use framework::views::View;
use switcher::state::MACHINE_CHECKS_SHIFT;

/// The section that is read; the module itself does not have it.
macro_rules! shared {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".lg_shared")]
        static $name: u32 = {
            let value = $value;
            let word = value as u32;
            assert!(word as i128 == value as i128, "C gets it as 32 bits");
            word
        };
    )*};
}

shared! {
    /// The longest text of a strategy, in bytes.
    LG_STRATEGY_MAX = STRATEGY_MAX;
    /// How many guests there can be.
    LG_MAX_GUESTS = MAX_GUESTS;
    /// Bytes of a recording's ring that are kept free for the note of a loss.
    LG_LAST_WORDS = LAST_WORDS;
    /// The longest line of the log, and the longest words of a panic, in bytes.
    LG_LINE = log::LINE;

    LG_PLUGIN_OUTSIDE = shim::OUTSIDE;
    LG_PLUGIN_INSIDE = shim::INSIDE;
    LG_PLUGIN_PANICS = shim::PANICS;

    // The words of C's structures that Rust uses.
    LG_PLUGIN_STATE = offset_of!(RawPlugin, state);
    LG_VCPU_PENDING = offset_of!(RawVcpu, pending);
    LG_VCPU_CR2 = offset_of!(RawVcpu, cr2);
    LG_VCPU_MISSED = offset_of!(RawVcpu, missed);
    LG_VCPU_FRAMES = offset_of!(RawVcpu, frames);
    LG_TEXT_BYTES = offset_of!(RawText, bytes);

    // Frames: their words, what they are learnt for, and how many a set of them tells apart.
    LG_FRAME_KNOWN = switcher::state::FRAME_KNOWN;
    LG_FRAME_WRITABLE = switcher::state::FRAME_WRITABLE;
    LG_FRAME_SHIFT = switcher::state::FRAME_SHIFT;
    LG_FOR_READING = Purpose::Reading;
    LG_FOR_LIKELY_WRITING = Purpose::LikelyWriting;
    LG_FOR_WRITING = Purpose::Writing;
    LG_STALE_BITS = StaleSet::BITS;

    // Descriptor indices, and the flags (low byte: P, DPL, S, type; high nibble: G, D/B, L, AVL) of the Switcher's segments.
    LG_GDT_ENTRIES = GDT_ENTRIES;
    LG_GDT_CS = index::LGUEST_CS;
    LG_GDT_DS = index::LGUEST_DS;
    LG_GDT_KERNEL_CS = index::KERNEL_CS;
    LG_GDT_KERNEL_DS = index::KERNEL_DS;
    LG_GDT_TSS = index::TSS;
    LG_GDT_DOUBLE_FAULT_TSS = index::DOUBLE_FAULT_TSS;
    LG_CODE_FLAGS = flags(Descriptor::FLAT_CODE);
    LG_DATA_FLAGS = flags(Descriptor::FLAT_DATA);

    // What the world switch returns: vectors, and events that were counted.
    LG_TRAP_DB = trap::DEBUG;
    LG_TRAP_NMI = trap::NMI;
    LG_TRAP_PF = trap::PAGE_FAULT;
    LG_TRAP_MC = trap::MACHINE_CHECK;
    LG_TRAP_HYPERCALL = trap::HYPERCALL;
    LG_FIRST_EXTERNAL = trap::FIRST_EXTERNAL;
    LG_SYSCALL = trap::SYSCALL;
    LG_MACHINE_CHECKS_SHIFT = MACHINE_CHECKS_SHIFT;

    LG_PAGE_SIZE = PAGE_SIZE;
    LG_RING_DONE = RING_DONE;
    LG_HYPERCALL_SIZE = size_of::<HypercallArgs>();
    LG_TLS_SIZE = index::TLS_ENTRIES * size_of::<Descriptor>();

    // What can be read of a guest.
    LG_VIEW_COUNTERS = View::Counters;
    LG_VIEW_DIRECTORIES = View::Directories;
    LG_VIEW_TABLES = View::Tables;

    // Trace events: their bits, and what their words mean.
    LG_OBSERVED_EXIT = Events::EXIT.bits();
    LG_OBSERVED_HYPERCALL = Events::HYPERCALL.bits();
    LG_OBSERVED_FAULT = Events::FAULT.bits();
    LG_OBSERVED_LOAD = Events::LOAD.bits();
    LG_OBSERVED_EVICTION = Events::EVICTION.bits();
    LG_OBSERVED_FLUSH = Events::FLUSH.bits();
    LG_OBSERVED_TABLE_ALLOCATED = Events::TABLE_ALLOCATED.bits();
    LG_OBSERVED_TABLE_FREED = Events::TABLE_FREED.bits();
    LG_OBSERVED_IN_SWITCHER = Events::IN_SWITCHER.bits();
    LG_EXIT_HYPERCALL = ExitKind::Hypercall;
    LG_EXIT_PAGE_FAULT = ExitKind::PageFault;
    LG_EXIT_GENERAL_PROTECTION = ExitKind::GeneralProtection;
    LG_EXIT_DEVICE_NOT_AVAILABLE = ExitKind::DeviceNotAvailable;
    LG_EXIT_TRAP = ExitKind::Trap;
    LG_EXIT_INTERRUPT = ExitKind::Interrupt;
    LG_EXIT_SWITCHER = ExitKind::Switcher;
    LG_FAULT_FIXED = FaultOutcome::Fixed;
    LG_FAULT_REFLECTED = FaultOutcome::Reflected;
    LG_FAULT_KILLED = FaultOutcome::Killed;
    LG_FAULT_PASSED_ON = FaultOutcome::PassedOn;
    LG_FLUSH_USER = Flush::User;
    LG_FLUSH_ALL = Flush::All;
    LG_TABLE_ROOT = Table::Root;
    LG_TABLE_DIRECTORY = Table::Directory;
    LG_TABLE_LEVEL1 = Table::Level1;
    LG_CALL_FLUSH_ASYNC = Hypercall::FlushAsync;
    LG_CALL_LGUEST_INIT = Hypercall::LguestInit;
    LG_CALL_SHUTDOWN = Hypercall::Shutdown;
    LG_CALL_NEW_PGTABLE = Hypercall::NewPgtable;
    LG_CALL_FLUSH_TLB = Hypercall::FlushTlb;
    LG_CALL_LOAD_IDT_ENTRY = Hypercall::LoadIdtEntry;
    LG_CALL_SET_STACK = Hypercall::SetStack;
    LG_CALL_TS = Hypercall::Ts;
    LG_CALL_SET_CLOCKEVENT = Hypercall::SetClockevent;
    LG_CALL_HALT = Hypercall::Halt;
    LG_CALL_SET_PMD = Hypercall::SetPmd;
    LG_CALL_SET_PTE = Hypercall::SetPte;
    LG_CALL_SET_PGD = Hypercall::SetPgd;
    LG_CALL_LOAD_TLS = Hypercall::LoadTls;
    LG_CALL_NOTIFY = Hypercall::Notify;
    LG_CALL_LOAD_GDT_ENTRY = Hypercall::LoadGdtEntry;
    LG_CALL_SEND_INTERRUPTS = Hypercall::SendInterrupts;
    LG_CALL_SWITCH_TO = Hypercall::SwitchTo;
    LG_CALL_FLUSH_USER_OF = Hypercall::FlushUserOf;

    LG_EPERM = positive(Errno::EPERM);
    LG_ENOENT = positive(Errno::ENOENT);
    LG_EINTR = positive(Errno::EINTR);
    LG_EBADF = positive(Errno::EBADF);
    LG_ENOMEM = positive(Errno::ENOMEM);
    LG_EFAULT = positive(Errno::EFAULT);
    LG_EBUSY = positive(Errno::EBUSY);
    LG_EINVAL = positive(Errno::EINVAL);
    LG_EMFILE = positive(Errno::EMFILE);
    LG_EFBIG = positive(Errno::EFBIG);
    LG_ENOSPC = positive(Errno::ENOSPC);
    LG_ERANGE = positive(Errno::ERANGE);
    LG_EOVERFLOW = positive(Errno::EOVERFLOW);
    LG_EDQUOT = positive(Errno::EDQUOT);
    LG_ERESTART = positive(Errno::ERESTART);
    LG_ERESTARTSYS = positive(Errno::ERESTARTSYS);
}

/// A flat segment's flags, as the kernel's `GDT_ENTRY_INIT` takes them.
const fn flags(segment: Descriptor) -> u32 {
    segment.high >> 8 & 0xf0ff
}

const fn positive(errno: Errno) -> i32 {
    -errno.negative()
}
