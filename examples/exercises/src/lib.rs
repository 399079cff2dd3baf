//! The exercises of `docs/tour.md`, one for each of its parts.
//!
//! Each `part_N` compiles and does its work wrongly. The reader repairs it; `cargo exercise N` runs its check of [`checks`],
//! which knows no solution: it holds the answer against the processor's rules, a model of the guest, or the simulated host.
//! The tests of this crate run each check on the starting file, where it has to fail, and on the file in `solutions`, where
//! it has to pass. So a solved part fails the test of its starting file; `git restore examples/exercises/src` gives all holes
//! back.

#![forbid(unsafe_code)]

pub mod checks;
pub mod part_1;
pub mod part_2;
pub mod part_3;
pub mod part_4;
pub mod part_5;
pub mod part_6;
pub mod part_7;
