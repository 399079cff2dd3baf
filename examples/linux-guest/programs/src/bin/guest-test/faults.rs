//! Faults delivered as signals: each instruction that may not be executed in user mode, or that goes wrong, and
//! just what its signal must report.
//!
//! Expected values: exception numbers and error codes from the processor manual (volume 3, chapter 6),
//! signals and codes from `arch/x86/kernel/traps.c` of Linux.

use anyhow::{Result, ensure};

use crate::Settings;
use crate::attempt::{self, Code, Fault};
use crate::runner::Lacking;

/// `si_code` of a signal that the kernel sends without more detail.
const SI_KERNEL: i32 = 0x80;
const ILL_ILLOPN: i32 = 2;
const FPE_INTDIV: i32 = 1;
const FPE_FLTDIV: i32 = 3;
const TRAP_TRACE: i32 = 2;

/// Exceptions.
const DIVIDE: u32 = 0;
const DEBUG: u32 = 1;
const BREAKPOINT: u32 = 3;
const OVERFLOW: u32 = 4;
const BOUND: u32 = 5;
const INVALID_OPCODE: u32 = 6;
const GENERAL_PROTECTION: u32 = 13;
const PAGE_FAULT: u32 = 14;
const FLOATING_POINT: u32 = 16;

/// One piece of code and its signal.
struct Case {
    /// In assembly.
    name: &'static str,
    code: &'static [u8],
    /// Where in the code the process is reported to be: at the instruction for a fault, behind it for a trap.
    at: u32,
    signal: i32,
    si_code: i32,
    trap: u32,
    /// Whether `si_addr` is where the process is; else it is 0.
    addressed: bool,
}

impl Case {
    fn expected(&self, start: u32) -> Fault {
        let eip = start + self.at;
        Fault {
            signal: self.signal,
            code: self.si_code,
            address: if self.addressed { eip } else { 0 },
            trap: self.trap,
            error: 0,
            eip,
        }
    }
}

fn all_as_expected(cases: &[Case]) -> Result<()> {
    attempt::prepare()?;
    let page = Code::new()?;
    for case in cases {
        // SAFETY: the code faults, or does nothing.
        let result = unsafe { page.run(case.code, 0) };
        let expected = Err(case.expected(page.start()));
        ensure!(result == expected, "{}: {result:x?} instead of {expected:x?}", case.name);
    }
    Ok(())
}

const fn exception(name: &'static str, code: &'static [u8], at: u32, signal: i32, trap: u32) -> Case {
    Case { name, code, at, signal, si_code: SI_KERNEL, trap, addressed: false }
}

const EXCEPTIONS: &[Case] = &[
    Case {
        name: "xor ecx, ecx; div ecx",
        code: &[0x31, 0xc9, 0xf7, 0xf1],
        at: 2,
        signal: libc::SIGFPE,
        si_code: FPE_INTDIV,
        trap: DIVIDE,
        addressed: true,
    },
    Case {
        name: "mov ecx, 1; mov edx, 1; div ecx (the quotient does not fit)",
        code: &[0xb9, 1, 0, 0, 0, 0xba, 1, 0, 0, 0, 0xf7, 0xf1],
        at: 10,
        signal: libc::SIGFPE,
        si_code: FPE_INTDIV,
        trap: DIVIDE,
        addressed: true,
    },
    Case {
        name: "ud2",
        code: &[0x0f, 0x0b],
        at: 0,
        signal: libc::SIGILL,
        si_code: ILL_ILLOPN,
        trap: INVALID_OPCODE,
        addressed: true,
    },
    Case {
        name: "lea of a register, which has no address",
        code: &[0x8d, 0xc0],
        at: 0,
        signal: libc::SIGILL,
        si_code: ILL_ILLOPN,
        trap: INVALID_OPCODE,
        addressed: true,
    },
    exception("nop; int3", &[0x90, 0xcc], 2, libc::SIGTRAP, BREAKPOINT),
    exception("int 3, two bytes long", &[0xcd, 3], 2, libc::SIGTRAP, BREAKPOINT),
    exception("mov al, 127; add al, 1; into", &[0xb0, 0x7f, 4, 1, 0xce], 5, libc::SIGSEGV, OVERFLOW),
    exception(
        "push 0; push 0; mov eax, 5; bound eax, [esp]",
        &[0x6a, 0, 0x6a, 0, 0xb8, 5, 0, 0, 0, 0x62, 4, 0x24],
        9,
        libc::SIGSEGV,
        BOUND,
    ),
    // The exception comes with the next instruction that waits for it.
    Case {
        name: "fninit; push 0x37b; fldcw [esp]; fld1; fldz; fdivp; fwait (division by zero unmasked)",
        code: &[0xdb, 0xe3, 0x68, 0x7b, 3, 0, 0, 0xd9, 0x2c, 0x24, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b],
        at: 16,
        signal: libc::SIGFPE,
        si_code: FPE_FLTDIV,
        trap: FLOATING_POINT,
        addressed: true,
    },
];

