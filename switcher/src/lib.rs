//! The world switch: how a processor leaves its host for a guest, and comes back.
//!
//! Guest and host have different page tables, so the code that changes them must be mapped at the same
//! address in both. That code, and the pages it needs, are the *Switcher area* near the top of the
//! address space:
//!
//! ```text
//!  base          + 1 page        + 2 pages       + 3 pages       + 4 pages
//!  | text        | host contexts | state 0       | registers 0   | state 1       | …
//!  | everybody   | the host      | virtual CPU 0                 | virtual CPU 1
//!    read, execute                 read            read, write
//! ```
//!
//! The host maps all of it. A guest's shadow roots map the text and the two pages of its own virtual
//! CPU, through one page-table page that all of its roots share ([`map`]).
//!
//! * The **host contexts** ([`state::HostContext`]), one for each virtual CPU, hold the saved host
//!   context: the host's stack, CR4 and tables. No guest maps that page.
//! * The **state page** ([`state`]) holds what the processor reads while the guest runs (descriptor
//!   tables, task state) and the host's CR3. The guest cannot write it. Its kernel can read it, for ring 1 is
//!   supervisor to the page tables; what is there for it to see, and why, is listed in [`state`].
//! * The **register page** is where traps from the guest push its registers. The guest can write it, so
//!   nothing on it is trusted beyond that guest: the host masks it before each entry
//!   ([`state::VcpuPages::sanitise`]), and the vector that ended a run travels in a register.
//! * The **text** (module `text`) is position-independent and fits one page. There is one for each format of the host's page
//!   tables, and the host copies its own.
//!
//! # Why a pair of pages for each virtual CPU
//! lguest kept one pair for each *host* CPU, and remapped and refilled it whenever a guest came from
//! another one. A pair for each virtual CPU stays where it is: nothing is copied but what the guest
//! changed, no shadow root has to be touched when a guest moves, and no page ever holds what another
//! guest put there.
//!
//! The pages' layout and the mapper build and are tested everywhere; the assembly exists on the kernel
//! target only.
#![no_std]

pub mod area;
pub mod map;
pub mod published;
pub mod state;
pub mod stubs;
#[cfg(all(target_arch = "x86", target_os = "none"))]
pub mod text;
