//! The network card: one end of a TAP interface of the host.
//!
//! Each frame travels with legacy virtio's 10-byte header in front, which TAP interfaces speak themselves
//! (`IFF_VNET_HDR`). No offloads are offered, so that the header stays all zero. Virtio 1.0 has two bytes more in it, which
//! count the buffers of a frame (virtio 1.x specification, 5.1.6): one.

use super::{AnyService, Device, QueueService, RequestService, Stop, Wait};
use crate::outcome::{Outcome, Violation};
use crate::tap::{self, TapError};
use crate::virtqueue::{Chain, Virtqueue};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Virtio's number for a network card.
const ID: u8 = 1;
/// Feature: the configuration holds the hardware address.
const F_MAC: u32 = 1 << 5;
/// Bytes of the header before each frame.
const HEADER: usize = 10;
/// Bytes that virtio 1.0 adds at its end.
const BUFFERS: usize = 2;
/// The longest frame with its header: no offloads, so an Ethernet frame of a TAP's largest MTU.
const FRAME_MAX: usize = HEADER + 65550;
/// A network card.
#[derive(Clone, Debug)]
pub struct Network {
    interface: String,
    tap: Arc<File>,
    address: [u8; 6],
}

impl Network {
    /// A card with a random address at the TAP interface that `name` stands for; see [`tap::open`].
    ///
    /// # Errors
    /// [`TapError`].
    pub fn open(name: &str) -> Result<Self, TapError> {
        let (interface, tap) = tap::open(name, HEADER as i32)?;
        Self::at(&interface, tap).map_err(|error| TapError::Other(interface, error))
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
        Ok(self.services(0))
    }

    fn start_version_1(&mut self) -> Result<Vec<AnyService>, Outcome> {
        Ok(self.services(BUFFERS))
    }
}

impl Network {
    /// The services for headers with so many bytes more than the TAP interface's.
    fn services(&self, more: usize) -> Vec<AnyService> {
        let tap = || self.tap.clone();
        let buffer = vec![0; FRAME_MAX + more];
        vec![Receive { tap: tap(), more, buffer, waiting: 0 }.into(), Transmit { tap: tap(), more }.into()]
    }
}

/// The queue of buffers for frames from outside.
pub struct Receive {
    tap: Arc<File>,
    /// Bytes that the guest's header has more than the TAP interface's.
    more: usize,
    buffer: Vec<u8>,
    /// Bytes of the frame in the buffer that waits for the guest; 0 for none.
    waiting: usize,
}

impl Receive {
    /// Makes a frame of `len` bytes as it comes one as the guest has it; returns its length. It begins after what its header
    /// has more.
    fn lengthen_header(&mut self, len: usize) -> usize {
        if self.more == 0 || len == 0 {
            return len;
        }
        self.buffer.copy_within(self.more..self.more + HEADER, 0);
        self.buffer[HEADER..][..self.more].copy_from_slice(&1u16.to_le_bytes());
        self.more + len
    }
}

impl QueueService for Receive {
    fn serve(&mut self, queue: &mut Virtqueue<'_>) -> Result<Wait, Stop> {
        loop {
            if self.waiting == 0 {
                self.waiting = match rustix::io::read(&self.tap, &mut self.buffer[self.more..]) {
                    Ok(n) => self.lengthen_header(n),
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
pub struct Transmit {
    tap: Arc<File>,
    /// As in [`Receive`].
    more: usize,
}

impl RequestService for Transmit {
    fn answer(&mut self, request: &mut Chain<'_>) -> Result<u32, Stop> {
        if request.writable.left() > 0 {
            return Err(Violation::Protocol("puts an empty buffer in the network's transmit queue").into());
        }
        let len = request.readable.left();
        if len < (HEADER + self.more) as u64 || len > (FRAME_MAX + self.more) as u64 {
            return Err(Violation::Protocol("sends a frame of an impossible length").into());
        }
        let mut frame = vec![0; len as usize];
        let n = request.readable.read(&mut frame).unwrap_or(0);
        // Without what the header has more.
        frame.copy_within(..HEADER, self.more);
        // An interface that is down or full loses frames; that is a network's way.
        let _ = self.tap.as_ref().write(&frame[self.more..n]);
        Ok(0)
    }
}
