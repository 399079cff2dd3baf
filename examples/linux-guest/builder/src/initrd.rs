//! The guest's initial file system: BusyBox, our `/init`, the programs that test and measure the guest, the
//! kernel's modules. The same bytes from the same parts: no time stamps, everything in a fixed order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use xtask::initrd::Initrd;
use xtask::process::run_logged;

/// What goes into the archive.
#[derive(Debug, Clone)]
pub struct GuestFiles {
    /// The folder `examples/linux-guest`, for `init`, `motd` and `scripts`.
    pub folder: PathBuf,
    /// A static i386 BusyBox.
    pub busybox: PathBuf,
    /// Programs for `/bin`.
    pub programs: Vec<PathBuf>,
    /// What the kernel calls itself.
    pub release: String,
    /// Kernel modules for the folder of that name in `/lib/modules`.
    pub modules: Vec<PathBuf>,
    /// An ext4 file system for `/images`.
    pub image: PathBuf,
}

/// Makes an empty ext4 file system, with a journal, in `folder`: always the same bytes.
pub fn ext4_image(folder: &Path, logs: &Path) -> Result<PathBuf> {
    const UUID: &str = "6c677565-7374-4c69-8e75-782065787434";
    let image = folder.join("ext4.img");
    // Another command may be at the same, or read the image of before.
    let made = tempfile::Builder::new().prefix("ext4-").tempfile_in(folder);
    let made = made.with_context(|| format!("cannot make a file in {}", folder.display()))?;
    let mut mkfs = Command::new("/usr/sbin/mkfs.ext4");
    mkfs.env("E2FSPROGS_FAKE_TIME", "1").args(["-q", "-F", "-b", "1024", "-J", "size=1", "-U", UUID]);
    mkfs.arg("-E").arg(format!("hash_seed={UUID}")).arg(made.path()).arg("4096");
    run_logged(&mut mkfs, &logs.join("linux-ext4-image.log"))?;
    made.persist(&image).with_context(|| format!("cannot write {}", image.display()))?;
    Ok(image)
}

impl GuestFiles {
    /// Puts the archive together.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut initrd = Initrd::default();
        let modules = format!("lib/modules/{}", self.release);
        for directory in ["bin", "dev", "etc", "images", "lib", "lib/modules", &modules, "scripts"] {
            initrd.directory(directory)?;
        }
        initrd.device("dev/console", 5, 1)?;
        initrd.program("init", &read(&self.folder.join("init"))?)?;
        initrd.file("etc/motd", &read(&self.folder.join("motd"))?)?;
        initrd.program("bin/busybox", &read(&self.busybox)?)?;
        initrd.link("bin/sh", "busybox")?;
        for program in sorted(&self.programs) {
            initrd.program(&format!("bin/{}", name(program)), &read(program)?)?;
        }
        let scripts = self.folder.join("scripts");
        let entries = fs::read_dir(&scripts).with_context(|| format!("cannot read {}", scripts.display()))?;
        let entries: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        for script in sorted(&entries) {
            initrd.program(&format!("scripts/{}", name(script)), &read(script)?)?;
        }
        initrd.file("images/ext4.img", &read(&self.image)?)?;
        for module in sorted(&self.modules) {
            initrd.file(&format!("{modules}/{}", name(module)), &read(module)?)?;
        }
        initrd.finish()
    }
}

fn sorted(paths: &[PathBuf]) -> Vec<&PathBuf> {
    let mut sorted: Vec<_> = paths.iter().collect();
    sorted.sort_by_key(|path| name(path));
    sorted
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask::process::output;

    /// Files for an archive of a few bytes, with the project's own scripts.
    fn files(folder: &Path, reversed: bool) -> GuestFiles {
        let path = |name: &str| {
            let path = folder.join(name);
            fs::write(&path, name).unwrap();
            path
        };
        let mut programs = vec![path("guest-bench"), path("guest-test")];
        if reversed {
            programs.reverse();
        }
        GuestFiles {
            folder: Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
            busybox: path("busybox"),
            programs,
            release: "6.1.0".to_owned(),
            modules: vec![path("loop.ko")],
            image: ext4_image(folder, folder).unwrap(),
        }
    }

    #[test]
    fn the_same_parts_give_the_same_bytes() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = files(one.path(), false).archive().unwrap();
        assert_eq!(first, files(two.path(), true).archive().unwrap());
        let holds = |text: &str| first.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds("bin/guest-test\0") && holds("lib/modules/6.1.0/loop.ko\0") && holds("scripts/load\0"));
    }

    /// The other commands' image is replaced as a whole, so that whoever reads meanwhile has a whole one.
    #[test]
    fn an_image_is_whole_whenever_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let make = || fs::read(ext4_image(folder.path(), folder.path()).unwrap()).unwrap();
        let first = make();
        std::thread::scope(|scope| {
            let others = scope.spawn(|| (0..8).for_each(|_| _ = make()));
            while !others.is_finished() {
                assert!(fs::read(folder.path().join("ext4.img")).unwrap() == first);
            }
        });
    }

    #[test]
    fn the_guests_scripts_are_accepted_by_a_shell() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let scripts = fs::read_dir(folder.join("scripts")).unwrap().map(|entry| entry.unwrap().path());
        for script in scripts.chain([folder.join("init")]) {
            output(Command::new("sh").arg("-n").arg(&script)).unwrap();
        }
    }
}
