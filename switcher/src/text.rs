//! The Switcher's text: into the guest, and back out.
//!
//! The host copies [`Text::bytes`] to the start of the Switcher area and far-calls [`Text::entry`] there, through
//! [`LGUEST_CS`], with `pushf` before: so the far call's frame is that of an interrupt, and the `iret`
//! that ends everything returns to the host. Nothing here runs where it was linked.
//!
//! # Registers
//! In: `eax` the address of the virtual CPU's state page, `esi` not 0 where the processor's buffers are to be cleared
//! before the guest runs (VERW with a selector in memory: Intel, "Microarchitectural Data Sampling"). Out: `eax` the vector
//! that ended the run, with [`IN_SWITCHER`] added when the Switcher itself faulted; `edx` what came on the way out and waits
//! for the host: NMIs counted in the low half, machine checks in the high half; after a page fault, `edi` an address of the
//! guest's kernel that the Switcher missed when it looked at the fault, or 0, and after a hypercall with [`HYPERCALL_MISSED`]
//! such an address. `ebp`, `ds`, `es`, `fs` and the flags are kept, `gs` is null, all others are not kept. Interrupts must
//! be off, and the LDT empty: `gs` and the LDT are what a process of the
//! host chooses for itself, so their loads may fault and belong to C, where a fault has a fix-up.
//!
//! # The order of things
//! An NMI or a machine check may come at any moment, and must find an IDT whose handler can run, a code
//! segment that its `iret` can return to, and a stack.
//!
//! * The Switcher runs on a code segment of its own, the same in the host's GDT and in every guest's.
//!   On the host's code segment an NMI's `iret` would fault as soon as the guest's GDT is loaded.
//! * Going in, the guest's IDT comes first: before, events are the host's, on the host's stack and tables;
//!   after, they come to a handler that needs nothing of the host.
//! * `ltr` refuses a TSS that is busy, as the host's is all the time, and the guest's since the way in. Both are
//!   marked available on the way out, on the host's page tables, where they can be written.
//! * Coming back, page tables are first, since only they make the rest reachable, and the host's IDT is
//!   last, when everything that the host's handlers rely on is back.
//! * Both stacks are read by `mov`, and `esp` moves past what was read only when nothing is needed of it any
//!   more: an event pushes its frame below `esp`, and never over what is still to be read.
//! * The host's segments are constants or what the host's kernel had in them, so their loads cannot fault.
//! * SMEP and SMAP would stop ring 1 from using pages of ring 3; both are off while the guest runs.
//!
//! # Two texts
//! The assembly is a macro, and used twice: for shadow tables of two levels and for those with PAE, which are what the host has. A
//! host copies one of them. They differ in how the guest's tables are walked and shadow entries stored.
//!
//! * With PAE the guest may have either format. What its tables are is on the state page.
//! * An entry with PAE is read by halves: the high one, the low one, and the high one again, which must not have changed. Above
//!   level 1 the high half must be 0; at level 1 it is the flag that forbids to execute, or 0. All else is the host's to judge.
//! * A shadow entry is stored by halves, the one that makes it present last. (Nothing walks the tables meanwhile.)
//! * The guest names a middle table that it has changed by its frame, and the framework finds the shadows by what it knows of them. So
//!   nothing is filled under a middle table of the shadow's that stands for another one than the guest has there. The framework
//!   leaves what it knows in the root's page ([`MIDDLE_ORIGINS`](shadow_tables::MIDDLE_ORIGINS)), behind the four entries that the
//!   processor reads. After a flush of all that is under one it stands for none, and the first that is filled decides.
//!
//! # Faults in the Switcher
//! Loading the guest's segment registers, or the last `iret`, faults when the guest has left something
//! that cannot be loaded. The stub sees ring 0 in the stacked CS (the guest is in ring 1 or 3) and
//! returns to the host with [`IN_SWITCHER`]; the guest's registers are lost, and its life is over. The vector is
//! returned in a register, not in memory that such a fault, or the guest, may overwrite.
//!
//! # Software interrupts
//! `int n` pushes no error code for any vector. Where the guest's gate for a vector with an error
//! code admits it, a stub that counted on one would save everything a word too low and read the saved host context
//! from the wrong place. The frame of a trap from an outer ring ends where the page ends, so its start
//! shows whether it is a word short.
//!
//! # Page faults that are reflected
//! A page fault that is the guest's own, by its own page tables, is *reflected* here: the frame goes on its kernel's stack,
//! and its handler runs, as if the processor had called it. Neither CR3 nor anything of the host's is loaded. What the
//! shadow tables lack goes to the host.
//!
//! * All is read and written as the guest's kernel could: on the guest's page tables, from its kernel address to the
//!   Switcher's window, with bounds that the host has left on the state page ([`KernelView`]). So what a guest forges, or
//!   another processor changes meanwhile, can harm this guest only. Each word is read once.
//! * Whatever is not plain becomes the ordinary exit, with all registers and CR2 as they were at the fault: an entry that
//!   allows the access, or that the host kills for, or is out of reach; an interrupt that waits; a second fault at one
//!   address, which means that what looks like page tables is none.
//! * A fault of ring 1 goes on the stack that it came from. A kernel whose handler faults again and again is ended by the host, which has
//!   to see it: so after [`MOST_KERNEL_FAULTS`] of them without an exit the next one is the host's.
//! * An access to the guest's memory may fault itself, for the shadow tables may lack it. That fault is distinguished by
//!   the address of the instruction, its frame is dropped, and the exit is the first fault's. With it goes the address that was missed,
//!   for the host to map it as if the guest's kernel had read there: the next fault is done here.
//! * The guest's interrupt flag is cleared last. Up to that store everything can be repeated, after it the guest is in its
//!   handler.
//!
//! # Page faults that fill an entry
//! Where the guest's tables allow the access, the level-1 shadow table is there, and the host knows the page's frame, the
//! entry is filled here, for faults of rings 1 and 3.
//!
//! * The guest's tables are read, and its entry marked accessed and dirty, as in a reflection. What follows is done on the
//!   host's page tables, which have all that it takes: the words of frames, the shadow tables, the state page. Nothing of the
//!   guest's is touched there, and nothing faults.
//! * The entry is the one that the framework's `ShadowEntry` would make, and it is written down before it is stored, for a
//!   table is released by the entries that the framework knows of. At most [`MOST_FILLS`] are, without an exit.
//! * The host takes a frame away by clearing its word, and then waits until this processor has taken an interrupt. Interrupts
//!   are off in here; so the guest is left before it runs with an entry that was filled from a word since cleared, and the host
//!   drops that entry with the others of the frame.
//!
//! # Hypercalls of a switch to another process
//! A guest's kernel that switches to another process loads a page directory, a kernel stack and thread-local-storage
//! descriptors, in any order, by the ring and by a last call in registers; or the first two by SWITCH_TO in registers. All of
//! that is done here where the shadow root of the page directory is published ([`published`](crate::published)) and nothing else
//! waits in the ring.
//!
//! * First everything is only looked at: each word once, so that what another processor changes meanwhile is harmless. Then
//!   the new root is loaded, and on it the kernel's stack is tried, by a write that changes nothing, and the ring. Up to
//!   there all can be given up for the ordinary exit, which loads the host's CR3 whatever CR3 is now, and on which the host does
//!   the calls itself.
//! * From there on nothing can fault, and all is done: the ring's entries are marked, and the state page is written. On the
//!   guest's page tables that page is read-only even to ring 0, so CR0.WP is cleared meanwhile. (CR3 has just been
//!   loaded, so that processors, real or emulated, that flush translations with WP lose little by it.)
//! * A stack is taken only with the selector of the last one, which the host has checked, and of one page or two; descriptors only
//!   if they are those of ring 3's code and data, or none.
//! * A page of the guest's kernel that is missing before the new root is loaded, such as that of the descriptors, goes to the host
//!   with the hypercall ([`HYPERCALL_MISSED`]): it maps it, so that the next switch is done here.
//! * At most [`MOST_RING_CALLS`] entries of the ring are done in one go, and [`MOST_LOADS`] page directories without an exit.
//!
//! # NMIs and machine checks
//! One that interrupts the guest is an exit like any other, and the host runs its handler at once. One that
//! interrupts the Switcher is distinguished from a fault by its vector, and treated by where it came:
//!
//! * On the way in it becomes an exit: the guest is not entered, for the host may wait for this processor (a
//!   machine check gathers all of them). Up to the last `iret` the guest's registers still lie in their frame,
//!   which is simply left there, but for segment registers that are loaded: what was done in here has not stored them. At that `iret`
//!   all registers are loaded, and the stack is what it would be had the event come at the guest's first instruction, so the event's
//!   own stub is run again as if it had.
//! * While the guest's tables are walked for a page fault, or what a hypercall asks for is looked at, it is counted as on the way
//!   out, and the work is given up: the exit is the page fault's or the hypercall's. (One that came just before is found when the work
//!   is done.)
//! * Once a page fault is being reflected, an entry filled or a hypercall's work done, it is counted likewise. The work is done
//!   to its end, and the exit after it has nothing but the events to report ([`EVENTS_ONLY`]).
//! * On the way out, which may carry an interrupt that the host must not lose, it is counted in the state
//!   page, and the Switcher goes on. On the guest's page tables that page is read-only even to ring 0, so
//!   CR0.WP is cleared for the one store; events are rare enough for that.
//!
//! In all cases the handler ends by `iret`, which lets the next NMI in. It may itself be interrupted by the
//! other kind of event, which is counted. `eax` holds the state page whenever the stack is the host's;
//! otherwise it is found by the stack.
//!
//! [`KernelView`]: arch_i386::kernel_view::KernelView
//! [`MOST_KERNEL_FAULTS`]: arch_i386::kernel_view::MOST_KERNEL_FAULTS
//! [`IN_SWITCHER`]: arch_i386::trap::IN_SWITCHER
//! [`EVENTS_ONLY`]: arch_i386::trap::EVENTS_ONLY
//! [`HYPERCALL_MISSED`]: arch_i386::trap::HYPERCALL_MISSED

