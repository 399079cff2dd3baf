//! Acts with many requests.

use std::os::fd::AsRawFd;

use arch_i386::launcher::Request;

use crate::Failure;
use crate::guest::{Device, Memory, beginning, each_its_own};
use crate::program::Step;
use crate::run_loop::eventfd;

/// Eventfds that a guest can have, as `arch_i386::launcher` promises.
const MAX_EVENTFDS: u32 = arch_i386::launcher::MAX_EVENTFDS as u32;

/// Attaches eventfds without end: to ever other addresses, then to one again and again.
pub fn eventfd_flood() -> Result<(), Failure> {
    let memory = Memory::new()?;
    let [first, second] = beginning();
    memory.load(&[first, second, Step::OFF], 1, each_its_own);
    let device = Device::open()?;
    device.initialize(&memory)?;
    let kick = eventfd()?;
    let attach =
        |address: u32| device.request(Request::Eventfd, &[address, kick.as_raw_fd().cast_unsigned()]);
    let refused = (1..100_000).find_map(|n| attach(16 * n).err().map(|error| (n - 1, error)));
    let (attached, error) = refused.ok_or("100000 eventfds were attached")?;
    println!("{attached} eventfds are attached, then: {error}");
    if attached != MAX_EVENTFDS || error.raw_os_error() != Some(libc::ENOSPC) {
        return Err(format!("{MAX_EVENTFDS} and ENOSPC were promised").into());
    }
    for _ in 0..10_000 {
        attach(16)?;
    }
    if attach(8).is_ok() {
        return Err("there is room for another all of a sudden".into());
    }
    let end = device.run()?;
    println!("the guest: {end}");
    Ok(())
}

/// Requests strategies that are not there, 10000 times, on a device that is opened anew each 100 times. The log is for the
/// scenario to look at.
pub fn log_flood() -> Result<(), Failure> {
    for _ in 0..100 {
        let device = Device::open()?;
        for _ in 0..100 {
            if device.strategy("flood").is_ok() {
                return Err("the strategy `flood` was taken".into());
            }
        }
    }
    Ok(())
}
