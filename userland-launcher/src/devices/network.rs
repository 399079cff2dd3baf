//! The network card: one end of a TAP interface of the host.
//!
//! Each frame travels with legacy virtio's 10-byte header in front, which TAP interfaces speak themselves
//! (`IFF_VNET_HDR`). No offloads are offered, so that the header stays all zero.

use super::{AnyService, Device, QueueService, RequestService, Stop, Wait};
use crate::outcome::{Outcome, Violation};
use crate::virtqueue::{Chain, Virtqueue};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Setter, Updater, ioctl, opcode};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use thiserror::Error;

/// Virtio's number for a network card.
const ID: u8 = 1;
/// Feature: the configuration holds the hardware address.
const F_MAC: u32 = 1 << 5;
/// Bytes of the header before each frame.
const HEADER: usize = 10;
/// The longest frame with its header: no offloads, so an Ethernet frame of a TAP's largest MTU.
const FRAME_MAX: usize = HEADER + 65550;
/// Bytes of an interface's name in the kernel, terminator included.
const NAME_SIZE: usize = 16;

/// From `linux/if_tun.h`.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETOFFLOAD: rustix::ioctl::Opcode = opcode::write::<u32>(b'T', 208);
const TUNSETVNETHDRSZ: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 216);
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;
const IFF_MULTI_QUEUE: u32 = 0x0100;

/// `struct ifreq` as TUNSETIFF uses it, padded to the larger of its 32- and 64-bit sizes.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_SIZE],
    flags: i16,
    padding: [u8; 22],
}

/// Where TAP interfaces are made.
const TUN: &str = "/dev/net/tun";

/// Why a TAP interface cannot be used.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The host's kernel has no TAP interfaces.
    #[error("there is no {TUN}: load the host's module (as root: modprobe tun)")]
    NoTun(#[source] io::Error),
    /// The device is for others.
    #[error("{TUN} may not be used: start lguest as root")]
    NoTunFor(#[source] io::Error),
    /// The interface is for others, or is not there, and only root may make one.
    #[error(
        "interface {0} may not be used: start lguest as root; or as root: ip tuntap add dev {0} mode tap user NAME, with \
         this user's name"
    )]
    Forbidden(String, #[source] io::Error),
    /// Nothing can have this name.
    #[error("`{0}` is no name of an interface: it has 1 to 15 bytes, as in tap0")]
    Name(String),
    /// Another program has it.
    #[error("interface {0} is in use, by another guest perhaps: give each guest one of its own")]
    Busy(String, #[source] io::Error),
    /// It is there, and something else.
    #[error("{0} is an interface, but no TAP interface: choose another name")]
    NotTap(String, #[source] io::Error),
    /// Its queues are for programs that use several.
    #[error(
        "interface {0} has several queues, of which lguest would use only one: make it without `multi_queue`; as root: \
         ip link delete {0}, then ip tuntap add dev {0} mode tap user NAME"
    )]
    MultiQueue(String, #[source] io::Error),
    /// Anything else.
    #[error("cannot set up TAP interface {0}")]
    Other(String, #[source] io::Error),
}

impl NetworkError {
    /// What opening the device came to.
    fn opening(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::NoTunFor(error),
            _ => Self::NoTun(error),
        }
    }

    /// What attaching to `interface` came to, which has these flags if it is made already.
    fn attaching(interface: &str, flags: Option<u32>, error: io::Error) -> Self {
        let name = interface.to_owned();
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Forbidden(name, error),
            Some(libc::EBUSY) => Self::Busy(name, error),
            Some(libc::EINVAL) if flags.is_some_and(|flags| flags & IFF_MULTI_QUEUE != 0) => {
                Self::MultiQueue(name, error)
            }
            Some(libc::EINVAL | libc::EEXIST) => Self::NotTap(name, error),
            _ => Self::Other(name, error),
        }
    }
}

/// A network card.
#[derive(Clone, Debug)]
pub struct Network {
    interface: String,
    tap: Arc<File>,
    address: [u8; 6],
}

impl Network {
    /// A card with a random address at the host's TAP interface `interface`, which is made if there is
    /// none. Bringing it up and connecting it is the host's administrator's work.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn open(interface: &str) -> Result<Self, NetworkError> {
        if interface.is_empty() || interface.len() >= NAME_SIZE || interface.contains('\0') {
            return Err(NetworkError::Name(interface.to_owned()));
        }
        let mut request = InterfaceRequest {
            name: [0; NAME_SIZE],
            flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
            padding: [0; 22],
        };
        request.name[..interface.len()].copy_from_slice(interface.as_bytes());
        let nonblocking = libc::O_NONBLOCK;
        let mut open = OpenOptions::new();
        open.read(true).write(true).custom_flags(nonblocking);
        let tap = open.open(TUN).map_err(NetworkError::opening)?;
        // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which the request is at least as large as.
        unsafe { ioctl(&tap, Updater::<TUNSETIFF, _>::new(&mut request)) }
            .map_err(|errno| NetworkError::attaching(interface, flags(interface), errno.into()))?;
        let other = |error: io::Error| NetworkError::Other(interface.to_owned(), error);
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        unsafe { ioctl(&tap, Setter::<TUNSETVNETHDRSZ, i32>::new(HEADER as i32)) }
            .map_err(|errno| other(errno.into()))?;
        // SAFETY: TUNSETOFFLOAD takes its flags by value.
        unsafe { ioctl(&tap, IntegerSetter::<TUNSETOFFLOAD>::new_usize(0)) }
            .map_err(|errno| other(errno.into()))?;
        Self::at(interface, tap).map_err(other)
    }

    /// A card with a random address at `tap`: a file, not blocking, that gives and takes a frame with its header
    /// at a time.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn at(interface: &str, tap: File) -> io::Result<Self> {
        let mut address = [0; 6];
        File::open("/dev/urandom")?.read_exact(&mut address)?;
        // Locally administered, and no multicast address.
        address[0] = address[0] & !1 | 2;
        Ok(Self { interface: interface.to_owned(), tap: Arc::new(tap), address })
    }
}

