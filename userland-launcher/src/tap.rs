//! The host's end of a guest's network: a TAP interface, and the bridge that it is connected to if one is given.

use rustix::fd::AsFd;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};
use rustix::net::{AddressFamily, SocketType, socket};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use thiserror::Error;

/// Bytes of an interface's name in the kernel, terminator included.
const NAME_SIZE: usize = 16;

/// From `linux/if_tun.h`.
const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<i32>(b'T', 216);
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
const IFF_VNET_HDR: i16 = 0x4000;
const IFF_MULTI_QUEUE: u32 = 0x0100;

/// From `linux/sockios.h` and `linux/if.h`.
const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCSIFFLAGS: Opcode = 0x8914;
const SIOCGIFINDEX: Opcode = 0x8933;
const SIOCBRADDIF: Opcode = 0x89a2;
const IFF_UP: i16 = 0x0001;

/// Where TAP interfaces are made.
const TUN: &str = "/dev/net/tun";
/// What precedes the name of a bridge.
const BRIDGE: &str = "bridge:";
/// The name from which the kernel makes one that is not taken.
const ANY: &str = "tap%d";

/// `struct ifreq`, padded to the larger of its 32- and 64-bit sizes: a name, and a value of which these requests use the
/// first bytes.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_SIZE],
    value: InterfaceValue,
}

#[repr(C)]
union InterfaceValue {
    flags: i16,
    index: i32,
    padding: [u32; 6],
}

impl InterfaceRequest {
    fn new(name: &str) -> Result<Self, TapError> {
        if name.is_empty() || name.len() >= NAME_SIZE || name.contains('\0') {
            return Err(TapError::Name(name.to_owned()));
        }
        let mut request = Self { name: [0; NAME_SIZE], value: InterfaceValue { padding: [0; 6] } };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }

