//! `guest-bench`: what the operations cost of which processes are made, seen from the guest's user space.
//!
//! ```text
//! guest-bench [--marks] [--scale PERCENT] NAME...|all|list
//! ```
//!
//! Each workload prints one line when it has run, times by `CLOCK_MONOTONIC`, and the last line is `bench done`:
//!
//! ```text
//! bench NAME OPERATIONS NANOSECONDS
//! ```
//!
//! With `--marks` it warms up first, and marks on standard error the span that it measures. `scripts/span` sends that
//! to the kernel's log, whence the launcher gets it while the guest stands still (`userland-launcher/src/spans.rs`):
//!
//! ```text
//! <0>span begin NAME
//! <0>span end NAME operations=N ticks=NANOSECONDS tsc_khz=1000000
//! ```
//!
//! The names and what they do are those of the figures of the original lguest that the project compares
//! itself with ([`workloads`]). The same file runs on bare Linux, which gives the native figures.
//!
//! **A small footprint is the point of this program.** `fork` copies what a process has written, so that a
//! runtime library would be most of what is measured. There is none: no heap, no variables, no thread-local
//! storage, no relocations. All that a process of it has written when it forks is two pages of stack, one of
//! them the kernel's with the arguments (`Anonymous` in `/proc/PID/smaps`), besides what the workload is about.
#![no_std]
#![no_main]

mod output;
mod system;
mod workloads;

use core::ffi::CStr;
use core::panic::PanicInfo;

use output::Line;
use workloads::WORKLOADS;

/// Given this as its only argument the program ends at once: it is what the workload `exec` starts.
const NOTHING: &CStr = c"nothing";

/// Runs what the arguments select; returns the exit status.
///
/// # Safety
/// `stack` is the process's stack as the kernel made it: the number of arguments, then as many pointers to
/// their strings, then a null pointer (System V ABI, i386 supplement, "Process Initialization").
unsafe extern "C" fn run(stack: *const usize) -> i32 {
    // SAFETY: the caller vouches for the layout.
    let argument = |index: usize| unsafe {
        (index < *stack).then(|| CStr::from_ptr((*stack.add(1 + index)).cast_signed() as *const _))
    };
    if argument(1) == Some(NOTHING) {
        return 0;
    }
    let (mut first, mut percent, mut marked) = (1, 100, false);
    loop {
        if argument(first).is_some_and(|option| option == c"--marks") {
            marked = true;
            first += 1;
        } else if argument(first).is_some_and(|option| option == c"--scale") {
            match argument(first + 1).and_then(number).filter(|&percent| percent > 0) {
                Some(given) => percent = given,
                None => return usage(),
            }
            first += 2;
        } else {
            break;
        }
    }
    if argument(first).is_none() {
        return usage();
    }
    let is = |word: Option<&CStr>, name: &str| word.is_some_and(|word| word.to_bytes() == name.as_bytes());
    if is(argument(first), "list") {
        for workload in WORKLOADS {
            Line::new().text(workload.name).print();
        }
        return 0;
    }
    let all = is(argument(first), "all");
    let mut wanted = first;
    while let (false, Some(word)) = (all, argument(wanted)) {
        if !WORKLOADS.iter().any(|workload| is(Some(word), workload.name)) {
            return usage();
        }
        wanted += 1;
    }
    for workload in WORKLOADS {
        let chosen = (first..wanted).any(|index| is(argument(index), workload.name));
        if (all || chosen) && !workload.measure(percent, marked) {
            return 1;
        }
    }
    Line::new().text("bench done").print();
    0
}

fn usage() -> i32 {
    Line::new().text("usage: guest-bench [--marks] [--scale PERCENT] NAME...|all|list").print();
    2
}

/// A positive decimal number of up to six digits.
fn number(text: &CStr) -> Option<u32> {
    let digits = text.to_bytes();
    let short = !digits.is_empty() && digits.len() <= 6;
    (short && digits.iter().all(u8::is_ascii_digit))
        .then(|| digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}

/// Where the kernel starts the program, with nothing but a stack.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!(
        "mov eax, esp",
        // The ABI's alignment at a call.
        "and esp, -16",
        "sub esp, 12",
        "push eax",
        "call {run}",
        "mov ebx, eax",
        "mov eax, {exit}",
        "int 0x80",
        "ud2",
        run = sym run,
        exit = const system::EXIT,
    )
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    Line::new().text("bench: guest-bench has a bug: it panicked").print();
    system::exit(101)
}
