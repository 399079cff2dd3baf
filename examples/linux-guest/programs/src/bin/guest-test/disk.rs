//! A disk, written and read past the page cache and through it, and an ext4 file system on a loop device.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::slice;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};

use crate::Settings;
use crate::modules;
use crate::process;
use crate::random::Random;
use crate::runner::Lacking;

/// What a disk must begin with to be overwritten.
const MARK: &[u8] = b"guest-test scratch disk";
const BLOCK: usize = 4096;
/// Bytes of a disk that are used at most.
const USED_MAX: u64 = 16 << 20;
/// Bytes of the longest request.
const REQUEST_MAX: usize = 256 << 10;

nix::ioctl_none!(flush_buffers, 0x12, 97);
nix::ioctl_none_bad!(loop_get_free, 0x4c82);
nix::ioctl_write_int_bad!(loop_set_fd, 0x4c00);
nix::ioctl_none_bad!(loop_clear_fd, 0x4c01);

/// Bytes at an address such as direct input and output requires.
struct Aligned {
    start: *mut u8,
    layout: Layout,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        let layout = Layout::from_size_align(len.max(1), BLOCK).expect("a page is an alignment");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        assert!(!start.is_null(), "no memory for {len} bytes");
        Aligned { start, layout }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: allocated with this length, and initialised.
        unsafe { slice::from_raw_parts(self.start, self.layout.size()) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.start, self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}

/// The two ways to a disk.
struct Disk {
    cached: File,
    direct: File,
    /// Blocks that may be used, from the second on.
    blocks: usize,
}

impl Disk {
    fn open(path: &Path) -> Result<Disk> {
        let lacking = |why: String| Lacking(format!("a scratch disk: {} {why}; see --disk", path.display()));
        let both = OpenOptions::new().read(true).write(true).clone();
        let mut cached =
            both.clone().open(path).map_err(|error| lacking(format!("cannot be opened: {error}")))?;
        ensure!(cached.metadata()?.file_type().is_block_device(), "{} is no block device", path.display());
        let mut start = [0; MARK.len()];
        cached.read_exact(&mut start).with_context(|| format!("reading {}", path.display()))?;
        if start != MARK {
            let mark = String::from_utf8_lossy(MARK);
            return Err(lacking(format!("does not begin with `{mark}`, so it may be somebody's")).into());
        }
        let bytes = cached.seek(SeekFrom::End(0))?.min(USED_MAX);
        let direct =
            both.clone().custom_flags(libc::O_DIRECT).open(path).context("opening it past the cache")?;
        let blocks = (bytes as usize / BLOCK).saturating_sub(1);
        ensure!(blocks >= 2 * REQUEST_MAX / BLOCK, "{} is too small: 1 MiB is enough", path.display());
        Ok(Disk { cached, direct, blocks })
    }

    /// Makes the next reading through the cache come from the disk.
    fn forget(&self) -> Result<()> {
        self.cached.sync_all()?;
        // SAFETY: it drops the device's clean pages.
        unsafe { flush_buffers(self.cached.as_raw_fd()) }.context("BLKFLSBUF")?;
        Ok(())
    }
}

/// Random pieces written by one way and read by the other, over and over; at the end all of them.
pub fn block_device(settings: &Settings) -> Result<()> {
    let disk = Disk::open(&settings.disk)?;
    let mut random = Random::new(settings.seed);
    // What each block was last filled with; none for what it held before.
    let mut seeds: Vec<Option<u64>> = vec![None; disk.blocks];
    for round in 0..150 {
        let first = random.below(disk.blocks);
        let count = 1 + random.below((REQUEST_MAX / BLOCK).min(disk.blocks - first));
        let mut bytes = Aligned::new(count * BLOCK);
        for (index, block) in bytes.chunks_mut(BLOCK).enumerate() {
            let seed = random.seed();
            Random::new(seed).fill(block);
            seeds[first + index] = Some(seed);
        }
        let offset = ((1 + first) * BLOCK) as u64;
        match round % 3 {
            0 => {
                disk.direct.write_all_at(&bytes, offset).context("writing past the cache")?;
                compare(&disk.cached, &seeds, first, count, "written past the cache, read through it")?;
            }
            1 => {
                disk.cached.write_all_at(&bytes, offset).context("writing through the cache")?;
                disk.cached.sync_data().context("fsync")?;
                compare(&disk.direct, &seeds, first, count, "written through the cache, read past it")?;
            }
            _ => {
                disk.cached.write_all_at(&bytes, offset).context("writing through the cache")?;
                disk.forget()?;
                compare(
                    &disk.cached,
                    &seeds,
                    first,
                    count,
                    "written through the cache, forgotten, read again",
                )?;
            }
        }
    }
    disk.forget()?;
    // Several at once.
    process::in_parallel(3, |number| {
        let file = if number == 0 { &disk.direct } else { &disk.cached };
        let step = REQUEST_MAX / BLOCK / 2;
        for first in (0..disk.blocks - step).step_by(step) {
            compare(file, &seeds, first, step, "read at the end")?;
        }
        Ok(())
    })
}

fn compare(file: &File, seeds: &[Option<u64>], first: usize, count: usize, how: &str) -> Result<()> {
    let (mut bytes, mut expected) = (Aligned::new(count * BLOCK), [0; BLOCK]);
    file.read_exact_at(&mut bytes, ((1 + first) * BLOCK) as u64).with_context(|| how.to_owned())?;
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        let Some(seed) = seeds[first + index] else { continue };
        Random::new(seed).fill(&mut expected);
        if let Some(at) = (0..BLOCK).find(|&at| block[at] != expected[at]) {
            bail!(
                "block {} of {count} from {first}, {how}: byte {at} is {:#x} instead of {:#x}",
                index,
                block[at],
                expected[at]
            );
        }
    }
    Ok(())
}

