//! Acts that leave something in the processor's registers.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use arch_i386::hypercall::Hypercall;

use crate::Failure;
use crate::guest::{Device, Memory, beginning, each_its_own};
use crate::process::{Child, pin_to_first_processor};
use crate::program::{Step, debug_handler};

/// `struct user_desc` of asm/ldt.h.
#[repr(C)]
struct UserDesc {
    entry: u32,
    base: u32,
    limit: u32,
    flags: u32,
}

/// Sets an entry of this process's LDT.
fn modify_ldt(function: i32, entry: &mut UserDesc) -> Result<(), Failure> {
    // SAFETY: the structure is valid for reads.
    match unsafe {
        libc::syscall(libc::SYS_modify_ldt, function, ptr::from_mut(entry), size_of::<UserDesc>())
    } {
        0 => Ok(()),
        _ => Err(format!("modify_ldt: {}", io::Error::last_os_error()).into()),
    }
}

core::arch::global_asm!(
    ".pushsection .text.hostile_ldt_attack, \"ax\"",
    ".globl hostile_ldt_attack",
    "hostile_ldt_attack:",
    "    push ebx",
    "    push esi",
    "    push edi",
    "    mov edi, gs",
    "    mov eax, 7",
    "    mov gs, eax",
    "    mov eax, {modify_ldt}",
    "    mov ebx, 0x11",
    "    mov ecx, [esp + 16]",
    "    mov edx, 16",
    "    int 0x80",
    "    mov eax, {read}",
    "    mov ebx, [esp + 20]",
    "    mov ecx, [esp + 24]",
    "    mov edx, [esp + 28]",
    "    int 0x80",
    "    mov edx, gs",
    "    mov ecx, [esp + 32]",
    "    mov [ecx], edx",
    "    mov gs, edi",
    "    pop edi",
    "    pop esi",
    "    pop ebx",
    "    ret",
    ".popsection",
    modify_ldt = const libc::SYS_modify_ldt,
    read = const libc::SYS_read,
);

unsafe extern "C" {
    /// Loads %gs from entry 0 of the LDT, sets that entry to `entry`, reads from `device`, and puts %gs back, by which
    /// the C library finds its thread: no code of it may run in between. Returns what `read` has returned.
    fn hostile_ldt_attack(entry: &mut UserDesc, device: i32, text: *mut u8, size: usize, gs: &mut u32)
    -> i32;
}

/// The guest's process has a selector in %gs that cannot be loaded any more when the guest is left.
pub fn ldt() -> Result<(), Failure> {
    for _ in 0..20 {
        let child = Child::run(|| {
            let memory = Memory::new()?;
            let [first, second] = beginning();
            let program =
                [first, second, Step::Touch { start: 0x40_0000, end: 0x48_0000, stride: 4096 }, Step::OFF];
            memory.load(&program, 1, each_its_own);
            let device = Device::open()?;
            device.initialize(&memory)?;
            // 32 bits, in pages.
            modify_ldt(1, &mut UserDesc { entry: 0, base: 0, limit: 0xf_ffff, flags: 1 | 1 << 4 | 1 << 6 })?;
            // Empty: no rights to read and execute, not present.
            let mut empty = UserDesc { entry: 0, base: 0, limit: 0, flags: 1 << 3 | 1 << 5 };
            let mut text = [0_u8; 512];
            let mut gs = 0;
            // SAFETY: the pointers are valid for what the system calls and the function store there.
            let length = unsafe {
                hostile_ldt_attack(&mut empty, device.0.as_raw_fd(), text.as_mut_ptr(), text.len(), &mut gs)
            };
            println!("%gs is {gs:#x} afterwards; read returned {length}: {}", String::from_utf8_lossy(&text));
            if length > 4 { Ok(()) } else { Err("the guest did not run to its end".into()) }
        })?;
        if child.wait() != 0 {
            return Err("the child process did not end well".into());
        }
    }
    Ok(())
}

