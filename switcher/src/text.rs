//! The Switcher's text: into the guest, and back out.
//!
//! The host copies [`bytes`] to the start of the Switcher area and far-calls [`entry`] there, through
//! [`LGUEST_CS`], with `pushf` before: so the far call's frame is that of an interrupt, and the `iret`
//! that ends everything returns to the host. Nothing here runs where it was linked.
//!
//! # Registers
//! In: `eax` the address of the virtual CPU's state page, `esi` not 0 where the processor's buffers are to be cleared
//! before the guest runs (VERW with a selector in memory: Intel, "Microarchitectural Data Sampling"). Out: `eax` the vector
//! that ended the run, with [`IN_SWITCHER`] added when the Switcher itself faulted; `edx` what came on the way out and waits
//! for the host: NMIs counted in the low half, machine checks in the high half. `ebp`, `ds`, `es`, `fs` and the
//! flags are kept, `gs` is null, all others are not kept. Interrupts must be off, and the LDT empty: `gs` and
//! the LDT are what a process of the host chooses for itself, so their loads may fault and belong to C, where
//! a fault has a fix-up.
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
//! # Page faults of ring 3
//! A page fault that is the guest's own, by its own page tables, is *reflected* here: the frame goes on its kernel's stack,
//! and its handler runs, as if the processor had called it. Neither CR3 nor anything of the host's is loaded. What the
//! shadow tables lack goes to the host.
//!
//! * All is read and written as the guest's kernel could: on the guest's page tables, from its kernel address to the
//!   Switcher's window, with bounds that the host has left on the state page ([`Reflection`]). So what a guest forges, or
//!   another processor changes meanwhile, can harm this guest only. Each word is read once.
//! * Whatever is not plain becomes the ordinary exit, with all registers and CR2 as they were at the fault: an entry that
//!   allows the access, or that the host kills for, or is out of reach; an interrupt that waits; a second fault at one
//!   address, which means that what looks like page tables is none.
//! * An access to the guest's memory may fault itself, for the shadow tables may lack it. That fault is distinguished by
//!   the address of the instruction, its frame is dropped, and the exit is the first fault's.
//! * The guest's interrupt flag is cleared last. Up to that store everything can be repeated, after it the guest is in its
//!   handler.
//!
//! # NMIs and machine checks
//! One that interrupts the guest is an exit like any other, and the host runs its handler at once. One that
//! interrupts the Switcher is distinguished from a fault by its vector, and treated by where it came:
//!
//! * On the way in it becomes an exit: the guest is not entered, for the host may wait for this processor (a
//!   machine check gathers all of them). Up to the last `iret` the guest's registers still lie in their frame,
//!   which is simply left there; at that `iret` they are all loaded, and the stack is what it would be had the
//!   event come at the guest's first instruction, so the event's own stub is run again as if it had.
//! * In a reflection, it is counted as on the way out, and the reflection is given up: the exit is the page fault's. When
//!   the reflection is done, but for its last instructions, the exit is the event's, with the guest in its handler.
//! * On the way out, which may carry an interrupt that the host must not lose, it is counted in the state
//!   page, and the Switcher goes on. On the guest's page tables that page is read-only even to ring 0, so
//!   CR0.WP is cleared for the one store; events are rare enough for that.
//!
//! In all cases the handler ends by `iret`, which lets the next NMI in. It may itself be interrupted by the
//! other kind of event, which is counted. `eax` holds the state page whenever the stack is the host's;
//! otherwise it is found by the stack.
//!
//! [`Reflection`]: arch_i386::reflection::Reflection
//! [`IN_SWITCHER`]: arch_i386::trap::IN_SWITCHER

