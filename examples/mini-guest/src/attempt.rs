//! Doing what may trap, and living on.

use crate::traps::TrapFrame;
use core::arch::global_asm;
use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::NonNull;
use spin::Mutex;

/// What a kernel action ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The vector.
    pub vector: u32,
    /// The error code, or 0.
    pub error: u32,
    /// The address of a page fault; the instruction's address for other traps.
    pub address: u32,
}

/// The trap that ended the last attempt.
static LAST: Mutex<Cell<Option<Trap>>> = Mutex::new(Cell::new(None));

global_asm!(
    r#"
    .bss
    .balign 4
    .globl attempt_stack
attempt_stack:
    .long 0
    .text
    // attempt_call(action, argument): calls action(argument).
attempt_call:
    pushl   %ebp
    pushl   %ebx
    pushl   %esi
    pushl   %edi
    movl    %esp, attempt_stack
    pushl   24(%esp)
    call    *24(%esp)
    .globl attempt_resume
attempt_resume:
    movl    attempt_stack, %esp
    movl    $0, attempt_stack
    popl    %edi
    popl    %esi
    popl    %ebx
    popl    %ebp
    ret
    "#,
    options(att_syntax),
);

unsafe extern "C" {
    static mut attempt_stack: u32;
    static attempt_resume: u8;
    fn attempt_call(action: extern "C" fn(*mut c_void), argument: *mut c_void);
}

/// Does `action`, which may trap anywhere: the rest of it is skipped then, and so are its destructors.
/// It must hold no lock.
pub fn attempt<F: FnMut()>(mut action: F) -> Result<(), Trap> {
    extern "C" fn call<F: FnMut()>(action: *mut c_void) {
        // SAFETY: `attempt` passes its own action, which lives until the call is over.
        unsafe { (*action.cast::<F>())() }
    }
    LAST.lock().set(None);
    // SAFETY: the assembly calls `call` with that argument, and keeps the registers that a callee has to.
    unsafe { attempt_call(call::<F>, (&raw mut action).cast()) };
    LAST.lock().take().map_or(Ok(()), Err)
}

/// Ends the attempt that ran into this trap by having the frame resume behind it; `false` when there is
/// none.
pub fn resume(frame: &mut TrapFrame, address: u32) -> bool {
    // SAFETY: one processor, and interrupts are out.
    if unsafe { (&raw const attempt_stack).read_volatile() } == 0 {
        return false;
    }
    LAST.lock().set(Some(Trap { vector: frame.vector, error: frame.error, address }));
    frame.eip = (&raw const attempt_resume).addr() as u32;
    // Whatever flags the action has set are gone, the interrupt flag as well.
    frame.eflags = 2;
    true
}

/// Loads a word from any kernel address.
pub fn load(address: u32) -> Result<u32, Trap> {
    let mut word = 0;
    attempt(|| {
        // SAFETY: a trap ends the attempt; the words that are read lie in pages made for it.
        word = unsafe { pointer(address).as_ptr().read_volatile() };
    })?;
    Ok(word)
}

/// Stores a word at any kernel address.
pub fn store(address: u32, word: u32) -> Result<(), Trap> {
    attempt(|| {
        // SAFETY: as above.
        unsafe { pointer(address).as_ptr().write_volatile(word) };
    })
}

fn pointer(address: u32) -> NonNull<u32> {
    let pointer = core::ptr::with_exposed_provenance_mut(address as usize);
    NonNull::new(pointer).expect("attempts are made at addresses of the kernel's half")
}
