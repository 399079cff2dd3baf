//! `lg.ko`: the framework inside a stock Debian i386 kernel.
//!
//! The kernel's own interfaces are macros and inline functions of C, and change with its configuration;
//! so a thin shim of C (the `lg_*.c` files beside this folder) wraps the few that are needed in plain
//! functions, and everything with a decision in it is here.
//!
//! ```text
//!   launcher ── read, write ──▶ lg_device.c ──▶ device ──▶ framework::Guest ──▶ strategies
//!                                                 │              │ Host, PagingHost
//!                                                 │              ▼
//!                                        request, vcpu_numbers linux ──▶ lg_memory.c, lg_vcpu.c
//!                                                                │
//!                                                                └─▶ switcher's text, in lg_area.c's pages
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | [`request`] | what a launcher writes, parsed and checked |
//! | [`vcpu_numbers`] | which of the Switcher's virtual CPUs are taken |
//! | `constructors` | what registers itself by a constructor |
//! | `device` | `/dev/lguest`: an open file, from its strategy to its guest's end |
//! | `events` | what happens to guests, on its way to Linux's trace events |
//! | `linux` | the framework's `Host` on Linux: memory, interrupts, the entry into the guest |
//! | `plugin` | a guest's strategy and policy, guarded against their panics |
//! | `user` | the user to whom a guest counts |
//! | `views` | what others can read of a guest while it lives |
//! | `modinfo` | what `modinfo` shows of the strategies |
//! | `module` | load, unload, parameters; the Switcher put in place |
//! | `shim` | the C functions, as `lg_shim.h` declares them |
//! | `shared` | the numbers that C has from Rust |
//! | `sync`, `log`, `alloc`, `errno` | a mutex, the kernel's log, its memory and its errors, for Rust |
//!
//! # Where `unsafe` is
//! In calls of the shim, in the entry points that C calls with pointers, and in references to the pages
//! of a virtual CPU. Each such module explains what makes it sound. `request` and `vcpu_numbers` have none, and their
//! tests run on the developer's machine.
//!
//! # Contexts
//! Everything here runs in a process, with interrupts on, and may sleep. The only code that runs with
//! interrupts off is `lg_vcpu_enter` in C, and it calls nothing of Rust.
// For an `Arc` whose allocation may fail.
#![cfg_attr(target_os = "none", no_std, feature(allocator_api))]

#[cfg(target_os = "none")]
extern crate alloc as alloc_crate;

pub mod request;
pub mod vcpu_numbers;

#[cfg(target_os = "none")]
mod alloc;
#[cfg(target_os = "none")]
mod constructors;
#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
mod errno;
#[cfg(target_os = "none")]
mod events;
#[cfg(target_os = "none")]
mod linux;
#[cfg(target_os = "none")]
mod log;
#[cfg(target_os = "none")]
mod modinfo;
#[cfg(target_os = "none")]
mod module;
#[cfg(target_os = "none")]
mod plugin;
#[cfg(target_os = "none")]
mod shared;
#[cfg(target_os = "none")]
mod shim;
#[cfg(target_os = "none")]
mod sync;
#[cfg(target_os = "none")]
mod user;
#[cfg(target_os = "none")]
mod views;
