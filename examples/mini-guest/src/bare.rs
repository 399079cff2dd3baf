//! The bare machine in the host's place: what `cargo xtask bench` calls native.
//!
//! The same kernel that is a guest starts by the Multiboot protocol too (version 0.6.96; QEMU's `-kernel`), and
//! then runs in ring 0 without a host. In the place of each hypercall, [`call`] does the work of the host
//! with the processor's own means. So the two do the same work but for the host's part in it, which is what the
//! comparison is about.
//!
//! Only what the workloads need is here: the tests prove things about a host, and there is none.
//!
//! | requested of the host | done here |
//! | --- | --- |
//! | `NEW_PGTABLE`, `FLUSH_TLB` | load CR3 |
//! | `SET_PTE` | `invlpg`, if the page directory is the current one |
//! | `SET_PGD`, `SET_PMD` | load CR3 again, if what changed may be current |
//! | `SET_STACK` | the TSS's stack for ring 0 |
//! | `LOAD_GDT_ENTRY`, `LOAD_TLS`, `LOAD_IDT_ENTRY` | the tables below |
//! | `TS` | CR0.TS |
//! | `SET_CLOCKEVENT` | the interval timer, once |
//! | `HALT` | `sti; hlt` |
//! | `NOTIFY` | the second serial line |
//! | `SHUTDOWN` | the last word, then a reset |

use crate::host;
use arch_i386::addr::{GuestPhys, GuestVirt};
use arch_i386::hypercall::Hypercall;
use arch_i386::segment::{Descriptor, GDT_ENTRIES, GUEST_DS, IDT_ENTRIES, LGUEST_CS, LGUEST_DS, TSS, index};
use arch_i386::trap;
use core::arch::{asm, global_asm};
use mini_guest::layout::{KERNEL_BASE, phys_to_virt};

/// What EAX holds when a Multiboot loader starts a kernel.
pub const MULTIBOOT_LOADED: u32 = 0x2bad_b002;
/// The number by which a loader identifies a kernel's Multiboot header.
const MULTIBOOT_MAGIC: u32 = 0x1bad_b002;

/// The first address that is not the kernel's: the host's in a guest, nobody's here.
pub const RESERVED_FROM: u32 = 0xffc0_0000;

global_asm!(
    r#"
    // The header: magic, flags (none: the ELF file has all), and what makes their sum zero.
    .section .text.multiboot, "ax", @progbits
    .balign 4
    .long   {magic}, 0, -{magic}

    .section .data
    .balign 4
    .globl  bare_machine
bare_machine:
    .long   0

    .section .text.boot
    // ebx = the Multiboot information. What the launcher leaves for a guest (Linux's boot parameters at 0, the
    // command line behind) is made of it, as the memory that it lies in will be used.
    .globl  start_bare
start_bare:
    cld
    incl    bare_machine - {base}
    movl    $1, 0x1e8
    movl    $0, 0x2d0
    movl    $0, 0x2d4
    movl    8(%ebx), %eax
    addl    $1024, %eax
    shll    $10, %eax
    movl    %eax, 0x2d8
    movl    $0, 0x2dc
    movl    $1, 0x2e0
    movl    $0, 0x218
    movl    $4096, 0x228
    movl    16(%ebx), %esi
    // Its first word is the kernel's file.
1:  lodsb
    cmpb    $32, %al
    ja      1b
    movl    $4096, %edi
    movl    $1024, %ecx
    testb   %al, %al
    jz      3f
2:  lodsb
    stosb
    testb   %al, %al
    loopnz  2b
3:  movb    $0, (%edi)

    lgdt    early_gdt_pointer - {base}
    ljmp    ${early_cs}, $4f - {base}
4:  movl    ${early_ds}, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    xorl    %eax, %eax
    movl    %eax, %fs
    movl    %eax, %gs
    xorl    %esi, %esi
    jmp     find_format

    // Loads the page tables at ebx, of entries of ebp bytes, and turns paging on.
    .globl  load_bare_tables
load_bare_tables:
    cmpl    $8, %ebp
    jne     1f
    movl    %cr4, %eax
    orl     ${cr4_pae}, %eax
    movl    %eax, %cr4
1:  movl    %ebx, %cr3
    movl    %cr0, %eax
    andl    ${cr0_clear}, %eax
    orl     ${cr0_set}, %eax
    movl    %eax, %cr0
    jmp     tables_loaded

    .balign 8
early_gdt:
    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
early_gdt_pointer:
    .word   . - early_gdt - 1
    .long   early_gdt - {base}
    .text
    "#,
    magic = const MULTIBOOT_MAGIC,
    base = const KERNEL_BASE,
    early_cs = const 8,
    early_ds = const 16,
    cr4_pae = const 1 << 5,
    // Off: EM, so that there is an FPU, and TS. On: PG, WP, so that the kernel's writes make copies too, NE, MP.
    cr0_clear = const !(1 << 2 | 1 << 3),
    cr0_set = const 1_u32 << 31 | 1 << 16 | 1 << 5 | 1 << 1,
    options(att_syntax),
);

