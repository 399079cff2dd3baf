//! The Switcher's text: into the guest, and back out.
//!
//! The host copies [`bytes`] to the start of the Switcher area and far-calls [`entry`] there, through
//! [`LGUEST_CS`], with `pushf` before: so the far call's frame is that of an interrupt, and the `iret`
//! that ends everything returns to the host. Nothing here runs where it was linked.
//!
//! # Registers
//! In: `eax` the address of the slot's state page. Out: `eax` the vector that ended the run, with
//! [`IN_SWITCHER`] added when the Switcher itself faulted; `edx` 1 when an NMI waits for the host, else
//! 0. `ebp`, the segment registers and the flags are kept, all others are not. Interrupts must be off.
//!
//! # The order of things
//! Whatever moment an NMI chooses, it must find an IDT whose handler can run, a code segment that its
//! `iret` can return to, and a stack.
//!
//! * The Switcher runs on a code segment of its own, the same in the host's GDT and in every guest's.
//!   On the host's code segment an NMI's `iret` would fault as soon as the guest's GDT is loaded.
//! * Going in, the guest's IDT comes first: before, NMIs are the host's, on the host's stack and tables;
//!   after, they are noted by a handler that needs nothing of the host.
//! * The host's TSS is marked available while it can be written, that is on the host's page tables, and
//!   the guest's likewise on the way back; `ltr` refuses a busy one.
//! * Coming back, page tables are first, since only they make the rest reachable, and the host's IDT is
//!   last, when everything that the host's handlers rely on is back.
//! * The LDT is emptied for the guest: the launcher's is not for it. It is back before `%gs`, which may
//!   name a segment in it.
//! * SMEP and SMAP would stop ring 1 from using pages of ring 3; both are off while the guest runs.
//!
//! # Faults in the Switcher
//! Popping the guest's segment registers, or the last `iret`, faults when the guest has left something
//! that cannot be loaded. The stub sees ring 0 in the stacked CS (the guest is in ring 1 or 3) and goes
//! home with [`IN_SWITCHER`]; the guest's registers are lost, and its life is over. The vector is
//! returned in a register, not in memory that such a fault, or the guest, may overwrite. A machine check
//! that comes here ends the same way: the host hears of it, the guest does not go on.
//!
//! # Software interrupts
//! `int n` pushes no error code, whatever the vector. Where the guest's gate for a vector with an error
//! code admits it, a stub that counted on one would save everything a word too low and read the way home
//! from the wrong place. The frame of a trap from an outer ring ends where the page ends, so its start
//! tells whether it is a word short.
//!
//! # NMI
//! One that interrupts the guest is an exit like any other, and the host runs its handler at once. One
//! that interrupts the Switcher sets a flag in the state page, which is returned to the host. On the
//! guest's page tables that page is read-only even to ring 0, so CR0.WP is cleared for the one store;
//! NMIs are rare enough for that. `eax` holds the state page whenever the stack is the host's;
//! otherwise the stack tells where it is.
//!
//! [`IN_SWITCHER`]: arch_i386::trap::IN_SWITCHER

use crate::state::{FRAME, STUB_SIZE, StatePage, TableRegister};
use arch_i386::RFlags;
use arch_i386::addr::{GuestVirt, PAGE_SIZE};
use arch_i386::regs::Regs;
use arch_i386::segment::{self, LGUEST_CS};
use arch_i386::trap::{self, has_error_code};
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
const HOST_DS: usize = segment::slot::KERNEL_DS * size_of::<segment::Descriptor>();

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
    .if (lguest_vector < 32) && (({ERROR_CODES} >> (lguest_vector & 31)) & 1)
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
    pushl %gs
    pushl %ebp
    movl %esp, {HOST_ESP}(%eax)
    sgdtl {HOST_GDTR}(%eax)
    sidtl {HOST_IDTR}(%eax)
    sldtw {HOST_LDT}(%eax)
    movl %cr3, %ecx
    movl %ecx, {HOST_CR3}(%eax)
    movl %cr4, %edx
    movl %edx, {HOST_CR4}(%eax)

    lidtl {GUEST_IDTR}(%eax)
    leal {FRAME}(%eax), %esp
    lgdtl {GUEST_GDTR}(%eax)
    xorl %ebx, %ebx
    lldtw %bx
    movl ${TSS}, %ebx
    ltrw %bx
    movl {HOST_GDTR_BASE}(%eax), %ebx
    andb ${NOT_BUSY}, {TSS_TYPE}(%ebx)
    testl ${NO_USER_PAGES}, %edx
    jz 1f
    andl $~{NO_USER_PAGES}, %edx
    movl %edx, %cr4
