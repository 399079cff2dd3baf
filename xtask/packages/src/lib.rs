//! The project as it is installed: Debian packages for i386, and a disk image with them.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`tree`] | builds the files of each package, and lays them out as they are installed |
//! | [`debs`] | `cargo xtask package`: makes packages of them, by debhelper |
//! | [`disk`] | a disk that a PC starts from |
//! | [`system`] | Debian for i386 on such a disk |
//! | [`image`] | `cargo xtask image`: such a system with the packages, to be started by QEMU anywhere |
//! | [`login`] | somebody who starts that image and uses it |
//! | [`checks`] | the section `package` of `cargo xtask test`: installs, uses and removes the packages there |
//!
//! `debian/` is what debhelper reads: what each package depends on, and what is done when it comes and goes. `files/` are
//! files of the packages that are nowhere else in the project. `systems/` sets the systems up, `steps/` is what is checked in one.

pub mod checks;
pub mod debs;
pub mod disk;
pub mod image;
mod login;
pub mod system;
pub mod tree;
