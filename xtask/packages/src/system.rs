//! Debian 12 for i386 on a disk of its own.
//!
//! `mmdebstrap` makes the file system from the same archive as the build machine's packages, in a folder in which i386's own
//! programs run, as they do on amd64; [`crate::disk`] makes a disk of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xtask::apt::{Lists, PrivateApt};
use xtask::apt_sources::SUITE;
use xtask::process::{Progress, output, run_logged};
use xtask::project::Project;
use xtask::system_packages::{self, Needed, as_root};

use crate::disk;

/// What makes a system on a disk.
const NEEDED: [Needed; 5] = [
    ("mmdebstrap", "makes a Debian system in a folder"),
    ("arch-test", "the same: finds that i386's programs run here"),
    ("e2fsprogs", "makes a file system of the folder"),
    ("grub-pc-bin", "starts what is on a disk"),
    ("qemu-utils", "keeps disks in files of qcow2, and copies of them that hold what differs"),
];

/// What every system has besides Debian's smallest: what starts it, what it finds devices and its network by.
const ALWAYS: &str = "systemd-sysv,udev,kmod,initramfs-tools,zstd,iproute2,procps,ifupdown,isc-dhcp-client";

/// The script that sets every system up.
const SET_UP: &str = include_str!("../systems/set-up.sh");

/// A system to be made.
#[derive(Debug)]
pub struct System<'a> {
    /// Its name, and its host's.
    pub name: &'a str,
    /// Packages that it has besides what all have, separated by commas.
    pub packages: &'a str,
    /// Words for its kernel.
    pub words: &'a str,
    /// Files for its folder `/root`, which the script finds.
    pub files: &'a [PathBuf],
    /// A script that finishes it, run within it.
    pub script: &'a str,
    /// Whether it keeps apt's lists and the packages that the script downloads, as it will have no network.
    pub keeps_packages: bool,
}

impl System<'_> {
    /// The disk that the cache has of it, which is made if it was made otherwise or not at all. What is started writes to a
    /// copy.
    ///
    /// # Errors
    /// As [`System::make`].
    pub fn cached(&self, project: &Project) -> Result<PathBuf> {
        let _lock = project.lock_systems()?;
        let disk = project.cache().join("systems").join(format!("{}.qcow2", self.name));
        let recipe = format!("{self:?}\n{ALWAYS}\n{SET_UP}");
        let stamp = disk.with_extension("recipe");
        if !disk.is_file() || !fs::read_to_string(&stamp).is_ok_and(|text| text == recipe) {
            self.make(project, &disk)?;
            fs::write(&stamp, recipe).with_context(|| format!("cannot write {}", stamp.display()))?;
        }
        Ok(disk)
    }

    /// Makes it, on a disk in the file `to`.
    ///
    /// # Errors
    /// When its packages cannot be had, or there is no room for it.
    pub fn make(&self, project: &Project, to: &Path) -> Result<()> {
        let folder = to.parent().context("a file has a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (lists, user) = {
            let _lock = project.lock_cache()?;
            system_packages::install_missing(project, &NEEDED)?;
            let lists = Lists::of_system(&["i386"], SUITE)?;
            (PrivateApt::update(&project.cache().join("apt-i386"), &lists, &project.logs())?, as_root()?)
        };
        if let Some(why) = &lists.left_out {
            eprintln!("  left out, the main suite is enough: {why}");
        }
        let progress = Progress::start(format!("Debian for i386: {}", self.name));
        // The name is the one that they have in the system.
        let (root, sources) = (to.with_extension("root"), to.with_file_name("debian.sources"));
        let remove = || output(user.command("rm").args(["-rf", "--one-file-system"]).arg(&root));
        remove()?;
        fs::write(&sources, &lists.sources)?;
        let script = to.with_extension("sh");
        // The build machine's resolver is not the system's.
        let (name, words, own) = (self.name, self.words, self.script);
        let text =
            format!("set -e\nNAME={name} WORDS='{words}'\n{SET_UP}\n{own}\nrm /etc/resolv.conf \"$0\"\n");
        fs::write(&script, text)?;

        // What it mounts in the folder goes with it, however it ends.
        let mut bootstrap = user.command("unshare");
        bootstrap.args(["--mount", "setarch", "i686", "mmdebstrap", "--mode=root"]);
        bootstrap.args(["--variant=minbase", "--architectures=i386", "--format=directory"]);
        bootstrap.arg(format!("--include={ALWAYS},{}", self.packages));
        bootstrap.arg("--aptopt=Acquire::Languages \"none\"");
        bootstrap.args(self.keeps_packages.then_some("--skip=cleanup/apt"));
        for file in self.files {
            bootstrap.arg(format!("--customize-hook=copy-in {} /root", file.display()));
        }
        bootstrap.arg(format!("--customize-hook=copy-in {} /root", script.display()));
        let inside = script.file_name().unwrap_or_default().to_string_lossy();
        bootstrap.arg(format!("--customize-hook=chroot \"$1\" sh /root/{inside}"));
        bootstrap.arg(SUITE).arg(&root).arg(&sources);
        let log = project.logs().join(format!("system-{}.log", self.name));
        run_logged(&mut bootstrap, &log)?;

        disk::make(&user, &root, to, &project.logs())?;
        remove()?;
        fs::remove_file(&sources)?;
        fs::remove_file(&script)?;
        progress.done();
        Ok(())
    }
}
