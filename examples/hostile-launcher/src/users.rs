//! An act as another user than who has the right to the device.

use std::fs;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use crate::Failure;
use crate::guest::{Device, Memory};

/// More guests than any limit allows.
const MANY: usize = 64;

/// The user ID that the process takes in the namespace.
const OTHER: libc::uid_t = 1;

/// Enters a user namespace, becomes another user there once root has given it user IDs (as newuidmap does), and makes as
/// many guests as it can. How many those are is for the scenario to look at.
pub fn user_namespace() -> Result<(), Failure> {
    // SAFETY: it takes no pointer, and there is one thread.
    checked(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    println!("process {} waits for user IDs", std::process::id());
    while fs::read_to_string("/proc/self/uid_map")?.trim().is_empty() {
        sleep(Duration::from_millis(20));
    }
    // SAFETY: it takes no pointer.
    checked(unsafe { libc::setresuid(OTHER, OTHER, OTHER) })?;
    let memory = Memory::new()?;
    let (mut guests, mut refused) = (Vec::new(), None);
    while guests.len() < MANY && refused.is_none() {
        let device = Device::open()?;
        match device.initialize(&memory) {
            Ok(()) => guests.push(device),
            Err(error) => refused = Some(error),
        }
    }
    println!("{} guests as another user, then: {refused:?}", guests.len());
    Ok(())
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
