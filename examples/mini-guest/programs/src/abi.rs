//! System calls: numbers in `eax`, arguments in `ebx`, `ecx` and `edx`, the answer in `eax`.
//!
//! A program calls by `int $0x80`, which goes to the kernel without a detour through the host. Answers
//! are non-negative; [`FAILED`] means that the kernel could not or would not.

/// The answer to a call that failed.
pub const FAILED: u32 = u32::MAX;

/// Where the programs' ELF file is linked, as on i386 Linux.
pub const IMAGE_BASE: u32 = 0x0804_8000;
/// One past the highest byte of a program's stack.
pub const STACK_TOP: u32 = 0xbfc0_0000;
/// Bytes of address space for a program's stack; its pages appear when they are touched.
pub const STACK_SIZE: u32 = 64 * 4096;
/// Where [`Syscall::Mmap`] looks for free addresses, lowest first.
pub const MMAP_BASE: u32 = 0x4000_0000;
/// Semaphores, all created with the value 0.
pub const SEMAPHORES: usize = 64;
/// The most processes there can be at once, the idle one included.
pub const MAX_PROCESSES: usize = 72;

macro_rules! numbered {
    ($(#[$type_doc:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $n:literal),* $(,)? }) => {
        $(#[$type_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $type { $($(#[$doc])* $name = $n),* }

        impl $type {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The one with this number.
            #[must_use]
            pub const fn from_number(n: u32) -> Option<Self> {
                match n { $($n => Some(Self::$name),)* _ => None }
            }
        }
    };
}

numbered! {
    /// What a program can request of the kernel.
    Syscall {
        /// The caller's process id.
        GetPid = 1,
        /// Let the next process run.
        Yield = 2,
        /// `(address, length)`: print text.
        Write = 3,
        /// `(code)`: end the process.
        Exit = 4,
        /// A copy of the process: 0 in the child, the child's id in the parent.
        Fork = 5,
        /// `(address of a WaitStatus)`: sleep until a child has ended; its id, or failure without children.
        Wait = 6,
        /// `(length)`: fresh zeroed memory; its address.
        Mmap = 7,
        /// `(address, length)`: give memory back.
        Munmap = 8,
        /// `(program, argument)`: become another program, in a fresh address space.
        Exec = 9,
        /// `(semaphore)`: take one, sleeping until there is one.
        SemWait = 10,
        /// `(semaphore)`: give one.
        SemPost = 11,
        /// `(base)`: make the first thread-local-storage segment start there; its selector.
        SetTls = 12,
        /// `(ticks)`: sleep for that many timer interrupts.
        Sleep = 13,
        /// How many timer interrupts there have been.
        Ticks = 14,
        /// How many context switches there have been.
        Switches = 15,
        /// `(address of RunOptions)`: what the command line requested.
        Options = 16,
        /// Verify the kernel's own scratch pages from this process, and change one of them.
        KernelPages = 17,
        /// `(KernelTest)`: run one of the kernel's own tests; 0 when it passed.
        KernelTest = 18,
        /// `(count)`: make that many empty hypercalls; the time-stamp ticks they took.
        NullHypercalls = 19,
        /// `(ring, HostileAct)`: misbehave in ring 1; what is left for the caller to do in ring 3.
        Hostile = 20,
        /// `(code)`: end the whole guest with this result.
        Shutdown = 21,
        /// `(nonzero to end it so)`: make the kernel panic.
        Panic = 22,
        /// The wall clock as the host last wrote it, in milliseconds modulo 2^32.
        WallClock = 23,
        /// The speed of the time-stamp counter in kHz; 0 when the kernel does not know.
        TscKhz = 24,
        /// `(KernelMapping)`: map pages in the kernel's half, write to them, and take them away again.
        MapKernelPages = 25,
    }
}

numbered! {
    /// How a kernel maps pages for itself for a short time.
    KernelMapping {
        /// As Linux's `kmap` does: one page, and the host is notified by one entry each time.
        One = 0,
        /// As Linux's `vmalloc` does: [`VMALLOC_PAGES`] pages; what goes is reported by a flush of everything.
        Many = 1,
    }
}

/// Pages that [`KernelMapping::Many`] maps.
pub const VMALLOC_PAGES: usize = 16;

numbered! {
    /// Tests that have to run in the kernel.
    KernelTest {
        /// Port I/O in ring 1 is skipped where no device answers, and reads give all-ones.
        PortIo = 0,
        /// More asynchronous hypercalls than the ring has entries.
        RingOverflow = 1,
        /// The host writes accessed and dirty bits into the guest's page tables.
        AccessedDirty = 2,
        /// A write to a read-only kernel page faults although it comes from the kernel.
        ReadOnlyKernel = 3,
        /// A kernel page that has been unmapped is gone, after `SET_PTE` and after `FLUSH_TLB`.
        UnmappedKernel = 4,
        /// Interrupts wait while they are disabled or masked, and come at once when they are let in.
        InterruptFlag = 5,
        /// Halting sleeps until the clock's interrupt, and the wall clock moves forward.
        HaltWakes = 6,
        /// Pages move together with the tables that map them, reported by `SET_PGD` or `SET_PMD` alone.
        MovedTables = 7,
        /// What only ring 0 may execute has, in ring 1, the effect that it has on a processor without a host.
        PrivilegedInstructions = 8,
        /// Page faults have another handler from now on.
        OtherFaultHandler = 9,
        /// They have their usual handler again; the other one has had [`HANDLED_FAULTS`] of them at least.
        UsualFaultHandler = 10,
        /// The current process's traps push their frames across two pages that the host has not mapped.
        StackAcrossPages = 11,
        /// They have their usual stack again.
        UsualStack = 12,
        /// The pages of the other stack are given back.
        NoOtherStack = 13,
        /// Entries of the user half, changed by `SET_PTE` and by `FLUSH_TLB`, under a directory entry whose rights change.
        UserEntries = 14,
        /// The console is on the PCI bus too, and prints.
        PciConsole = 15,
        /// SWITCH_TO loads a page directory, alone and behind a call of the ring.
        SwitchTo = 16,
        /// FLUSH_USER_OF drops what is mapped under a page directory that is not loaded.
        FlushUserOf = 17,
    }
}

/// Page faults that [`KernelTest::UsualFaultHandler`] expects the other handler to have had.
pub const HANDLED_FAULTS: u32 = 8;

macro_rules! hostile {
    ($($(#[$doc:meta])* $name:ident = $n:literal $text:literal $ring:ident),* $(,)?) => {
        numbered! {
            /// Misbehaviours that the host has to survive, one for a run.
            HostileAct { $($(#[$doc])* $name = $n),* }
        }

        impl HostileAct {
            /// Its name on the command line, after `hostile=`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// Where it is committed.
            #[must_use]
            pub const fn ring(self) -> Ring {
                match self { $(Self::$name => Ring::$ring),* }
            }
        }
    };
}

/// Where [`HostileAct::ForgedDirectory`] forges: so many entries of the page directory, from this address on.
pub const FORGED: u32 = 0x2000_0000;
/// See [`FORGED`].
pub const FORGED_ENTRIES: u32 = 10;

/// The privilege level that an act needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// The guest's kernel, ring 1.
    Kernel,
    /// A process, ring 3.
    User,
}

hostile! {
    /// A hypercall number that means nothing.
    HypercallNumber = 0 "hypercall-number" Kernel,
    /// `LGUEST_INIT` a second time.
    SecondInit = 1 "second-init" Kernel,
    /// A page directory far outside memory.
    WildPageDirectory = 2 "wild-page-directory" Kernel,
    /// A page table far outside memory.
    WildPageTable = 3 "wild-page-table" Kernel,
    /// A page beyond the guest's memory.
    WildFrame = 4 "wild-frame" Kernel,
    /// A large page in the page directory.
    LargePage = 5 "large-page" Kernel,
    /// `SET_PTE` for an address of the Switcher.
    SwitcherPte = 6 "switcher-pte" Kernel,
    /// `SET_PGD` with indices out of range.
    PgdIndex = 7 "pgd-index" Kernel,
    /// Stores to every page from the Switcher's first to the end of the address space.
    SwitcherWrite = 8 "switcher-write" Kernel,
    /// A kernel stack segment of ring 0.
    StackSegment = 9 "stack-segment" Kernel,
    /// A kernel stack of a million pages.
    StackPages = 10 "stack-pages" Kernel,
    /// A kernel stack where nothing is mapped.
    StackUnmapped = 11 "stack-unmapped" Kernel,
    /// A kernel stack in the Switcher.
    StackInSwitcher = 12 "stack-in-switcher" Kernel,
    /// The kernel's stack pointer leads nowhere when a trap has to be delivered.
    WildStackPointer = 13 "wild-stack-pointer" Kernel,
    /// A jump to nowhere with no page-fault handler.
    JumpNowhere = 14 "jump-nowhere" Kernel,
    /// A page-fault handler where nothing is mapped.
    WildHandler = 15 "wild-handler" Kernel,
    /// A task gate and a call gate in the IDT.
    GateType = 16 "gate-type" Kernel,
    /// A gate for vector 300.
    GateIndex = 17 "gate-index" Kernel,
    /// A call gate into ring 0 in the GDT, then a call through it.
    CallGate = 18 "call-gate" Kernel,
    /// Descriptor 99 of the GDT.
    DescriptorIndex = 19 "descriptor-index" Kernel,
    /// The Switcher's own descriptors and the TSS replaced.
    SwitcherDescriptors = 20 "switcher-descriptors" Kernel,
    /// A descriptor taken away while a segment register still holds its selector.
    VanishedDescriptor = 21 "vanished-descriptor" Kernel,
    /// Thread-local storage read from outside memory.
    WildTls = 22 "wild-tls" Kernel,
    /// A console string outside memory.
    WildNotify = 23 "wild-notify" Kernel,
    /// A last word outside memory.
    WildShutdown = 24 "wild-shutdown" Kernel,
    /// The hypercall ring full of garbage.
    RingGarbage = 25 "ring-garbage" Kernel,
    /// `lret` and `iret` towards ring 0.
    ReturnToRing0 = 26 "return-to-ring0" Kernel,
    /// `iret` with an invalid stack segment.
    BadIretFrame = 27 "bad-iret-frame" Kernel,
    /// `iret` with the nested-task flag.
    NestedTask = 28 "nested-task" Kernel,
    /// Single-stepping over a hypercall.
    SingleStep = 29 "single-step" Kernel,
    /// Loading control and debug registers.
    ControlRegisters = 30 "control-registers" Kernel,
    /// `lgdt`, `lidt`, `ltr`, `lldt`, `invlpg`, `wrmsr`.
    SystemInstructions = 31 "system-instructions" Kernel,
    /// `cli`.
    Cli = 32 "cli" Kernel,
    /// `sti`.
    Sti = 33 "sti" Kernel,
    /// `hlt`.
    Hlt = 34 "hlt" Kernel,
    /// `sysenter` in ring 1.
    SysenterKernel = 35 "sysenter-kernel" Kernel,
    /// Software interrupts of the host's vectors in ring 1.
    HostVectorsKernel = 36 "host-vectors-kernel" Kernel,
    /// `halt` for ever, with the clock off.
    HaltForever = 37 "halt-forever" Kernel,
    /// A clock of one nanosecond, re-armed for ever.
    ClockStorm = 38 "clock-storm" Kernel,
    /// `sysenter` in ring 3.
    SysenterUser = 39 "sysenter-user" User,
    /// Software interrupts of the host's vectors in ring 3.
    HostVectorsUser = 40 "host-vectors-user" User,
    /// The hypercall from ring 3.
    HypercallUser = 41 "hypercall-user" User,
    /// Every selector that a GDT can hold, loaded from ring 3.
    SelectorsUser = 42 "selectors-user" User,
    /// Reads and writes of the Switcher's addresses from ring 3.
    SwitcherAccessUser = 43 "switcher-access-user" User,
    /// A system call with the stack pointer, flags and segments spoilt.
    SpoiltSystemCall = 44 "spoilt-system-call" User,
    /// The hypercall ring full of real calls with wild arguments; `seed` makes others.
    RingWildArguments = 45 "ring-wild-arguments" Kernel,
    /// `int` in ring 1 at vectors whose exceptions have an error code, which `int` has not: through the host.
    ErrorCodeGates = 46 "error-code-gates" Kernel,
    /// The same in ring 3, for which the kernel leaves those gates open.
    ErrorCodeGatesUser = 47 "error-code-gates-user" User,
    /// The same in ring 1 through gates that the host has no part in.
    ErrorCodeTraps = 48 "error-code-traps" Kernel,
    /// `iret` in ring 1 towards virtual-8086 mode.
    Virtual8086 = 49 "virtual-8086" Kernel,
    /// A process's page directory that leads to itself, to tables of everything else, and out of memory, without a word to
    /// the host.
    ForgedDirectory = 61 "forged-directory" Kernel,
    /// The page faults of a program there.
    ForgedDirectoryUser = 62 "forged-directory-user" User,
    /// A kernel stack that ends in the Switcher's first page, for a program's page fault.
    StackAcrossSwitcher = 63 "stack-across-switcher" Kernel,
    /// The same where the Switcher keeps the registers.
    StackInRegisters = 64 "stack-in-registers" Kernel,
    /// A page fault of a program on each of those stacks.
    StackAcrossSwitcherUser = 65 "stack-across-switcher-user" User,
    /// See [`HostileAct::StackAcrossSwitcherUser`].
    StackInRegistersUser = 66 "stack-in-registers-user" User,
    /// A call gate into ring 0 as thread-local storage, then a call through it.
    GateAsTls = 67 "gate-as-tls" Kernel,
    /// A page directory at address 0, where a host's table of them may have its empty places.
    DirectoryAtZero = 68 "directory-at-zero" Kernel,
    /// Directory entries and pages of the user half that lose and regain their rights, reported in each way and used at once.
    ChangingRights = 70 "changing-rights" Kernel,
    /// A page-fault handler that faults itself, each time at another address.
    FaultingHandler = 73 "faulting-handler" Kernel,
    /// SWITCH_TO again and again, alone and behind a call of the ring.
    Switching = 72 "switching" Kernel,
    /// A kernel stack of one page where the Switcher keeps the registers.
    PageOfRegisters = 69 "page-of-registers" Kernel,
    /// The same stack by SWITCH_TO.
    SwitchToRegisters = 71 "switch-to-registers" Kernel,
    /// A last word that would take over the terminal of whoever prints it.
    EscapesAsLastWord = 60 "escapes-as-last-word" Kernel,
}

/// How a child ended, as [`Syscall::Wait`] returns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct WaitStatus {
    /// 0 when it called [`Syscall::Exit`], 1 when a trap ended it.
    pub killed: u32,
    /// The exit code, or the vector of the trap.
    pub code: u32,
    /// The trap's error code, 0 for a trap without one.
    pub error: u32,
    /// The address of a page fault; the instruction's address for other traps.
    pub address: u32,
}

macro_rules! workloads {
    ($($(#[$doc:meta])* $name:ident = $n:literal $text:literal),* $(,)?) => {
        numbered! {
            /// Something to measure.
            Workload { $($(#[$doc])* $name = $n),* }
        }

        impl Workload {
            /// Its name after `bench=`; that of [`Workload::ContextSwitch`] is followed by numbers.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

workloads! {
    /// The cheapest system call.
    NullSyscall = 0 "null",
    /// A hypercall that does nothing.
    NullHypercall = 1 "hypercall",
    /// A token goes round a ring of processes, each of which reads its working set.
    ContextSwitch = 2 "ctx",
    /// A server hands requests to 32 processes; how often each is chosen follows Zipf's law.
    Zipf = 3 "zipf32",
    /// A process is made, ends, and is waited for.
    Fork = 4 "fork",
    /// The same with another program in between.
    Exec = 5 "exec",
    /// A process is made and writes to each of 256 pages that it shares with its parent.
    CopyOnWrite = 6 "cow256",
    /// 1000 pages are mapped, written to and unmapped.
    Mmap = 7 "mmap1000",
    /// The first write to a fresh page.
    PageFault = 8 "fault",
    /// Four processes take turns; the kernel maps a page for itself in each turn.
    Kmap = 9 "kmap",
    /// The same with [`VMALLOC_PAGES`] pages, whose end is a flush of everything.
    Vmalloc = 10 "vmalloc",
    /// Four at a time, short-lived programs fill and read some memory.
    Compile = 11 "compile",
}

/// How much of the tests to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Effort {
    /// None.
    None = 0,
    /// Every test, a few rounds of each.
    Quick = 1,
    /// Every test, thousands of context switches.
    #[default]
    Full = 2,
}

/// What the command line requested, as [`Syscall::Options`] returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RunOptions {
    /// The tests.
    pub effort: Effort,
    /// Measure a choice of all workloads.
    pub measure: bool,
    /// Run for ever.
    pub spin: bool,
    /// End with a panic.
    pub crash: bool,
    /// Request a restart.
    pub restart: bool,
    /// Seed of everything random in the tests.
    pub seed: u32,
    /// Processes that fill and verify memory.
    pub processes: u32,
    /// The guest's result when all went well.
    pub result: u32,
    /// The number of a [`HostileAct`], or [`FAILED`] for none.
    pub hostile: u32,
    /// The number of a [`Workload`] to measure, or [`FAILED`] for none.
    pub workload: u32,
    /// The processes in the ring of [`Workload::ContextSwitch`].
    pub ring: u32,
    /// Pages that each of them reads in its turn.
    pub pages: u32,
    /// How many of a workload's usual operations to do, in percent.
    pub scale: u32,
}
