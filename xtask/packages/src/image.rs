//! `cargo xtask image`: a disk with Debian 12 for i386, the packages and a C compiler, to be started by QEMU anywhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xtask::project::Project;
use xtask::qemu;

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
    let image = make(project)?;
    let size = image.metadata().with_context(|| image.display().to_string())?.len() >> 20;
    println!("{} ({size} MiB)", image.display());
    println!("{} {}", qemu::PROGRAM, options(&image).join(" "));
    Ok(())
}

/// Makes it.
///
/// # Errors
/// When something cannot be built.
pub fn make(project: &Project) -> Result<PathBuf> {
    let packages = debs::build(project, true)?;
    let image = project.out().join(FILE);
    system(&packages).make(project, &image)?;
    Ok(image)
}

/// How QEMU starts it.
pub fn options(image: &Path) -> [String; 5] {
    // An emulated IDE disk would have the BIOS read each sector by itself.
    let drive = format!("if=virtio,file={}", image.display());
    ["-m", "1G", "-nographic", "-drive", &drive].map(str::to_owned)
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
