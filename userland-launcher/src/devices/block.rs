//! The disk: a file whose 512-byte sectors the guest reads and writes.

use super::{AnyService, Device, RequestService, Stop};
use crate::devices::bus::QUEUE_SIZE;
use crate::outcome::{Outcome, Violation};
use crate::virtqueue::{Buffers, Chain};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Virtio's number for a block device.
const ID: u8 = 2;
const SECTOR: u64 = 512;
/// Features: the configuration's `seg_max` counts; requests to flush are understood.
const F_SEG_MAX: u32 = 1 << 2;
const F_FLUSH: u32 = 1 << 9;
/// Request types.
const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
/// Answers.
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;
/// Bytes of a request's header: `type u32, reserved u32, sector u64`.
const HEADER: usize = 16;
/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;

/// Why a file cannot be a disk.
#[derive(Debug, Error)]
pub enum BlockError {
    /// It cannot be opened.
    #[error("cannot open disk {path} for reading and writing")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has been locked, or is a block device that is in use.
    #[error(
        "disk {0} is in use: it was given to this guest twice, another guest has it, or the host has it mounted"
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

/// A block device.
#[derive(Clone, Debug)]
pub struct Block {
    path: PathBuf,
    file: Arc<File>,
    sectors: u64,
}

impl Block {
    /// The disk that is the file (or block device) at `path`, as many whole sectors as it has. It is locked (by
    /// flock(2)) until nobody has it any more.
    ///
    /// # Errors
    /// When it cannot be opened for reading and writing, or is in use.
    pub fn open(path: &Path) -> Result<Self, BlockError> {
        let failed = |source| BlockError::Open { path: path.to_owned(), source };
        // Of a block device the kernel itself records whether it is in use, whatever name it is opened by (open(2)).
        let is_device = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device());
        let exclusive = if is_device { libc::O_EXCL } else { 0 };
        let opened = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(path);
        let mut file = opened.map_err(|source| match source.raw_os_error() {
            Some(libc::EBUSY) if is_device => BlockError::InUse(path.to_owned()),
            _ => failed(source),
        })?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => BlockError::InUse(path.to_owned()),
            TryLockError::Error(source) => BlockError::Lock { path: path.to_owned(), source },
        })?;
        let sectors = file.seek(SeekFrom::End(0)).map_err(failed)? / SECTOR;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), sectors })
    }
}

impl Device for Block {
    fn id(&self) -> u8 {
        ID
    }

    fn name(&self) -> String {
        format!("disk {}", self.path.display())
    }

    fn features(&self) -> u32 {
        F_SEG_MAX | F_FLUSH
    }

    /// `capacity u64, size_max u32, seg_max u32`: a header and a status share the ring with the segments.
    fn config(&self) -> Vec<u8> {
        let mut config = self.sectors.to_le_bytes().to_vec();
        config.extend(0u32.to_le_bytes());
        config.extend((u32::from(QUEUE_SIZE) - 2).to_le_bytes());
        config
    }

    fn queues(&self) -> u8 {
        1
    }

    fn start(&mut self) -> Result<Vec<AnyService>, Outcome> {
        Ok(vec![Requests { file: self.file.clone(), bytes: self.sectors * SECTOR }.into()])
    }
}

/// The queue of requests to read, write and flush.
pub struct Requests {
    file: Arc<File>,
    bytes: u64,
}

impl RequestService for Requests {
    fn answer(&mut self, request: &mut Chain<'_>) -> Result<u32, Stop> {
        let mut header = [0; HEADER];
        if request.readable.read(&mut header).unwrap_or(0) < HEADER {
            return Err(Violation::Protocol("sends a disk request without its header").into());
        }
        let Some(data_len) = request.writable.left().checked_sub(1) else {
            return Err(Violation::Protocol("sends a disk request without room for its status").into());
        };
        let mut status = request.writable.split_off(data_len);
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let (kind, sector) = (u32::from_le_bytes([t0, t1, t2, t3]), u64::from_le_bytes(sector));
        let done = match kind {
            T_IN => self.read(sector, &mut request.writable),
            T_OUT => self.write(sector, &mut request.readable),
            T_FLUSH => self.file.sync_data(),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        let answer = match done {
            Ok(()) => S_OK,
            Err(e) if e.kind() == io::ErrorKind::Unsupported => S_UNSUPP,
            Err(_) => S_IOERR,
        };
        let written = data_len - request.writable.left();
        status
            .write_all(&[answer])
            .map_err(|_| Violation::Protocol("sends a disk request without status"))?;
        // No more than the guest's memory by far, except when it repeats a buffer.
        Ok(u32::try_from(written + 1).unwrap_or(u32::MAX))
    }
}

impl Requests {
    /// The byte at which `len` bytes from `sector` begin, if they are whole sectors of the disk.
    fn position(&self, sector: u64, len: u64) -> io::Result<u64> {
        let start = sector.checked_mul(SECTOR);
        let end = start.and_then(|start| start.checked_add(len));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.bytes && len.is_multiple_of(SECTOR) => Ok(start),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn read(&self, sector: u64, target: &mut Buffers<'_>) -> io::Result<()> {
        let mut position = self.position(sector, target.left())?;
        let mut chunk = vec![0; CHUNK];
        while target.left() > 0 {
            // The smaller first: on a 32-bit machine a request may be longer than a usize can hold.
            let n = target.left().min(CHUNK as u64) as usize;
            self.file.read_exact_at(&mut chunk[..n], position)?;
            target.write_all(&chunk[..n])?;
            position += n as u64;
        }
        Ok(())
    }

    fn write(&self, sector: u64, source: &mut Buffers<'_>) -> io::Result<()> {
        let mut position = self.position(sector, source.left())?;
        let mut chunk = vec![0; CHUNK];
        while source.left() > 0 {
            let n = source.read(&mut chunk)?;
            self.file.write_all_at(&chunk[..n], position)?;
            position += n as u64;
        }
        Ok(())
    }
}