use crate::published::{HASH_SHIFT, MOST_FILLS, MOST_LOADS, Published, PublishedRoot, WAYS};
use crate::state::{
    FIXED_FLAGS, FRAME, FRAME_KNOWN, FRAME_SHIFT, FRAME_WRITABLE, GUEST_FLAGS, HostContext,
    MACHINE_CHECKS_SHIFT, NO_ADDRESS, StatePage, TableRegister, VcpuPages,
};
use crate::stubs::{EXCEPTIONS, GROUP, GROUP_SIZE, STUB_SIZE, STUBS_SIZE};
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SHIFT, PAGE_SIZE};
use arch_i386::done_in_switcher::FilledInSwitcher;
use arch_i386::hypercall::{Hypercall, HypercallArgs};
use arch_i386::paging::{Flags, Pae, PageFormat, Paging, TwoLevel};
use arch_i386::regs::Regs;
use arch_i386::segment::{self, LGUEST_CS};
use arch_i386::trap::{self, PageFaultErrorCode, has_error_code};
use arch_i386::{RFlags, kernel_view, lguest_data, shadow_tables};
use core::mem::offset_of;
use core::slice;
use x86_64::registers::control::{Cr0Flags, Cr4Flags};

/// A bit for each exception that comes with an error code. Only vectors below 32 do.
const ERROR_CODES: u32 = {
    let (mut bits, mut vector) = (0, 0);
    while vector < 32 {
        bits |= (has_error_code(vector) as u32) << vector;
        vector += 1;
    }
    bits
};

/// Selector of the kernel's data and stack in Linux's own GDT.
const HOST_DS: usize = segment::index::KERNEL_DS * size_of::<segment::Descriptor>();

/// The byte of the TSS descriptor that holds the busy bit, from the start of a GDT.
const TSS_TYPE: u32 = segment::TSS + 5;