/// Divide errors, invalid opcodes, breakpoints, overflow, bounds and floating-point exceptions.
pub fn exceptions(_: &Settings) -> Result<()> {
    all_as_expected(EXCEPTIONS)
}

const fn privileged(name: &'static str, code: &'static [u8]) -> Case {
    exception(name, code, 0, libc::SIGSEGV, GENERAL_PROTECTION)
}

const PRIVILEGED: &[Case] = &[
    privileged("hlt", &[0xf4]),
    privileged("cli", &[0xfa]),
    privileged("sti", &[0xfb]),
    privileged("clts", &[0x0f, 0x06]),
    privileged("invd", &[0x0f, 0x08]),
    privileged("wbinvd", &[0x0f, 0x09]),
    privileged("mov eax, cr0", &[0x0f, 0x20, 0xc0]),
    privileged("mov eax, cr2", &[0x0f, 0x20, 0xd0]),
    privileged("mov eax, cr3", &[0x0f, 0x20, 0xd8]),
    privileged("mov eax, cr4", &[0x0f, 0x20, 0xe0]),
    privileged("mov cr0, eax", &[0x0f, 0x22, 0xc0]),
    privileged("mov cr3, eax", &[0x0f, 0x22, 0xd8]),
    privileged("mov cr4, eax", &[0x0f, 0x22, 0xe0]),
    privileged("mov eax, dr0", &[0x0f, 0x21, 0xc0]),
    privileged("mov eax, dr7", &[0x0f, 0x21, 0xf8]),
    privileged("mov dr7, eax", &[0x0f, 0x23, 0xf8]),
    privileged("lgdt [esp]", &[0x0f, 0x01, 0x14, 0x24]),
    privileged("lidt [esp]", &[0x0f, 0x01, 0x1c, 0x24]),
    privileged("lmsw ax", &[0x0f, 0x01, 0xf0]),
    privileged("invlpg [esp]", &[0x0f, 0x01, 0x3c, 0x24]),
    privileged("lldt ax", &[0x0f, 0x00, 0xd0]),
    privileged("ltr ax", &[0x0f, 0x00, 0xd8]),
    privileged("rdmsr", &[0x0f, 0x32]),
    privileged("wrmsr", &[0x0f, 0x30]),
    privileged("in al, 0x80", &[0xe4, 0x80]),
    privileged("in eax, dx", &[0xed]),
    privileged("out 0x80, al", &[0xe6, 0x80]),
    privileged("out dx, eax", &[0xef]),
    privileged("insb", &[0x6c]),
    privileged("outsb", &[0x6e]),
    privileged("rep insd", &[0xf3, 0x6d]),
];

/// Instructions that only a kernel may execute, and ports.
pub fn privileged_instructions(_: &Settings) -> Result<()> {
    all_as_expected(PRIVILEGED)
}

/// `int n` for every vector that is not for user mode: the error code names the gate.
pub fn interrupt_vectors(_: &Settings) -> Result<()> {
    /// Gates for user mode: breakpoint, overflow, system call.
    const OPEN: [u8; 3] = [3, 4, 0x80];
    /// In an error code: the index is one of the interrupt descriptor table.
    const IDT: u32 = 1 << 1;
    attempt::prepare()?;
    let page = Code::new()?;
    for vector in (0..=255).filter(|vector| !OPEN.contains(vector)) {
        // SAFETY: the code faults, or some kernel does what it does with an unknown interrupt.
        let result = unsafe { page.run(&[0xcd, vector], 0) };
        let expected = Err(Fault {
            signal: libc::SIGSEGV,
            code: SI_KERNEL,
            address: 0,
            trap: GENERAL_PROTECTION,
            error: u32::from(vector) << 3 | IDT,
            eip: page.start(),
        });
        ensure!(result == expected, "int {vector:#x}: {result:x?} instead of {expected:x?}");
    }
    Ok(())
}

