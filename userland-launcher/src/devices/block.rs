//! The disk: a file whose 512-byte sectors the guest reads and, unless it is read-only, writes.

use super::{AnyService, Device, RequestService, Stop};
use crate::devices::bus::QUEUE_SIZE;
use crate::disk_file::{self, DiskError, DiskName, SECTOR};
use crate::outcome::{Outcome, Violation};
use crate::virtqueue::{Buffers, Chain};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Virtio's number for a block device.
const ID: u8 = 2;
/// Features: the configuration's `seg_max` counts; the disk is read-only; requests to flush are understood.
const F_SEG_MAX: u32 = 1 << 2;
const F_RO: u32 = 1 << 5;
const F_FLUSH: u32 = 1 << 9;
/// Request types.
const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
/// Answers.
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;
/// Bytes of a request's header: `type u32, reserved u32, sector u64`.
const HEADER: usize = 16;
/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;
/// Bytes of the answer to [`T_GET_ID`].
const SERIAL: usize = 20;

/// A block device.
#[derive(Clone, Debug)]
pub struct Block {
    name: DiskName,
    file: Arc<File>,
    bytes: u64,
}

impl Block {
    /// The disk of this name, locked until nobody has it any more.
    ///
    /// # Errors
    /// See [`DiskError`].
    pub fn open(name: &DiskName) -> Result<Self, DiskError> {
        let (file, bytes) = disk_file::open(name)?;
        Ok(Self { name: name.clone(), file: Arc::new(file), bytes })
    }
}

impl Device for Block {
    fn id(&self) -> u8 {
        ID
    }

    fn name(&self) -> String {
        format!("disk {}", self.name.path.display())
    }

    fn features(&self) -> u32 {
        F_SEG_MAX | F_FLUSH | if self.name.read_only { F_RO } else { 0 }
    }

    /// `capacity u64, size_max u32, seg_max u32`: a header and a status share the ring with the segments.
    fn config(&self) -> Vec<u8> {
        let mut config = (self.bytes / SECTOR).to_le_bytes().to_vec();
        config.extend(0u32.to_le_bytes());
        config.extend((u32::from(QUEUE_SIZE) - 2).to_le_bytes());
        config
    }

    fn queues(&self) -> u8 {
        1
    }

    fn start(&mut self) -> Result<Vec<AnyService>, Outcome> {
        let requests = Requests {
            file: self.file.clone(),
            bytes: self.bytes,
            read_only: self.name.read_only,
            serial: disk_file::serial(&self.name.path),
        };
        Ok(vec![requests.into()])
    }
}

/// The queue of requests to read, write and flush, and for the serial.
pub struct Requests {
    file: Arc<File>,
    bytes: u64,
    read_only: bool,
    serial: [u8; SERIAL],
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
            T_GET_ID => request.writable.write(&self.serial).map(drop),
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
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
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
