//! Code that may fault, and what the kernel reports of the fault.
//!
//! [`call`] runs a piece of machine code. If that brings a signal on itself, the handler keeps what the signal
//! reports and goes on behind the call, with registers and segments as they were. One attempt at a time, in
//! processes with one thread.

use std::arch::global_asm;
use std::cell::UnsafeCell;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The signals that faults are delivered as.
const SIGNALS: [Signal; 5] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP];

const ALTERNATE_STACK: usize = 32 << 10;

/// EFLAGS that code under test may have left behind: trap, direction, nested task, alignment check.
const UNWANTED_FLAGS: i32 = 1 << 8 | 1 << 10 | 1 << 14 | 1 << 18;

/// A fault, as its signal reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Number of the signal.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u32,
    /// Number of the exception.
    pub trap: u32,
    /// The exception's error code.
    pub error: u32,
    /// Where the process was, or would have gone on.
    pub eip: u32,
}

/// Bits of a page fault's error code (processor manual, volume 3, "Page-Fault Exceptions").
pub mod page_fault {
    /// The page was present: rights were missing.
    pub const PRESENT: u32 = 1 << 0;
    /// It was a write.
    pub const WRITE: u32 = 1 << 1;
    /// It came from user mode.
    pub const USER: u32 = 1 << 2;
}

global_asm!(
    ".globl guest_test_attempt, guest_test_attempt_end, guest_test_load, guest_test_store",
    // guest_test_attempt(entry, argument): calls entry with the argument in eax.
    "guest_test_attempt:",
    "push ebp",
    "push ebx",
    "push esi",
    "push edi",
    "mov ecx, [esp + 20]",
    "mov eax, [esp + 24]",
    "mov [{stack}], esp",
    "call ecx",
    // Where the handler goes on.
    "guest_test_attempt_end:",
    "mov esp, [{stack}]",
    "pop edi",
    "pop esi",
    "pop ebx",
    "pop ebp",
    "ret",
    // Entries for memory: the argument is the address, or points at address and value.
    "guest_test_load:",
    "mov eax, [eax]",
    "ret",
    "guest_test_store:",
    "mov edx, [eax + 4]",
    "mov eax, [eax]",
    "mov [eax], edx",
    "ret",
    stack = sym STACK,
);

unsafe extern "C" {
    fn guest_test_attempt(entry: u32, argument: u32) -> u32;
    fn guest_test_attempt_end();
    fn guest_test_load();
    fn guest_test_store();
}

/// The stack pointer inside the attempt's frame.
static STACK: AtomicU32 = AtomicU32::new(0);
/// Whether an attempt is being made.
static ARMED: AtomicBool = AtomicBool::new(false);
/// Whether it has faulted.
static FAULTED: AtomicBool = AtomicBool::new(false);
static SHARED: Shared = Shared(UnsafeCell::new(State { fault: None, segments: [0; 6] }));

struct State {
    fault: Option<Fault>,
    /// Segment registers to go on with: gs, fs, es, ds, ss, cs, in the order of the signal context.
    segments: [i32; 6],
}

/// Between a handler and the code that it interrupts, in one thread.
struct Shared(UnsafeCell<State>);

// SAFETY: programs of one thread only, see the module.
unsafe impl Sync for Shared {}

/// Gets ready for attempts in this process and in those that it forks.
pub fn prepare() -> Result<()> {
    let stack = Box::leak(vec![0u8; ALTERNATE_STACK].into_boxed_slice());
    let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack lives for ever.
    let set = unsafe { libc::sigaltstack(&raw const alternate, ptr::null_mut()) };
    nix::errno::Errno::result(set).context("no alternate signal stack")?;
    // SAFETY: no attempt is being made, so that the handler leaves it alone.
    unsafe { (*SHARED.0.get()).segments = segments() };
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(handle), flags, SigSet::empty());
    for signal in SIGNALS {
        // SAFETY: the handler only touches what is its own.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("no handler for {signal}"))?;
    }
    Ok(())
}

