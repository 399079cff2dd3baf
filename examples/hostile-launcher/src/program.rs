//! What the hostile guests execute.
//!
//! The guest's code is an interpreter. A program is a list of instructions of five words each: the numbers of
//! hypercalls with their four arguments, and a few more.

use arch_i386::hypercall::{Hypercall, SHUTDOWN_POWEROFF};

/// Where the interpreter is, its program, and its stack in guest-physical memory.
pub const CODE: u32 = 0x10_0000;
/// See [`CODE`].
pub const PROGRAM: u32 = 0x2000;
/// The page with the counter that [`Step::Count`] counts with.
pub const COUNTER: u32 = 0x3000;
/// A page for a program's own use.
pub const SCRATCH: u32 = 0x4000;
/// Where [`Step::Compare`] counts the words that were others, and stores the address and the value of the last.
pub const MISMATCHES: u32 = 0x8000;

/// One instruction.
#[derive(Clone, Copy)]
pub enum Step {
    /// A hypercall.
    Call(Hypercall, [u32; 4]),
    /// Reads a byte every so many bytes of a range.
    Touch { start: u32, end: u32, stride: u32 },
    /// Goes on at the instruction of this number.
    Jump(u32),
    /// Does nothing for ever.
    Spin,
    /// Executes so many stretches of a few instructions, each of them single-stepped.
    Stepped(u32),
    /// Counts.
    Count,
    /// Writes a byte.
    Write(u32),
    /// Stores the sum of its address and of `key` in the first word of each page.
    Fill { start: u32, end: u32, key: u32 },
    /// Compares the first word of each page with that.
    Compare { start: u32, end: u32, key: u32 },
    /// Goes on when the word there is that large.
    Wait { at: u32, value: u32 },
    /// Counts in this word until the next one is not 0.
    CountOn(u32),
    /// Reads a byte at each of two addresses in ring 3. The second is to miss: [`fault_handler`] goes on at the next step.
    InRing3 { first: u32, second: u32 },
    /// Stores the FPU's registers as FXSAVE does, with AVX the YMM registers after that, and fills all of them.
    Registers { to: u32, avx: bool },
}

impl Step {
    /// The guest switches itself off.
    pub const OFF: Self = Self::Call(Hypercall::Shutdown, [SCRATCH, SHUTDOWN_POWEROFF, 0, 0]);

    /// The words that the interpreter reads.
    pub fn words(self) -> [u32; 5] {
        match self {
            Self::Call(call, [a, b, c, d]) => [call as u32, a, b, c, d],
            Self::Touch { start, end, stride } => [0x100, start, end, stride, 0],
            Self::Jump(to) => [0x101, PROGRAM + 20 * to, 0, 0, 0],
            Self::Spin => [0x102, 0, 0, 0, 0],
            Self::Stepped(times) => [0x103, times, 0, 0, 0],
            Self::Count => [0x104, COUNTER, 0, 0, 0],
            Self::Write(address) => [0x105, address, 0, 0, 0],
            Self::Registers { to, avx } => [0x106, to, avx.into(), 0, 0],
            Self::Fill { start, end, key } => [0x107, start, end, key, 0],
            Self::Compare { start, end, key } => [0x108, start, end, key, 0],
            Self::Wait { at, value } => [0x109, at, value, 0, 0],
            Self::CountOn(at) => [0x10a, at, 0, 0, 0],
            Self::InRing3 { first, second } => [0x10b, first, second, 0, 0],
        }
    }
}

