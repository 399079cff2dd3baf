//! Misbehaviour in ring 1.
//!
//! Whether the host kills the guest for an act or lets it go on is the host's choice; the act has succeeded
//! only if the host comes to harm. Where an act traps into this kernel, the attempt is over and the guest
//! goes on.

use crate::attempt::{self, attempt};
use crate::descriptors;
use crate::ram::Ram;
use crate::scratch::{self, SPARE};
use crate::state::kernel;
use crate::{console, forged, host, selftest};
use arch_i386::addr::{GuestFrame, GuestPhys, PAGE_SIZE};
use arch_i386::hypercall::{Hypercall, HypercallArgs, SHUTDOWN_POWEROFF};
use arch_i386::lguest_data::{RING_PENDING, RING_SIZE};
use arch_i386::paging::{Entry, Flags};
use arch_i386::segment::{Descriptor, GUEST_CS, GUEST_DS, LGUEST_CS, LGUEST_DS, TSS, index};
use arch_i386::trap;
use core::arch::asm;
use mini_guest::layout::KERNEL_BASE;
use mini_guest::page_tables::{AnyPageTables, KERNEL_PAGE, Machine};
use mini_programs::abi::{HostileAct, KernelTest};

/// An aligned physical address that no guest has.
const WILD: u32 = 0xf000_0000;

/// Commits a ring-1 act.
pub fn commit(act: HostileAct) {
    match act {
        HostileAct::HypercallNumber => host::call_raw(77, [0; 4]),
        HostileAct::SecondInit => host::call(Hypercall::LguestInit, [WILD, 0, 0]),
        HostileAct::WildPageDirectory => host::call(Hypercall::NewPgtable, [WILD, 0, 0]),
        HostileAct::WildPageTable => wild_page_table(),
        HostileAct::WildFrame => wild_frame(),
        HostileAct::LargePage => large_page(),
        HostileAct::SwitcherPte => switcher_pte(),
        HostileAct::PgdIndex => pgd_index(),
        HostileAct::SwitcherWrite => switcher_write(),
        HostileAct::StackSegment => host::call(Hypercall::SetStack, [GUEST_DS & !3, stack_pointer(), 1]),
        HostileAct::StackPages => host::call(Hypercall::SetStack, [GUEST_DS, stack_pointer(), 1_000_000]),
        HostileAct::StackUnmapped => host::call(Hypercall::SetStack, [GUEST_DS, scratch::address(SPARE), 1]),
        HostileAct::StackInSwitcher => {
            host::call(Hypercall::SetStack, [GUEST_DS, host::reserved_from() + PAGE_SIZE, 1]);
        }
        HostileAct::WildStackPointer => wild_stack_pointer(),
        HostileAct::JumpNowhere => jump_nowhere(),
        HostileAct::WildHandler => wild_handler(),
        HostileAct::FaultingHandler => faulting_handler(),
        HostileAct::GateType => gate_type(),
        HostileAct::GateIndex => {
            let gate = descriptors::interrupt_gate(0, 3);
            host::call(Hypercall::LoadIdtEntry, [300, gate.low, gate.high]);
        }
        HostileAct::CallGate => call_gate(),
        HostileAct::DescriptorIndex => {
            let flat = Descriptor::FLAT_DATA;
            host::call(Hypercall::LoadGdtEntry, [99, flat.low, flat.high]);
        }
        HostileAct::SwitcherDescriptors => switcher_descriptors(),
        HostileAct::VanishedDescriptor => vanished_descriptor(),
        HostileAct::WildTls => host::call(Hypercall::LoadTls, [WILD, 0, 0]),
        HostileAct::WildNotify => host::call(Hypercall::Notify, [WILD, 0, 0]),
        HostileAct::EscapesAsLastWord => {
            console::shut_down(format_args!("\x1b[2J\x1b]0;owned\x07\r\nlguest: all is well"))
        }
        HostileAct::WildShutdown => host::call(Hypercall::Shutdown, [WILD, SHUTDOWN_POWEROFF, 0]),
        HostileAct::RingGarbage => ring_garbage(),
        HostileAct::RingWildArguments => ring_wild_arguments(),
        HostileAct::ReturnToRing0 => return_to_ring0(),
        HostileAct::BadIretFrame => bad_iret_frame(),
        HostileAct::NestedTask => nested_task(),
        HostileAct::Virtual8086 => virtual_8086(),
        HostileAct::SingleStep => single_step(),
        HostileAct::ControlRegisters => control_registers(),
        HostileAct::SystemInstructions => system_instructions(),
        HostileAct::Cli => trying("cli", || {
            // SAFETY: traps, or is skipped by the host.
            unsafe { asm!("cli") }
        }),
        HostileAct::Sti => trying("sti", || {
            // SAFETY: as above.
            unsafe { asm!("sti") }
        }),
        HostileAct::Hlt => trying("hlt", || {
            // SAFETY: as above.
            unsafe { asm!("hlt") }
        }),
        HostileAct::SysenterKernel => trying("sysenter", || {
            // SAFETY: traps; if it led anywhere, that would be the host's defect this act is for.
            unsafe { asm!("sysenter", in("ecx") 0, in("edx") 0) }
        }),
        HostileAct::HostVectorsKernel => host_vectors(),
        HostileAct::ErrorCodeGates => error_codes(descriptors::interrupt_gate),
        HostileAct::ErrorCodeTraps => error_codes(descriptors::trap_gate),
        HostileAct::HaltForever => halt_forever(),
        HostileAct::ClockStorm => clock_storm(),
        HostileAct::ForgedDirectory => forged::directory(),
        HostileAct::StackAcrossSwitcher => forged::stack_across_switcher(),
        HostileAct::StackInRegisters => forged::stack_in_registers(0),
        HostileAct::PageOfRegisters => forged::stack_in_registers(1),
        HostileAct::SwitchToRegisters => forged::switch_to_registers(),
        HostileAct::GateAsTls => gate_as_tls(),
        HostileAct::DirectoryAtZero => host::call(Hypercall::NewPgtable, [0; 3]),
        HostileAct::ChangingRights => {
            assert!(selftest::run(KernelTest::UserEntries), "they are not as they were set")
        }
        HostileAct::Switching => {
            assert!(selftest::run(KernelTest::SwitchTo), "the page directory is another one")
        }
        HostileAct::SysenterUser
        | HostileAct::HostVectorsUser
        | HostileAct::HypercallUser
        | HostileAct::SelectorsUser
        | HostileAct::SwitcherAccessUser
        | HostileAct::SpoiltSystemCall
        | HostileAct::ForgedDirectoryUser
        | HostileAct::StackAcrossSwitcherUser
        | HostileAct::StackInRegistersUser
        | HostileAct::ErrorCodeGatesUser => panic!("{} is an act of ring 3", act.name()),
    }
}