/// The flags of a TUN or TAP interface, as the kernel shows them.
fn flags(interface: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{interface}/tun_flags")).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

impl Device for Network {
    fn id(&self) -> u8 {
        ID
    }

    fn name(&self) -> String {
        format!("network card at {}", self.interface)
    }

    fn features(&self) -> u32 {
        F_MAC
    }

    fn config(&self) -> Vec<u8> {
        self.address.to_vec()
    }

    fn queues(&self) -> u8 {
        2
    }

    fn start(&mut self) -> Result<Vec<AnyService>, Outcome> {
        Ok(vec![Receive::new(self.tap.clone()).into(), Transmit(self.tap.clone()).into()])
    }
}

/// The queue of buffers for frames from outside.
pub struct Receive {
    tap: Arc<File>,
    buffer: Vec<u8>,
    /// Bytes of the frame in the buffer that waits for the guest; 0 for none.
    waiting: usize,
}

impl Receive {
    fn new(tap: Arc<File>) -> Self {
        Self { tap, buffer: vec![0; FRAME_MAX], waiting: 0 }
    }
}

impl QueueService for Receive {
    fn serve(&mut self, queue: &mut Virtqueue<'_>) -> Result<Wait, Stop> {
        loop {
            if self.waiting == 0 {
                self.waiting = match rustix::io::read(&self.tap, &mut self.buffer[..]) {
                    Ok(n) => n,
                    Err(Errno::AGAIN) => return Ok(Wait { buffers: false, source: true }),
                    Err(Errno::INTR) => 0,
                    Err(error) => {
                        let doing = "receiving from the network".into();
                        return Err(Outcome::Failed { doing, error: error.into() }.into());
                    }
                };
                continue;
            }
            let Some(mut chain) = queue.take()? else {
                return Ok(Wait { buffers: true, source: false });
            };
            if chain.readable.left() > 0 {
                return Err(Violation::Protocol("puts output in the network's receive queue").into());
            }
            let frame = &self.buffer[..std::mem::take(&mut self.waiting)];
            // A frame that does not fit is lost, as on a wire; the empty buffer notifies the guest.
            let fits = chain.writable.left() >= frame.len() as u64;
            let written = if fits { chain.writable.write(frame).unwrap_or(0) } else { 0 };
            queue.give_back(chain.head, written as u32);
        }
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.tap.as_fd())
    }
}

/// The queue of frames to send.
pub struct Transmit(Arc<File>);

impl RequestService for Transmit {
    fn answer(&mut self, request: &mut Chain<'_>) -> Result<u32, Stop> {
        if request.writable.left() > 0 {
            return Err(Violation::Protocol("puts an empty buffer in the network's transmit queue").into());
        }
        let len = request.readable.left();
        if len < HEADER as u64 || len > FRAME_MAX as u64 {
            return Err(Violation::Protocol("sends a frame of an impossible length").into());
        }
        let mut frame = vec![0; len as usize];
        let n = request.readable.read(&mut frame).unwrap_or(0);
        // An interface that is down or full loses frames; that is a network's way.
        let _ = self.0.as_ref().write(&frame[..n]);
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_to_do() {
        let refusal_of = |flags, errno| {
            NetworkError::attaching("tap7", flags, io::Error::from_raw_os_error(errno)).to_string()
        };
        let refusal = |errno| refusal_of(None, errno);
        assert!(refusal(libc::EBUSY).contains("tap7 is in use"));
        assert!(refusal(libc::EPERM).contains("ip tuntap add dev tap7"));
        assert!(refusal(libc::EINVAL).contains("no TAP interface"));
        // A TUN interface, and a TAP interface made with `multi_queue`.
        assert!(refusal_of(Some(0x1001), libc::EINVAL).contains("no TAP interface"));
        assert!(refusal_of(Some(0x5102), libc::EINVAL).contains("ip tuntap add dev tap7 mode tap"));
        let missing = NetworkError::opening(io::ErrorKind::NotFound.into()).to_string();
        assert!(missing.contains("modprobe tun"), "{missing}");
        for name in ["", "sixteen-bytes-ab", "a\0b"] {
            let error = Network::open(name).unwrap_err();
            assert!(matches!(&error, NetworkError::Name(given) if given == name), "{error}");
        }
    }
}