unsafe extern "C" {
    /// Not zero without a host.
    static bare_machine: u32;
}

/// Whether there is no host.
pub fn running() -> bool {
    // SAFETY: written once, before any Rust code runs.
    unsafe { (&raw const bare_machine).read_volatile() != 0 }
}

/// The processor's tables, and what it pushes the kernel's registers on.
struct Tables {
    gdt: [Descriptor; GDT_ENTRIES],
    idt: [Descriptor; IDT_ENTRIES],
    /// Words of the 32-bit task-state segment (Intel SDM vol. 3A, 7.2.1); 1 and 2 are ESP0 and SS0.
    tss: [u32; 26],
}

static mut TABLES: Tables = Tables {
    gdt: [Descriptor { low: 0, high: 0 }; GDT_ENTRIES],
    idt: [Descriptor { low: 0, high: 0 }; IDT_ENTRIES],
    tss: [0; 26],
};

/// The tables, for one access.
fn tables() -> &'static mut Tables {
    let tables = &raw mut TABLES;
    // SAFETY: one processor, no interrupts while the kernel runs, and no caller keeps the reference.
    unsafe { &mut *tables }
}

/// What LGDT and LIDT read.
#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u32,
}

impl TablePointer {
    fn to<T>(table: &[T]) -> Self {
        Self { limit: (size_of_val(table) - 1) as u16, base: table.as_ptr().expose_provenance() as u32 }
    }
}

/// Takes charge of processor, interrupt controllers and timer; paging is on already.
pub fn take_over() {
    let tables = tables();
    tables.gdt[index::LGUEST_CS] = Descriptor::FLAT_CODE;
    tables.gdt[index::LGUEST_DS] = Descriptor::FLAT_DATA;
    let base = tables.tss.as_ptr().expose_provenance() as u32;
    tables.gdt[index::TSS] = Descriptor::tss(base, (size_of_val(&tables.tss) - 1) as u32);
    tables.tss[2] = LGUEST_DS;
    let (gdt, idt) = (TablePointer::to(&tables.gdt), TablePointer::to(&tables.idt));
    // SAFETY: the tables live for ever; the slots used are filled in. The far return reloads CS.
    unsafe {
        asm!(
            "lgdt [{gdt}]",
            "lidt [{idt}]",
            "push {cs}",
            "lea {scratch}, [2f]",
            "push {scratch}",
            "retf",
            "2:",
            "mov ss, {ss:x}",
            "ltr {tss:x}",
            gdt = in(reg) &raw const gdt,
            idt = in(reg) &raw const idt,
            cs = const LGUEST_CS,
            scratch = out(reg) _,
            ss = in(reg) LGUEST_DS,
            tss = in(reg) TSS,
        );
    }
    // The interrupt controllers (Intel 8259A): vectors from 32 on, and only the timer's line open.
    for (port, value) in [
        (0x20, 0x11),
        (0x21, trap::FIRST_EXTERNAL),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0xfe),
        (0xa0, 0x11),
        (0xa1, trap::FIRST_EXTERNAL + 8),
        (0xa1, 2),
        (0xa1, 1),
        (0xa1, 0xff),
    ] {
        output(port, value);
    }
}

/// Does what a host would do for a hypercall.
pub fn call(number: Hypercall, [a, b, c, _]: [u32; 4]) {
    match number {
        Hypercall::NewPgtable => load_root(a),
        Hypercall::FlushTlb | Hypercall::FlushUserOf => load_root(root()),
        Hypercall::SetPte => {
            if a == root() {
                // SAFETY: only makes the processor look the page up again.
                unsafe { asm!("invlpg [{}]", in(reg) b, options(nostack)) };
            }
        }
        Hypercall::SetPgd => {
            if a == root() {
                load_root(a);
            }
        }
        Hypercall::SetPmd => load_root(root()),
        Hypercall::SetStack => tables().tss[1] = b,
        Hypercall::SwitchTo => {
            load_root(a);
            tables().tss[1] = b;
        }
        Hypercall::LoadGdtEntry => load_gdt_entry(a as usize, Descriptor { low: b, high: c }),
        Hypercall::LoadIdtEntry => {
            // Type 14 where a guest has 15: interrupts stay out of the kernel, which in a guest a word does.
            tables().idt[a as usize] = Descriptor { low: b, high: c & !0x100 };
        }
        Hypercall::LoadTls => {
            let GuestVirt(array) = phys_to_virt(GuestPhys(a));
            let array = core::ptr::with_exposed_provenance::<Descriptor>(array as usize);
            for index in 0..index::TLS_ENTRIES {
                // SAFETY: the caller's array of three descriptors.
                tables().gdt[index::TLS_MIN + index] = unsafe { array.add(index).read_volatile() };
            }
        }
        Hypercall::Ts => set_task_switched(a != 0),
        Hypercall::SetClockevent => arm_timer(a),
        // SAFETY: sleeps until the timer's interrupt, whose handler has run when this is over.
        Hypercall::Halt => unsafe { asm!("sti", "hlt") },
        Hypercall::Notify => print(GuestPhys(a)),
        Hypercall::Shutdown => {
            print(GuestPhys(a));
            output(SERIAL, b'\n');
            // The keyboard controller's reset line.
            output(0x64, 0xfe);
        }
        Hypercall::FlushAsync | Hypercall::SendInterrupts | Hypercall::LguestInit => {}
    }
}

