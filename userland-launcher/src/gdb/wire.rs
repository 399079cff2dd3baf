//! Where GDB connects: a port of this machine, or a socket that only its owner can open.

use crate::sockets::{SocketError, Sockets};
use gdbstub::conn::{Connection, ConnectionExt};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::str::FromStr;

/// Where to wait for GDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port of the loopback interface, which every user of the machine can connect to.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

impl FromStr for Address {
    type Err = Infallible;

    /// A number is a port.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::Socket(text.into()), Self::Port))
    }
}

impl Address {
    /// The command that connects GDB, for a kernel with symbols in the file `vmlinux`.
    #[must_use]
    pub fn command(&self) -> String {
        let target = match self {
            Self::Port(port) => format!(":{port}"),
            Self::Socket(path) => path.display().to_string(),
        };
        format!("gdb vmlinux -ex 'target remote {target}'")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Waits for GDB.
#[derive(Debug)]
pub enum Listener {
    /// At a port.
    Port(TcpListener),
    /// At a socket.
    Socket(UnixListener),
}

impl Listener {
    /// Begins to wait.
    ///
    /// # Errors
    /// As bind(2) for a port, and [`SocketError`] for a socket.
    pub fn new(address: &Address, sockets: &Sockets) -> Result<Self, SocketError> {
        match address {
            Address::Port(port) => Ok(Self::Port(TcpListener::bind((Ipv4Addr::LOCALHOST, *port))?)),
            Address::Socket(path) => sockets.listen(path).map(Self::Socket),
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// As accept(2).
    pub fn accept(&self) -> io::Result<Wire> {
        match self {
            Self::Port(listener) => {
                let stream = listener.accept()?.0;
                stream.set_nodelay(true)?;
                Ok(Wire::new(stream.into()))
            }
            Self::Socket(listener) => Ok(Wire::new(listener.accept()?.0.into())),
        }
    }
}

/// A connection with GDB.
pub struct Wire {
    socket: OwnedFd,
    /// What is to be sent together: up to the next time that something is read, at the latest.
    pending: Vec<u8>,
}

impl Wire {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, pending: Vec::new() }
    }

    /// Waits until there is something to read, or `other` is readable; returns whether there is something to read.
    ///
    /// # Errors
    /// As poll(2).
    pub fn wait(&mut self, other: impl AsFd) -> io::Result<bool> {
        self.flush()?;
        let mut fds = [
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self, flags: RecvFlags) -> io::Result<Option<u8>> {
        self.flush()?;
        let mut byte = [0];
        loop {
            match recv(&self.socket, &mut byte, flags) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(Some(byte[0])),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Nobody may be there any more.
        let _ = self.flush();
    }
}

impl Connection for Wire {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.pending.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut rest = &self.pending[..];
        while !rest.is_empty() {
            match send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.pending.clear();
        Ok(())
    }
}

impl ConnectionExt for Wire {
    fn read(&mut self) -> io::Result<u8> {
        self.receive(RecvFlags::empty())?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        self.receive(RecvFlags::PEEK | RecvFlags::DONTWAIT)
    }
}
