//! The section `package` of `cargo xtask test`: the packages, installed with apt in a Debian system in QEMU, used, kept through
//! an upgrade of the kernel, and removed; and the disk image, used as a person would.
//!
//! The system starts twice from one disk, with the old kernel and with the new one. What it has to do is on a second disk, with
//! the packages. It has no network: it was made with all that the packages and the upgrade need ([`TEST_SYSTEM`]).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xtask::boots;
use xtask::process::{output, run_logged};
use xtask::programs;
use xtask::project::Project;
use xtask::qemu::{Clock, LINUX, Pc, Processor};
use xtask::setup::{self, Machine};
use xtask::steps::Step;
use xtask::tally;
use xtask::vm::{self, Boot};

use crate::debs;
use crate::image;
use crate::login;
use crate::system::System;

/// The system in which the packages are tested.
const TEST_SYSTEM: System<'_> = System {
    name: "test",
    packages: "",
    words: LINUX,
    files: &[],
    script: include_str!("../systems/test.sh"),
    keeps_packages: true,
};

/// Memory of a PC on which kernels are unpacked and modules compiled, in MiB.
const MEMORY: u32 = 1024;

/// After so much silence a PC is given up. DKMS compiles without a word, which on an emulated processor takes minutes, and many
/// where the build machine is busy.
const SILENCE: Duration = Duration::from_secs(3600);

const LIBRARY: &str = include_str!("../steps/lib.sh");

/// The step of this name, whose script is in the file of that name, and its limit in seconds.
macro_rules! step {
    ($name:literal, $limit:expr) => {
        ($name, $limit, include_str!(concat!("../steps/", $name, ".sh")))
    };
}

/// What is done with the old kernel, and what with the new one.
const STEPS: [&[(&str, u64, &str)]; 2] = [
    &[
        step!("install", 3600),
        step!("guests", 300),
        step!("parameters", 120),
        step!("linux-guest", 600),
        step!("upgrade", 5400),
    ],
    &[step!("new-kernel", 300), step!("removal", 600), step!("signatures", 60)],
];

/// Makes the checks.
///
/// # Errors
/// When this machine cannot be set up.
pub fn run(project: &Project) -> Result<()> {
    let machine = setup::ensure(project, false)?;
    tally::section(|tally| {
        let (packages, again) = match packed_twice(project) {
            Ok(packed) => packed,
            Err(error) => return tally.fail("package", &format!("{error:#}")),
        };
        tally.check("package: the same again", same(&packages, &again));
        let parts = match Parts::collect(project, &machine, packages.into_keys().collect()) {
            Ok(parts) => parts,
            Err(error) => return tally.fail("package", &format!("{error:#}")),
        };
        for (kernel, steps) in ["old", "new"].into_iter().zip(STEPS) {
            let name = format!("package-{kernel}-kernel");
            let steps: Vec<_> = steps.iter().map(step).collect();
            boots::run_one(tally, &name, &steps, |line| parts.boot(project, &name, &steps, line));
        }
        let tried = image::make(project).and_then(|image| login::try_out(&image));
        tally.check("package: the disk image, logged in to", tried);
    });
    Ok(())
}

/// Each package's contents, by its file.
type Packed = BTreeMap<PathBuf, Vec<u8>>;

/// The packages, put together twice of what was compiled once.
fn packed_twice(project: &Project) -> Result<(Packed, Packed)> {
    let pack = || -> Result<Packed> {
        let packages = debs::build(project, true)?.into_iter();
        packages
            .map(|file| fs::read(&file).map(|contents| (file, contents)))
            .collect::<io::Result<_>>()
            .map_err(Into::into)
    };
    Ok((pack()?, pack()?))
}

fn same(first: &Packed, second: &Packed) -> Result<()> {
    ensure!(!first.is_empty() && first.keys().eq(second.keys()), "other packages came out");
    let other = first.keys().find(|package| first[*package] != second[*package]);
    ensure!(other.is_none(), "{} has come out otherwise", other.unwrap_or(&PathBuf::new()).display());
    Ok(())
}