/// Does something and reports the result.
fn trying(what: &str, act: impl FnMut()) {
    match attempt(act) {
        Ok(()) => console::print(format_args!("mini: {what} had no effect")),
        Err(trap) => console::print(format_args!("mini: {what} trapped: {trap:x?}")),
    }
}

fn stack_pointer() -> u32 {
    let esp;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, esp", out(reg) esp, options(nomem, nostack, preserves_flags)) };
    esp
}

/// Puts `entry` where the current process's directory has the spare page's table, and looks through it.
fn through_directory(entry: u32) {
    let va = scratch::address(SPARE);
    let (root, at, call) = {
        let kernel = kernel();
        match kernel.tasks[kernel.processes.current()].tables.as_ref() {
            Some(AnyPageTables::TwoLevel(tables)) => {
                let root = tables.root().0;
                (root, GuestPhys(root + 4 * (va >> 22)), (Hypercall::SetPgd, [root, va >> 22, 0]))
            }
            Some(AnyPageTables::Pae(tables)) => {
                let root = tables.root().0;
                let directory = Ram.read(GuestPhys(root + 8 * (va >> 30))) & !(PAGE_SIZE - 1);
                let index = va >> 21 & 511;
                (root, GuestPhys(directory + 8 * index), (Hypercall::SetPmd, [directory, index, 0]))
            }
            None => panic!("acts are committed for a process"),
        }
    };
    Ram.write(at, entry);
    host::call(call.0, call.1);
    host::call(Hypercall::NewPgtable, [root, 0, 0]);
    trying("a load through the spoilt directory", || {
        attempt_load(va);
    });
}

/// A load without an attempt of its own.
fn attempt_load(address: u32) -> u32 {
    let word;
    // SAFETY: the caller is prepared for a trap, and uses the word for nothing.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) address => word, options(nostack, readonly)) };
    word
}

fn wild_page_table() {
    through_directory(WILD | 0x67);
}

fn large_page() {
    through_directory(0xe7);
}

