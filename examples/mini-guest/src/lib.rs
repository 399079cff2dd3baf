//! A small guest kernel for the lguest ABI: the part of it that needs no processor of its own.
//!
//! The whole guest is three things. The **kernel** (`main.rs` and its modules) runs in ring 1 of an lguest
//! virtual machine and requests everything privileged of its host. This **library** holds what can be thought
//! about and tested without one: it executes no special instruction and reaches memory and host only
//! through the [`Machine`](page_tables::Machine) trait. The **programs** (`programs/`) run in ring 3 and
//! are the tests.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`boot_params`] | what the launcher left at guest-physical 0 |
//! | [`command_line`] | the guest's options |
//! | [`layout`] | the map of the address space |
//! | [`frames`] | page frames, with a reference count each |
//! | [`page_tables`] | the page tables of a process, in both formats, and what is reported of them to the host |
//! | [`regions`] | which addresses a process may use, and what appears there |
//! | [`processes`] | who runs, who waits for what, who is whose child |
#![cfg_attr(not(test), no_std)]

pub mod boot_params;
pub mod command_line;
pub mod frames;
pub mod layout;
pub mod page_tables;
pub mod processes;
pub mod regions;
