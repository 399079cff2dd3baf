//! From the launcher's jump to the first Rust function.
//!
//! The host starts the guest at the ELF file's entry with flat segments, no stack, and every address
//! meaning itself (`linear mapping`). The kernel is linked 3 GiB higher, so until page tables are
//! loaded code may jump relatively but has to subtract that from every symbol it uses as data.
//!
//! A Multiboot loader starts it at the same entry on the bare machine; [`crate::bare`] has what is different then.
//!
//! The steps are those of a Linux guest: zeroed memory, `LGUEST_INIT`, first page tables, `NEW_PGTABLE`,
//! a stack, a jump up. The first tables map the lowest 8 MiB at 0, where this code still runs, and at
//! 3 GiB. They can be of two levels or three: the kernel's file states so in a note, and the launcher, which
//! chooses, passes the choice as a word of the command line.

use crate::host::LGUEST_DATA;
use crate::{bare, console, descriptors, host, image, state, tasks};
use arch_i386::addr::{GuestPhys, GuestVirt, PAGE_SIZE};
use arch_i386::hypercall::Hypercall;
use arch_i386::launcher::{NOTE_PAGING, NOTE_PAGING_2_LEVEL, NOTE_PAGING_PAE};
use arch_i386::lguest_data::offset;
use arch_i386::paging::Paging;
use arch_i386::trap::HYPERCALL;
use core::arch::global_asm;
use mini_guest::boot_params::{self, BootParams};
use mini_guest::command_line;
use mini_guest::layout::{KERNEL_BASE, MAX_RAM, SCRATCH_PAGES, phys_to_virt, scratch_base};
use mini_programs::abi::{Effort, FAILED, RunOptions};

/// Pages that the first tables map.
const EARLY_PAGES: u32 = 2048;

/// The longest command line that is read, in bytes.
const COMMAND_LINE_MAX: usize = 1024;

#[repr(C, align(4096))]
struct Page([u32; 1024]);

/// Root of the first page tables.
static mut EARLY_ROOT: Page = Page([0; 1024]);
/// With PAE, the one directory that both halves share.
static mut EARLY_DIRECTORY: Page = Page([0; 1024]);
/// Level 1: two pages of 4-byte entries or four of 8-byte ones.
static mut EARLY_TABLES: [Page; 4] = [const { Page([0; 1024]) }; 4];

global_asm!(
    r#"
    .section .text.boot, "ax", @progbits
    .globl start
start:
    // Not by a launcher but by a loader: without a host.
    cmpl    ${multiboot_loaded}, %eax
    je      start_bare
    cld
    movl    $bss_start - {base}, %edi
    movl    $bss_end - {base}, %ecx
    subl    %edi, %ecx
    shrl    $2, %ecx
    xorl    %eax, %eax
    rep stosl

    // The host reads these at LGUEST_INIT; the rest of the structure is initialised data.
    movl    $irq_window_start, {data} - {base} + {noirq_start}
    movl    $irq_window_end, {data} - {base} + {noirq_end}
    movl    ${init}, %eax
    movl    $({data} - {base}), %ebx
    int     ${trap}

    // %ebp = bytes of a page-table entry: 8 when the command line has the word for PAE, otherwise 4.
    .globl  find_format
find_format:
    movl    $4, %ebp
    movl    0x228(%esi), %eax
    testl   %eax, %eax
    jz      3f
1:  cmpb    $0, (%eax)
    je      3f
    movl    %eax, %esi
    movl    $pae_word - {base}, %edi
    movl    $pae_word_end - pae_word, %ecx
    repe cmpsb
    je      2f
    incl    %eax
    jmp     1b
2:  movl    $8, %ebp

    // Level 1: every page of the lowest 8 MiB, present and writable.
3:  movl    $({tables} - {base}), %edi
    movl    $3, %eax
    movl    ${pages}, %ecx
4:  movl    %eax, (%edi)
    addl    %ebp, %edi
    addl    $4096, %eax
    loop    4b

    // Above it, entries for 0 and for 3 GiB that lead to the same tables.
    movl    $({tables} - {base} + 0x67), %eax
    cmpl    $8, %ebp
    je      5f
    movl    %eax, {root} - {base}
    movl    %eax, {root} - {base} + 4*0x300
    addl    $4096, %eax
    movl    %eax, {root} - {base} + 4
    movl    %eax, {root} - {base} + 4*0x301
    jmp     7f
5:  movl    $({directory} - {base}), %edi
    movl    $4, %ecx
6:  movl    %eax, (%edi)
    addl    $8, %edi
    addl    $4096, %eax
    loop    6b
    // A root entry of PAE may carry the present bit only.
    movl    $({directory} - {base} + 1), %eax
    movl    %eax, {root} - {base}
    movl    %eax, {root} - {base} + 8*3

7:  movl    $({root} - {base}), %ebx
    cmpl    $0, bare_machine - {base}
    jne     load_bare_tables
    movl    ${new_pgtable}, %eax
    int     ${trap}
    .globl  tables_loaded
tables_loaded:

    // Up we go: an absolute jump, and the stack of the kernel's own process.
    movl    $({stacks} + {stack_size}), %esp
    pushl   %ebp
    xorl    %ebp, %ebp
    movl    ${main}, %eax
    call    *%eax
    ud2

pae_word:
    .ascii  "lguest.paging=3"
pae_word_end:

    // An ELF note: lengths of name and contents, type, name, contents.
    .section .note.lguest, "a", @note
    .balign 4
    .long   note_name_end - note_name, 4, {note_paging}
note_name:
    .asciz  "lguest"
note_name_end:
    .balign 4
    .long   {formats}
    .text
    "#,
    multiboot_loaded = const bare::MULTIBOOT_LOADED,
    base = const KERNEL_BASE,
    data = sym LGUEST_DATA,
    note_paging = const NOTE_PAGING,
    formats = const NOTE_PAGING_2_LEVEL | NOTE_PAGING_PAE,
    noirq_start = const offset::NOIRQ_START,
    noirq_end = const offset::NOIRQ_END,
    init = const Hypercall::LguestInit as u32,
    new_pgtable = const Hypercall::NewPgtable as u32,
    trap = const HYPERCALL,
    pages = const EARLY_PAGES,
    root = sym EARLY_ROOT,
    directory = sym EARLY_DIRECTORY,
    tables = sym EARLY_TABLES,
    stacks = sym tasks::STACKS,
    stack_size = const tasks::STACK_SIZE,
    main = sym kernel_main,
    options(att_syntax),
);

