//! The source of random numbers, `/dev/hwrng`, as far as one can tell from outside.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};

use anyhow::{Context, Result, ensure};

use crate::Settings;
use crate::runner::Lacking;

/// Bytes to look at.
const BYTES: usize = 16 << 10;

/// Two pieces from the device: not the same, and of about as many ones as zeros and of each byte.
pub fn hwrng(_: &Settings) -> Result<()> {
    let first = read()?;
    let second = read()?;
    ensure!(first != second, "the device gives the same bytes again");
    for bytes in [first, second] {
        let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        let half = BYTES as u32 * 4;
        // Eight standard deviations (half the root of the number of bits).
        let most = 8 * ((2.0 * f64::from(half)).sqrt() / 2.0) as u32;
        ensure!(ones.abs_diff(half) <= most, "{ones} of {} bits are 1", 2 * half);
        let mut counts = [0u32; 256];
        bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        // 64 of each are expected, with a standard deviation of 8.
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        ensure!(
            least >= Some(10) && most <= Some(140),
            "some byte comes {least:?} times, another {most:?} times"
        );
    }
    Ok(())
}

fn read() -> Result<Vec<u8>> {
    let path = "/dev/hwrng";
    let mut device = File::open(path).map_err(|error| Lacking(format!("{path}: {error}")))?;
    let mut bytes = vec![0; BYTES];
    match device.read_exact(&mut bytes) {
        // The device is there, but no hardware behind it.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            let current = fs::read_to_string("/sys/class/misc/hw_random/rng_current").unwrap_or_default();
            Err(Lacking(format!("a random number generator: the current one is `{}`", current.trim())).into())
        }
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(error).context(format!("{path} ends")),
        other => other.context(path).map(|()| bytes),
    }
}