1:  movl {GUEST_CR3}(%eax), %ecx
    movl %ecx, %cr3

    // The guest's page tables map the registers here, writable: only pops and pushes from now on.
    popl %eax
    popl %ebx
    popl %ecx
    popl %edx
    popl %esi
    popl %edi
    popl %ebp
    popl %gs
    popl %fs
    popl %ds
    popl %es
    addl $8, %esp
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
    jnz lguest_switcher_inside
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
    testl ${NO_USER_PAGES}, %ss:{HOST_CR4}(%eax)
    jz 2f
    movl %ss:{HOST_CR4}(%eax), %edx
    movl %edx, %cr4
2:  andb ${NOT_BUSY}, %ss:{GUEST_GDT}+{TSS_TYPE}(%eax)
    lgdtl %ss:{HOST_GDTR}(%eax)
    movl ${TSS}, %edx
    ltrw %dx
    lldtw %ss:{HOST_LDT}(%eax)
    movl ${HOST_DS}, %edx
    movl %edx, %ss
    movl %ss:{HOST_ESP}(%eax), %esp
    popl %ebp
    popl %gs
    popl %fs
    popl %ds
    popl %es
    lidtl {HOST_IDTR}(%eax)
    xorl %edx, %edx
    xchgl %edx, {NMI}(%eax)
    movl %ebx, %eax
    iretl

    // ------------------------------------------------------------------ faults and NMIs in here
lguest_switcher_inside:
    cmpb ${NMI_VECTOR}, (%esp)
    je lguest_switcher_nmi
    movzbl (%esp), %ebx
    orl ${IN_SWITCHER}, %ebx
    movl %esp, %eax
    andl $-{PAGE_SIZE}, %eax
    subl ${PAGE_SIZE}, %eax
    jmp lguest_switcher_leave

    // The host's stacks are all below the Switcher area, the register pages above its text.
lguest_switcher_nmi:
    movl %eax, (%esp)
    movl %ecx, 4(%esp)
    call 3f
3:  popl %ecx
    cmpl %ecx, %esp
    jb 4f
    movl %esp, %eax
    andl $-{PAGE_SIZE}, %eax
    subl ${PAGE_SIZE}, %eax
4:  movl %cr0, %ecx
    pushl %ecx
    andl ${NOT_WP}, %ecx
    movl %ecx, %cr0
    movl $1, %ss:{NMI}(%eax)
    popl %ecx
    movl %ecx, %cr0
    popl %eax
    popl %ecx
    iretl

    // One page; an error here means that it has grown too long.
    .org lguest_switcher_start + {PAGE_SIZE}, 0xcc
    .globl lguest_switcher_end
lguest_switcher_end:
    .popsection
"#,
    STUB_SIZE = const STUB_SIZE,
    ERROR_CODES = const ERROR_CODES,
    HOST_ESP = const offset_of!(StatePage, host_esp),
    HOST_GDTR = const offset_of!(StatePage, host_gdtr),
    HOST_GDTR_BASE = const offset_of!(StatePage, host_gdtr) + offset_of!(TableRegister, base),
    HOST_IDTR = const offset_of!(StatePage, host_idtr),
    HOST_LDT = const offset_of!(StatePage, host_ldt),
    HOST_CR3 = const offset_of!(StatePage, host_cr3),
    HOST_CR4 = const offset_of!(StatePage, host_cr4),
    GUEST_CR3 = const offset_of!(StatePage, guest_cr3),
    GUEST_IDTR = const offset_of!(StatePage, guest_idtr),
    GUEST_GDTR = const offset_of!(StatePage, guest_gdtr),
    GUEST_GDT = const StatePage::GDT,
    NMI = const offset_of!(StatePage, nmi),
    FRAME = const FRAME,
    TRAPNUM = const offset_of!(Regs, trapnum),
    TSS = const segment::TSS,
    TSS_TYPE = const TSS_TYPE,
    NOT_BUSY = const !2u8,
    HOST_DS = const HOST_DS,
    NO_USER_PAGES = const NO_USER_PAGES,
    NOT_WP = const !(Cr0Flags::WRITE_PROTECT.bits() as u32),
    NMI_VECTOR = const trap::NMI,
    VIRTUAL_8086 = const RFlags::VIRTUAL_8086_MODE.bits() as u32,
    IN_SWITCHER = const trap::IN_SWITCHER,
    PAGE_SIZE = const PAGE_SIZE,
    options(att_syntax),
);

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