fn load_gdt_entry(index: usize, descriptor: Descriptor) {
    let descriptor = match index {
        // These are this module's, as they are the host's in a guest.
        index::LGUEST_CS | index::LGUEST_DS | index::TSS | index::DOUBLE_FAULT_TSS => return,
        // Selectors request ring 1, which data segments of ring 1 take from ring 0 too; code runs in ring 0.
        index::KERNEL_CS => descriptor.with_dpl(0),
        _ => descriptor,
    };
    tables().gdt[index] = descriptor;
    if index == index::KERNEL_DS {
        // SAFETY: the segment that the kernel's code takes to be loaded.
        unsafe { asm!("mov ds, {0:x}", "mov es, {0:x}", in(reg) GUEST_DS, options(nostack)) };
    }
}

/// The current page directory.
fn root() -> u32 {
    let root;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
    root
}

fn load_root(root: u32) {
    // SAFETY: the kernel's tables, which all map the kernel alike.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack)) };
}

fn set_task_switched(on: bool) {
    if on {
        // SAFETY: the next FPU instruction traps, and the kernel is prepared for that.
        unsafe { asm!("mov {0}, cr0", "or {0}, 8", "mov cr0, {0}", out(reg) _, options(nostack)) };
    } else {
        // SAFETY: the kernel has seen to whose numbers the FPU holds.
        unsafe { asm!("clts", options(nostack)) };
    }
}

/// The address of the last page fault.
pub fn fault_address() -> u32 {
    let address;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

/// Lets interrupts in, or keeps them out.
pub fn set_interrupts(on: bool) {
    // SAFETY: handlers are in place from the IDT's first entry on.
    unsafe {
        if on {
            asm!("sti", "nop", options(nostack));
        } else {
            asm!("cli", options(nostack));
        }
    }
}

/// Ticks of the interval timer (Intel 8254) in a second.
const TIMER_HZ: u64 = 1_193_182;

/// Has the timer's interrupt come once, after that many nanoseconds; the last one is over.
fn arm_timer(nanoseconds: u32) {
    let ticks = u64::from(nanoseconds) * TIMER_HZ / 1_000_000_000;
    output(0x20, 0x20);
    // Channel 0, both bytes, mode 0: an interrupt on terminal count.
    output(0x43, 0x30);
    output(0x40, ticks as u8);
    output(0x40, (ticks >> 8) as u8);
}

/// The speed of the time-stamp counter in kHz, measured against the timer's second channel for 10 ms.
pub fn tsc_khz() -> u32 {
    const MILLISECONDS: u64 = 10;
    let ticks = TIMER_HZ * MILLISECONDS / 1000;
    // The channel counts while bit 0 of this port is set; bit 5 shows when it is done, bit 1 is the loudspeaker.
    let port = input(0x61) & !3;
    output(0x61, port);
    output(0x43, 0xb0);
    output(0x42, ticks as u8);
    output(0x42, (ticks >> 8) as u8);
    let start = host::rdtsc();
    output(0x61, port | 1);
    while input(0x61) & 0x20 == 0 {}
    ((host::rdtsc() - start) / MILLISECONDS) as u32
}

/// The base port of the second serial line: the first one is the kernel's log elsewhere.
const SERIAL: u16 = 0x2f8;

/// Prints the string at a physical address.
fn print(at: GuestPhys) {
    let GuestVirt(mut address) = phys_to_virt(at);
    loop {
        // SAFETY: the caller's string, which ends in a zero byte.
        let byte = unsafe { core::ptr::with_exposed_provenance::<u8>(address as usize).read_volatile() };
        if byte == 0 {
            return;
        }
        // Bit 5 of the line's status: there is room for a byte.
        while input(SERIAL + 5) & 0x20 == 0 {}
        output(SERIAL, byte);
        address += 1;
    }
}

fn output(port: u16, value: u8) {
    // SAFETY: the ports of devices that this module alone uses.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

fn input(port: u16) -> u8 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}
