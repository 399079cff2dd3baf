//! The disk of a load: a small Debian system, unpacked from its packages, with the project's own scripts in `/loads`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use xtask::apt::unpack;
use xtask::process::{Progress, output, run_logged};
use xtask::project::Project;

use super::Load;
use super::packages;

/// What of the packages no load reads.
const LEFT_OUT: [&str; 8] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/bug",
    "usr/share/lintian",
    "usr/lib/i386-linux-gnu/libc.a",
    "usr/lib/i386-linux-gnu/gconv",
];

/// Where the guest's own file systems are mounted.
const MOUNTED: [&str; 6] = ["dev", "proc", "sys", "tmp", "run", "root"];

/// The users of the system. A server does not run as root.
const USERS: [(&str, &str); 2] = [
    ("etc/passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// Bytes of a block of the file system.
const BLOCK: u64 = 4096;

/// Bytes of a disk, which the host VM has in its memory twice while it starts.
const MOST: u64 = 256 << 20;

/// Makes the disk of `load`.
///
/// # Errors
/// When its packages cannot be fetched or unpacked, or the file system not be made.
pub fn make(project: &Project, load: &Load) -> Result<PathBuf> {
    let debs = {
        let _lock = project.lock_cache()?;
        packages::ensure(project, load.packages)?
    };
    let progress = Progress::start(format!("disk of the load {}", load.name));
    let folder = project.out().join("loads").join(load.name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let (root, disk) = (folder.join("root"), folder.join("disk.img"));
    for deb in debs {
        unpack(&deb, &root, &[])?;
    }
    for path in LEFT_OUT.map(|path| root.join(path)) {
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if path.exists() {
            fs::remove_file(&path)?;
        }
    }
    add_files(&root, &project.root().join("examples/linux-guest/loads"))?;
    file_system(&root, &disk, project)?;
    fs::remove_dir_all(&root)?;
    progress.done();
    Ok(disk)
}

/// What comes from no package.
fn add_files(root: &Path, scripts: &Path) -> Result<()> {
    for folder in MOUNTED.into_iter().chain(["etc", "loads"]) {
        fs::create_dir_all(root.join(folder))?;
    }
    for (path, text) in USERS {
        fs::write(root.join(path), text)?;
    }
    for entry in fs::read_dir(scripts).with_context(|| format!("cannot read {}", scripts.display()))? {
        let entry = entry?;
        let path = root.join("loads").join(entry.file_name());
        fs::copy(entry.path(), &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn file_system(root: &Path, disk: &Path, project: &Project) -> Result<()> {
    let size = output(Command::new("du").args(["-s", "--block-size=4096"]).arg(root))?;
    let blocks: u64 =
        size.split_whitespace().next().and_then(|n| n.parse().ok()).context("du printed no size")?;
    // A tenth more for what describes the files.
    let blocks = blocks + blocks / 10 + 1024;
    if blocks > MOST / BLOCK {
        bail!("{} is too large for a disk in the memory of the host VM", root.display());
    }
    const UUID: &str = "6c677565-7374-4c69-8e75-78206c6f6164";
    let mut mkfs = Command::new("/usr/sbin/mkfs.ext4");
    mkfs.env("E2FSPROGS_FAKE_TIME", "1").args(["-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode"]);
    mkfs.args([
        "-b",
        &BLOCK.to_string(),
        "-U",
        UUID,
        "-E",
        &format!("root_owner=0:0,hash_seed={UUID}"),
        "-d",
    ]);
    mkfs.arg(root).arg(disk).arg(blocks.to_string());
    run_logged(&mut mkfs, &project.logs().join("loads-disk.log"))
}