/// The kernel's half of the address space: reading, writing and executing it.
pub fn kernel_memory(settings: &Settings) -> Result<()> {
    /// Where an i386 kernel's half begins (`CONFIG_PAGE_OFFSET`), with the default split.
    const KERNEL: u32 = 0xc000_0000;
    let system = nix::sys::utsname::uname()?;
    if system.machine() == "x86_64" {
        return Err(Lacking("under a 64-bit kernel all addresses are the process's own".into()).into());
    }
    attempt::prepare()?;
    let mut random = crate::random::Random::new(settings.seed);
    for round in 0..2000 {
        // Known corners first: the kernel's start, the fixed mappings, where lguest's Switcher may be.
        let address = match round {
            0 => KERNEL,
            1 => KERNEL + (1 << 20),
            2 => 0xffff_f000,
            3 => 0xffff_fffc,
            4 => 0xffc0_0000,
            5 => 0xffe0_0000,
            6 => 0xff80_0000,
            _ => KERNEL | random.number() & !3,
        };
        // SAFETY: a user process owns nothing there.
        let (loaded, stored) = unsafe { (attempt::load(address), attempt::store(address, 0)) };
        // SAFETY: either nothing can be executed there, or this is not the kernel's half and no i386.
        let executed = unsafe { attempt::call(address, 0) };
        for (what, result) in [("load", loaded), ("store", stored.map(|()| 0)), ("call", executed)] {
            let refused = result.is_err_and(|fault| {
                fault.signal == libc::SIGSEGV && [PAGE_FAULT, GENERAL_PROTECTION].contains(&fault.trap)
            });
            ensure!(refused, "{what} at {address:#x} came to {result:x?} instead of SIGSEGV");
        }
    }
    Ok(())
}

/// `SIGTRAP` behind every instruction while the process itself has set the trap flag.
pub fn trap_flag(_: &Settings) -> Result<()> {
    attempt::prepare()?;
    let page = Code::new()?;
    // pushf; or dword ptr [esp], 0x100; popf; nop: the trap comes behind the nop.
    let code = [0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90];
    for _ in 0..100 {
        // SAFETY: it sets a flag that the handler clears.
        let result = unsafe { page.run(&code, 0) };
        let eip = page.start() + 10;
        let expected =
            Err(Fault { signal: libc::SIGTRAP, code: TRAP_TRACE, address: eip, trap: DEBUG, error: 0, eip });
        ensure!(result == expected, "a step: {result:x?} instead of {expected:x?}");
    }
    Ok(())
}

/// What user mode may do without a fault, also under a hypervisor that traps it.
pub fn allowed_instructions(_: &Settings) -> Result<()> {
    const ALLOWED: &[(&str, &[u8])] = &[
        ("cpuid", &[0x31, 0xc0, 0x53, 0x0f, 0xa2, 0x5b]),
        ("rdtsc", &[0x0f, 0x31]),
        ("sub esp, 8; sgdt [esp]; add esp, 8", &[0x83, 0xec, 8, 0x0f, 1, 0x04, 0x24, 0x83, 0xc4, 8]),
        ("sub esp, 8; sidt [esp]; add esp, 8", &[0x83, 0xec, 8, 0x0f, 1, 0x0c, 0x24, 0x83, 0xc4, 8]),
        ("sldt ax", &[0x66, 0x0f, 0, 0xc0]),
        ("smsw ax", &[0x66, 0x0f, 1, 0xe0]),
        ("pushf; popf", &[0x9c, 0x9d]),
        // The interrupt flag is silently kept.
        ("pushf; and dword ptr [esp], ~0x200; popf", &[0x9c, 0x81, 0x24, 0x24, 0xff, 0xfd, 0xff, 0xff, 0x9d]),
        ("lar eax, eax", &[0x0f, 2, 0xc0]),
        ("lsl eax, eax", &[0x0f, 3, 0xc0]),
        ("verr ax; verw ax", &[0x0f, 0, 0xe0, 0x0f, 0, 0xe8]),
    ];
    attempt::prepare()?;
    let page = Code::new()?;
    for (name, code) in ALLOWED {
        // SAFETY: they leave everything but registers as it was.
        let result = unsafe { page.run(code, 0) };
        ensure!(result.is_ok(), "{name}: {result:x?}");
    }
    // pushf; pop eax: user mode runs with interrupts on, and sees it so.
    // SAFETY: as above.
    let flags = unsafe { page.run(&[0x9c, 0x58], 0) };
    ensure!(flags.is_ok_and(|flags| flags & 0x200 != 0), "EFLAGS in user mode are {flags:x?}");
    Ok(())
}