/// The segment registers gs, fs, es, ds, ss, cs.
fn segments() -> [i32; 6] {
    let mut values = [0i32; 6];
    // SAFETY: reading selectors has no effect.
    unsafe {
        std::arch::asm!("mov {0:e}, gs", out(reg) values[0]);
        std::arch::asm!("mov {0:e}, fs", out(reg) values[1]);
        std::arch::asm!("mov {0:e}, es", out(reg) values[2]);
        std::arch::asm!("mov {0:e}, ds", out(reg) values[3]);
        std::arch::asm!("mov {0:e}, ss", out(reg) values[4]);
        std::arch::asm!("mov {0:e}, cs", out(reg) values[5]);
    }
    values
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if !ARMED.load(Ordering::Relaxed) {
        // A fault of the test program itself: let it happen again without a handler.
        // SAFETY: sigaction is async-signal-safe, and the default action needs no more than this.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: the kernel passes a siginfo and a ucontext, and the state is ours while an attempt is made.
    let (info, context, state) =
        unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>(), &mut *SHARED.0.get()) };
    let registers = &mut context.uc_mcontext.gregs;
    state.fault = Some(Fault {
        signal,
        code: info.si_code,
        // SAFETY: all signals of faults have an address.
        address: unsafe { info.si_addr() } as u32,
        trap: registers[libc::REG_TRAPNO as usize] as u32,
        error: registers[libc::REG_ERR as usize] as u32,
        eip: registers[libc::REG_EIP as usize] as u32,
    });
    FAULTED.store(true, Ordering::Relaxed);
    registers[libc::REG_EIP as usize] = guest_test_attempt_end as *const () as i32;
    registers[libc::REG_EFL as usize] &= !UNWANTED_FLAGS;
    let places = [libc::REG_GS, libc::REG_FS, libc::REG_ES, libc::REG_DS, libc::REG_SS, libc::REG_CS];
    for (place, value) in places.into_iter().zip(state.segments) {
        registers[place as usize] = value;
    }
}

/// Calls the code at `entry` with `argument` in eax. Returns its eax, or the fault that ended it.
///
/// # Safety
/// Unless it faults, the code must return, with segments and flags as they were; registers and the stack
/// pointer are restored here. It may only write to what nobody else has. [`prepare`] has been called.
pub unsafe fn call(entry: u32, argument: u32) -> Result<u32, Fault> {
    FAULTED.store(false, Ordering::Relaxed);
    ARMED.store(true, Ordering::SeqCst);
    // SAFETY: the caller vouches for the code.
    let value = unsafe { guest_test_attempt(entry, argument) };
    ARMED.store(false, Ordering::SeqCst);
    if FAULTED.load(Ordering::Relaxed) {
        // SAFETY: the handler is done.
        if let Some(fault) = unsafe { (*SHARED.0.get()).fault.take() } {
            return Err(fault);
        }
    }
    Ok(value)
}

/// Reads the word at `address`, mapped or not.
pub fn load(address: u32) -> Result<u32, Fault> {
    // SAFETY: a read of memory, which at worst faults.
    unsafe { call(guest_test_load as *const () as u32, address) }
}

/// Writes the word at `address`.
///
/// # Safety
/// Nobody else may have the memory there.
pub unsafe fn store(address: u32, value: u32) -> Result<(), Fault> {
    let arguments = [address, value];
    // SAFETY: as the caller vouches; the compiler does not know, hence the barrier of an opaque call.
    unsafe { call(guest_test_store as *const () as u32, ptr::from_ref(&arguments) as u32) }.map(drop)
}

/// A page for machine code.
pub struct Code(*mut u8);

impl Code {
    const SIZE: usize = 4096;

    /// Maps one, writable and executable.
    pub fn new() -> Result<Code> {
        let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping where the kernel chooses.
        let page = unsafe { libc::mmap(ptr::null_mut(), Code::SIZE, rights, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("no page for code");
        }
        Ok(Code(page.cast()))
    }

    /// The address of the first byte.
    pub fn start(&self) -> u32 {
        self.0 as u32
    }

    /// Puts `code` and a return there, and calls it with `argument` in eax.
    ///
    /// # Safety
    /// As [`call`].
    pub unsafe fn run(&self, code: &[u8], argument: u32) -> Result<u32, Fault> {
        const RETURN: u8 = 0xc3;
        assert!(code.len() < Code::SIZE);
        // SAFETY: it fits, and nobody executes or refers to the page now.
        unsafe {
            ptr::copy_nonoverlapping(code.as_ptr(), self.0, code.len());
            self.0.add(code.len()).write(RETURN);
        }
        // SAFETY: the caller vouches for the code.
        unsafe { call(self.start(), argument) }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: nothing runs there any more.
        unsafe { libc::munmap(self.0.cast(), Code::SIZE) };
    }
}

const _: () = assert!(mem::size_of::<usize>() == 4, "these are tests of i386");