fn wild_frame() {
    let frames = [(WILD >> 12).into(), 0xf_ffff, u64::from(kernel().memory().ram >> 12) + 0x1000];
    for frame in frames {
        for flags in [KERNEL_PAGE, Flags::PRESENT | Flags::WRITABLE] {
            scratch::set_spare(SPARE, Entry::new(frame, flags), false);
            trying("a load from a frame that is not there", || {
                attempt_load(scratch::address(SPARE));
            });
        }
    }
}

fn switcher_pte() {
    let root = kernel().memory().tables.root();
    let own = GuestFrame(host::physical(&raw const host::LGUEST_DATA).0 >> 12);
    for page in (host::reserved_from()..=0u32.wrapping_sub(PAGE_SIZE)).step_by(PAGE_SIZE as usize) {
        let args = host::set_pte_args(root, page, Entry::new(own.0.into(), KERNEL_PAGE));
        host::call_raw(Hypercall::SetPte as u32, args);
    }
}

fn pgd_index() {
    let root = kernel().memory().tables.root().0;
    for index in [4, 512, 1023, 1024, 1025, 0x8000_0000, u32::MAX] {
        for call in [Hypercall::SetPgd, Hypercall::SetPmd] {
            host::call(call, [root, index, 0]);
        }
    }
}

fn switcher_write() {
    let (mut read, mut written) = (0, 0);
    for page in (host::reserved_from()..=0u32.wrapping_sub(PAGE_SIZE)).step_by(PAGE_SIZE as usize) {
        read += u32::from(attempt::load(page).is_ok());
        for word in (page..=page + (PAGE_SIZE - 4)).step_by(4) {
            // Whatever registers the host keeps there are 0xffff_ffff from now on.
            match attempt::store(word, u32::MAX) {
                Ok(()) => written += 1,
                Err(_) => break,
            }
        }
        host::flush_queue();
    }
    console::print(format_args!("mini: read {read} pages and wrote {written} words of the Switcher's"));
}

fn wild_stack_pointer() {
    for pointer in [0u32, 4, 0x1000, scratch::address(SPARE), host::reserved_from() + 64, u32::MAX - 3] {
        trying("a trap with a wild stack pointer", || {
            // SAFETY: the stack pointer is put back if the breakpoint is survived; a trap elsewhere ends
            // the attempt.
            unsafe {
                asm!("mov {saved}, esp", "mov esp, {0}", "int3", "mov esp, {saved}",
                    in(reg) pointer, saved = out(reg) _);
            }
        });
    }
}

fn jump_nowhere() {
    descriptors::load_gate(trap::PAGE_FAULT.into(), Descriptor::default());
    // SAFETY: faults, and the host finds no handler.
    unsafe { asm!("jmp {}", in(reg) scratch::address(SPARE)) };
}

fn wild_handler() {
    // The fetch of the handler faults.
    fault_in(scratch::address(SPARE));
}

/// Goes to a handler of page faults that has one itself, and so on, each time further down the stack: it starts low, so that it soon
/// leaves memory. With 256 frames of room, a host that saw few of the faults would end the guest for that.
fn fault_in(handler: u32) {
    let gate = Descriptor::interrupt_gate(GUEST_CS, handler, 1);
    descriptors::load_gate(trap::PAGE_FAULT.into(), gate);
    // SAFETY: never comes back.
    unsafe {
        asm!("mov esp, {}", "jmp {}", in(reg) KERNEL_BASE + PAGE_SIZE, in(reg) handler, in("eax") 0x3000_0000)
    };
}

core::arch::global_asm!(
    r#"
    .globl faulting_page_fault_handler
faulting_page_fault_handler:
    addl    ${page}, %eax
    movl    %ss:(%eax), %ecx
    jmp     faulting_page_fault_handler
"#,
    page = const PAGE_SIZE,
    options(att_syntax)
);

fn faulting_handler() {
    unsafe extern "C" {
        static faulting_page_fault_handler: u8;
    }
    fault_in((&raw const faulting_page_fault_handler).addr() as u32);
}

fn gate_type() {
    let gate = descriptors::interrupt_gate(trap::DIVIDE.into(), 3);
    for kind in [0x5, 0xc, 0x6, 0x9] {
        // Bits 11 to 8 are the type.
        let high = gate.high & !0xf00 | kind << 8;
        host::call(Hypercall::LoadIdtEntry, [trap::DIVIDE.into(), gate.low, high]);
    }
}