/// What the PC is made of, for both of its starts.
struct Parts {
    packages: Vec<PathBuf>,
    guest: PathBuf,
    disk: PathBuf,
}

impl Parts {
    /// Builds what is not there; the disk is as the system was made.
    fn collect(project: &Project, machine: &Machine, packages: Vec<PathBuf>) -> Result<Parts> {
        let guest = programs::mini_guest(project, machine)?;
        let original = TEST_SYSTEM.cached(project)?;
        let disk = project.out().join("package-test.qcow2");
        let mut copy = Command::new("qemu-img");
        copy.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(original).arg(&disk);
        output(&mut copy)?;
        Ok(Parts { packages, guest, disk })
    }

    fn boot(
        &self,
        project: &Project,
        name: &str,
        steps: &[Step],
        line: &mut dyn FnMut(&str),
    ) -> Result<Boot> {
        let folder = project.logs().join("vm").join(name);
        let steps_disk = self.steps_disk(&folder, steps, &project.logs())?;
        let drive = |file: &Path, format| format!("file={},format={format},if=virtio", file.display());
        let drives = [drive(&self.disk, "qcow2"), drive(&steps_disk, "raw")];
        let options = drives.map(|drive| ["-drive".to_owned(), drive]).concat();
        let pc = Pc {
            kernel: None,
            initrd: None,
            memory: MEMORY,
            processors: 2,
            processor: Processor::default(),
            clock: Clock::Real,
            append: String::new(),
        };
        vm::boot(&pc, &options, SILENCE, steps, &folder, line)
    }

    /// Makes the disk with the steps, the packages and the guest.
    fn steps_disk(&self, folder: &Path, steps: &[Step], logs: &Path) -> Result<PathBuf> {
        let contents = folder.join("disk");
        let below = |name: &str| -> Result<PathBuf> {
            let below = contents.join(name);
            fs::create_dir_all(&below).with_context(|| format!("cannot make {}", below.display()))?;
            Ok(below)
        };
        if contents.exists() {
            fs::remove_dir_all(&contents).with_context(|| format!("cannot empty {}", contents.display()))?;
        }
        let (scripts, packages, guests) = (below("steps")?, below("packages")?, below("guests")?);
        let mut list = String::new();
        for (number, step) in steps.iter().enumerate() {
            let file = format!("{number:02}-{}", step.name);
            fs::write(scripts.join(&file), format!("{LIBRARY}\n{}", step.script))?;
            list.push_str(&format!("{file} {}\n", step.limit.as_secs()));
        }
        fs::write(scripts.join("list"), list)?;
        for package in &self.packages {
            fs::copy(package, packages.join(package.file_name().unwrap_or_default()))?;
        }
        fs::copy(&self.guest, guests.join("mini-guest"))?;

        let disk = folder.join("steps.raw");
        let mut mkfs = Command::new("/usr/sbin/mkfs.ext4");
        mkfs.args(["-q", "-F", "-L", "steps", "-d"]).arg(&contents).arg(&disk).arg("128m");
        run_logged(&mut mkfs, &logs.join("package-steps.log"))?;
        fs::remove_dir_all(&contents)?;
        Ok(disk)
    }
}

fn step((name, limit, script): &(&str, u64, &str)) -> Step {
    Step { limit: Duration::from_secs(*limit), ..Step::new(*name, *script) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_is_accepted_by_a_shell() {
        for (_, _, script) in STEPS.iter().copied().flatten().chain([&("", 0, TEST_SYSTEM.script)]) {
            output(Command::new("sh").args(["-n", "-c", &format!("{LIBRARY}\n{script}")])).unwrap();
        }
    }

    #[test]
    fn a_package_that_differs_is_named() {
        let packed = |contents: &[u8]| Packed::from([(PathBuf::from("a.deb"), contents.to_vec())]);
        same(&packed(b"1"), &packed(b"1")).unwrap();
        assert!(same(&packed(b"1"), &packed(b"2")).unwrap_err().to_string().contains("a.deb"));
        assert!(same(&packed(b"1"), &Packed::new()).is_err());
        assert!(same(&Packed::new(), &Packed::new()).is_err());
    }
}
