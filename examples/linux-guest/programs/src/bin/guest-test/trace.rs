//! A process under `ptrace`: single steps, breakpoints, memory, registers, system calls.

use std::arch::{asm, global_asm};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Settings;
use crate::process::Worker;
use crate::runner::Lacking;

global_asm!(
    ".globl guest_test_traced, guest_test_traced_add, guest_test_traced_loop, guest_test_traced_end",
    // A function whose every step is known; edx and ecx are its to use.
    "guest_test_traced:",
    "mov eax, 5",
    "guest_test_traced_add:",
    "add eax, 1",
    "mov ecx, 3",
    "guest_test_traced_loop:",
    "2:",
    "dec ecx",
    // By a local label: the short form.
    "jnz 2b",
    "push eax",
    "mov eax, {getppid}",
    "int 0x80",
    "pop eax",
    "guest_test_traced_end:",
    "ret",
    getppid = const libc::SYS_getppid,
);

unsafe extern "C" {
    fn guest_test_traced();
    fn guest_test_traced_add();
    fn guest_test_traced_loop();
    fn guest_test_traced_end();
}

/// Lengths of the instructions from `guest_test_traced` to its `ret`, in the order of execution; the last of the
/// loop jumps back but for the last time.
const STEPS: [i32; 14] = [5, 3, 5, 1, -1, 1, -1, 1, 2, 1, 5, 2, 1, 0];

const INT3: i32 = 0xcc;

fn address(function: unsafe extern "C" fn()) -> usize {
    function as *const () as usize
}

/// What the traced process works with.
static mut WORDS: [i32; 3] = [111, 222, 333];

/// Makes a process that waits to be traced, then calls the function and ends with its result.
fn traced() -> Result<Worker> {
    let worker = Worker::spawn(|| {
        ptrace::traceme()?;
        raise(Signal::SIGSTOP)?;
        let result: i32;
        // SAFETY: the function keeps to the registers named here.
        unsafe {
            asm!("call {function}", function = sym guest_test_traced, out("eax") result, out("ecx") _);
        }
        // SAFETY: one thread; volatile, as the tracer may have changed them.
        let words = unsafe { (&raw const WORDS).read_volatile() };
        ensure!(result == 6 && words[1] == 222, "result {result}, words {words:?}");
        Ok(())
    })?;
    stopped_by(worker.pid, Signal::SIGSTOP)?;
    Ok(worker)
}

fn stopped_by(pid: Pid, signal: Signal) -> Result<()> {
    match waitpid(pid, None)? {
        WaitStatus::Stopped(_, got) if got == signal => Ok(()),
        status => bail!("the traced process is {status:?} instead of stopped by {signal}"),
    }
}

fn eip(pid: Pid) -> Result<usize> {
    Ok(ptrace::getregs(pid).context("its registers cannot be read")?.eip as usize)
}

/// Lets it go on until it gets to `place`, by a breakpoint there; the breakpoint is gone then.
fn run_to(pid: Pid, place: usize) -> Result<()> {
    let here = place as ptrace::AddressType;
    let old = ptrace::read(pid, here).context("its code cannot be read")?;
    ptrace::write(pid, here, old & !0xff | INT3).context("its code cannot be written")?;
    ptrace::cont(pid, None)?;
    stopped_by(pid, Signal::SIGTRAP).context("at a breakpoint")?;
    ptrace::write(pid, here, old)?;
    let mut registers = ptrace::getregs(pid)?;
    ensure!(
        registers.eip as usize == place + 1,
        "it stopped at {:#x} instead of behind the breakpoint at {place:#x}",
        registers.eip
    );
    registers.eip -= 1;
    ptrace::setregs(pid, registers).context("its registers cannot be written")
}

fn finish(worker: Worker) -> Result<()> {
    ptrace::cont(worker.pid, None)?;
    worker.join().context("the traced process")
}

/// Every step of a function, among them a system call.
pub fn single_steps(_: &Settings) -> Result<()> {
    for _ in 0..20 {
        let worker = traced()?;
        let mut expected = address(guest_test_traced);
        run_to(worker.pid, expected)?;
        let loop_start = address(guest_test_traced_loop);
        for (number, length) in STEPS.into_iter().enumerate() {
            ensure!(
                eip(worker.pid)? == expected,
                "step {number} is at {:#x} instead of {expected:#x}",
                eip(worker.pid)?
            );
            if length == 0 {
                break;
            }
            expected = if length < 0 { loop_start } else { expected + length as usize };
            ptrace::step(worker.pid, None)?;
            stopped_by(worker.pid, Signal::SIGTRAP).with_context(|| format!("in step {number}"))?;
        }
        let end = address(guest_test_traced_end);
        ensure!(expected == end, "the steps lead to {expected:#x} instead of {end:#x}");
        finish(worker)?;
    }
    Ok(())
}

