//! `cargo xtask image`: a disk with Debian 12 for i386, the packages and a C compiler, to be started by QEMU anywhere.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xtask::project::Project;

use crate::debs;
use crate::system::System;

/// What the system has besides our packages. Its kernel is the one whose guests may have either page format.
const PACKAGES: &str =
    "linux-image-686-pae,linux-headers-686-pae,gcc,libc6-dev,make,dkms,openssl,sudo,nano,less,man-db";

/// The file's name, in the folder of what is built.
const FILE: &str = "lguest-debian-12-i386.qcow2";

/// Makes it, and prints where it is and how it is started.
///
/// # Errors
/// When something cannot be built.
pub fn run(project: &Project) -> Result<()> {
    let packages = debs::build(project, true)?;
    let image = project.out().join(FILE);
    system(&packages).make(project, &image)?;
    let size = image.metadata().with_context(|| image.display().to_string())?.len() >> 20;
    println!("{} ({size} MiB)", image.display());
    // An emulated IDE disk would have the BIOS read each sector by itself.
    println!("qemu-system-i386 -m 1G -nographic -drive if=virtio,file={}", image.display());
    Ok(())
}

fn system(packages: &[PathBuf]) -> System<'_> {
    System {
        name: "lguest",
        packages: PACKAGES,
        // Linux's test of the timer's interrupt goes by a clock on the wall, and fails where the computer is busy.
        words: "quiet no_timer_check console=tty0 console=ttyS0",
        files: packages,
        script: include_str!("../systems/image.sh"),
        keeps_packages: false,
    }
}