core::arch::global_asm!(
    r#"
    .pushsection .text.lguest_switcher, "ax", @progbits
    // `pae`: the shadow tables have three levels, and not two. `span`: the first bit of an address that a level-1 table does not
    // translate; `last`: the last index of such a table; `size`: bytes of an entry.
    // Two levels: the entry of the page directory, whose number is in ecx, into eax.
    .macro lguest_switcher_into_directory name
    movl {DIRECTORY}(%ebp), %edx
    movl %ss:(%edx,%ecx,4), %eax
    testb ${PRESENT}, %al
    jz \name\()_reflect
    .endm

    // Where the level-1 table that the entry in eax leads to has its entry for the address in esi, into edx; into ebx what the first does
    // not allow.
    .macro lguest_switcher_into_table name, last, size
    testl ${MALFORMED}, %eax
    jnz \name\()_unhandled
    cmpl {LOW_MEMORY}(%ebp), %eax
    jae \name\()_unhandled
    movl %eax, %ebx
    notl %ebx
    andl ${FRAME_MASK}, %eax
    addl {KERNEL_ADDRESS}(%ebp), %eax
    movl %esi, %ecx
    shrl ${PAGE_SHIFT}, %ecx
    andl $\last, %ecx
    leal (%eax,%ecx,\size), %edx
    .endm

    // The published root of the page directory in eax, into edi.
    .macro lguest_switcher_find_root name
    movl %eax, %edi
    imull {HASH_FACTOR}(%ebp), %edi
    shrl ${HASH_SHIFT}, %edi
    imull ${SET_SIZE}, %edi, %edi
    leal {ROOTS}(%ebp,%edi), %edi
    cmpl %eax, %ss:(%edi)
    je 6f
    .rept {WAYS} - 1
    addl ${ROOT_SIZE}, %edi
    cmpl %eax, %ss:(%edi)
    je 6f
    .endr
    jmp \name\()_unhandled
6:  cmpl $0, %ss:{ROOT_CR3}(%edi)
    je \name\()_unhandled
    .endm

    .macro lguest_switcher name, pae, span, last, size
    .balign 16
    .globl \name\()_start
\name\()_start:

    // One entry point for each vector. `push imm8` sign-extends; only the low byte is looked at.
    .set lguest_vector, 0
    .rept {EXCEPTIONS}
    .org \name\()_start + lguest_vector * {STUB_SIZE}, 0xcc
    .byte 0x6a, lguest_vector
    .if ({ERROR_CODES} >> lguest_vector) & 1
    jmp \name\()_exit
    .else
    jmp \name\()_exit_without_code
    .endif
    .set lguest_vector, lguest_vector + 1
    .endr
    // Those of interrupts are shorter: some in a row share their jump.
    .rept (256 - {EXCEPTIONS}) / {GROUP}
    .org \name\()_start + {EXCEPTIONS} * {STUB_SIZE} + (lguest_vector - {EXCEPTIONS}) / {GROUP} * {GROUP_SIZE}, 0xcc
    .rept {GROUP}
    .byte 0x6a, lguest_vector
    jmp 1f
    .set lguest_vector, lguest_vector + 1
    .endr
1:  jmp \name\()_exit_without_code
    .endr
    .org \name\()_start + {STUBS_SIZE}, 0xcc

    // ------------------------------------------------------------------ into the guest
    .globl \name\()_enter
\name\()_enter:
    pushl %es
    pushl %ds
    pushl %fs
    pushl %ebp
    .if {PLANTED_SEGMENT_FAULT}
    pushl %gs
    .endif
    movl {HOST_CONTEXT}(%eax), %ecx
    movl %esp, {HOST_ESP}(%ecx)
    sgdtl {HOST_GDTR}(%ecx)
    sidtl {HOST_IDTR}(%ecx)
    movl %cr3, %ebx
    movl %ebx, {HOST_CR3}(%eax)
    movl %cr4, %edx
    movl %edx, {HOST_CR4}(%ecx)

    lidtl {GUEST_IDTR}(%eax)
\name\()_entering:
    leal {FRAME}(%eax), %esp
    lgdtl {GUEST_GDTR}(%eax)
    movl ${TSS}, %ebx
    ltrw %bx
    testl ${NO_USER_PAGES}, %edx
    jz 1f
    andl $~{NO_USER_PAGES}, %edx
    movl %edx, %cr4
1:  movl {GUEST_CR3}(%ecx), %ecx
    movl %ecx, %cr3
    testl %esi, %esi
    jz 6f
    verw {SS}(%esp)

    // The guest's page tables map the registers here. The stack stays below them until all are loaded.
6:  movw {GS}(%esp), %gs
    movw {FS}(%esp), %fs
    movw {DS}(%esp), %ds
    movw {ES}(%esp), %es
\name\()_restore:
    movl {EBX}(%esp), %ebx
    movl {ECX}(%esp), %ecx
    movl {EDX}(%esp), %edx
    movl {ESI}(%esp), %esi
    movl {EDI}(%esp), %edi
    movl {EBP}(%esp), %ebp
    movl {EAX}(%esp), %eax
    addl ${EIP}, %esp
\name\()_entered:
    iretl

    // ------------------------------------------------------------------ back to the host
\name\()_exit_without_code:
    pushl (%esp)
    movl $0, 4(%esp)
    // The stack: vector, error code, eip, cs, eflags, and from an outer ring esp and ss.
    testb $3, 12(%esp)
    jnz \name\()_save
    jmp \name\()_inside

\name\()_exit:
    testb $3, 12(%esp)
    jz \name\()_inside
    testl $4, %esp
    jnz \name\()_save
    // By `int`: there is no error code. (What was tested above was eflags, where bit 1 is set.)
    pushl (%esp)
    movl $0, 4(%esp)

\name\()_save:
    // From virtual-8086 mode, whose frames are four words longer. A processor enters it from ring 0 only, but QEMU
    // 7.2 by an `iret` of the guest's kernel, too. Such a guest has to go, like one that faults in here.
    testl ${VIRTUAL_8086}, 16(%esp)
    jnz \name\()_fault
    // The segment registers keep what the guest has in them until it is left.
    subl ${TRAPNUM} - {GS}, %esp
    pushl %ebp
    pushl %edi
    pushl %esi
    pushl %edx
    pushl %ecx
    pushl %ebx
    pushl %eax
    leal -{FRAME}(%esp), %eax
    movzbl {TRAPNUM}(%esp), %ebx
    cmpl ${PF_VECTOR}, %ebx
    je \name\()_page_fault
    cmpl ${HYPERCALL_VECTOR}, %ebx
    je \name\()_hypercall

    // eax: the state page, ebx: what to return. The data segments are the guest's still.
\name\()_leave:
    movw %gs, %ss:{FRAME}+{GS}(%eax)
    movw %fs, %ss:{FRAME}+{FS}(%eax)
    movw %ds, %ss:{FRAME}+{DS}(%eax)
    movw %es, %ss:{FRAME}+{ES}(%eax)
    // With the guest's registers in their frame.
\name\()_leave_saved:
    movl %ss:{HOST_CR3}(%eax), %edx
    movl %edx, %cr3
    movl %ss:{HOST_CONTEXT}(%eax), %ecx
    testl ${NO_USER_PAGES}, %ss:{HOST_CR4}(%ecx)
    jz 2f
    movl %ss:{HOST_CR4}(%ecx), %edx
    movl %edx, %cr4
2:  andb ${NOT_BUSY}, %ss:{GUEST_GDT}+{TSS_TYPE}(%eax)
    lgdtl %ss:{HOST_GDTR}(%ecx)
    movl %ss:{HOST_GDTR_BASE}(%ecx), %edx
    andb ${NOT_BUSY}, %ss:{TSS_TYPE}(%edx)
    movl ${TSS}, %edx
    ltrw %dx
    movl ${HOST_DS}, %edx
    movl %edx, %ss
    movl %ss:{HOST_ESP}(%ecx), %esp
    .if {PLANTED_SEGMENT_FAULT}
    popl %gs
    .endif
    movl (%esp), %ebp
    movw 4(%esp), %fs
    movw 8(%esp), %ds
    movw 12(%esp), %es
    xorl %edx, %edx
    movl %edx, %gs
    lidtl {HOST_IDTR}(%ecx)
    // From here on events are the host's again.
    xchgl %edx, {EVENTS}(%eax)
    movl %ebx, %eax
    addl $16, %esp
    iretl

    // ------------------------------------------------------------------ a page fault, done here
    // eax: the state page, ebx: the vector, and the guest's registers in their frame.
\name\()_page_fault:
    xorl %edi, %edi
    cmpl $0, %ss:{DIRECTORY}(%eax)
    je \name\()_leave
    movl %eax, %ebp
    movl %cr2, %esi
    // ebp: the state page; esi: the address. From here on everything can be given up, by a jump to `unhandled`, up to the one
    // store that turns the guest's interrupts off. Instructions that touch the guest's memory may fault.
\name\()_walking:
    // edi: what the access needs of each entry.
    movl {FRAME}+{ERRCODE}(%ebp), %edi
    andl ${WRITE}|{USER}, %edi
    orl ${PRESENT}, %edi
    // The window, this text in it, is not the guest's, nor is what is above.
    cmpl {WINDOW}(%ebp), %esi
    jae \name\()_unhandled
    movl %esi, %ecx
    shrl $\span, %ecx
    // The guest's tables. edx: where its entry is, eax: the entry, with PAE ecx: its high half, ebx: what the entry above does not
    // allow. Malformed ones are for the host to judge.
    .if \pae
    cmpb ${TWO_LEVEL_ENTRY}, {ENTRY_SIZE}(%ebp)
    je \name\()_walk_two_levels
    movl %ecx, %edx
    shrl ${PAE_ROOT_SPAN} - \span, %edx
    movl {DIRECTORY}(%ebp), %eax
    leal (%eax,%edx,8), %edx
    movl %ss:(%edx), %eax
    testb ${PRESENT}, %al
    jz \name\()_reflect
    cmpl $0, %ss:4(%edx)
    jne \name\()_unhandled
    testl ${MALFORMED_ROOT}, %eax
    jnz \name\()_unhandled
    cmpl {LOW_MEMORY}(%ebp), %eax
    jae \name\()_unhandled
    // At esp from here on: the entry of the page directory. It has no flag but the lowest.
    pushl %eax
    addl {KERNEL_ADDRESS}(%ebp), %eax
    andl $\last, %ecx
    leal -{PRESENT}(%eax,%ecx,8), %edx
    movl %ss:(%edx), %eax
    testb ${PRESENT}, %al
    jz \name\()_reflect
    cmpl $0, %ss:4(%edx)
    jne \name\()_unhandled
    .else
    lguest_switcher_into_directory \name
    .endif
    lguest_switcher_into_table \name, \last, \size
    .if \pae
    // The two halves are of one entry if the high one is the same before and after.
    movl %ss:4(%edx), %ecx
    movl %ss:(%edx), %eax
    cmpl %ss:4(%edx), %ecx
    jne \name\()_unhandled
\name\()_walked:
    .else
    movl %ss:(%edx), %eax
    .endif
    notl %eax
    testl %edi, %eax
    jnz \name\()_reflect
    notl %eax
    .if \pae
    // All that may be in the high half is the flag that forbids to execute, if the processor has that.
    testl %ecx, %ecx
    jz 1f
    cmpl {NO_EXECUTE}(%ebp), %ecx
    jne \name\()_unhandled
    testb ${FETCH}, {FRAME}+{ERRCODE}(%ebp)
    jnz \name\()_reflect
1:
    .endif

    // The access is allowed: the entry is the shadow's to fill. ebx: the page's number.
    testl %edi, %ebx
    jnz \name\()_unhandled
    testl ${LEAF_MALFORMED}, %eax
    jnz \name\()_unhandled
    .if \pae
    pushl %ecx
    .endif
    pushl %ebx
    movl %eax, %ebx
    shrl ${PAGE_SHIFT}, %ebx
    cmpl {FILL_PAGES}(%ebp), %ebx
    jae \name\()_unhandled
    cmpl ${MOST_FILLS}, {FILL_WORDS}(%ebp)
    jae \name\()_unhandled
    // The guest's entry as the access leaves it. The shadow is read-only until that is dirty.
    movl %eax, %ecx
    orl ${ENTRY_ACCESSED}, %eax
    testl ${WRITE}, %edi
    jz 1f
    orl ${ENTRY_DIRTY}, %eax
1:  cmpl %eax, %ecx
    je 2f
    movl %eax, %ss:(%edx)
2:  andl ${FRAME_MASK}, %esi
    testl ${ENTRY_DIRTY}, %eax
    jnz \name\()_fill
    andl $~{WRITE}, %eax
    jmp \name\()_fill

    .if \pae
    // The guest's tables have two levels. No middle table of the shadow's stands for one of the guest's.
\name\()_walk_two_levels:
    pushl $0
    movl %esi, %ecx
    shrl ${TWO_LEVEL_SPAN}, %ecx
    lguest_switcher_into_directory \name
    lguest_switcher_into_table \name, {TWO_LEVEL_LAST}, 4
    movl %ss:(%edx), %eax
    xorl %ecx, %ecx
    jmp \name\()_walked
    .endif

    // Of ring 1: the frame goes on the stack that is in use, without a stack pointer and a segment.
1:  movl {FRAME}+{SS}(%ebp), %eax
    cmpl {SS1}(%ebp), %eax
    jne \name\()_unhandled
    cmpl ${MOST_KERNEL_FAULTS}, {KERNEL_FAULTS}(%ebp)
    jae \name\()_unhandled
    incl {KERNEL_FAULTS}(%ebp)
    movl {FRAME}+{ESP}(%ebp), %ecx
    addl ${FRAME_SIZE} - {KERNEL_FRAME_SIZE}, %ecx
    jmp 2f

    // The guest's own fault. Was it reflected just now? Then what was looked at are not the guest's tables.
    // ecx: its frame on the kernel's stack; edx: the shared page.
\name\()_reflect:
    cmpl {LAST_REFLECTED}(%ebp), %esi
    je \name\()_unhandled
    movl {ESP1}(%ebp), %ecx
    testl ${USER}, %edi
    jz 1b
2:  subl ${FRAME_SIZE}, %ecx
    movl %ecx, %eax
    subl {KERNEL_ADDRESS}(%ebp), %eax
    cmpl {LAST_FRAME}(%ebp), %eax
    ja \name\()_unhandled
    movl {DATA}(%ebp), %edx
    // An interrupt that waits is for the host to deliver.
    cmpl $0, %ss:{IRQ_PENDING}(%edx)
    jne \name\()_unhandled
    // The frame. The interrupt flag in it is what the guest has for one.
    movl {FRAME}+{ERRCODE}(%ebp), %eax
    movl %eax, %ss:(%ecx)
    movl {FRAME}+{EIP}(%ebp), %eax
    movl %eax, %ss:4(%ecx)
    movl {FRAME}+{CS}(%ebp), %eax
    movl %eax, %ss:8(%ecx)
    movl %ss:{IRQ_ENABLED}(%edx), %eax
    andl ${INTERRUPT_FLAG}, %eax
    xorl ${INTERRUPT_FLAG}, %eax
    xorl {FRAME}+{EFLAGS}(%ebp), %eax
    movl %eax, %ss:12(%ecx)
    testl ${USER}, %edi
    jz 1f
    movl {FRAME}+{ESP}(%ebp), %eax
    movl %eax, %ss:16(%ecx)
    movl {FRAME}+{SS}(%ebp), %eax
    movl %eax, %ss:20(%ecx)
1:  movl %esi, %ss:{GUEST_CR2}(%edx)
    movl $0, %ss:{IRQ_ENABLED}(%edx)
    // Done, and nothing can fault any more: the guest goes on in its handler. Its interrupt flag is really on, always.
\name\()_reflected:
    movl %esi, {LAST_REFLECTED}(%ebp)
    incl {REFLECTED}(%ebp)
    movl {SS1}(%ebp), %eax
    movl %eax, {FRAME}+{SS}(%ebp)
    movl %ecx, {FRAME}+{ESP}(%ebp)
    andl ${HANDLER_FLAGS}, {FRAME}+{EFLAGS}(%ebp)
    movl ${GUEST_CS}, {FRAME}+{CS}(%ebp)
    movl {FAULT_HANDLER}(%ebp), %eax
    movl %eax, {FRAME}+{EIP}(%ebp)
    jmp \name\()_done

    // eax: the guest's entry, ebx: the number of its page, esi: the page that it maps, and in the low bits by what; at esp: what the
    // guest's entry for the table does not allow, and with PAE above that the entry's high half and, for a fault, the guest's
    // entry for the middle table. On the host's page tables nothing faults. edi: the shadow root.
\name\()_fill:
    movl %cr3, %edi
    movl {HOST_CR3}(%ebp), %edx
    movl %edx, %cr3
    movl {HOST_CONTEXT}(%ebp), %edx
    movl %ss:{FRAMES}(%edx), %ecx
    movl %ss:(%ecx,%ebx,4), %ebx
    // The frame must be known, and writable if the entry is: the same two bits.
    movl %ebx, %ecx
    notl %ecx
    andl ${PRESENT}|{WRITE}, %ecx
    testl %eax, %ecx
    jnz \name\()_unhandled
    .if \pae
    movl %ebx, %ecx
    shrl $32 - {PAGE_SHIFT} + {FRAME_SHIFT}, %ecx
    orl %ecx, 4(%esp)
    .endif
    shll ${PAGE_SHIFT} - {FRAME_SHIFT}, %ebx
    andl ${FRAME_MASK}, %ebx
    andl ${LEAF_FLAGS}, %eax
    orl %eax, %ebx
    // ebx: the shadow entry; edx: the host context. The link to the table, if there is one.
\name\()_put:
    movl %ss:{DIRECT_MAP}(%edx), %edx
    movl %esi, %ecx
    .if \pae
    // All table pages are in low memory.
    shrl ${PAE_ROOT_SPAN}, %ecx
    leal (%edx,%ecx,4), %eax
    addl %edi, %eax
    movl %ss:(%eax,%ecx,4), %ecx
    testb ${PRESENT}, %cl
    jz \name\()_unhandled
    testl ${BY_CALL}, %esi
    jnz 6f
    // For a fault, the guest's middle table must be the one that the shadow's stands for: SET_PMD goes by that.
    movl %ss:{MIDDLE_ORIGINS}(%eax), %eax
    cmpl %eax, 8(%esp)
    jne 5f
6:  andl ${FRAME_MASK}, %ecx
    addl %edx, %ecx
    movl %esi, %eax
    shrl $\span, %eax
    andl $\last, %eax
    leal (%ecx,%eax,8), %ecx
    .else
    shrl $\span, %ecx
    leal (%edx,%ecx,4), %ecx
    addl %edi, %ecx
    .endif
    movl %ss:(%ecx), %eax
    testb ${PRESENT}, %al
    jz \name\()_unhandled
    testl ${KEPT}, %eax
    jz 1f
    // An empty table. The link must have the rights that the guest gives now.
    testl ${BY_CALL}, %esi
    jnz \name\()_idle
    xorl (%esp), %eax
    notl %eax
    testl ${WRITE}|{USER}, %eax
    jnz \name\()_unhandled
    andl $~{KEPT}, %ss:(%ecx)
    movl %ss:(%ecx), %eax
1:  andl ${FRAME_MASK}, %eax
    addl %edx, %eax
    movl %esi, %edx
    shrl ${PAGE_SHIFT}, %edx
    andl $\last, %edx
    leal (%eax,%edx,\size), %ecx
    // For a fault, an entry that is there already has not helped.
    movl %ss:(%ecx), %eax
    cmpl %ebx, %eax
    jne 2f
    .if \pae
    movl 4(%esp), %edx
    cmpl %ss:4(%ecx), %edx
    jne 2f
    .endif
    testl ${BY_CALL}, %esi
    jz \name\()_unhandled
    // Written down first: whoever releases the table goes by that.
2:  andl ${PRESENT}, %eax
    orl %eax, %esi
    movl {FILL_WORDS}(%ebp), %edx
    cmpl %edi, {FILL_ROOT}(%ebp)
    jne 4f
3:  movl %esi, {FILLED}(%ebp,%edx,4)
    incl {FILL_WORDS}(%ebp)
    .if \pae
    // Nothing is there until the low half is.
    movl $0, %ss:(%ecx)
    movl 4(%esp), %eax
    movl %eax, %ss:4(%ecx)
    .endif
    movl %ebx, %ss:(%ecx)
    cmpl $0, {CLEAR_BUFFERS}(%ebp)
    je 1f
    verw {FRAME}+{SS}(%ebp)
1:  movl %edi, %cr3
    jmp \name\()_done

    .if \pae
    // Or it stands for none yet, and for the guest's from now on.
5:  cmpl ${UNCLAIMED}, %eax
    jne \name\()_unhandled
    movl %esi, %eax
    shrl ${PAE_ROOT_SPAN}, %eax
    leal (%edx,%eax,4), %eax
    addl %edi, %eax
    pushl 8(%esp)
    popl %ss:{MIDDLE_ORIGINS}(%eax)
    jmp 6b
    .endif

    // The first entry in the account that is under this root.
4:  movl %edi, {FILL_ROOT}(%ebp)
    leal {ROOT_WORD}(%edi), %eax
    movl %eax, {FILLED}(%ebp,%edx,4)
    incl %edx
    incl {FILL_WORDS}(%ebp)
    jmp 3b

    // SET_PTE of a page whose table is empty: nothing changes. (Two shadow tables may stand for a table of two levels, of which the
    // host fills both.)
\name\()_idle:
    .if \pae
    cmpb ${TWO_LEVEL_ENTRY}, {ENTRY_SIZE}(%ebp)
    je \name\()_unhandled
    .endif
    incl {IDLE_SET_PTES}(%ebp)
    jmp 1b

    // In here: a page of the guest's is missing. Its own fault goes to the host, as it was, and with it which page that is.
\name\()_page_fault_inside:
    call 7f
7:  popl %ecx
    movl 8(%esp), %edx
    subl %ecx, %edx
    subl $(\name\()_walking - 7b), %edx
    cmpl $(\name\()_reflected - \name\()_walking), %edx
    jb 8f
    subl $(\name\()_switching - \name\()_walking), %edx
    cmpl $(\name\()_switch - \name\()_switching), %edx
    jae \name\()_fault
    // On the new root, it is the stack: the host maps that itself.
    cmpl $(\name\()_rooted - \name\()_switching), %edx
    jae \name\()_unhandled
    movl %cr2, %edi
    movl ${HYPERCALL_MISSED}, %ebx
    jmp 1f
8:  movl %cr2, %edi
    movl %esi, %cr2
    jmp 2f
\name\()_unhandled:
    xorl %edi, %edi
2:  movzbl {FRAME}+{TRAPNUM}(%ebp), %ebx
    jmp 1f

    // Done: the guest goes on, unless something came meanwhile.
\name\()_done:
    cmpl $0, {EVENTS}(%ebp)
    leal {FRAME}(%ebp), %esp
    je \name\()_restore
\name\()_done_event:
    movl ${EVENTS_ONLY}, %ebx
1:  leal {FRAME}(%ebp), %esp
    movl %ebp, %eax
    jmp \name\()_leave

    // ------------------------------------------------------------------ a hypercall, done here
    // eax: the state page, ebx: the vector, and the guest's registers in their frame, where they are laid out like a call of
    // the ring.
\name\()_hypercall:
    movl {EAX}(%esp), %ecx
    movl %ss:{CALLS_ALLOWED}(%eax), %edx
    btl %ecx, %edx
    jnc \name\()_leave
    movl %eax, %ebp
    cmpl ${SET_PTE}, %ecx
    je \name\()_set_pte
    subl ${SCRATCH}, %esp
    // ebp: the state page. From here on everything can be given up, by a jump to `unhandled`, up to `switch`.
    // Instructions that touch the guest's memory may fault.
\name\()_switching:
    // edx: the shared page; ebx: the next entry of the ring; esi: the kernel's stack; edi: the published root to load, if any;
    // at esp: where the descriptors are, if any; above it how many pages the stack has.
    movl {DATA}(%ebp), %edx
    movl {RING_NEXT}(%ebp), %ebx
    movl $0, (%esp)
    cmpb ${RING_DONE}, %ss:{RING_STATUS}(%edx,%ebx)
    jne 1f
    cmpl ${SWITCH_TO}, %ecx
    je \name\()_switch_to
1:  movl {ESP1}(%ebp), %esi
    xorl %edi, %edi
    movl {STACK_PAGES}(%ebp), %eax
    movl %eax, 4(%esp)

    // The next call: of the ring, or when that is empty the one in the registers.
1:  leal {FRAME}(%ebp), %ecx
    cmpb ${RING_DONE}, %ss:{RING_STATUS}(%edx,%ebx)
    je 2f
    movl %ebx, %ecx
    subl {RING_NEXT}(%ebp), %ecx
    andl ${RING_MASK}, %ecx
    cmpl ${MOST_RING_CALLS}, %ecx
    jae \name\()_unhandled
    leal (%ebx,%ebx,4), %ecx
    leal {RING_CALLS}(%edx,%ecx,4), %ecx
2:  movl %ss:(%ecx), %eax
    cmpl ${NEW_PGTABLE}, %eax
    je 5f
    cmpl ${SET_STACK}, %eax
    je 4f
    cmpl ${LOAD_TLS}, %eax
    je 7f
    cmpl ${FLUSH_ASYNC}, %eax
    jne 9f
3:  leal {FRAME}(%ebp), %eax
    cmpl %eax, %ecx
    je \name\()_known
    incl %ebx
    andl ${RING_MASK}, %ebx
    jmp 1b

    // SET_STACK: of one page or two.
4:  movl %ss:{ARG_A}(%ecx), %eax
    cmpl {SS1}(%ebp), %eax
    jne \name\()_unhandled
    movl %ss:{ARG_C}(%ecx), %eax
    movl %eax, 4(%esp)
    decl %eax
    cmpl $1, %eax
    ja \name\()_unhandled
    movl %ss:{ARG_B}(%ecx), %esi
    jmp 3b

    // NEW_PGTABLE: one, and a published one.
5:  testl %edi, %edi
    jnz \name\()_unhandled
    movl %ss:{ARG_A}(%ecx), %eax
    lguest_switcher_find_root \name
    jmp 3b

    // LOAD_TLS: the descriptors are looked at when all calls are known. (None are at 0.)
7:  movl %ss:{ARG_A}(%ecx), %eax
    movl %eax, (%esp)
    jmp 3b

    // SWITCH_TO: in registers only, with no other root, and without a flush.
9:  cmpl ${SWITCH_TO}, %eax
    jne \name\()_unhandled
    leal {FRAME}(%ebp), %eax
    cmpl %eax, %ecx
    jne \name\()_unhandled
    testl %edi, %edi
    jnz \name\()_unhandled
\name\()_switch_to:
    cmpl $0, {FRAME}+{ESI}(%ebp)
    jne \name\()_unhandled
    movl {FRAME}+{EDX}(%ebp), %eax
    movl %eax, 4(%esp)
    decl %eax
    cmpl $1, %eax
    ja \name\()_unhandled
    movl {FRAME}+{ECX}(%ebp), %esi
    movl {FRAME}+{EBX}(%ebp), %eax
    lguest_switcher_find_root \name
    jmp \name\()_known

    // SET_PTE of the user half of the current page directory, with nothing before it in the ring. What must not be filled is
    // cleared, and what may be written without the guest's entry being dirty is the host's to judge.
\name\()_set_pte:
    movl {DIRECTORY}(%ebp), %ecx
    testl %ecx, %ecx
    jz \name\()_unhandled
    subl {KERNEL_ADDRESS}(%ebp), %ecx
    cmpl {FRAME}+{EBX}(%ebp), %ecx
    jne \name\()_unhandled
    movl {DATA}(%ebp), %edx
    movl {RING_NEXT}(%ebp), %ecx
    cmpb ${RING_DONE}, %ss:{RING_STATUS}(%edx,%ecx)
    jne \name\()_unhandled
    cmpl ${MOST_FILLS}, {FILL_WORDS}(%ebp)
    jae \name\()_unhandled
    movl {FRAME}+{ECX}(%ebp), %esi
    cmpl {KERNEL_ADDRESS}(%ebp), %esi
    jae \name\()_unhandled
    andl ${FRAME_MASK}, %esi
    orl ${BY_CALL}, %esi
    movl {FRAME}+{EDX}(%ebp), %eax
    testb ${PRESENT}, %al
    jz 1f
    testb ${ENTRY_ACCESSED}|{ENTRY_DIRTY}, %al
    jz 1f
    testl ${LEAF_MALFORMED}, %eax
    jnz \name\()_unhandled
    movl %eax, %ecx
    andl ${WRITE}|{ENTRY_DIRTY}, %ecx
    cmpl ${WRITE}, %ecx
    je \name\()_unhandled
    movl %eax, %ebx
    shrl ${PAGE_SHIFT}, %ebx
    cmpl {FILL_PAGES}(%ebp), %ebx
    jae \name\()_unhandled
    .if \pae
    // The high half, where the guest's entries have one.
    xorl %ecx, %ecx
    cmpb ${TWO_LEVEL_ENTRY}, {ENTRY_SIZE}(%ebp)
    je 2f
    movl {FRAME}+{ESI}(%ebp), %ecx
    testl %ecx, %ecx
    jz 2f
    cmpl {NO_EXECUTE}(%ebp), %ecx
    jne \name\()_unhandled
2:  pushl %ecx
    pushl %ecx
    .endif
    jmp \name\()_fill
1:  xorl %ebx, %ebx
    .if \pae
    pushl %ebx
    pushl %ebx
    .endif
    orl ${CLEARED}, %esi
    movl %cr3, %edi
    movl {HOST_CR3}(%ebp), %edx
    movl %edx, %cr3
    movl {HOST_CONTEXT}(%ebp), %edx
    jmp \name\()_put

    // All calls are known. The descriptors, if there are any.
\name\()_known:
    movl (%esp), %ecx
    testl %ecx, %ecx
    jz 1f
    movl {LOW_MEMORY}(%ebp), %eax
    subl ${TLS_SIZE}, %eax
    cmpl %eax, %ecx
    ja \name\()_unhandled
    addl {KERNEL_ADDRESS}(%ebp), %ecx
    // From the last to the first, onto the stack of this work. One without rights is 0 as a whole.
    pushl %edi
    movl ${TLS_SIZE} - 8, %edi
9:  movl %ss:4(%ecx,%edi), %eax
    testl %eax, %eax
    jz 2f
    orl ${ACCESSED}, %eax
    movl %eax, 16(%esp,%edi)
    notl %eax
    testl ${USER_SEGMENT}, %eax
    jnz \name\()_unhandled
    movl %ss:(%ecx,%edi), %eax
    jmp 3f
2:  movl %eax, 16(%esp,%edi)
3:  movl %eax, 12(%esp,%edi)
    subl $8, %edi
    jns 9b
    popl %edi

    // The new root. The way out loads the host's, whichever is loaded then.
1:  testl %edi, %edi
    jz 2f
    cmpl ${MOST_LOADS}, {LOADS}(%ebp)
    jae \name\()_unhandled
    movl %ss:{ROOT_CR3}(%edi), %eax
    movl %eax, %cr3
    // The stack is mapped in it, writable, or this faults.
\name\()_rooted:
2:  leal -{FRAME_SIZE}(%esi), %eax
    subl {KERNEL_ADDRESS}(%ebp), %eax
    cmpl {LAST_FRAME}(%ebp), %eax
    ja \name\()_unhandled
    orl $0, %ss:-4(%esi)
    cmpl $2, 4(%esp)
    jb 3f
    orl $0, %ss:-4-{PAGE_SIZE}(%esi)
    // So are the status bytes of the ring.
3:  movl {RING_NEXT}(%ebp), %eax
    cmpl %eax, %ebx
    je \name\()_switch
    orb $0, %ss:{RING_STATUS}(%edx,%eax)

    // Nothing can fault any more, and nothing is given up. eax: the ring's position until now.
\name\()_switch:
    movl %cr0, %ecx
    andl ${NOT_WP}, %ecx
    movl %ecx, %cr0
1:  cmpl %eax, %ebx
    je 2f
    movb ${RING_DONE}, %ss:{RING_STATUS}(%edx,%eax)
    incl %eax
    andl ${RING_MASK}, %eax
    incl {RING_CALLS_DONE}(%ebp)
    jmp 1b
2:  movl %ebx, {RING_NEXT}(%ebp)
    incl {CALLS_DONE}(%ebp)
    movl %esi, {ESP1}(%ebp)
    movl 4(%esp), %eax
    movl %eax, {STACK_PAGES}(%ebp)
    testl %edi, %edi
    jz 3f
    movl {LOADS}(%ebp), %eax
    movl %ss:(%edi), %esi
    movl %esi, {LOADED}(%ebp,%eax,4)
    incl {LOADS}(%ebp)
    movl %ss:{ROOT_LINEAR}(%edi), %eax
    movl %eax, {DIRECTORY}(%ebp)
    movl ${NO_ADDRESS}, {LAST_REFLECTED}(%ebp)
3:  cmpl $0, (%esp)
    je 4f
    incl {TLS_LOADS}(%ebp)
    movl ${TLS_SIZE} - 4, %edi
9:  movl 8(%esp,%edi), %eax
    movl %eax, {GUEST_GDT}+{TLS}(%ebp,%edi)
    subl $4, %edi
    jns 9b
4:  orl ${WP}, %ecx
    movl %ecx, %cr0
    // The guest goes on behind the call.
    jmp \name\()_done

    // ------------------------------------------------------------------ faults and events in here
\name\()_inside:
    cmpb ${NMI_VECTOR}, (%esp)
    je \name\()_event
    cmpb ${MC_VECTOR}, (%esp)
    je \name\()_event
    cmpb ${PF_VECTOR}, (%esp)
    je \name\()_page_fault_inside
\name\()_fault:
    movzbl (%esp), %ebx
    orl ${IN_SWITCHER}, %ebx
    // Only what is the guest's can fault, and that is loaded on its register page.
    movl %esp, %eax
    andl $-{PAGE_SIZE}, %eax
    subl ${PAGE_SIZE}, %eax
    jmp \name\()_leave_saved

    // The stack: vector, 0, eip, cs, eflags of the Switcher.
\name\()_event:
    pushl %eax
    pushl %ecx
    pushl %edx
    call 3f
3:  popl %ecx
    movl 20(%esp), %edx
    subl %ecx, %edx
    subl $(\name\()_entering - 3b), %edx
    cmpl $(\name\()_entered - \name\()_entering), %edx
    je \name\()_event_entered
    pushfl
    // The host's stacks are all below the Switcher area, the register pages above its text.
    cmpl %ecx, %esp
    jb 4f
    movl %esp, %eax
    andl $-{PAGE_SIZE}, %eax
    subl ${PAGE_SIZE}, %eax
4:  popfl
    jb \name\()_event_entering

    // While the guest's tables are walked, or a hypercall's work is looked at: gives that up, and goes out. When it has been
    // done, goes out, too. In between, what is begun is done to its end, which looks for events.
    subl $(\name\()_walking - \name\()_entering), %edx
    cmpl $(\name\()_reflected - \name\()_walking), %edx
    jae 6f
    leal (\name\()_unhandled - 3b)(%ecx), %edx
    jmp 7f
6:  subl $(\name\()_done - \name\()_walking), %edx
    cmpl $(\name\()_done_event - \name\()_done), %edx
    jae 6f
    leal (\name\()_done_event - 3b)(%ecx), %edx
    jmp 7f
6:  subl $(\name\()_switching - \name\()_done), %edx
    cmpl $(\name\()_switch - \name\()_switching), %edx
    jae 9f
    leal (\name\()_unhandled - 3b)(%ecx), %edx
7:  movl %edx, 20(%esp)

    // On the way out, or in this handler: count it.
9:  movl $1, %edx
    cmpb ${NMI_VECTOR}, 12(%esp)
    je 5f
    movl ${MACHINE_CHECK_EVENT}, %edx
5:  movl %cr0, %ecx
    pushl %ecx
    andl ${NOT_WP}, %ecx
    movl %ecx, %cr0
    addl %edx, %ss:{EVENTS}(%eax)
    popl %ecx
    movl %ecx, %cr0
    popl %edx
    popl %ecx
    popl %eax
    addl $8, %esp
    iretl

    // On the way in: from here to the way out, by iret. The guest's registers are in their frame; once the segment registers
    // are loaded, they may be in these alone.
\name\()_event_entering:
    movzbl 12(%esp), %ebx
    cmpl $(\name\()_restore - \name\()_entering), %edx
    leal (\name\()_leave - 3b)(%ecx), %edx
    jae 5f
    leal (\name\()_leave_saved - 3b)(%ecx), %edx
5:  movl %edx, 20(%esp)
    addl $20, %esp
    iretl

    // At the last iret: from here to the stub, by iret. The guest's registers are where it left them.
\name\()_event_entered:
    movzbl 12(%esp), %edx
    imull ${STUB_SIZE}, %edx
    leal (\name\()_start - 3b)(%ecx,%edx), %edx
    movl %edx, 20(%esp)
    popl %edx
    popl %ecx
    popl %eax
    addl $8, %esp
    iretl

    // One page; an error here means that it has grown too long.
    .org \name\()_start + {PAGE_SIZE}, 0xcc
    .endm
    lguest_switcher lguest_switcher_two_level, 0, {TWO_LEVEL_SPAN}, {TWO_LEVEL_LAST}, 4
    lguest_switcher lguest_switcher_pae, 1, {PAE_SPAN}, {PAE_LAST}, 8
    .popsection
"#,
    STUB_SIZE = const STUB_SIZE,
    EXCEPTIONS = const EXCEPTIONS,
    GROUP = const GROUP,
    GROUP_SIZE = const GROUP_SIZE,
    STUBS_SIZE = const STUBS_SIZE,
    ERROR_CODES = const ERROR_CODES,
    HOST_CONTEXT = const offset_of!(StatePage, host_context),
    HOST_CR3 = const offset_of!(StatePage, host_cr3),
    EVENTS = const offset_of!(StatePage, events),
    GUEST_IDTR = const offset_of!(StatePage, guest_idtr),
    GUEST_GDTR = const offset_of!(StatePage, guest_gdtr),
    GUEST_GDT = const StatePage::GDT,
    HOST_ESP = const offset_of!(HostContext, esp),
    HOST_GDTR = const offset_of!(HostContext, gdtr),
    HOST_GDTR_BASE = const offset_of!(HostContext, gdtr) + offset_of!(TableRegister, base),
    HOST_IDTR = const offset_of!(HostContext, idtr),
    HOST_CR4 = const offset_of!(HostContext, cr4),
    GUEST_CR3 = const offset_of!(HostContext, guest_cr3),
    FRAME = const FRAME,
    EAX = const offset_of!(Regs, eax),
    EBX = const offset_of!(Regs, ebx),
    ECX = const offset_of!(Regs, ecx),
    EDX = const offset_of!(Regs, edx),
    ESI = const offset_of!(Regs, esi),
    EDI = const offset_of!(Regs, edi),
    EBP = const offset_of!(Regs, ebp),
    GS = const offset_of!(Regs, gs),
    FS = const offset_of!(Regs, fs),
    DS = const offset_of!(Regs, ds),
    ES = const offset_of!(Regs, es),
    EIP = const offset_of!(Regs, eip),
    SS = const offset_of!(Regs, ss),
    TRAPNUM = const offset_of!(Regs, trapnum),
    TSS = const segment::TSS,
    TSS_TYPE = const TSS_TYPE,
    NOT_BUSY = const !2u8,
    HOST_DS = const HOST_DS,
    NO_USER_PAGES = const NO_USER_PAGES,
    NOT_WP = const !(Cr0Flags::WRITE_PROTECT.bits() as u32),
    DIRECTORY = const offset_of!(StatePage, directory),
    FAULT_HANDLER = const offset_of!(StatePage, view.fault_handler),
    DATA = const offset_of!(StatePage, view.data),
    KERNEL_ADDRESS = const offset_of!(StatePage, view.kernel_address),
    LOW_MEMORY = const offset_of!(StatePage, view.low_memory),
    WINDOW = const offset_of!(StatePage, view.window),
    LAST_FRAME = const offset_of!(StatePage, view.last_frame),
    ESP1 = const offset_of!(StatePage, tss.esp1),
    SS1 = const offset_of!(StatePage, tss.ss1),
    CALLS_ALLOWED = const offset_of!(StatePage, published.calls_allowed),
    FILL_PAGES = const offset_of!(StatePage, fill_pages),
    CLEAR_BUFFERS = const offset_of!(StatePage, clear_buffers),
    FRAMES = const offset_of!(HostContext, frames),
    DIRECT_MAP = const offset_of!(HostContext, direct_map),
    FRAME_SHIFT = const FRAME_SHIFT,
    FILL_WORDS = const offset_of!(StatePage, published.fill_words),
    FILL_ROOT = const offset_of!(StatePage, published.fill_root),
    FILLED = const offset_of!(StatePage, published) + offset_of!(Published, filled),
    MOST_FILLS = const MOST_FILLS,
    ENTRY_ACCESSED = const Flags::ACCESSED.bits(),
    ENTRY_DIRTY = const Flags::DIRTY.bits(),
    LEAF_MALFORMED = const shadow_tables::REFUSED.bits(),
    LEAF_FLAGS = const PAGE_SIZE as u64 - 1 - shadow_tables::HIDDEN.bits(),
    STACK_PAGES = const offset_of!(StatePage, published.stack_pages),
    RING_NEXT = const offset_of!(StatePage, published.ring_next),
    CALLS_DONE = const offset_of!(StatePage, published.calls),
    RING_CALLS_DONE = const offset_of!(StatePage, published.ring_calls),
    TLS_LOADS = const offset_of!(StatePage, published.tls_loads),
    IDLE_SET_PTES = const offset_of!(StatePage, published.idle_set_ptes),
    LOADS = const offset_of!(StatePage, published.loads),
    LOADED = const offset_of!(StatePage, published) + offset_of!(Published, loaded),
    ROOTS = const offset_of!(StatePage, published) + offset_of!(Published, roots),
    ROOT_SIZE = const size_of::<PublishedRoot>(),
    ROOT_CR3 = const offset_of!(PublishedRoot, cr3),
    ROOT_LINEAR = const offset_of!(PublishedRoot, linear),
    WAYS = const WAYS,
    SET_SIZE = const WAYS * size_of::<PublishedRoot>(),
    HASH_FACTOR = const offset_of!(StatePage, published.hash_factor),
    HASH_SHIFT = const HASH_SHIFT,
    MOST_LOADS = const MOST_LOADS,
    MOST_RING_CALLS = const MOST_RING_CALLS,
    NEW_PGTABLE = const Hypercall::NewPgtable as u32,
    SET_STACK = const Hypercall::SetStack as u32,
    SWITCH_TO = const Hypercall::SwitchTo as u32,
    SET_PTE = const Hypercall::SetPte as u32,
    KEPT = const shadow_tables::KEPT.bits(),
    BY_CALL = const FilledInSwitcher::BY_CALL,
    CLEARED = const FilledInSwitcher::CLEARED,
    ROOT_WORD = const FilledInSwitcher::ROOT,
    LOAD_TLS = const Hypercall::LoadTls as u32,
    FLUSH_ASYNC = const Hypercall::FlushAsync as u32,
    ARG_A = const offset_of!(HypercallArgs, args),
    ARG_B = const offset_of!(HypercallArgs, args) + 4,
    ARG_C = const offset_of!(HypercallArgs, args) + 8,
    RING_DONE = const lguest_data::RING_DONE as i8,
    RING_STATUS = const lguest_data::ring_status(0),
    RING_CALLS = const lguest_data::ring_call(0),
    RING_MASK = const lguest_data::RING_SIZE - 1,
    TLS = const segment::index::TLS_MIN * size_of::<segment::Descriptor>(),
    TLS_SIZE = const TLS_SIZE,
    SCRATCH = const 2 * 4 + TLS_SIZE,
    ACCESSED = const ACCESSED,
    USER_SEGMENT = const USER_SEGMENT,
    WP = const Cr0Flags::WRITE_PROTECT.bits() as u32,
    NO_ADDRESS = const NO_ADDRESS as i32,
    HYPERCALL_VECTOR = const trap::HYPERCALL,
    HYPERCALL_MISSED = const trap::HYPERCALL_MISSED,
    EVENTS_ONLY = const trap::EVENTS_ONLY,
    REFLECTED = const offset_of!(VcpuPages, registers.reflected),
    LAST_REFLECTED = const offset_of!(VcpuPages, registers.last_reflected),
    KERNEL_FAULTS = const offset_of!(VcpuPages, registers.kernel_faults),
    MOST_KERNEL_FAULTS = const kernel_view::MOST_KERNEL_FAULTS,
    ERRCODE = const offset_of!(Regs, errcode),
    CS = const offset_of!(Regs, cs),
    EFLAGS = const offset_of!(Regs, eflags),
    ESP = const offset_of!(Regs, esp),
    IRQ_ENABLED = const lguest_data::offset::IRQ_ENABLED,
    IRQ_PENDING = const lguest_data::offset::IRQ_PENDING,
    GUEST_CR2 = const lguest_data::offset::CR2,
    INTERRUPT_FLAG = const lguest_data::IRQ_ENABLED,
    HANDLER_FLAGS = const (GUEST_FLAGS | FIXED_FLAGS) & !(RFlags::TRAP_FLAG.bits() as u32),
    GUEST_CS = const segment::GUEST_CS,
    FRAME_SIZE = const kernel_view::FRAME_SIZE,
    KERNEL_FRAME_SIZE = const kernel_view::KERNEL_FRAME_SIZE,
    WRITE = const PageFaultErrorCode::CAUSED_BY_WRITE.bits(),
    PRESENT = const Flags::PRESENT.bits(),
    USER = const Flags::USER_ACCESSIBLE.bits(),
    MALFORMED = const !TwoLevel::ROOT_FLAGS.bits() & (PAGE_SIZE as u64 - 1),
    FRAME_MASK = const !(PAGE_SIZE - 1),
    PAGE_SHIFT = const PAGE_SHIFT,
    MALFORMED_ROOT = const !Pae::ROOT_FLAGS.bits() & (PAGE_SIZE as u64 - 1),
    TWO_LEVEL_SPAN = const TwoLevel::LEAF_SPAN.trailing_zeros(),
    TWO_LEVEL_LAST = const TwoLevel::ENTRIES - 1,
    TWO_LEVEL_ENTRY = const TwoLevel::ENTRY_SIZE,
    PAE_SPAN = const Pae::LEAF_SPAN.trailing_zeros(),
    PAE_LAST = const Pae::ENTRIES - 1,
    PAE_ROOT_SPAN = const u32::BITS - Pae::ROOT_ENTRIES.trailing_zeros(),
    MIDDLE_ORIGINS = const shadow_tables::MIDDLE_ORIGINS,
    UNCLAIMED = const shadow_tables::UNCLAIMED,
    NO_EXECUTE = const offset_of!(StatePage, no_execute),
    ENTRY_SIZE = const offset_of!(StatePage, view.entry_size),
    FETCH = const PageFaultErrorCode::INSTRUCTION_FETCH.bits(),
    PF_VECTOR = const trap::PAGE_FAULT,
    NMI_VECTOR = const trap::NMI,
    MC_VECTOR = const trap::MACHINE_CHECK,
    MACHINE_CHECK_EVENT = const 1 << MACHINE_CHECKS_SHIFT,
    VIRTUAL_8086 = const RFlags::VIRTUAL_8086_MODE.bits() as u32,
    IN_SWITCHER = const trap::IN_SWITCHER,
    PAGE_SIZE = const PAGE_SIZE,
    PLANTED_SEGMENT_FAULT = const cfg!(feature = "plant-segment-fault") as u32,
    options(att_syntax),
);

