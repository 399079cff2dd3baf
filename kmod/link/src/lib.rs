//! What the build of `lg.ko` needs to know about its own two languages, and no other build does:
//!
//! | module | |
//! | --- | --- |
//! | [`prelink`] | one relocatable object out of the Rust side, as the kernel's module loader can take it |
//! | [`interface`] | what C and Rust have to agree on: functions and numbers |
//!
//! Here belongs what is true of this module's sources and objects; which programs are run to build it is `xtask`'s.

pub mod interface;
pub mod prelink;
