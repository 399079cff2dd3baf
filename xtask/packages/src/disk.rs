//! A disk that a PC starts from: the boot loader GRUB before the first partition, and Debian in it.
//!
//! GRUB is put there byte by byte, as `grub-bios-setup` would, which insists on a disk that the build machine has. Its first
//! sector, `boot.img`, loads the sectors that follow it; they hold `core.img`, which `grub-mkimage` makes with all that is
//! needed to read `/boot/grub/grub.cfg` from the partition.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use xtask::process::{output, run_logged};
use xtask::system_packages::Root;

/// The length of a sector.
const SECTOR: u64 = 512;

/// Where the partition begins, in sectors: at 1 MiB, as partitioning tools have it.
const PARTITION: u64 = 2048;

/// How long the disk is. What is not used of it takes no room in its file.
const LENGTH: u64 = 8 << 30;

/// The partition's label, by which Linux finds it, whatever the disk is connected by.
const LABEL: &str = "debian";

/// Where Debian has the parts of GRUB for a PC with a BIOS.
const GRUB: &str = "/usr/lib/grub/i386-pc";

/// What GRUB needs before it can load more of itself; the rest is built in as well, as the disk has no copy.
const GRUB_MODULES: [&str; 8] =
    ["biosdisk", "part_msdos", "ext2", "normal", "configfile", "linux", "serial", "terminal"];

/// Makes a disk with the file system in the folder `root`, as the compressed qcow2 file `to`; works beside it.
///
/// # Errors
/// When there is no room for it, or a tool fails.
pub fn make(root_user: &Root, root: &Path, to: &Path, logs: &Path) -> Result<()> {
    let raw = to.with_extension("raw");
    File::create(&raw)
        .and_then(|file| file.set_len(LENGTH))
        .with_context(|| format!("cannot make {}", raw.display()))?;

    let mut mkfs = root_user.command("/usr/sbin/mkfs.ext4");
    let offset = format!("offset={}", PARTITION * SECTOR);
    mkfs.args(["-q", "-F", "-L", LABEL, "-E", &offset, "-d"]).arg(root).arg(&raw);
    mkfs.arg(format!("{}k", (LENGTH - PARTITION * SECTOR) / 1024));
    run_logged(&mut mkfs, &logs.join("disk-mkfs.log"))?;

    let core = to.with_extension("core");
    let mut mkimage = Command::new("grub-mkimage");
    mkimage.args(["--format=i386-pc", "--prefix=(hd0,msdos1)/boot/grub", "--directory", GRUB, "--output"]);
    run_logged(mkimage.arg(&core).args(GRUB_MODULES), &logs.join("disk-grub.log"))?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let start = first_sectors(&read(&Path::new(GRUB).join("boot.img"))?, &read(&core)?)?;
    let mut disk = File::options().write(true).open(&raw)?;
    disk.seek(SeekFrom::Start(0))?;
    disk.write_all(&start).with_context(|| format!("cannot write {}", raw.display()))?;
    drop(disk);

    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-c", "-f", "raw", "-O", "qcow2"]).arg(&raw).arg(to);
    output(&mut convert)?;
    fs::remove_file(&core)?;
    fs::remove_file(&raw)?;
    Ok(())
}

/// What precedes the partition: GRUB, and in its first sector the table of partitions.
fn first_sectors(boot: &[u8], core: &[u8]) -> Result<Vec<u8>> {
    /// Of the first sector, so much is GRUB's; the table follows a signature of six bytes.
    const OF_GRUB: usize = 440;
    const TABLE: usize = 446;
    if boot.len() != SECTOR as usize || core.len() as u64 > (PARTITION - 1) * SECTOR {
        bail!("GRUB's parts have {} and {} bytes, for which there is no room", boot.len(), core.len());
    }
    let mut start = vec![0; SECTOR as usize];
    start[..OF_GRUB].copy_from_slice(&boot[..OF_GRUB]);
    // One partition, active, of Linux. Cylinders and heads say that only the sector numbers count.
    let [first, length] = [PARTITION, LENGTH / SECTOR - PARTITION].map(u32::try_from);
    let entry = [0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff];
    start[TABLE..TABLE + 8].copy_from_slice(&entry);
    start[TABLE + 8..TABLE + 12].copy_from_slice(&first?.to_le_bytes());
    start[TABLE + 12..TABLE + 16].copy_from_slice(&length?.to_le_bytes());
    start[SECTOR as usize - 2..].copy_from_slice(&[0x55, 0xaa]);
    start.extend_from_slice(core);
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partitioning_tool_finds_the_partition() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        let file = File::create(&disk).unwrap();
        file.set_len(LENGTH).unwrap();
        (&file).write_all(&first_sectors(&[1; 512], &[2; 1000]).unwrap()).unwrap();
        let mut partx = Command::new("partx");
        partx.args(["--raw", "--noheadings", "--output", "START,SECTORS,TYPE,FLAGS"]).arg(&disk);
        assert_eq!(output(&mut partx).unwrap().trim(), "2048 16775168 0x83 0x80");
    }

    #[test]
    fn grub_that_would_reach_into_the_partition_is_refused() {
        assert!(first_sectors(&[0; 512], &vec![0; 2048 * 512]).is_err());
        assert!(first_sectors(&[0; 100], &[]).is_err());
    }
}