/// Calls of the ring that are done with a call in registers. More come with none that is only a switch.
const MOST_RING_CALLS: u32 = 4;

/// Bytes of the descriptors that LOAD_TLS names.
const TLS_SIZE: usize = segment::index::TLS_ENTRIES * size_of::<segment::Descriptor>();

/// In a descriptor's high word, the bit that the processor sets when it loads the segment, and those of a present code
/// or data segment of ring 3 (SDM vol. 3A, 3.4.5).
const ACCESSED: u32 = segment::Descriptor { low: 0, high: 0 }.with_accessed().high;
const USER_SEGMENT: u32 = 0xf000;

const _: () = {
    // A call of the ring is found by its number times five words, and the one in the frame has the same layout.
    assert!(size_of::<HypercallArgs>() == 5 * 4);
    assert!(offset_of!(Regs, eax) == 0 && offset_of!(Regs, ebx) == offset_of!(HypercallArgs, args));
    assert!(offset_of!(Regs, ecx) == 8 && offset_of!(Regs, edx) == 12);
    assert!(lguest_data::RING_SIZE.is_power_of_two());
    // What an access needs and an entry allows, and what is known of a frame, are the same bits.
    assert!(PageFaultErrorCode::CAUSED_BY_WRITE.bits() == Flags::WRITABLE.bits());
    assert!(PageFaultErrorCode::USER_MODE.bits() == Flags::USER_ACCESSIBLE.bits());
    assert!(FRAME_KNOWN as u64 == Flags::PRESENT.bits() && FRAME_WRITABLE as u64 == Flags::WRITABLE.bits());
    assert!(size_of::<FilledInSwitcher>() == 4);
    assert!(offset_of!(PublishedRoot, directory) == 0 && size_of::<GuestPhys>() == 4);
};

