//! The file behind a guest's disk: how the user names it, and how it is opened, measured and locked.
//!
//! A disk that somebody may write belongs to one guest alone; guests may share one that all of them only read. flock(2) sees
//! to that: a shared lock for a disk that is read only, an exclusive one for any other.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// What follows the name of a disk that the guest may not write.
const READ_ONLY: &[u8] = b",readonly";

/// A disk as the user names it: `FILE` or `FILE,readonly`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskName {
    /// The file, or block device.
    pub path: PathBuf,
    /// Whether the guest may not write it.
    pub read_only: bool,
}

impl From<OsString> for DiskName {
    fn from(text: OsString) -> Self {
        match text.as_bytes().strip_suffix(READ_ONLY) {
            Some(path) => Self { path: OsStr::from_bytes(path).into(), read_only: true },
            None => Self { path: text.into(), read_only: false },
        }
    }
}

/// Why a file cannot be a disk.
#[derive(Debug, Error)]
pub enum DiskError {
    /// It cannot be opened.
    #[error("cannot open disk {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It may be read and not be written.
    #[error(
        "disk {path} cannot be written; `--block {path},readonly` gives the guest a disk that it only reads"
    )]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a terminal, a pipe.
    #[error("disk {0} is neither a file nor a block device")]
    NoDisk(PathBuf),
    /// It has no sector.
    #[error("disk {0} is empty: give it a size, as by `truncate -s 64M {0}`")]
    Empty(PathBuf),
    /// It ends within a sector.
    #[error(
        "disk {path} has {len} bytes, which are not whole sectors of {SECTOR}: `truncate -s %{SECTOR} {path}` fills up \
         the last one with zeros"
    )]
    PartOfSector {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        len: u64,
    },
    /// It has been locked, or is a block device that is in use.
    #[error(
        "disk {0} is in use: it was given to this guest twice, another guest has it, or the host has it mounted; \
         guests can share a disk if each has it as `{0},readonly`"
    )]
    InUse(PathBuf),
    /// Its file system supports no locks.
    #[error("cannot lock disk {path} against use by another guest")]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Opens and locks a disk; returns it with its length in bytes. It is locked until the file and its copies are closed.
///
/// # Errors
/// See [`DiskError`].
pub fn open(disk: &DiskName) -> Result<(File, u64), DiskError> {
    let path = &disk.path;
    let failed = |source| DiskError::Open { path: path.clone(), source };
    // Looked at before it is opened: opening a pipe waits for a writer.
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(DiskError::NoDisk(path.clone()));
    }
    let mut file = open_unused(disk, kind.is_block_device())?;
    let locked = if disk.read_only { file.try_lock_shared() } else { file.try_lock() };
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => DiskError::InUse(path.clone()),
        TryLockError::Error(source) => DiskError::Lock { path: path.clone(), source },
    })?;
    match file.seek(SeekFrom::End(0)).map_err(failed)? {
        0 => Err(DiskError::Empty(path.clone())),
        len if !len.is_multiple_of(SECTOR) => Err(DiskError::PartOfSector { path: path.clone(), len }),
        len => Ok((file, len)),
    }
}

/// Opens the disk, if it is no block device that is in use.
///
/// Of block devices the kernel itself records who has them alone, whatever name they were opened by (`O_EXCL`, open(2)).
/// Guests that only read one share it, so that they only look whether somebody has it alone.
fn open_unused(disk: &DiskName, is_device: bool) -> Result<File, DiskError> {
    let alone = || open_with(disk, if is_device { libc::O_EXCL } else { 0 });
    if is_device && disk.read_only { alone().and_then(|_| open_with(disk, 0)) } else { alone() }.map_err(
        |source| match source.kind() {
            io::ErrorKind::ResourceBusy if is_device => DiskError::InUse(disk.path.clone()),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem if is_readable(disk) => {
                DiskError::NotWritable { path: disk.path.clone(), source }
            }
            _ => DiskError::Open { path: disk.path.clone(), source },
        },
    )
}

fn open_with(disk: &DiskName, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(!disk.read_only).custom_flags(flags).open(&disk.path)
}

/// Whether a disk that was to be written can at least be read.
fn is_readable(disk: &DiskName) -> bool {
    !disk.read_only && File::open(&disk.path).is_ok()
}

/// The name by which a guest can recognise the disk: the file's own, as far as it fits and can be printed.
#[must_use]
pub fn serial<const LEN: usize>(path: &Path) -> [u8; LEN] {
    let mut serial = [0; LEN];
    let name = path.file_name().unwrap_or_default().as_bytes();
    for (target, &byte) in serial.iter_mut().zip(name) {
        *target = if byte.is_ascii_graphic() { byte } else { b'_' };
    }
    serial
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DiskName {
        OsString::from(text).into()
    }

    #[test]
    fn only_the_last_word_makes_a_disk_read_only() {
        assert_eq!(name("a.img"), DiskName { path: "a.img".into(), read_only: false });
        assert_eq!(name("a,b.img,readonly"), DiskName { path: "a,b.img".into(), read_only: true });
        assert_eq!(name("a,readonly.img"), DiskName { path: "a,readonly.img".into(), read_only: false });
    }

    #[test]
    fn a_disk_is_whole_sectors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        for end in ["", ",readonly"] {
            let open = |len| {
                std::fs::write(&path, vec![1; len]).unwrap();
                open(&name(&format!("{}{end}", path.display())))
            };
            assert!(matches!(open(0), Err(DiskError::Empty(named)) if named == path));
            for bad in [1, 511, 513, 1023] {
                let error = open(bad).unwrap_err();
                assert!(matches!(error, DiskError::PartOfSector { len, .. } if len == bad as u64), "{error}");
                let remedy = format!("truncate -s %512 {}", path.display());
                assert!(error.to_string().contains(&remedy), "{error}");
            }
            assert_eq!(open(512).unwrap().1, 512);
            assert_eq!(open(1024).unwrap().1, 1024);
        }
    }

    #[test]
    fn what_cannot_be_a_disk_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for path in [folder.path(), &pipe, Path::new("/dev/null")] {
            for end in ["", ",readonly"] {
                let error = open(&name(&format!("{}{end}", path.display()))).unwrap_err();
                assert!(matches!(&error, DiskError::NoDisk(named) if named == path), "{error}");
            }
        }
        let error = open(&name("/nonexistent/disk")).unwrap_err();
        assert!(matches!(error, DiskError::Open { .. }), "{error}");
    }

    #[test]
    fn a_disk_that_cannot_be_written_says_readonly() {
        // Root may write nearly every file, but not this one.
        let path = "/sys/kernel/uevent_seqnum";
        let error = open(&name(path)).unwrap_err();
        let DiskError::NotWritable { .. } = error else { panic!("{error}") };
        assert!(error.to_string().contains("--block /sys/kernel/uevent_seqnum,readonly"), "{error}");
    }

    #[test]
    fn a_serial_is_the_name_of_the_file() {
        assert_eq!(&serial::<20>(Path::new("/srv/disk one.img")), b"disk_one.img\0\0\0\0\0\0\0\0");
        assert_eq!(&serial::<4>(Path::new("/srv/\u{e9}.img")), b"__.i");
        assert_eq!(&serial::<4>(Path::new("/")), b"\0\0\0\0");
    }
}