/// A process that is stepped through much of the C library: it comes to its end with the right result.
pub fn long_steps(_: &Settings) -> Result<()> {
    let worker = Worker::spawn(|| {
        ptrace::traceme()?;
        raise(Signal::SIGSTOP)?;
        let text = (0..40).map(|number: i32| format!("{:x}", number * 12345)).collect::<Vec<_>>().join(",");
        ensure!(text.ends_with("75885,786be") || text.contains(",3039,"), "{text}");
        Ok(())
    })?;
    stopped_by(worker.pid, Signal::SIGSTOP)?;
    let mut steps = 0;
    while steps < 20_000 {
        ptrace::step(worker.pid, None)?;
        match waitpid(worker.pid, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => steps += 1,
            WaitStatus::Exited(..) => bail!("it ended after {steps} steps: too little work to step through"),
            status => bail!("after {steps} steps it is {status:?}"),
        }
    }
    finish(worker)
}

/// Reads and writes of a traced process's memory, read-only code among it, and of its registers.
pub fn memory_and_registers(_: &Settings) -> Result<()> {
    let worker = traced()?;
    let pid = worker.pid;
    let words = (&raw const WORDS) as usize;
    let word = |index: usize| (words + 4 * index) as ptrace::AddressType;
    ensure!(i64::from(ptrace::read(pid, word(0))?) == 111, "a word of its data");
    ptrace::write(pid, word(0), 444)?;
    ensure!(i64::from(ptrace::read(pid, word(0))?) == 444, "a word of its data that was written");
    // SAFETY: one thread; the tracer's own copy.
    let own = unsafe { (&raw const WORDS).read_volatile() };
    ensure!(own[0] == 111, "the word was written in the tracer's memory too");
    ensure!(ptrace::read(pid, 0x10 as _).is_err(), "memory that is not mapped can be read");

    run_to(pid, address(guest_test_traced_add))?;
    let mut registers = ptrace::getregs(pid)?;
    ensure!(registers.eax == 5, "eax is {:#x} instead of 5", registers.eax);
    // The function adds 1 twice this way, and starts with less.
    registers.eax = 4;
    registers.ecx = 0x1234_5678;
    ptrace::setregs(pid, registers)?;
    ptrace::step(pid, None)?;
    stopped_by(pid, Signal::SIGTRAP)?;
    let mut registers = ptrace::getregs(pid)?;
    ensure!(
        registers.eax == 5 && registers.ecx == 0x1234_5678,
        "after a step with registers written eax is {:#x}, ecx {:#x}",
        registers.eax,
        registers.ecx
    );
    registers.eip = address(guest_test_traced_add) as _;
    ptrace::setregs(pid, registers)?;
    finish(worker)
}

/// Stops at every system call, with its number and its result.
pub fn system_calls(_: &Settings) -> Result<()> {
    let worker = traced()?;
    let pid = worker.pid;
    run_to(pid, address(guest_test_traced))?;
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
    let at_call = || -> Result<libc::user_regs_struct> {
        ptrace::syscall(pid, None)?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceSyscall(_) => Ok(ptrace::getregs(pid)?),
            status => bail!("it is {status:?} instead of stopped at a system call"),
        }
    };
    let (before, after) = (at_call()?, at_call()?);
    let own = nix::unistd::getpid().as_raw();
    ensure!(
        i64::from(before.orig_eax) == i64::from(libc::SYS_getppid),
        "it calls {} instead of getppid",
        before.orig_eax
    );
    ensure!(after.eax == own as _, "its getppid gives {} instead of {own}", after.eax);
    finish(worker)
}

/// A watchpoint in the debug registers, where there are any.
pub fn watchpoint(_: &Settings) -> Result<()> {
    /// `offsetof(struct user, u_debugreg)` of i386.
    const DEBUG_REGISTERS: usize = 252;
    /// Local 0 enabled; a write; four bytes.
    const CONTROL: i32 = 1 | 0b01 << 16 | 0b11 << 18;
    let watched = (&raw const WORDS) as usize + 8;
    let worker = Worker::spawn(|| {
        ptrace::traceme()?;
        raise(Signal::SIGSTOP)?;
        // SAFETY: one thread.
        unsafe { (&raw mut WORDS[2]).write_volatile(334) };
        Ok(())
    })?;
    let pid = worker.pid;
    stopped_by(pid, Signal::SIGSTOP)?;
    let poke = |index: usize, value: i32| {
        // SAFETY: it changes a register of the traced process; the kernel checks the value.
        let done =
            unsafe { libc::ptrace(libc::PTRACE_POKEUSER, pid.as_raw(), DEBUG_REGISTERS + 4 * index, value) };
        nix::errno::Errno::result(done)
    };
    if let Err(errno) = poke(0, watched as i32).and_then(|_| poke(7, CONTROL)) {
        finish(worker)?;
        return Err(Lacking(format!("debug registers: setting one came to {errno}")).into());
    }
    ptrace::cont(pid, None)?;
    stopped_by(pid, Signal::SIGTRAP).context("by a watchpoint")?;
    ensure!(i64::from(ptrace::read(pid, watched as _)?) == 334, "it stopped before the write was done");
    finish(worker)
}