unsafe extern "C" {
    /// The end of the kernel's image; the linker script defines where.
    static kernel_end: u8;
}

/// The first Rust function: `entry_size` selects the page format.
extern "C" fn kernel_main(entry_size: u32) -> ! {
    let paging = if entry_size == Paging::Pae.entry_size() { Paging::Pae } else { Paging::TwoLevel };
    // SAFETY: the launcher has put boot parameters at physical 0, and the first tables map that page.
    let page = unsafe { &*pointer_to::<[u8; boot_params::SIZE]>(GuestPhys(0)) };
    let params = BootParams::parse(page).unwrap_or_else(|error| panic!("{error}"));
    let options = read_options(&params);

    if bare::running() {
        bare::take_over();
        assert!(
            options.effort == Effort::None && options.hostile == FAILED,
            "the tests prove things about a host, and the bare machine has none; bench=NAME works"
        );
    }
    // The segments first, as Linux has it: the host's own two serve until now.
    descriptors::load_gdt();

    let ram = params.memory_end.min(MAX_RAM) & !(PAGE_SIZE - 1);
    let image_end = (&raw const kernel_end).addr() as u32 - KERNEL_BASE;
    state::take_memory(paging, ram, GuestPhys(image_end));
    host::call(Hypercall::NewPgtable, [state::kernel().memory().tables.root().0, 0, 0]);
    host::call(Hypercall::FlushTlb, [1, 0, 0]);

    let scratch_end = scratch_base(ram).0 + SCRATCH_PAGES * PAGE_SIZE;
    let switcher = host::reserved_from();
    assert!(
        scratch_end <= switcher,
        "{ram:#x} bytes of RAM reach up to {scratch_end:#x}, but the host keeps everything from \
         {switcher:#x} on; start the guest with less --memory"
    );

    descriptors::load_idt();
    console::print(format_args!(
        "mini: {paging} page tables, {} KiB of RAM, the host's from {switcher:#x}, TSC {} kHz",
        ram >> 10,
        host::tsc_khz(),
    ));
    image::check();
    state::kernel().start(options);
    host::start_clock();
    tasks::idle()
}

/// The options on the command line.
fn read_options(params: &BootParams) -> RunOptions {
    let mut text = [0; COMMAND_LINE_MAX];
    let mut length = 0;
    if let Some(at) = params.command_line {
        assert!(
            at.0 < EARLY_PAGES * PAGE_SIZE - COMMAND_LINE_MAX as u32,
            "the command line is at {at}, beyond the lowest 8 MiB"
        );
        while length < text.len() {
            // SAFETY: inside what the first tables map.
            let byte = unsafe { pointer_to::<u8>(GuestPhys(at.0 + length as u32)).read() };
            if byte == 0 {
                break;
            }
            text[length] = byte;
            length += 1;
        }
    }
    match core::str::from_utf8(&text[..length]).map(command_line::parse) {
        Ok(Ok(options)) if options.restart => console::restart(),
        Ok(Ok(options)) => options,
        Ok(Err(error)) => {
            console::print(format_args!("mini: {error}"));
            console::exit(2)
        }
        Err(error) => panic!("the command line is no text: {error}"),
    }
}

fn pointer_to<T>(at: GuestPhys) -> *const T {
    let GuestVirt(address) = phys_to_virt(at);
    core::ptr::with_exposed_provenance(address as usize)
}