/// SMEP and SMAP (SDM vol. 3A, 2.5).
const NO_USER_PAGES: u32 = (Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION.bits()
    | Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION.bits()) as u32;

unsafe extern "C" {
    static lguest_switcher_two_level_start: u8;
    static lguest_switcher_two_level_enter: u8;
    static lguest_switcher_pae_start: u8;
    static lguest_switcher_pae_enter: u8;
}

/// The text for shadow tables of one format.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    start: *const u8,
    enter: *const u8,
}

impl Text {
    /// The one for shadow tables of this format.
    #[must_use]
    pub fn of(shadow: Paging) -> Self {
        match shadow {
            Paging::TwoLevel => Self {
                start: &raw const lguest_switcher_two_level_start,
                enter: &raw const lguest_switcher_two_level_enter,
            },
            Paging::Pae => Self {
                start: &raw const lguest_switcher_pae_start,
                enter: &raw const lguest_switcher_pae_enter,
            },
        }
    }

    /// Its bytes, to be copied to the start of the Switcher area.
    #[must_use]
    pub fn bytes(&self) -> &'static [u8] {
        // SAFETY: the label is of a section that the assembly above fills and nobody writes, and a page of it follows.
        unsafe { slice::from_raw_parts(self.start, PAGE_SIZE as usize) }
    }

    /// Selector and address that the host calls, once the text has been copied to `text`.
    #[must_use]
    pub fn entry(&self, text: GuestVirt) -> (u32, GuestVirt) {
        let offset = self.enter.addr() - self.start.addr();
        (LGUEST_CS, GuestVirt(text.0 + offset as u32))
    }
}
