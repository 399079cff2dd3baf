//! Acts that keep the host at work: a ring without end, a request that sleeps, a guest that spins.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use arch_i386::hypercall::Hypercall;
use arch_i386::launcher::Request;

use crate::Failure;
use crate::faults::Missing;
use crate::guest::{Device, Memory, beginning, each_its_own};
use crate::process::{Child, check_death, moves, until};
use crate::program::Step;

const HEARD: u32 = 0x5000;

/// An eventfd.
pub fn eventfd() -> Result<OwnedFd, Failure> {
    // SAFETY: a new descriptor.
    match unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) } {
        -1 => Err(std::io::Error::last_os_error().into()),
        // SAFETY: it is ours alone.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// A guest whose ring is full again as soon as the host has done an entry: another process sees to that. Flushes are
/// among the entries, and notifications that an eventfd receives.
pub fn ring_refill() -> Result<(), Failure> {
    for notifications in [64, 8, 1] {
        let memory = Memory::new()?;
        let [first, second] = beginning();
        memory.load(
            &[first, second, Step::Call(Hypercall::FlushAsync, [0; 4]), Step::Count, Step::Jump(2)],
            1,
            each_its_own,
        );
        for n in 0..64 {
            if n % (64 / notifications) == 0 {
                memory.set_ring_entry(n, Hypercall::Notify, [HEARD, 0, 0, 0]);
            } else {
                memory.set_ring_entry(n, Hypercall::FlushTlb, [1, 0, 0, 0]);
            }
        }
        let guest = Child::run(|| {
            let device = Device::open()?;
            device.initialize(&memory)?;
            let kick = eventfd()?;
            device.request(Request::Eventfd, &[HEARD, kick.as_raw_fd().cast_unsigned()])?;
            let end = device.run()?;
            Err(format!("the guest has ended: {end}").into())
        })?;
        until("the guest runs", || memory.count() > 10)?;
        let _refiller = Child::run(|| {
            loop {
                memory.refill_ring();
            }
        })?;
        sleep(Duration::from_millis(500));
        print!("{notifications} notifications in the ring: ");
        check_death(guest.kill())?;
    }
    Ok(())
}

/// What a process sleeps or runs as: the letter after its name in `/proc/PID/stat`.
fn state(pid: libc::pid_t) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned()
}

/// A second process requests the guest's counters, to be stored where no page will ever be; then the guest's process
/// runs the guest. And the other way round, with the guest's last words.
pub fn counters_hold() -> Result<(), Failure> {
    let memory = Memory::new()?;
    let [first, second] = beginning();
    let notify = Step::Call(Hypercall::Notify, [0x7000, 0, 0, 0]);
    memory.load(&[first, second, notify, Step::Count, Step::Jump(3)], 1, each_its_own);
    let device = Device::open()?;
    let guest = Child::run(|| {
        device.initialize(&memory)?;
        let mut word = [0; 4];
        std::io::Read::read(&mut &device.0, &mut word)?;
        memory.set_word(0x6000, 1);
        while memory.word(0x6000).load(std::sync::atomic::Ordering::Relaxed) != 2 {
            sleep(Duration::from_millis(5));
        }
        let end = device.run()?;
        Err(format!("the guest has ended: {end}").into())
    })?;
    until("the guest's first notification", || {
        memory.word(0x6000).load(std::sync::atomic::Ordering::Relaxed) == 1
    })?;
    let holder = Child::run(|| {
        let missing = Missing::new()?;
        device.request(Request::Counters, &[missing.address(), 4096])?;
        Err("the copy came back".into())
    })?;
    until("the holder sleeps", || state(holder.pid()) != "R")?;
    sleep(Duration::from_millis(100));
    memory.set_word(0x6000, 2);
    until("the guest runs beside the copy", || memory.count() > 10)
        .and_then(|()| {
            if moves(memory.word(crate::program::COUNTER)) { Ok(()) } else { Err("it stands still".into()) }
        })
        .map_err(|failure| format!("the guest's process waits for a copy of another: {failure}"))?;
    check_death(guest.kill())?;
    drop(holder);

    // The guest's last words do not come through; its counters do.
    let memory = Memory::new()?;
    let [first, second] = beginning();
    memory.load(&[first, second, Step::OFF], 1, each_its_own);
    let device = Device::open()?;
    let guest = Child::run(|| {
        device.initialize(&memory)?;
        let missing = Missing::new()?;
        memory.set_word(0x6000, 1);
        // SAFETY: the kernel writes to pages that are ours, if it ever does.
        unsafe { libc::read(device.0.as_raw_fd(), missing.address() as usize as *mut _, 512) };
        Err("the copy came back".into())
    })?;
    until("the guest is there", || memory.word(0x6000).load(std::sync::atomic::Ordering::Relaxed) == 1)?;
    until("the guest's process sleeps", || state(guest.pid()) == "S")?;
    let mut text = vec![0_u8; 4096];
    until("the counters while last words are copied", || {
        device.request(Request::Counters, &[text.as_mut_ptr() as usize as u32, 4096]).is_ok()
    })?;
    check_death(guest.kill())
}

/// A guest that spins until this process is killed.
pub fn spin() -> Result<(), Failure> {
    let memory = Memory::new()?;
    let [first, second] = beginning();
    memory.load(&[first, second, Step::Count, Step::Jump(2)], 1, each_its_own);
    let device = Device::open()?;
    device.initialize(&memory)?;
    device.run().and_then(|end| Err(end.into()))
}

/// The same without a guest.
pub fn spin_natively() -> Result<(), Failure> {
    loop {
        std::hint::spin_loop();
    }
}