use crate::state::{
    FIXED_FLAGS, FRAME, GUEST_FLAGS, HostContext, MACHINE_CHECKS_SHIFT, STUB_SIZE, StatePage, TableRegister,
    VcpuPages,
};
use arch_i386::addr::{GuestVirt, PAGE_SHIFT, PAGE_SIZE};
use arch_i386::paging::{Flags, PageFormat, TwoLevel};
use arch_i386::regs::Regs;
use arch_i386::segment::{self, LGUEST_CS};
use arch_i386::trap::{self, PageFaultErrorCode, has_error_code};
use arch_i386::{RFlags, lguest_data, reflection};
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
    .balign 16
    .globl lguest_switcher_start
lguest_switcher_start:

    // One entry point for each vector. `push imm8` sign-extends; only the low byte is looked at.
    .set lguest_vector, 0
    .rept 256
    .balign {STUB_SIZE}
    .byte 0x6a, lguest_vector
    .if lguest_vector == {PF_VECTOR}
    jmp lguest_switcher_page_fault
    .elseif (lguest_vector < 32) && (({ERROR_CODES} >> (lguest_vector & 31)) & 1)
    jmp lguest_switcher_exit
    .else
    jmp lguest_switcher_exit_without_code
    .endif
    .set lguest_vector, lguest_vector + 1
    .endr

    // ------------------------------------------------------------------ into the guest
    .globl lguest_switcher_enter
lguest_switcher_enter:
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
lguest_switcher_entering:
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
    movl {EBX}(%esp), %ebx
    movl {ECX}(%esp), %ecx
    movl {EDX}(%esp), %edx
    movl {ESI}(%esp), %esi
    movl {EDI}(%esp), %edi
    movl {EBP}(%esp), %ebp
    movl {EAX}(%esp), %eax
    addl ${EIP}, %esp
lguest_switcher_entered:
    iretl

    // ------------------------------------------------------------------ back to the host
lguest_switcher_exit_without_code:
    pushl (%esp)
    movl $0, 4(%esp)
    // The stack: vector, error code, eip, cs, eflags, and from an outer ring esp and ss.
    testb $3, 12(%esp)
    jnz lguest_switcher_save
    jmp lguest_switcher_inside

lguest_switcher_exit:
    testb $3, 12(%esp)
    jz lguest_switcher_inside
    testl $4, %esp
    jnz lguest_switcher_save
    // By `int`: there is no error code. (What was tested above was eflags, where bit 1 is set.)
    pushl (%esp)
    movl $0, 4(%esp)

lguest_switcher_save:
    // From virtual-8086 mode, whose frames are four words longer. A processor enters it from ring 0 only, but QEMU
    // 7.2 by an `iret` of the guest's kernel, too. Such a guest has to go, like one that faults in here.
    testl ${VIRTUAL_8086}, 16(%esp)
    jnz lguest_switcher_fault
    pushl %es
    pushl %ds
    pushl %fs
    pushl %gs
    pushl %ebp
    pushl %edi
    pushl %esi
    pushl %edx
    pushl %ecx
    pushl %ebx
    pushl %eax
    leal -{FRAME}(%esp), %eax
    movzbl {TRAPNUM}(%esp), %ebx

    // eax: the state page, ebx: what to return. The data segments are the guest's still.
lguest_switcher_leave:
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

    // ------------------------------------------------------------------ a page fault of ring 3, reflected
lguest_switcher_page_fault:
    // The stack: vector, error code, eip, cs, eflags, esp, ss. Only an access of ring 3 itself is marked as a user's.
    testb ${USER_MODE}, 4(%esp)
    jz lguest_switcher_other_page_fault
    testl ${VIRTUAL_8086}, 16(%esp)
    jnz lguest_switcher_save
    pushl %ebp
    pushl %eax
    pushl %ecx
    pushl %edx
    leal -{SAVED}(%esp), %ebp
    // ebp: the state page. From here on everything can be given up, by a jump to `unreflected`, up to the one store that
    // turns the guest's interrupts off. Instructions that touch the guest's memory may fault.
