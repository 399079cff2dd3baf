//! The Linux guest: Debian's own kernel source with our port laid over it, and what is booted with it.
//!
//! All that turns the port into a guest belongs here, and what is checked of that guest. What a host VM is, and how one is
//! booted, is in `xtask`, on which this crate depends; measurements of the guest are `benches/lab`'s.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`source`] | fetches Debian's source package |
//! | [`manifest`], [`places`] | what the port has to do with Linux's own files, and whether those have changed |
//! | [`overlay`] | lays the port over a copy of the source |
//! | [`config`] | the configuration, and the proof that Linux took it |
//! | [`kernel`] | builds, audits, keeps the results |
//! | [`initrd`] | what the guest's user space is made of |
//! | [`guest`] | `cargo xtask linux-guest` |
//! | [`host`] | kernels of hosts, which are built by the same means |
//! | [`scenarios`], [`checks`] | what is checked of it in the host VM: the section `linux` of `cargo xtask test` |
//! | [`audit`](mod@audit) | no instruction in the image that a guest cannot execute |
//!
//! The port itself, its configuration and what runs in the guest are beside this crate, in `examples/linux-guest`.

pub mod audit;
pub mod checks;
pub mod config;
pub mod guest;
pub mod host;
pub mod initrd;
pub mod kernel;
pub mod manifest;
pub mod overlay;
pub mod places;
pub mod scenarios;
pub mod source;
