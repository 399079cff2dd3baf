//! Segments: selectors that may not be loaded, and those of one's own in the GDT (`set_thread_area`) and the LDT
//! (`modify_ldt`), which belong to a thread and must be there whenever it runs.

use std::arch::asm;
use std::ptr;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use crate::Settings;
use crate::attempt::{self, Code, Fault};
use crate::process;
use crate::random::Random;
use crate::runner::Lacking;

const SI_KERNEL: i32 = 0x80;
const NOT_PRESENT: u32 = 11;
const STACK_SEGMENT: u32 = 12;
const GENERAL_PROTECTION: u32 = 13;
/// Bits of a selector that an error code does not have: the privilege level.
const LEVEL: u32 = 3;
/// The bit of a selector that means the local table.
const LOCAL: u32 = 1 << 2;
const PROCESSES: u32 = 4;

/// `struct user_desc` of `asm/ldt.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct UserDesc {
    entry_number: u32,
    base: u32,
    limit: u32,
    flags: u32,
}

/// Bits of [`UserDesc::flags`].
mod flag {
    pub const SEG_32BIT: u32 = 1 << 0;
    pub const DATA: u32 = 0 << 1;
    pub const CODE: u32 = 2 << 1;
    pub const READ_EXEC_ONLY: u32 = 1 << 3;
    pub const LIMIT_IN_PAGES: u32 = 1 << 4;
    pub const SEG_NOT_PRESENT: u32 = 1 << 5;
}

fn fault(signal: i32, trap: u32, error: u32, eip: u32) -> Fault {
    Fault { signal, code: SI_KERNEL, address: 0, trap, error, eip }
}

/// Code that loads a segment register from ax, runs something with it and puts the old one back, and where the load
/// is in it.
fn with_segment(register: &str, body: &[u8]) -> (Vec<u8>, u32) {
    let (push, load, pop): (&[u8], u8, &[u8]) = match register {
        "es" => (&[0x06], 0xc0, &[0x07]),
        // Kept in ecx: another segment may be a good one, but its stack is another one too.
        "ss" => (&[0x8c, 0xd1], 0xd0, &[0x8e, 0xd1]),
        "ds" => (&[0x1e], 0xd8, &[0x1f]),
        "fs" => (&[0x0f, 0xa0], 0xe0, &[0x0f, 0xa1]),
        "gs" => (&[0x0f, 0xa8], 0xe8, &[0x0f, 0xa9]),
        _ => unreachable!("no segment register {register}"),
    };
    ([push, &[0x8e, load], body, pop].concat(), push.len() as u32)
}

/// Selectors of all kinds into every segment register, far calls and returns to all kinds of code segments.
pub fn bad_selectors(_: &Settings) -> Result<()> {
    attempt::prepare()?;
    let page = Code::new()?;
    let start = page.start();
    for register in ["ds", "es", "fs", "gs", "ss"] {
        let (code, at) = with_segment(register, &[]);
        // SAFETY: it puts the register back, or the attempt does.
        let run = |selector| unsafe { page.run(&code, selector) };
        for selector in 0..=LEVEL {
            let result = run(selector);
            let refused = Err(fault(libc::SIGSEGV, GENERAL_PROTECTION, 0, start + at));
            let right = if register == "ss" { result == refused } else { result.is_ok() };
            ensure!(right, "mov {register}, {selector:#x}: {result:x?}");
        }
        // Beyond Linux's table of 32 entries, and in a local table that is not there.
        for selector in [0x100, 0x103, 0x1003, 0xfff8, 0xfffb, LOCAL, LOCAL | LEVEL, 0xf0 | LOCAL, 0xffff] {
            let expected = Err(fault(libc::SIGSEGV, GENERAL_PROTECTION, selector & !LEVEL, start + at));
            let result = run(selector);
            ensure!(
                result == expected,
                "mov {register}, {selector:#x}: {result:x?} instead of {expected:x?}"
            );
        }
        // What else the table holds is the kernel's choice; it may be refused, but nothing worse.
        for selector in (8..0x100).filter(|selector| selector & LOCAL == 0) {
            if let Err(got) = run(selector) {
                let bad = fault(libc::SIGSEGV, GENERAL_PROTECTION, selector & !LEVEL, start + at);
                let not_present = Fault { signal: libc::SIGBUS, trap: NOT_PRESENT, ..bad };
                let allowed = got == bad || got == not_present;
                ensure!(allowed, "mov {register}, {selector:#x}: {got:x?}");
            }
        }
    }
    far_transfers(&page)
}

