//! A plug-in for QEMU that counts how often each instruction is executed between two marks.
//!
//! ```text
//! qemu-system-i386 … -plugin file=libqemu_counter.so,out=FILE
//! ```
//!
//! A span of execution is marked by two instructions that do nothing and that no compiler makes:
//! `xchg %cx,%cx` begins it, `xchg %dx,%dx` ends it. (Bochs' debugger knows the same.) Spans add up: after each,
//! the file has a line for each instruction that was executed in it or one before:
//!
//! ```text
//! linear 7f3e00000000 c1000000
//! 7f3e00123456 c0123456 17
//! ```
//!
//! that is: where the instruction lies in QEMU's memory, its address, and how often it was executed, all but
//! the last in hexadecimal. Two systems may use the same address, and are distinguished by the first number. The
//! line `linear` names the first instruction between `c1000000` and `f0000000`, which is the host's kernel's: Linux
//! maps memory there in one piece.
//!
//! Each iteration of a repeated string instruction counts as one, as it does for QEMU's `-icount`. With more
//! than one processor counts may be lost.
//!
//! | file | |
//! | --- | --- |
//! | `counters.rs` | the counters, and what spans make of them |
//! | `plugin.rs` | what QEMU calls, and what of QEMU is called |

mod counters;
#[cfg(not(test))]
mod plugin;
