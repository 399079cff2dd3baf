//! libCacheSim's binary form oracleGeneral: little-endian records without a header.
//!
//! ```text
//!  byte 0        4                12       16                       24
//!       ┌────────┬────────────────┬────────┬────────────────────────┐
//!       │ time   │ object         │ size   │ number of next request │
//!       │ u32, s │ u64            │ u32    │ i64; -1: never         │
//!       └────────┴────────────────┴────────┴────────────────────────┘
//! ```
//!
//! Requests are numbered from 1. Sources: libCacheSim, `libCacheSim/traceReader/customizedReader/oracle/oracleGeneralBin.h`
//! for the record, and that a request of size 0 is left out unless that is switched off; `libCacheSim/bin/traceUtils/traceConv.cpp`
//! for the numbers of requests.

use super::error::KeyError;
use super::key::Key;
use std::io::{self, Read};

/// The bytes of a record.
pub(super) const RECORD: usize = 24;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) time: u32,
    pub(super) object: u64,
    pub(super) size: u32,
    pub(super) next: i64,
}

impl Record {
    pub(super) fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..4].copy_from_slice(&self.time.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.object.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// Reads the objects of the records; time, size and future are not used.
pub(super) struct OracleGeneralReader<R> {
    input: R,
    /// Records that have been read.
    records: u64,
}

impl<R: Read> OracleGeneralReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, records: 0 }
    }

    /// The next key; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Key>, KeyError> {
        loop {
            let record = self.records + 1;
            let mut bytes = [0; RECORD];
            let length =
                fill(&mut self.input, &mut bytes).map_err(|source| KeyError::Record { record, source })?;
            match length {
                0 => return Ok(None),
                RECORD => self.records += 1,
                _ => {
                    let at = self.records * RECORD as u64;
                    return Err(KeyError::CutRecord { record, at, length, whole: RECORD });
                }
            }
            if bytes[12..16] != [0; 4] {
                let object = bytes[4..12].try_into().expect("eight bytes are eight");
                return Ok(Some(Key::Number(u64::from_le_bytes(object))));
            }
        }
    }
}

/// Reads until the bytes are full or the input ends; returns how many were read.
fn fill(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match input.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