/// Opens gates of this kind for every ring at the vectors that have an error code and may be the guest's, and goes
/// through them. Behind a trap gate the frame is a word short, which is this kernel's own trouble.
fn error_codes(gate: fn(usize, u32) -> Descriptor) {
    for vector in [10, 11, 12, 17] {
        descriptors::load_gate(vector, gate(vector as usize, 3));
    }
    macro_rules! interrupts {
        ($($vector:literal)*) => {
            $(trying(concat!("int ", $vector), || {
                // SAFETY: traps into the kernel's own handler, which ends the attempt.
                unsafe { asm!(concat!("int ", $vector)) }
            });)*
        };
    }
    interrupts!("10" "11" "12" "17");
}

fn call_gate() {
    const SLOT: u32 = 20;
    for gate in gates_into_ring_0() {
        host::call(Hypercall::LoadGdtEntry, [SLOT, gate.low, gate.high]);
        call_through(SLOT);
    }
}

/// The descriptors reach the host by the call that a switch to another process makes.
fn gate_as_tls() {
    static mut TLS: [Descriptor; index::TLS_ENTRIES] = [Descriptor { low: 0, high: 0 }; index::TLS_ENTRIES];
    for gate in gates_into_ring_0() {
        // SAFETY: the kernel has one processor, and nobody else uses the array.
        unsafe { (&raw mut TLS).write_volatile([gate; index::TLS_ENTRIES]) };
        host::call(Hypercall::LoadTls, [host::physical(&raw const TLS).0, 0, 0]);
        call_through(index::TLS_MIN as u32);
    }
}

/// Call gates to the Switcher's and the host's code segments: present, DPL 3, type 12.
fn gates_into_ring_0() -> [Descriptor; 2] {
    extern "C" fn nowhere() {}
    let target = nowhere as extern "C" fn() as usize as u32;
    [LGUEST_CS, 0x60].map(|selector| Descriptor {
        low: selector << 16 | target & 0xffff,
        high: target & 0xffff_0000 | 0xec00,
    })
}

fn call_through(descriptor: u32) {
    trying("a far call through a call gate", || {
        let pointer = FarPointer { offset: 0, selector: (descriptor * 8 + 1) as u16 };
        // SAFETY: traps; if it led anywhere, that would be the host's defect this act is for.
        unsafe { asm!("call fword ptr [{}]", in(reg) &raw const pointer) };
    });
}

/// The operand of a far call or jump.
#[repr(C, packed)]
struct FarPointer {
    offset: u32,
    selector: u16,
}

fn switcher_descriptors() {
    // A small data segment, not present, ring 3, in place of each.
    let useless = Descriptor { low: 0, high: 0x0000_7200 };
    for slot in [index::TSS, index::LGUEST_CS, index::LGUEST_DS, index::DOUBLE_FAULT_TSS] {
        host::call(Hypercall::LoadGdtEntry, [slot as u32, useless.low, useless.high]);
        host::flush_queue();
    }
    for selector in [LGUEST_CS, LGUEST_DS, TSS, LGUEST_DS | 1, LGUEST_DS | 3, TSS | 3] {
        trying("loading a selector of the Switcher's", || {
            // SAFETY: traps, or loads a segment that the kernel does not use.
            unsafe { asm!("mov gs, {0}", in(reg) selector, options(nomem, nostack)) };
        });
        host::flush_queue();
        trying("a far jump to the Switcher's code", || {
            let pointer = FarPointer { offset: host::reserved_from(), selector: selector as u16 };
            // SAFETY: traps; if it led anywhere, that would be the host's defect this act is for.
            unsafe { asm!("jmp fword ptr [{}]", in(reg) &raw const pointer) };
        });
    }
}

fn vanished_descriptor() {
    const SLOT: u32 = 21;
    let segment = descriptors::tls_descriptor(0x1000);
    host::call(Hypercall::LoadGdtEntry, [SLOT, segment.low, segment.high]);
    let selector = SLOT * 8 + 3;
    // SAFETY: the kernel uses neither register.
    unsafe { asm!("mov fs, {0}", "mov gs, {0}", in(reg) selector, options(nomem, nostack)) };
    host::call(Hypercall::LoadGdtEntry, [SLOT, 0, 0]);
    host::flush_queue();
    // The stack's own segment goes too.
    host::call(Hypercall::LoadGdtEntry, [index::KERNEL_DS as u32, 0, 0]);
    host::flush_queue();
}

