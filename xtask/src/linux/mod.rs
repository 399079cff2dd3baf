//! The Linux guest: Debian's own kernel source with our port laid over it, and what is booted with it.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`source`] | fetches Debian's source package |
//! | [`manifest`], [`places`] | what the port has to do with Linux's own files, and whether those have changed |
//! | [`overlay`] | lays the port over a copy of the source |
//! | [`config`] | the configuration, and the proof that Linux took it |
//! | [`kernel`] | builds, audits, keeps the results |
//! | [`initrd`] | what the guest's user space is made of |
//! | [`command`] | `cargo xtask linux-guest` |
//! | [`scenarios`] | what is checked of it in the host VM |
//! | [`bench`](mod@bench) | `cargo xtask linux-bench` |
//! | [`audit`](mod@audit) | no instruction in the image that a guest cannot execute |
//!
//! The port itself, its configuration and what runs in the guest are in `examples/linux-guest`.

pub mod audit;
pub mod bench;
pub mod command;
pub mod config;
pub mod initrd;
pub mod kernel;
pub mod manifest;
pub mod overlay;
pub mod places;
pub mod scenarios;
pub mod source;
