//! The peer: another machine (of a guest, its host) that answers the tests of network and clock over TCP.
//!
//! A question is a line; `--serve` answers each connection's questions one after the other until it closes:
//!
//! ```text
//! time                  TIME: nanoseconds of the server's CLOCK_MONOTONIC, in a line
//! transfer SEED LENGTH  and then the LENGTH bytes of SEED. Answer: `ok` in a line, or what was wrong with
//!                       them, and after `ok` the LENGTH bytes of SEED + 1
//! ```

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};

use crate::random::Random;
use crate::runner::Lacking;

/// How long to wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes sent and compared at a time.
const CHUNK: usize = 1 << 16;

/// A connection to the peer.
pub struct Peer(BufReader<TcpStream>);

impl Peer {
    /// Connects; a machine that does not answer is [`Lacking`].
    pub fn connect(address: SocketAddr) -> Result<Peer> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| {
            Lacking(format!(
                "no peer at {address} ({error}): start `guest-test --serve` on the host, see --peer"
            ))
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Peer(BufReader::new(stream)))
    }

    /// The peer's clock.
    pub fn time(&mut self) -> Result<Duration> {
        self.0.get_mut().write_all(b"time\n").context("asking the peer")?;
        let answer = self.line()?;
        let time = answer.parse().with_context(|| format!("the peer's time is `{answer}`"))?;
        Ok(Duration::from_nanos(time))
    }

    /// Sends `length` bytes and gets as many.
    pub fn transfer(&mut self, seed: u64, length: usize) -> Result<()> {
        writeln!(self.0.get_mut(), "transfer {seed} {length}")?;
        send(self.0.get_mut(), seed, length).context("sending to the peer")?;
        let answer = self.line()?;
        ensure!(answer == "ok", "what the peer got is not what was sent: {answer}");
        receive(&mut self.0, seed + 1, length).context("receiving from the peer")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("the peer does not answer")?;
        Ok(line.trim_end().to_owned())
    }
}

fn send(to: &mut impl Write, seed: u64, length: usize) -> Result<()> {
    let mut random = Random::new(seed);
    let mut bytes = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let chunk = &mut bytes[..left.min(CHUNK)];
        random.fill(chunk);
        to.write_all(chunk)?;
        left -= chunk.len();
    }
    Ok(())
}

fn receive(from: &mut impl Read, seed: u64, length: usize) -> Result<()> {
    let mut random = Random::new(seed);
    let (mut got, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut done = 0;
    while done < length {
        let count = (length - done).min(CHUNK);
        from.read_exact(&mut got[..count]).with_context(|| format!("after {done} of {length} bytes"))?;
        random.fill(&mut expected[..count]);
        if let Some(at) = (0..count).find(|&at| got[at] != expected[at]) {
            bail!("byte {} is {:#x} instead of {:#x}", done + at, got[at], expected[at]);
        }
        done += count;
    }
    Ok(())
}

/// Answers at `address` until the program is killed.
pub fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen at {address}: is the address one of this machine, the port free?")
    })?;
    println!("guest-test: serving at {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream.context("a connection failed")?;
        thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("guest-test: {error:#}");
            }
        });
    }
    Ok(())
}

fn answer(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // A guest that is gone closes nothing.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["time"] => {
                let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
                writeln!(stream.get_mut(), "{}", now.as_nanos())?;
            }
            ["transfer", seed, length] => {
                let (seed, length): (u64, usize) = (seed.parse()?, length.parse()?);
                match receive(&mut stream, seed, length) {
                    Ok(()) => {
                        stream.get_mut().write_all(b"ok\n")?;
                        send(stream.get_mut(), seed + 1, length)?;
                    }
                    Err(error) => writeln!(stream.get_mut(), "{error:#}")?,
                }
            }
            _ => bail!("no such question: {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_expected_and_nothing_else() {
        let length = 3 * CHUNK + 17;
        let mut bytes = Vec::new();
        send(&mut bytes, 5, length).unwrap();
        assert_eq!(bytes.len(), length);
        receive(&mut &bytes[..], 5, length).unwrap();
        assert!(receive(&mut &bytes[..], 6, length).is_err());
        assert!(receive(&mut &bytes[..length - 1], 5, length).is_err());
        bytes[length - 2] ^= 1;
        let error = receive(&mut &bytes[..], 5, length).unwrap_err().to_string();
        assert!(error.starts_with(&format!("byte {} ", length - 2)), "{error}");
    }
}