/// Nobody gets into the kernel's code segments, or out of the table, by a far call or an `iret`.
fn far_transfers(page: &Code) -> Result<()> {
    let start = page.start();
    for selector in (0..0x110u32).step_by(8) {
        let [low, high] = (selector as u16).to_le_bytes();
        // lcall selector:0
        // SAFETY: a return to address 0 at worst, which faults.
        let result = unsafe { page.run(&[0x9a, 0, 0, 0, 0, low, high], 0) };
        ensure!(
            result.is_err_and(|got| [NOT_PRESENT, GENERAL_PROTECTION].contains(&got.trap) || got.eip == 0),
            "lcall {selector:#x}:0: {result:x?}"
        );
        // pushf; push selector; push 0; iret: to a more privileged level, which iret cannot do.
        // SAFETY: as above.
        let result = unsafe { page.run(&[0x9c, 0x68, low, high, 0, 0, 0x6a, 0, 0xcf], 0) };
        let expected = Err(fault(libc::SIGSEGV, GENERAL_PROTECTION, selector, start + 8));
        ensure!(result == expected, "iret to {selector:#x}:0: {result:x?} instead of {expected:x?}");
    }
    Ok(())
}

/// Installs an entry of the local table; it is `None` that removes one.
fn set_local(entry: u32, description: Option<(u32, u32, u32)>) -> Result<()> {
    /// The function of `modify_ldt` that keeps all flags.
    const WRITE: u32 = 0x11;
    // What removes an entry: everything zero, but for "not present" and "read-only".
    let (base, limit, flags) = description.unwrap_or((0, 0, flag::SEG_NOT_PRESENT | flag::READ_EXEC_ONLY));
    let entry = UserDesc { entry_number: entry, base, limit, flags };
    // SAFETY: it reads the structure. Segments of this process only harm it when loaded.
    let done = unsafe { libc::syscall(libc::SYS_modify_ldt, WRITE, &raw const entry, size_of::<UserDesc>()) };
    match Errno::result(done) {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS) => {
            Err(Lacking("modify_ldt (CONFIG_MODIFY_LDT_SYSCALL) is not in this kernel".into()).into())
        }
        Err(errno) => Err(errno).context("modify_ldt"),
    }
}

fn local(entry: u32) -> u32 {
    entry << 3 | LOCAL | LEVEL
}

/// A page of words, each its index plus an offset.
fn words(offset: u32) -> Box<[u32; 1024]> {
    Box::new(std::array::from_fn(|index| index as u32 + offset))
}

/// The local table: segments with a base, segments that are not present, segments of code, and none.
pub fn local_table(_: &Settings) -> Result<()> {
    attempt::prepare()?;
    let page = Code::new()?;
    let memory = words(7000);
    let base = ptr::from_ref(&*memory) as u32;
    let data = flag::SEG_32BIT | flag::DATA;
    // mov eax, fs:[edx], with the offset from the code.
    let read = |offset: u32| {
        let body = [&[0x64, 0xa1][..], &offset.to_le_bytes()].concat();
        with_segment("fs", &body)
    };
    // SAFETY: the code only loads segments, reads and writes `memory`, or faults.
    let run = |code: &[u8], entry| unsafe { page.run(code, local(entry)) };

    // Limits and rights are not looked at: QEMU's emulated processors do not check them.
    set_local(3, Some((base, 4095, data)))?;
    for (offset, expected) in [(0, 7000), (4, 7001), (4092, 8023)] {
        let result = run(&read(offset).0, 3);
        ensure!(result == Ok(expected), "fs:[{offset}]: {result:x?} instead of {expected:#x}");
    }
    // Not present: an exception of its own, one more for the stack.
    set_local(6, Some((base, 4095, data | flag::SEG_NOT_PRESENT)))?;
    for (register, trap) in [("ds", NOT_PRESENT), ("gs", NOT_PRESENT), ("ss", STACK_SEGMENT)] {
        let (code, at) = with_segment(register, &[]);
        let expected = Err(fault(libc::SIGBUS, trap, local(6) & !LEVEL, page.start() + at));
        let result = run(&code, 6);
        ensure!(result == expected, "a missing segment in {register}: {result:x?} instead of {expected:x?}");
    }
    // Code at address 0 of a segment: mov eax, 1234; lret.
    let routine = Code::new()?;
    // SAFETY: plain code, put there and run as the near routine that it is at first.
    let plain = unsafe { routine.run(&[0xb8, 0xd2, 4, 0, 0, 0xc3, 0xb8, 0x2e, 0x16, 0, 0, 0xcb], 0) };
    ensure!(plain == Ok(1234), "the routine gives {plain:x?}");
    set_local(7, Some((routine.start(), 4095, flag::SEG_32BIT | flag::CODE)))?;
    let [low, high] = (local(7) as u16).to_le_bytes();
    let result = run(&[0x9a, 6, 0, 0, 0, low, high], 0);
    ensure!(result == Ok(5678), "a far call into a code segment: {result:x?}");
    // Gone again.
    set_local(3, None)?;
    let (code, at) = read(0);
    let expected = Err(fault(libc::SIGSEGV, GENERAL_PROTECTION, local(3) & !LEVEL, page.start() + at));
    let result = run(&code, 3);
    ensure!(result == expected, "a removed segment: {result:x?} instead of {expected:x?}");
    Ok(())
}

