//! Acts that look for something of one world in the other: in the FPU's registers, and in the debug registers.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use arch_i386::hypercall::Hypercall;

use crate::Failure;
use crate::guest::{Device, Memory, beginning, each_its_own};
use crate::process::{Child, pin_to_first_processor};
use crate::processor::poke_debug_register;
use crate::program::{CODE, SCRATCH, Step};

/// What the process has in each XMM or YMM register while its guest runs.
const OURS: [u8; 32] = *b"this is not for a guest to read!";
/// MXCSR with rounding towards zero; a new FPU state has 0x1f80.
const OUR_MXCSR: u32 = 0x7f80;

/// What [`hostile_registers`] reads and stores; FXSAVE requires 16 bytes' alignment (SDM vol. 2A, FXSAVE).
#[repr(C, align(64))]
struct Registers {
    /// The state to put back in the end.
    saved: [u8; 512],
    pattern: [u8; 32],
    mxcsr: u32,
    avx: u32,
    padding: [u8; 24],
    /// FXSAVE's image after the guest has run.
    after: [u8; 512],
    /// The YMM registers then, if there are any.
    ymm: [[u8; 32]; 8],
}

core::arch::global_asm!(
    ".pushsection .text.hostile_registers, \"ax\"",
    ".globl hostile_registers",
    "hostile_registers:",
    "    push ebx",
    "    push esi",
    "    push edi",
    "    mov edi, [esp + 28]",
    "    fxsave [edi]",
    "    fninit",
    ".rept 8",
    "    fldpi",
    ".endr",
    "    ldmxcsr [edi + 544]",
    "    .irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "    movups xmm\\n, [edi + 512]",
    "    .endr",
    "    cmp dword ptr [edi + 548], 0",
    "    je 1f",
    "    .irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "    vmovups ymm\\n, [edi + 512]",
    "    .endr",
    "1:  mov eax, {read}",
    "    mov ebx, [esp + 16]",
    "    mov ecx, [esp + 20]",
    "    mov edx, [esp + 24]",
    "    int 0x80",
    "    fxsave [edi + 576]",
    "    cmp dword ptr [edi + 548], 0",
    "    je 2f",
    "    .irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "    vmovups [edi + 1088 + 32 * \\n], ymm\\n",
    "    .endr",
    "    vzeroupper",
    "2:  fxrstor [edi]",
    "    pop edi",
    "    pop esi",
    "    pop ebx",
    "    ret",
    ".popsection",
    read = const libc::SYS_read,
);

unsafe extern "C" {
    /// Fills the FPU's registers, reads from `device`, and stores the registers as they are then. Returns what `read`
    /// has returned.
    fn hostile_registers(device: i32, text: *mut u8, size: usize, registers: &mut Registers) -> i32;
}

/// The XMM registers of an FXSAVE image.
fn xmm(image: &[u8]) -> impl Iterator<Item = &[u8]> {
    image[160..][..8 * 16].chunks_exact(16)
}

fn word(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]])
}

/// A guest looks at the FPU's registers and fills them; neither it nor its process finds anything of the other's there.
pub fn fpu_registers() -> Result<(), Failure> {
    if !std::is_x86_feature_detected!("fxsr") || !std::is_x86_feature_detected!("sse") {
        println!("this processor has no SSE: nothing to look at");
        return Ok(());
    }
    let avx = std::is_x86_feature_detected!("avx");
    let memory = Memory::new()?;
    let [first, second] = beginning();
    let program = [first, second, Step::Registers { to: SCRATCH, avx }, Step::OFF];
    memory.load(&program, 1, each_its_own);
    let device = Device::open()?;
    device.initialize(&memory)?;

    let mut registers = Registers {
        saved: [0; 512],
        pattern: OURS,
        mxcsr: OUR_MXCSR,
        avx: avx.into(),
        padding: [0; 24],
        after: [0; 512],
        ymm: [[0; 32]; 8],
    };
    let mut text = [0_u8; 512];
    // SAFETY: the pointers are valid for what the system call and the function store there; what the function changes in
    // the FPU it puts back.
    let length =
        unsafe { hostile_registers(device.0.as_raw_fd(), text.as_mut_ptr(), text.len(), &mut registers) };
    println!("read returned {length}, with AVX: {avx}");
    if length <= 4 {
        return Err("the guest did not run to its end".into());
    }

    // SAFETY: within the guest's memory, and the guest has ended.
    let of_guest = unsafe { std::slice::from_raw_parts(memory.address(SCRATCH), 512 + 8 * 32) };
    if word(of_guest, 24) != 0x1f80 || of_guest[..2] != [0x7f, 0x03] {
        return Err("the guest begins with control words that are not a new FPU's".into());
    }
    if xmm(of_guest).any(|register| register != [0; 16]) || of_guest[512..].iter().any(|&byte| byte != 0) {
        return Err("the guest begins with registers that are not empty".into());
    }
    if of_guest[32..160].iter().any(|&byte| byte != 0) {
        return Err("the guest begins with something in its x87 registers".into());
    }
    let after = &registers.after;
    if word(after, 24) != OUR_MXCSR || after[..2] != [0x7f, 0x03] {
        return Err("the process has other control words after its guest".into());
    }
    if xmm(after).any(|register| register != &OURS[..16]) {
        return Err("the process has other XMM registers after its guest".into());
    }
    if avx && registers.ymm.iter().any(|register| *register != OURS) {
        return Err("the process has other YMM registers after its guest".into());
    }
    // Pi in the x87's own form (SDM vol. 1, 8.3.8).
    let pi = [0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40];
    if (0..8).any(|n| after[32 + 16 * n..][..10] != pi) {
        return Err("the process has other x87 registers after its guest".into());
    }
    Ok(())
}

/// A debugger's breakpoint at an address where the process has nothing, but its guest has code: neither the guest nor
/// the debugger is notified.
pub fn breakpoint() -> Result<(), Failure> {
    pin_to_first_processor();
    let debugged = Child::run(|| {
        // SAFETY: no memory is concerned.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGSTOP) };
        let memory = Memory::new()?;
        let [first, second] = beginning();
        let program = [first, second, Step::Call(Hypercall::FlushAsync, [0; 4]), Step::OFF];
        memory.load(&program, 1, each_its_own);
        let device = Device::open()?;
        device.initialize(&memory)?;
        let end = device.run()?;
        if end == "CRASH: " { Ok(()) } else { Err(format!("the guest: {end}").into()) }
    })?;
    let pid = debugged.pid();
    let mut status = 0;
    // SAFETY: valid for writes; our own child.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    poke_debug_register(pid, 0, CODE as usize)?;
    // Local, when an instruction is executed.
    poke_debug_register(pid, 7, 1)?;
    // SAFETY: no memory is concerned.
    if unsafe { libc::ptrace(libc::PTRACE_CONT, pid, ptr::null_mut::<u8>(), ptr::null_mut::<u8>()) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    match debugged.wait() {
        0 => Ok(()),
        status => Err(format!("the debugged process: status {status:#x}").into()),
    }
}