core::arch::global_asm!(
    ".pushsection .rodata.hostile_guest, \"a\"",
    ".globl hostile_guest, hostile_guest_debug, hostile_guest_fault, hostile_guest_end",
    "hostile_guest:",
    "    mov esp, 0x80000",
    "    mov edi, {program}",
    "1:  mov eax, [edi]",
    "    mov ebx, [edi + 4]",
    "    mov ecx, [edi + 8]",
    "    mov edx, [edi + 12]",
    "    mov esi, [edi + 16]",
    "    add edi, 20",
    "    cmp eax, 0x100",
    "    je 2f",
    "    cmp eax, 0x101",
    "    je 3f",
    "    cmp eax, 0x102",
    "    je 4f",
    "    cmp eax, 0x103",
    "    je 5f",
    "    cmp eax, 0x104",
    "    je 6f",
    "    cmp eax, 0x105",
    "    je 7f",
    "    cmp eax, 0x106",
    "    je 8f",
    "    cmp eax, 0x107",
    "    je 20f",
    "    cmp eax, 0x108",
    "    je 21f",
    "    cmp eax, 0x109",
    "    je 23f",
    "    cmp eax, 0x10a",
    "    je 24f",
    "    cmp eax, 0x10b",
    "    je 25f",
    "    int 0x1f",
    "    jmp 1b",
    // Touch.
    "2:  mov al, [ebx]",
    "    add ebx, edx",
    "    cmp ebx, ecx",
    "    jb 2b",
    "    jmp 1b",
    // Jump.
    "3:  mov edi, ebx",
    "    jmp 1b",
    // Spin.
    "4:  jmp 4b",
    // Single-step: the flag is cleared by the trap's handler, below.
    "5:  pushfd",
    "    or dword ptr [esp], 0x100",
    "    popfd",
    "    nop",
    "    nop",
    "    dec ebx",
    "    jnz 5b",
    "    jmp 1b",
    // Count.
    "6:  inc dword ptr [ebx]",
    "    jmp 1b",
    // Write.
    "7:  mov byte ptr [ebx], al",
    "    jmp 1b",
    // Registers. The interpreter's own code is what they are filled with.
    "8:  fxsave [ebx]",
    "    fninit",
    "    .rept 8",
    "    fldl2t",
    "    .endr",
    "    fldcw [ebx]",
    "    mov dword ptr [ebx + 768], 0x3f80",
    "    ldmxcsr [ebx + 768]",
    "    test ecx, ecx",
    "    jnz 9f",
    "    .irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "    movups xmm\\n, [{code}]",
    "    .endr",
    "    jmp 1b",
    "9:",
    "    .irp n, 0, 1, 2, 3, 4, 5, 6, 7",
    "    vmovups [ebx + 512 + 32 * \\n], ymm\\n",
    "    vmovups ymm\\n, [{code}]",
    "    .endr",
    "    jmp 1b",
    // Fill.
    "20: lea eax, [ebx + edx]",
    "    mov [ebx], eax",
    "    add ebx, 0x1000",
    "    cmp ebx, ecx",
    "    jb 20b",
    "    jmp 1b",
    // Compare.
    "21: lea eax, [ebx + edx]",
    "    mov esi, [ebx]",
    "    cmp esi, eax",
    "    je 22f",
    "    inc dword ptr [{mismatches}]",
    "    mov [{mismatches} + 4], ebx",
    "    mov [{mismatches} + 8], esi",
    "22: add ebx, 0x1000",
    "    cmp ebx, ecx",
    "    jb 21b",
    "    jmp 1b",
    // Wait.
    "23: cmp [ebx], ecx",
    "    jb 23b",
    "    jmp 1b",
    // Count on.
    "24: inc dword ptr [ebx]",
    "    cmp dword ptr [ebx + 4], 0",
    "    je 24b",
    "    jmp 1b",
    // In ring 3: the selectors are those of Linux's programs, the stack is never used, and the call pushes where to begin.
    "25: push 0x7b",
    "    push 0x70000",
    "    pushfd",
    "    push 0x73",
    "    call 26f",
    "    mov al, [ebx]",
    "    mov al, [ecx]",
    "    ud2",
    "26: iretd",
    // A page fault ends the step.
    "hostile_guest_fault:",
    "    mov esp, 0x80000",
    "    jmp 1b",
    "hostile_guest_debug:",
    "    and dword ptr [esp + 8], 0xfffffeff",
    "    iretd",
    "hostile_guest_end:",
    ".popsection",
    program = const PROGRAM,
    code = const CODE,
    mismatches = const MISMATCHES,
);

unsafe extern "C" {
    static hostile_guest: u8;
    static hostile_guest_debug: u8;
    static hostile_guest_fault: u8;
    static hostile_guest_end: u8;
}

/// The interpreter's code, for [`CODE`].
pub fn code() -> &'static [u8] {
    let (start, end) = (&raw const hostile_guest, &raw const hostile_guest_end);
    // SAFETY: both are labels in one section, in this order.
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// Where its handler for debug exceptions is.
pub fn debug_handler() -> u32 {
    address_of(&raw const hostile_guest_debug)
}

/// Where its handler for page faults is.
pub fn fault_handler() -> u32 {
    address_of(&raw const hostile_guest_fault)
}

/// Where the guest has what a label of its code is at.
fn address_of(label: *const u8) -> u32 {
    // SAFETY: both are labels in one section, in this order.
    CODE + unsafe { label.offset_from_unsigned(&raw const hostile_guest) } as u32
}
