//! What the mini kernel and its user programs have agreed on.
//!
//! [`abi`] holds numbers and layouts and is used by both sides; `user` is the programs' side: system
//! calls as functions, and formatted output. The programs themselves are in `main.rs` and become one ELF
//! file, which the kernel carries inside itself.
#![no_std]

pub mod abi;
#[cfg(target_os = "none")]
pub mod user;