lguest_switcher_reflecting:
    cmpl $0, {EVENTS}(%ebp)
    jne lguest_switcher_unreflected
    movl {DIRECTORY}(%ebp), %edx
    testl %edx, %edx
    jz lguest_switcher_unreflected
    movl %cr2, %eax
    pushl %eax
    // Was it reflected just now? Then its entry is there by now, or what is looked at below are not the guest's tables.
    cmpl {LAST_REFLECTED}(%ebp), %eax
    je lguest_switcher_unreflected

    // The guest's tables. An entry that the host has to judge, or to fill, is the host's.
    movl %eax, %ecx
    shrl ${ROOT_SHIFT}, %ecx
    movl %ss:(%edx,%ecx,4), %edx
    testb ${PRESENT}, %dl
    jz lguest_switcher_reflect
    testl ${MALFORMED}, %edx
    jnz lguest_switcher_unreflected
    cmpl {LOW_MEMORY}(%ebp), %edx
    jae lguest_switcher_unreflected
    andl ${FRAME_MASK}, %edx
    addl {KERNEL_ADDRESS}(%ebp), %edx
    shrl ${PAGE_SHIFT}, %eax
    andl ${LEAF_MASK}, %eax
    // What the access needs of the entry, and the entry lacks.
    movl {FRAME}+{ERRCODE}(%ebp), %ecx
    andl ${WRITE}, %ecx
    orl ${PRESENT}|{USER}, %ecx
    movl %ss:(%edx,%eax,4), %edx
    notl %edx
    testl %ecx, %edx
    jz lguest_switcher_unreflected

    // The guest's own fault. ecx: its frame on the kernel's stack; edx: the shared page.
lguest_switcher_reflect:
    movl {ESP1}(%ebp), %ecx
    subl ${FRAME_SIZE}, %ecx
    movl %ecx, %eax
    subl {KERNEL_ADDRESS}(%ebp), %eax
    cmpl {LAST_FRAME}(%ebp), %eax
    ja lguest_switcher_unreflected
    movl {DATA}(%ebp), %edx
    // An interrupt that waits is for the host to deliver.
    cmpl $0, %ss:{IRQ_PENDING}(%edx)
    jne lguest_switcher_unreflected
    // How the guest goes on, for the iret. Its interrupt flag is really on, always.
    pushl {SS1}(%ebp)
    pushl %ecx
    pushl {FRAME}+{EFLAGS}(%ebp)
    andl ${HANDLER_FLAGS}, (%esp)
    pushl ${GUEST_CS}
    pushl {HANDLER}(%ebp)
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
    movl {FRAME}+{ESP}(%ebp), %eax
    movl %eax, %ss:16(%ecx)
    movl {FRAME}+{SS}(%ebp), %eax
    movl %eax, %ss:20(%ecx)
    movl {SAVED_CR2}(%ebp), %eax
    movl %eax, %ss:{GUEST_CR2}(%edx)
    movl %eax, {LAST_REFLECTED}(%ebp)
    incl {REFLECTED}(%ebp)
    movl {KEPT_EAX}(%esp), %eax
    movl {KEPT_ECX}(%esp), %ecx
    movl $0, %ss:{IRQ_ENABLED}(%edx)
    // Done: the guest is in its handler.
lguest_switcher_reflected:
    movl {KEPT_EDX}(%esp), %edx
    movl {KEPT_EBP}(%esp), %ebp
    iretl

    // An event came before that iret: the guest is left in its handler. Its registers go to where a trap would have them.
lguest_switcher_reflected_event:
    movl {KEPT_EDX}(%esp), %edx
    movl {KEPT_EBP}(%esp), %ebp
    pushl 16(%esp)
    popl {KEPT}+{SS}(%esp)
    pushl 12(%esp)
    popl {KEPT}+{ESP}(%esp)
    pushl 8(%esp)
    popl {KEPT}+{EFLAGS}(%esp)
    pushl 4(%esp)
    popl {KEPT}+{CS}(%esp)
    pushl (%esp)
    popl {KEPT}+{EIP}(%esp)
    movl $0, {KEPT}+{ERRCODE}(%esp)
    addl ${KEPT}+{TRAPNUM}, %esp
    jmp lguest_switcher_save

    // Not by an access of ring 3: of ring 1, or of the processor on the guest's behalf, or in here.