/// A loop device on a file.
struct Loop {
    device: File,
    path: PathBuf,
}

impl Loop {
    fn attach(image: &Path) -> Result<Loop> {
        modules::load_by_name("loop")?;
        let control = File::open("/dev/loop-control").map_err(|error| {
            Lacking(format!("loop devices (CONFIG_BLK_DEV_LOOP): /dev/loop-control: {error}"))
        })?;
        // SAFETY: it takes and writes nothing.
        let number = unsafe { loop_get_free(control.as_raw_fd()) }.context("no free loop device")?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let both = OpenOptions::new().read(true).write(true).clone();
        let writable = both.open(&path).with_context(|| path.display().to_string())?;
        let image = both.open(image)?;
        // SAFETY: it takes the file's number; the kernel keeps the file.
        unsafe { loop_set_fd(writable.as_raw_fd(), image.as_raw_fd()) }.context("attaching the image")?;
        // A kernel without CONFIG_BLK_DEV_WRITE_MOUNTED mounts nothing that is open for writing.
        drop(writable);
        let device = File::open(&path).with_context(|| path.display().to_string())?;
        Ok(Loop { device, path })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // SAFETY: it takes nothing. If the device is busy it stays; the test has failed then.
        let _ = unsafe { loop_clear_fd(self.device.as_raw_fd()) };
    }
}

/// An ext4 file system in a file: mounted, filled, unmounted, mounted again and compared.
pub fn ext4_on_loop(settings: &Settings) -> Result<()> {
    const FILES: u64 = 40;
    let image = &settings.image;
    if !image.is_file() {
        return Err(Lacking(format!("an ext4 image: there is no {}, see --image", image.display())).into());
    }
    for module in ["crc16", "crc32c_generic", "mbcache", "jbd2", "ext4"] {
        modules::load_by_name(module)?;
    }
    let folder = std::env::temp_dir().join(format!("guest-test-{}", std::process::id()));
    let point = folder.join("mounted");
    fs::create_dir_all(&point)?;
    let copy = folder.join("image");
    fs::copy(image, &copy).context("copying the image")?;
    let device = Loop::attach(&copy)?;

    let mut random = Random::new(settings.seed);
    let files: Vec<(u64, usize)> = (0..FILES).map(|_| (random.seed(), random.below(40_000))).collect();
    let contents = |(seed, length): (u64, usize)| {
        let mut bytes = vec![0; length];
        Random::new(seed).fill(&mut bytes);
        bytes
    };
    let path = |number: usize| point.join(format!("folder{}/file{number}", number % 4));
    mount_ext4(&device.path, &point)?;
    let filled = (|| -> Result<()> {
        for number in 0..4 {
            fs::create_dir_all(point.join(format!("folder{number}")))?;
        }
        for (number, &file) in files.iter().enumerate() {
            fs::write(path(number), contents(file)).with_context(|| format!("writing file {number}"))?;
        }
        for number in (0..files.len()).step_by(5) {
            fs::remove_file(path(number))?;
        }
        let mut log = OpenOptions::new().create(true).append(true).open(point.join("log"))?;
        log.write_all(b"appended\n")?;
        log.sync_all()?;
        Ok(())
    })();
    umount(&point).context("unmounting")?;
    filled?;
    mount_ext4(&device.path, &point)?;
    let compared = (|| -> Result<()> {
        for (number, &file) in files.iter().enumerate() {
            let read = fs::read(path(number));
            if number % 5 == 0 {
                ensure!(read.is_err(), "file {number} is there after it was removed");
            } else {
                let same = read.with_context(|| format!("reading file {number}"))? == contents(file);
                ensure!(same, "file {number} is not what was written");
            }
        }
        ensure!(
            fs::read_to_string(point.join("log"))?.ends_with("appended\n"),
            "the log is not what was written"
        );
        Ok(())
    })();
    umount(&point).context("unmounting")?;
    drop(device);
    fs::remove_dir_all(&folder)?;
    compared
}

fn mount_ext4(device: &Path, point: &Path) -> Result<()> {
    match mount(Some(device), point, Some("ext4"), MsFlags::empty(), None::<&str>) {
        Err(Errno::ENODEV) => Err(Lacking("ext4 (CONFIG_EXT4_FS) is not in this kernel".into()).into()),
        other => other.context("mounting the image"),
    }
}
