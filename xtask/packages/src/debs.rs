//! `cargo xtask package`: Debian packages for i386.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::process::{Progress, run_logged};
use xtask::project::Project;
use xtask::setup;
use xtask::system_packages::{self, Needed};

use crate::tree::{Tree, VERSION};

/// What makes packages.
const NEEDED: [Needed; 3] = [
    ("debhelper", "makes Debian packages"),
    ("dh-dkms", "the same: what the module's package has DKMS do"),
    ("dpkg-dev", "the same: dpkg-buildpackage"),
];

/// The folder that debhelper reads.
const DEBIAN: &str = "xtask/packages/debian";

/// Who may start guests.
const UDEV_RULE: &str = "kmod/udev/60-lguest.rules";

/// The package with the Linux guest.
pub const LINUX_GUEST: &str = "lguest-guest-linux";

/// Options of `cargo xtask package`.
#[derive(clap::Args)]
pub struct Args {
    /// Leave out lguest-guest-linux, whose kernels take ten minutes to build
    #[arg(long)]
    without_linux_guest: bool,
}

/// The command itself: prints where the packages are.
///
/// # Errors
/// When something cannot be built.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    for package in build(project, !args.without_linux_guest)? {
        println!("{}", package.display());
    }
    Ok(())
}

/// Builds the packages and returns where they are, sorted.
///
/// # Errors
/// When something cannot be built.
pub fn build(project: &Project, with_linux_guest: bool) -> Result<Vec<PathBuf>> {
    let machine = setup::ensure(project, false)?;
    {
        let _lock = project.lock_cache()?;
        system_packages::install_missing(project, &NEEDED)?;
    }
    let work = project.out().join("packages");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot empty {}", work.display()))?;
    }
    let source = work.join(format!("lguest-{VERSION}"));
    let tree = Tree { project, machine: &machine, folder: source.join("tree") };
    tree.module()?;
    tree.programs()?;
    let debian = source.join("debian");
    copy(&project.root().join(DEBIAN), &debian)?;
    let rule = project.root().join(UDEV_RULE);
    fs::copy(&rule, debian.join("lguest.udev")).with_context(|| format!("cannot copy {}", rule.display()))?;
    if with_linux_guest {
        let kernels_source = tree.linux_guest()?;
        let variables = format!("guest:Built-Using={kernels_source}\n");
        fs::write(debian.join(format!("{LINUX_GUEST}.substvars")), variables)?;
    }
    make(&source, with_linux_guest, &project.logs())?;
    let entries = fs::read_dir(&work)?.map(|entry| Ok(entry?.path()));
    let mut packages = entries.collect::<Result<Vec<_>>>()?;
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    packages.sort();
    Ok(packages)
}

/// Makes the packages of the tree in `source`; they are left in the folder above.
fn make(source: &Path, with_linux_guest: bool, logs: &Path) -> Result<()> {
    let progress = Progress::start("Debian packages");
    let mut command = Command::new("dpkg-buildpackage");
    command.current_dir(source).args(["--build=any", "--host-arch=i386", "--no-sign", "--no-pre-clean"]);
    // What they are built of is not compiled here.
    command.arg("--no-check-builddeps");
    if !with_linux_guest {
        command.env("DH_OPTIONS", format!("--no-package={LINUX_GUEST}"));
    }
    run_logged(&mut command, &logs.join("package.log"))?;
    progress.done();
    Ok(())
}

/// Copies a folder and those in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changelog_has_the_version_of_the_workspace() {
        let first = include_str!("../debian/changelog").lines().next().unwrap();
        assert!(first.starts_with(&format!("lguest ({VERSION}) ")), "{first}");
    }

    #[test]
    fn scripts_are_accepted_by_a_shell() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        for script in [
            "debian/lguest-dkms.prerm",
            "debian/lguest.postinst",
            "debian/lguest.postrm",
            "files/lguest-linux",
        ] {
            xtask::process::output(Command::new("sh").arg("-n").arg(folder.join(script))).unwrap();
        }
    }
}