/// Fills the ring with calls made by `next` from a sequence that starts with the run's seed.
fn fill_ring(mut next: impl FnMut(&mut dyn FnMut() -> u32) -> HypercallArgs) {
    let mut number = kernel().options().seed;
    let mut random = || {
        // The constants of Numerical Recipes; any sequence would do.
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number ^ number >> 15
    };
    for _ in 0..64 {
        for i in 0..RING_SIZE {
            host::write_ring_entry(i, next(&mut random), RING_PENDING);
        }
        host::flush_queue();
    }
}

fn ring_garbage() {
    fill_ring(|random| HypercallArgs { number: random(), args: [random(), random(), random(), random()] });
}

fn ring_wild_arguments() {
    let memory = {
        let mut kernel = kernel();
        let current = kernel.processes.current();
        let (root, pae) = match kernel.tasks[current].tables.as_ref() {
            Some(AnyPageTables::TwoLevel(tables)) => (tables.root().0, false),
            Some(AnyPageTables::Pae(tables)) => (tables.root().0, true),
            None => panic!("acts are committed for a process"),
        };
        Memory { root, ram: kernel.memory().ram, pae }
    };
    fill_ring(|random| {
        let call = match Hypercall::from_number(random() % Hypercall::END) {
            // These would end the act before its time.
            None | Some(Hypercall::Shutdown | Hypercall::Halt | Hypercall::LguestInit) => {
                Hypercall::FlushAsync
            }
            Some(Hypercall::SetPmd) if !memory.pae => Hypercall::SetPgd,
            Some(call) => call,
        };
        let args = if random() % 256 == 0 {
            [random(), random(), random(), random()]
        } else {
            almost_right(call, random, &memory)
        };
        HypercallArgs { number: call as u32, args }
    });
}

/// What arguments are made of.
struct Memory {
    /// The current page directory.
    root: u32,
    /// Bytes of RAM.
    ram: u32,
    /// Whether there is a middle level.
    pae: bool,
}

/// Arguments that a host may well accept, and that make no sense.
fn almost_right(call: Hypercall, random: &mut dyn FnMut() -> u32, memory: &Memory) -> [u32; 4] {
    let &Memory { root, ram, pae } = memory;
    // Now and then another page than the current page directory.
    let directory = match random() % 64 {
        1.. => root,
        0 => (random() % ram) & !(PAGE_SIZE - 1),
    };
    let anywhere = random() % host::reserved_from();
    let in_ram = random() % ram;
    match call {
        Hypercall::NewPgtable => [directory, 0, 0, 0],
        Hypercall::SetPgd => [directory, random() % if pae { 4 } else { 1024 }, 0, 0],
        Hypercall::SetPmd => [directory, random() % 512, 0, 0],
        Hypercall::SetPte => [directory, anywhere, in_ram & !0x180, 0],
        Hypercall::SetStack => [GUEST_DS, KERNEL_BASE + in_ram, random() % 3, 0],
        Hypercall::SwitchTo => [directory, KERNEL_BASE + in_ram, random() % 3, random() % 2],
        Hypercall::FlushUserOf => [directory, in_ram, 0, anywhere],
        Hypercall::LoadIdtEntry => [random() % 256, random(), (random() & !0x1f00) | 0xe00, 0],
        // Not the segments in use: without them all would be over.
        Hypercall::LoadGdtEntry => [(random() % 28 + 16) % 32, random(), random(), 0],
        Hypercall::LoadTls => [in_ram % (ram - PAGE_SIZE), 0, 0, 0],
        Hypercall::Notify => [in_ram, 0, 0, 0],
        Hypercall::Ts | Hypercall::FlushTlb => [random() % 2, 0, 0, 0],
        Hypercall::SetClockevent => [random() % 10_000_000, 0, 0, 0],
        _ => [0; 4],
    }
}

fn return_to_ring0() {
    for selector in [LGUEST_CS, 0x60, 0x10, 0] {
        trying("lret to ring 0", || {
            // SAFETY: traps; if it led anywhere, that would be the host's defect this act is for.
            unsafe {
                asm!("push {0}", "lea {1}, [2f]", "push {1}", "retf", "2:",
                    in(reg) selector, out(reg) _);
            }
        });
        trying("iret to ring 0", || {
            // SAFETY: as above.
            unsafe {
                asm!("pushfd", "push {0}", "lea {1}, [2f]", "push {1}", "iretd", "2:",
                    in(reg) selector, out(reg) _);
            }
        });
    }
}

