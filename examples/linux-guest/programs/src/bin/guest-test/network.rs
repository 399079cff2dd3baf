//! The network: pings and transfers between this machine and its [`peer`](crate::peer).

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvfrom, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::Settings;
use crate::peer::Peer;
use crate::process;
use crate::random::Random;

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// Bytes of an ICMP header.
const ICMP_HEADER: usize = 8;
const PATIENCE: Duration = Duration::from_secs(5);

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into()));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// An echo request (RFC 792).
fn echo_request(identifier: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let mut message = vec![ECHO_REQUEST, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(data);
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// Echo requests of many lengths; each comes back as it was sent.
pub fn ping(settings: &Settings) -> Result<()> {
    // Makes sure that there is somebody; the test lacks a peer otherwise.
    Peer::connect(settings.peer)?;
    let SocketAddr::V4(peer) = settings.peer else { bail!("the peer's address is no IPv4 address") };
    let address = SockaddrIn::from(std::net::SocketAddrV4::new(*peer.ip(), 0));
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)
        .context("no raw socket (is this root?)")?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs() as _, 0))?;
    let identifier = std::process::id() as u16;
    let mut random = Random::new(settings.seed);
    // Up to what makes an IP packet of several fragments.
    for (sequence, length) in [0, 1, 56, 57, 1000, 1471, 1472, 1473, 4000, 8000].into_iter().enumerate() {
        let mut data = vec![0; length];
        random.fill(&mut data);
        let request = echo_request(identifier, sequence as u16, &data);
        sendto(socket.as_raw_fd(), &request, &address, MsgFlags::empty()).context("sending")?;
        let begun = Instant::now();
        let mut packet = vec![0; 16 << 10];
        loop {
            ensure!(begun.elapsed() < PATIENCE, "no answer to a ping of {length} bytes");
            let (received, _) = match recvfrom::<SockaddrIn>(socket.as_raw_fd(), &mut packet) {
                Err(Errno::EAGAIN) => bail!("no answer to a ping of {length} bytes in {PATIENCE:?}"),
                other => other.context("receiving")?,
            };
            // The IP header comes along; the low half of its first byte is its length in words.
            let message = &packet[usize::from(packet[0] & 0xf) * 4..received];
            let ours =
                message.len() >= ICMP_HEADER && message[0] == ECHO_REPLY && message[4..8] == request[4..8];
            if !ours {
                continue;
            }
            ensure!(checksum(message) == 0, "the answer to a ping of {length} bytes has a wrong checksum");
            ensure!(message[ICMP_HEADER..] == data, "a ping of {length} bytes came back as another one");
            break;
        }
    }
    Ok(())
}

/// Transfers both ways, one after the other and several at once.
pub fn transfer(settings: &Settings) -> Result<()> {
    for (number, length) in [0, 1, 100, 1460, 1461, 65_536, 1 << 20].into_iter().enumerate() {
        Peer::connect(settings.peer)?
            .transfer(settings.seed + number as u64, length)
            .with_context(|| format!("a transfer of {length} bytes"))?;
    }
    process::in_parallel(3, |number| {
        let mut peer = Peer::connect(settings.peer)?;
        for round in 0..4 {
            peer.transfer(settings.seed + u64::from(number * 100 + round), 300_000 + number as usize)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_rfc_1071_s_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), !0xddf2);
        assert_eq!(checksum(&[0xff]), 0x00ff);
        assert_eq!(checksum(&echo_request(7, 9, b"odd")), 0);
    }
}