/// A stack segment of 16 bits, from which the kernel must come back with all of the stack pointer
/// ("ESPFIX": `iret` restores 16 bits only).
pub fn small_stack(_: &Settings) -> Result<()> {
    attempt::prepare()?;
    let page = Code::new()?;
    let small = Some((0, 0xfffff, flag::DATA | flag::LIMIT_IN_PAGES));
    match set_local(1, small) {
        Err(error) if error.downcast_ref() == Some(&Errno::EINVAL) => {
            return Err(Lacking("16-bit segments (CONFIG_X86_16BIT) are not in this kernel".into()).into());
        }
        other => other?,
    }
    // mov ecx, ss; mov ss, ax; mov ebx, esp; mov eax, 20 (getpid); int 0x80; xor ebx, esp; mov ss, ecx;
    // mov eax, ebx: nothing of the stack pointer may have changed.
    let code = [
        0x8c, 0xd1, 0x8e, 0xd0, 0x89, 0xe3, 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x31, 0xe3, 0x8e, 0xd1, 0x89, 0xd8,
    ];
    for _ in 0..1000 {
        // SAFETY: it uses no stack while the segment is another one, and puts it back.
        let result = unsafe { page.run(&code, local(1)) };
        ensure!(result == Ok(0), "a system call on a 16-bit stack changed the stack pointer by {result:x?}");
    }
    Ok(())
}

/// The words that a process reads through its segments, again and again while others run.
///
/// `selector` loads fs; the segment begins at `memory`.
fn read_while_others_run(selector: u32, memory: &[u32; 1024], random: &mut Random) -> Result<()> {
    for round in 0..300 {
        let index = random.below(memory.len());
        let value: u32;
        // SAFETY: it reads through a segment that begins at `memory` and does not go on behind it; fs is not
        // used by compiled code of i386 Linux.
        unsafe {
            asm!(
                "mov fs, {selector:x}",
                "mov eax, {sched_yield}",
                "int 0x80",
                "mov {value}, fs:[{offset}]",
                selector = in(reg) selector,
                offset = in(reg) index * 4,
                value = out(reg) value,
                sched_yield = const libc::SYS_sched_yield,
                out("eax") _,
            );
        }
        ensure!(
            value == memory[index],
            "round {round}: word {index} of a segment is {value:#x} instead of {:#x}",
            memory[index]
        );
    }
    Ok(())
}

/// Entries of the local table at the same place in several processes.
pub fn local_table_switches(settings: &Settings) -> Result<()> {
    // Whether it can be done at all.
    set_local(0, None)?;
    process::in_parallel(PROCESSES, |number| {
        let mut random = Random::new(settings.seed ^ u64::from(number));
        for round in 0..20 {
            let memory = words(number << 20 | round << 10);
            let base = ptr::from_ref(&*memory) as u32;
            set_local(round % 5, Some((base, 4095, flag::SEG_32BIT | flag::DATA)))?;
            read_while_others_run(local(round % 5), &memory, &mut random)?;
            // A forked process has the table too.
            process::Worker::spawn(|| read_while_others_run(local(round % 5), &memory, &mut random))?
                .join()
                .context("in a forked process")?;
        }
        Ok(())
    })
}

/// Entries of the global table that belong to a thread.
pub fn thread_areas(settings: &Settings) -> Result<()> {
    process::in_parallel(PROCESSES, |number| {
        let mut random = Random::new(settings.seed ^ u64::from(number));
        let mut entry = u32::MAX;
        for round in 0..20 {
            let memory = words(number << 20 | round << 10);
            let base = ptr::from_ref(&*memory) as u32;
            let mut area =
                UserDesc { entry_number: entry, base, limit: 4095, flags: flag::SEG_32BIT | flag::DATA };
            // SAFETY: it reads the structure and writes the entry's number; the entry is a free one or ours.
            let done = unsafe { libc::syscall(libc::SYS_set_thread_area, &raw mut area) };
            Errno::result(done).context("set_thread_area")?;
            entry = area.entry_number;
            read_while_others_run(entry << 3 | LEVEL, &memory, &mut random)?;
            process::Worker::spawn(|| read_while_others_run(entry << 3 | LEVEL, &memory, &mut random))?
                .join()
                .context("in a forked process")?;
        }
        Ok(())
    })
}