    /// The name, which the kernel may have completed.
    fn name(&self) -> String {
        String::from_utf8_lossy(self.name.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
    }

    /// Sends the request `REQUEST` to `file`.
    ///
    /// # Safety
    /// `REQUEST` takes a `struct ifreq`.
    unsafe fn send<const REQUEST: Opcode>(&mut self, file: impl AsFd) -> io::Result<()> {
        // SAFETY: the request reads and writes one `struct ifreq`, which this is at least as large as.
        Ok(unsafe { ioctl(file, Updater::<REQUEST, _>::new(self)) }?)
    }
}

/// Why a TAP interface cannot be used.
#[derive(Debug, Error)]
pub enum TapError {
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
    /// The address that lguest gave to the host's end.
    #[error(
        "lguest gives the host no address; as root: ip tuntap add dev tap0 mode tap user NAME; ip address add {0}/24 dev \
         tap0; ip link set tap0 up; then start lguest with --tunnet tap0"
    )]
    Address(String),
    /// The bridge does not take it.
    #[error(
        "cannot connect interface {interface} to bridge {bridge}, which takes root and a bridge of that name"
    )]
    Bridge {
        /// The interface, which has been made.
        interface: String,
        /// The bridge.
        bridge: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot set up TAP interface {0}")]
    Other(String, #[source] io::Error),
}

impl TapError {
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

/// Opens the TAP interface that `name` stands for: `bridge:NAME` for a new one, which is connected to that bridge and
/// brought up; else the one of that name, which is made if there is none, and which the host's administrator connects. It does
/// not block, and has headers of `header` bytes. Returns its name, too.
///
/// # Errors
/// [`TapError`].
pub fn open(name: &str, header: i32) -> Result<(String, File), TapError> {
    // As lguest (C) takes it, an address of the card may follow.
    let address = name.split(':').next().and_then(|address| address.parse::<Ipv4Addr>().ok());
    if let Some(address) = address {
        return Err(TapError::Address(address.to_string()));
    }
    let bridge = name.strip_prefix(BRIDGE).map(|rest| rest.split(':').next().unwrap_or(rest));
    let (interface, tap) = attach(if bridge.is_some() { ANY } else { name }, header)?;
    if let Some(bridge) = bridge {
        connect(&interface, bridge)?;
    }
    Ok((interface, tap))
}

/// Attaches to the interface of this name.
fn attach(name: &str, header: i32) -> Result<(String, File), TapError> {
    let mut request = InterfaceRequest::new(name)?;
    request.value.flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    let nonblocking = libc::O_NONBLOCK;
    let mut open = OpenOptions::new();
    open.read(true).write(true).custom_flags(nonblocking);
    let tap = open.open(TUN).map_err(TapError::opening)?;
    // SAFETY: TUNSETIFF takes a `struct ifreq`.
    unsafe { request.send::<TUNSETIFF>(&tap) }
        .map_err(|error| TapError::attaching(name, flags(name), error))?;
    let interface = request.name();
    let other = |error: io::Error| TapError::Other(interface.clone(), error);
    // SAFETY: TUNSETVNETHDRSZ reads one int.
    unsafe { ioctl(&tap, Setter::<TUNSETVNETHDRSZ, i32>::new(header)) }
        .map_err(|errno| other(errno.into()))?;
    // SAFETY: TUNSETOFFLOAD takes its flags by value.
    unsafe { ioctl(&tap, IntegerSetter::<TUNSETOFFLOAD>::new_usize(0)) }
        .map_err(|errno| other(errno.into()))?;
    Ok((interface, tap))
}

/// Makes `interface` a port of `bridge`, and brings it up.
fn connect(interface: &str, bridge: &str) -> Result<(), TapError> {
    let (mut port, mut to) = (InterfaceRequest::new(interface)?, InterfaceRequest::new(bridge)?);
    let mut connected = || {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        // SAFETY: all four take a `struct ifreq`, and write the member of its value that is read after it.
        unsafe {
            port.send::<SIOCGIFINDEX>(&socket)?;
            to.value.index = port.value.index;
            to.send::<SIOCBRADDIF>(&socket)?;
            port.send::<SIOCGIFFLAGS>(&socket)?;
            port.value.flags |= IFF_UP;
            port.send::<SIOCSIFFLAGS>(&socket)
        }
    };
    let (interface, bridge) = (interface.to_owned(), bridge.to_owned());
    connected().map_err(|source| TapError::Bridge { interface, bridge, source })
}

/// The flags of a TUN or TAP interface, as the kernel shows them.
fn flags(interface: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{interface}/tun_flags")).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_to_do() {
        let refusal_of = |flags, errno| {
            TapError::attaching("tap7", flags, io::Error::from_raw_os_error(errno)).to_string()
        };
        let refusal = |errno| refusal_of(None, errno);
        assert!(refusal(libc::EBUSY).contains("tap7 is in use"));
        assert!(refusal(libc::EPERM).contains("ip tuntap add dev tap7"));
        assert!(refusal(libc::EINVAL).contains("no TAP interface"));
        // A TUN interface, and a TAP interface made with `multi_queue`.
        assert!(refusal_of(Some(0x1001), libc::EINVAL).contains("no TAP interface"));
        assert!(refusal_of(Some(0x5102), libc::EINVAL).contains("ip tuntap add dev tap7 mode tap"));
        let missing = TapError::opening(io::ErrorKind::NotFound.into()).to_string();
        assert!(missing.contains("modprobe tun"), "{missing}");
        for name in ["192.168.19.1", "192.168.19.1:02:00:00:00:00:01"] {
            let error = open(name, 10).unwrap_err().to_string();
            assert!(error.contains("ip address add 192.168.19.1/24"), "{error}");
        }
        for name in ["", "sixteen-bytes-ab", "a\0b"] {
            let error = open(name, 10).unwrap_err();
            assert!(matches!(&error, TapError::Name(given) if given == name), "{error}");
        }
    }
}