lguest_switcher_other_page_fault:
    testb $3, 12(%esp)
    jnz lguest_switcher_exit
    call 7f
7:  popl %ecx
    movl 8(%esp), %edx
    subl %ecx, %edx
    subl $(lguest_switcher_reflecting - 7b), %edx
    cmpl $(lguest_switcher_reflected - lguest_switcher_reflecting), %edx
    jae lguest_switcher_fault
    // A page of the guest's is missing. Its own fault goes to the host, as it was.
    movl {SAVED_CR2}(%ebp), %eax
    movl %eax, %cr2
lguest_switcher_unreflected:
    leal {SAVED}(%ebp), %esp
    popl %edx
    popl %ecx
    popl %eax
    popl %ebp
    jmp lguest_switcher_save

    // ------------------------------------------------------------------ faults and events in here
lguest_switcher_inside:
    cmpb ${NMI_VECTOR}, (%esp)
    je lguest_switcher_event
    cmpb ${MC_VECTOR}, (%esp)
    je lguest_switcher_event
lguest_switcher_fault:
    movzbl (%esp), %ebx
    orl ${IN_SWITCHER}, %ebx
    // Only what is the guest's can fault, and that is loaded on its register page.
    movl %esp, %eax
    andl $-{PAGE_SIZE}, %eax
    subl ${PAGE_SIZE}, %eax
    jmp lguest_switcher_leave

    // The stack: vector, 0, eip, cs, eflags of the Switcher.
lguest_switcher_event:
    pushl %eax
    pushl %ecx
    pushl %edx
    call 3f
3:  popl %ecx
    movl 20(%esp), %edx
    subl %ecx, %edx
    subl $(lguest_switcher_entering - 3b), %edx
    cmpl $(lguest_switcher_entered - lguest_switcher_entering), %edx
    je lguest_switcher_event_entered
    pushfl
    // The host's stacks are all below the Switcher area, the register pages above its text.
    cmpl %ecx, %esp
    jb 4f
    movl %esp, %eax
    andl $-{PAGE_SIZE}, %eax
    subl ${PAGE_SIZE}, %eax
4:  popfl
    jb lguest_switcher_event_entering

    // While a page fault is reflected: gives that up, and goes out. When it has been, the guest is in its handler.
    subl $(lguest_switcher_reflecting - lguest_switcher_entering), %edx
    cmpl $(lguest_switcher_reflected_event - lguest_switcher_reflecting), %edx
    jae 9f
    cmpl $(lguest_switcher_reflected - lguest_switcher_reflecting), %edx
    jae lguest_switcher_event_reflected
    leal (lguest_switcher_unreflected - 3b)(%ecx), %edx
    movl %edx, 20(%esp)

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

    // On the way in: from here to the way out, by iret. The guest's registers are in their frame.
lguest_switcher_event_entering:
    movzbl 12(%esp), %ebx
    leal (lguest_switcher_leave - 3b)(%ecx), %edx
    movl %edx, 20(%esp)
    addl $20, %esp
    iretl

    // At the last iret: from here to the stub, by iret. The guest's registers are where it left them.
lguest_switcher_event_entered:
    movzbl 12(%esp), %edx
    leal (lguest_switcher_start - 3b)(%ecx,%edx,{STUB_SIZE}), %edx
8:  movl %edx, 20(%esp)
    popl %edx
    popl %ecx
    popl %eax
    addl $8, %esp
    iretl

    // At the end of a reflection: as at the last iret, but the guest's registers still lie apart. The number of the event
    // goes to where its stub would push it; below are what was saved, this handler's frame, and its registers.