/// A guest that single-steps, then switches itself off.
pub fn single_step() -> Result<(), Failure> {
    pin_to_first_processor();
    let memory = Memory::new()?;
    let [first, second] = beginning();
    let handler = debug_handler();
    let gate = [1, 0x61 << 16 | handler & 0xffff, handler & 0xffff_0000 | 0x8f00, 0];
    let program = [first, second, Step::Call(Hypercall::LoadIdtEntry, gate), Step::Stepped(1000), Step::OFF];
    memory.load(&program, 1, each_its_own);
    let device = Device::open()?;
    device.initialize(&memory)?;
    let end = device.run()?;
    if end == "CRASH: " { Ok(()) } else { Err(format!("the guest: {end}").into()) }
}

/// The word that is watched.
static WATCHED: AtomicU32 = AtomicU32::new(0);

/// Offset of the debug registers in `struct user` of i386.
const DEBUG_REGISTERS: usize = 252;
/// DR6.BS: the processor has stepped.
const SINGLE_STEP: i64 = 1 << 14;

/// Sets a debug register of a process that we trace, which is stopped.
pub fn poke_debug_register(pid: libc::pid_t, register: usize, value: usize) -> Result<(), Failure> {
    // SAFETY: no memory of ours is concerned.
    match unsafe { libc::ptrace(libc::PTRACE_POKEUSER, pid, DEBUG_REGISTERS + 4 * register, value) } {
        0 => Ok(()),
        _ => Err(format!("debug register {register}: {}", io::Error::last_os_error()).into()),
    }
}

/// After a guest that single-steps, a debugger's watchpoint is hit, once in user mode and once in the kernel: DR6 reports
/// the watchpoint and nothing else. (The kernel itself warns otherwise.)
pub fn debug_registers() -> Result<(), Failure> {
    pin_to_first_processor();
    let mut pipe = [0; 2];
    // SAFETY: valid for writes.
    if unsafe { libc::pipe(pipe.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: both are ours alone.
    let [reader, writer] = pipe.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let watched = Child::run(|| {
        // SAFETY: no memory is concerned.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGSTOP) };
        WATCHED.store(1, Ordering::SeqCst);
        let mut reader = std::fs::File::from(reader.try_clone()?);
        // SAFETY: any bytes make a word, and nobody else is at it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(WATCHED.as_ptr().cast::<u8>(), 4) };
        reader.read_exact(bytes)?;
        Ok(())
    })?;
    let pid = watched.pid();
    let stopped = || {
        let mut status = 0;
        // SAFETY: valid for writes; our own child.
        unsafe { libc::waitpid(pid, &mut status, 0) };
        status
    };
    let poke = |register, value| poke_debug_register(pid, register, value);
    // SAFETY: as above.
    let go_on = || unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0, 0) };
    stopped();
    poke(0, WATCHED.as_ptr() as usize)?;
    // Local, when 4 bytes are written.
    poke(7, 1 | 1 << 16 | 3 << 18)?;
    for place in ["user mode", "the kernel"] {
        let guest = Child::run(single_step)?;
        if guest.wait() != 0 {
            return Err("the guest did not end well".into());
        }
        if place == "the kernel" {
            io::Write::write_all(&mut std::fs::File::from(writer.try_clone()?), b"abcd")?;
        }
        go_on();
        let status = stopped();
        if libc::WIFEXITED(status) && place == "the kernel" {
            // Linux reports no watchpoint that the kernel itself has hit. Had it found the guest's step there, it would
            // have warned, which the kernel's log shows.
            println!("the watchpoint in {place}: the process has gone on to its end");
            return Ok(());
        }
        // SAFETY: as above.
        let dr6 = i64::from(unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, pid, DEBUG_REGISTERS + 24, 0) });
        println!("the watchpoint in {place}: status {status:#x}, DR6 {dr6:#x}");
        if !libc::WIFSTOPPED(status) || libc::WSTOPSIG(status) != libc::SIGTRAP {
            return Err("the watchpoint was not hit".into());
        }
        if dr6 & SINGLE_STEP != 0 {
            return Err("DR6 tells of the guest's single step".into());
        }
        poke(6, 0)?;
    }
    go_on();
    Ok(())
}