fn bad_iret_frame() {
    let code = descriptors::USER_CS;
    let frames = [
        (code, 0),
        (code, GUEST_DS),
        (code, 0xffff),
        (code, code),
        (code, TSS | 3),
        (0xffff, descriptors::USER_DS),
        (TSS | 3, descriptors::USER_DS),
        (GUEST_CS & !3 | 2, GUEST_DS & !3 | 2),
    ];
    for (cs, ss) in frames {
        trying("iret with bad selectors", || {
            // SAFETY: traps in the iret, which ends the attempt.
            unsafe {
                asm!("push {ss}", "push 0", "pushfd", "push {cs}", "push 0", "iretd", ss = in(reg) ss,
                    cs = in(reg) cs);
            }
        });
    }
}

fn nested_task() {
    trying("iret with the nested-task flag", || {
        // SAFETY: traps; if it switched tasks, that would be the host's defect this act is for.
        unsafe { asm!("pushfd", "or dword ptr [esp], 0x4000", "popfd", "iretd") };
    });
}

/// A processor passes over the flag, as this is not ring 0; QEMU 7.2 does not.
fn virtual_8086() {
    trying("iret with the virtual-8086 flag", || {
        // SAFETY: it returns to the label, or the host ends the guest; the stack is put back.
        unsafe {
            asm!("mov {0}, esp", "push 0", "push 0", "push 0", "push 0", "push 0", "push 0",
                "push 0x23002", "mov {1}, cs", "push {1}", "lea {1}, [2f]", "push {1}", "iretd", "2:", "mov esp, {0}",
                out(reg) _, out(reg) _);
        }
    });
}

fn single_step() {
    trying("single-stepping over hypercalls", || {
        // SAFETY: a debug trap ends the attempt, or the flag is taken back.
        unsafe {
            asm!("pushfd", "or dword ptr [esp], 0x100", "popfd", "int 0x1f", "int 0x1f",
                "pushfd", "and dword ptr [esp], 0xfffffeff", "popfd",
                inout("eax") Hypercall::FlushAsync as u32 => _);
        }
    });
}

/// Tries each of some instructions that only ring 0 may execute.
macro_rules! try_instructions {
    ($($instruction:literal),* $(,)?) => {
        $(trying($instruction, || {
            // SAFETY: traps; if it had its effect, that would be the host's defect this act is for.
            unsafe { asm!($instruction, inout("eax") 0x10 => _, inout("ecx") 0x174 => _, inout("edx") 0 => _) };
        });)*
    };
}

fn control_registers() {
    try_instructions!(
        "mov cr3, eax",
        "mov cr0, eax",
        "mov cr4, eax",
        "mov cr2, eax",
        "mov eax, cr0",
        "mov eax, cr3",
        "mov dr7, eax",
        "mov dr0, eax",
        "mov eax, dr6",
        "clts",
        "lmsw ax",
        "smsw ax",
    );
}

fn system_instructions() {
    try_instructions!(
        "lgdt [eax]",
        "lidt [eax]",
        "ltr ax",
        "lldt ax",
        "invlpg [eax]",
        "wrmsr",
        "rdmsr",
        "wbinvd",
        "invd",
        "rdpmc",
        "sgdt [esp-16]",
        "sidt [esp-16]",
        "sldt ax",
        "str ax",
        "rdtsc",
        "cpuid",
    );
}

fn host_vectors() {
    macro_rules! interrupts {
        ($($vector:literal)*) => {
            $(trying(concat!("int ", $vector), || {
                // SAFETY: traps, or has the host handle an interrupt that is none.
                unsafe { asm!(concat!("int ", $vector)) };
            });)*
        };
    }
    interrupts!("2" "8" "10" "11" "12" "13" "14" "15" "17" "18" "0x1e" "0x20" "0x21" "0x30" "0x80" "0x81"
        "0xec" "0xef" "0xf0" "0xf6" "0xfa" "0xfd" "0xfe" "0xff");
}

fn halt_forever() {
    host::call(Hypercall::SetClockevent, [0; 3]);
    loop {
        host::call(Hypercall::Halt, [0; 3]);
    }
}

fn clock_storm() {
    for _ in 0..10_000 {
        host::call(Hypercall::SetClockevent, [1, 0, 0]);
        host::enable_interrupts();
        host::disable_interrupts();
    }
    host::start_clock();
}