lguest_switcher_event_reflected:
    movzbl 12(%esp), %edx
    movl %edx, 32+{KEPT}+{TRAPNUM}(%esp)
    leal (lguest_switcher_reflected_event - 3b)(%ecx), %edx
    jmp 8b

    // One page; an error here means that it has grown too long.
    .org lguest_switcher_start + {PAGE_SIZE}, 0xcc
    .globl lguest_switcher_end
lguest_switcher_end:
    .popsection
"#,
    STUB_SIZE = const STUB_SIZE,
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
    HANDLER = const offset_of!(StatePage, reflection.handler),
    DATA = const offset_of!(StatePage, reflection.data),
    KERNEL_ADDRESS = const offset_of!(StatePage, reflection.kernel_address),
    LOW_MEMORY = const offset_of!(StatePage, reflection.low_memory),
    LAST_FRAME = const offset_of!(StatePage, reflection.last_frame),
    ESP1 = const offset_of!(StatePage, tss.esp1),
    SS1 = const offset_of!(StatePage, tss.ss1),
    REFLECTED = const offset_of!(VcpuPages, registers.reflected),
    LAST_REFLECTED = const offset_of!(VcpuPages, registers.last_reflected),
    SAVED = const SAVED,
    SAVED_CR2 = const SAVED - 4,
    KEPT = const KEPT,
    KEPT_EDX = const IRET_FRAME + 4,
    KEPT_ECX = const IRET_FRAME + 8,
    KEPT_EAX = const IRET_FRAME + 12,
    KEPT_EBP = const IRET_FRAME + 16,
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
    FRAME_SIZE = const reflection::FRAME_SIZE,
    USER_MODE = const PageFaultErrorCode::USER_MODE.bits(),
    WRITE = const PageFaultErrorCode::CAUSED_BY_WRITE.bits(),
    PRESENT = const Flags::PRESENT.bits(),
    USER = const Flags::USER_ACCESSIBLE.bits(),
    MALFORMED = const !TwoLevel::ROOT_FLAGS.bits() & (PAGE_SIZE as u64 - 1),
    FRAME_MASK = const !(PAGE_SIZE - 1),
    PAGE_SHIFT = const PAGE_SHIFT,
    ROOT_SHIFT = const TwoLevel::LEAF_SPAN.trailing_zeros(),
    LEAF_MASK = const TwoLevel::ENTRIES - 1,
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

/// Offset of the four registers that a reflection saves, from the start of the virtual CPU: below the frame of the fault.
const SAVED: u32 = FRAME + offset_of!(Regs, trapnum) as u32 - 4 * 4;

/// Bytes of the frame from which a reflection enters the guest. CR2 is between it and what is saved.
const IRET_FRAME: u32 = 5 * 4;

/// Offset of the guest's register frame from the frame from which a reflection enters the guest.
const KEPT: i32 = FRAME as i32 - (SAVED - 4 - IRET_FRAME) as i32;

/// SMEP and SMAP (SDM vol. 3A, 2.5).
const NO_USER_PAGES: u32 = (Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION.bits()
    | Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION.bits()) as u32;

unsafe extern "C" {
    static lguest_switcher_start: u8;
    static lguest_switcher_enter: u8;
    static lguest_switcher_end: u8;
}

/// The text, to be copied to the start of the Switcher area.
#[must_use]
pub fn bytes() -> &'static [u8] {
    let (start, end) = (&raw const lguest_switcher_start, &raw const lguest_switcher_end);
    // SAFETY: both labels are of one section that the assembly above fills and nobody writes; all of it
    // is between them.
    unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Selector and address that the host calls, once the text has been copied to `text`.
#[must_use]
pub fn entry(text: GuestVirt) -> (u32, GuestVirt) {
    let offset = (&raw const lguest_switcher_enter).addr() - (&raw const lguest_switcher_start).addr();
    (LGUEST_CS, GuestVirt(text.0 + offset as u32))
}
