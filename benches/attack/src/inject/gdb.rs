//! A client of QEMU's debugging stub: the few packets of GDB's remote protocol that stop a processor at an
//! address, read and change it there, and let it go on.
//!
//! Source: GDB's manual, appendix "Remote Serial Protocol"; QEMU's `gdbstub.c` and `target/i386/gdbstub.c`.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long the stub may take for an answer that needs no running processor.
const ANSWER: Duration = Duration::from_secs(60);

/// Bytes that one packet requests or carries.
const CHUNK: usize = 1024;

/// The registers that the stub sends first, in its order.
const REGISTERS: usize = 16;

/// A connection to the stub of a machine with one processor, which is stopped unless resumed.
pub struct Gdb {
    stream: UnixStream,
    received: Vec<u8>,
}

/// The processor's registers, in the stub's order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registers(pub [u32; REGISTERS]);

/// A register, by its number in the stub's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Register {
    Eax = 0,
    Ecx,
    Edx,
    Ebx,
    Esp,
    Ebp,
    Esi,
    Edi,
    Eip,
    Cs = 10,
    Ds = 12,
    Es,
    Fs,
    Gs,
}

impl Registers {
    /// The value of one.
    pub fn get(&self, register: Register) -> u32 {
        self.0[register as usize]
    }
}

impl Gdb {
    /// Connects, which stops the machine.
    pub fn connect(socket: &Path) -> Result<Gdb> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        let mut gdb = Gdb { stream, received: Vec::new() };
        // The stop that the connection causes is reported as well.
        gdb.send("qC")?;
        while !gdb.receive(ANSWER)?.context("QEMU's stub is silent")?.starts_with("QC") {}
        // Only a client that has requested the registers' description may change registers.
        gdb.ask("qXfer:features:read:target.xml:0,ffb")?;
        Ok(gdb)
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.stream.write_all(format!("${packet}#{sum:02x}").as_bytes()).context("QEMU has gone")
    }

    /// The next packet, or nothing until `limit` has passed. Acknowledgements are passed over.
    fn receive(&mut self, limit: Duration) -> Result<Option<String>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(packet) = take_packet(&mut self.received) {
                self.stream.write_all(b"+").context("QEMU has gone")?;
                return Ok(Some(packet));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => bail!("QEMU has ended"),
                Ok(n) => self.received.extend_from_slice(&bytes[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("QEMU has gone"),
            }
        }
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        self.receive(ANSWER)?.with_context(|| format!("QEMU's stub does not answer `{packet}`"))
    }

    fn tell(&mut self, packet: &str) -> Result<()> {
        match self.ask(packet)?.as_str() {
            "OK" => Ok(()),
            answer => bail!("QEMU's stub answers `{packet}` with `{answer}`"),
        }
    }

    /// All registers.
    pub fn registers(&mut self) -> Result<Registers> {
        let answer = self.ask("g")?;
        let bytes = from_hex(&answer).filter(|bytes| bytes.len() >= 4 * REGISTERS);
        let bytes = bytes.with_context(|| format!("`{answer}` are no registers"))?;
        let mut registers = Registers::default();
        for (register, bytes) in registers.0.iter_mut().zip(bytes.as_chunks().0) {
            *register = u32::from_le_bytes(*bytes);
        }
        Ok(registers)
    }

    /// Changes a register.
    pub fn set(&mut self, register: Register, value: u32) -> Result<()> {
        self.tell(&format!("P{:x}={}", register as usize, to_hex(&value.to_le_bytes())))
    }

    /// Memory, as the processor's present page tables show it.
    pub fn read(&mut self, address: u32, length: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < length {
            let (at, wanted) = (address.wrapping_add(all.len() as u32), CHUNK.min(length - all.len()));
            let answer = self.ask(&format!("m{at:x},{wanted:x}"))?;
            let bytes = from_hex(&answer).filter(|bytes| bytes.len() == wanted);
            all.extend(bytes.with_context(|| format!("cannot read memory at {at:#x}: `{answer}`"))?);
        }
        Ok(all)
    }

    /// A word of it.
    pub fn read_word(&mut self, address: u32) -> Result<u32> {
        let bytes = self.read(address, 4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Changes memory, even where the page tables forbid writing.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<()> {
        self.tell(&format!("M{address:x},{:x}:{}", bytes.len(), to_hex(bytes)))
    }

    /// A byte of the machine's memory, by its physical address.
    pub fn read_physical(&mut self, address: u32) -> Result<u8> {
        self.tell("Qqemu.PhyMemMode:1")?;
        let byte = self.read(address, 1);
        self.tell("Qqemu.PhyMemMode:0")?;
        Ok(byte?[0])
    }

    /// Changes it.
    pub fn write_physical(&mut self, address: u32, byte: u8) -> Result<()> {
        self.tell("Qqemu.PhyMemMode:1")?;
        let written = self.write(address, &[byte]);
        self.tell("Qqemu.PhyMemMode:0")?;
        written
    }

    /// Sets a breakpoint.
    pub fn insert(&mut self, address: u32) -> Result<()> {
        self.tell(&format!("Z1,{address:x},1"))
    }

    /// Takes a breakpoint away.
    pub fn remove(&mut self, address: u32) -> Result<()> {
        self.tell(&format!("z1,{address:x},1"))
    }

    /// Executes the instruction at this address, before which no interrupt is let in.
    pub fn step_from(&mut self, address: u32) -> Result<()> {
        // The stub may report a stop before it has executed anything.
        for _ in 0..3 {
            self.send("s")?;
            self.receive(ANSWER)?.context("QEMU does not execute an instruction")?;
            if self.registers()?.get(Register::Eip) != address {
                break;
            }
        }
        Ok(())
    }

    /// Lets the processor run until it stops at a breakpoint. Returns false when it has not within `limit`, and has been
    /// stopped for that.
    pub fn run(&mut self, limit: Duration) -> Result<bool> {
        self.send("c")?;
        if self.receive(limit)?.is_some() {
            return Ok(true);
        }
        self.stream.write_all(&[3]).context("QEMU has gone")?;
        self.receive(ANSWER)?.context("QEMU cannot be stopped")?;
        Ok(false)
    }

    /// Lets the machine run and leaves it alone.
    pub fn detach(mut self) -> Result<()> {
        self.tell("D")
    }
}

/// Takes the first whole packet out of what was received, with all that comes before it.
fn take_packet(received: &mut Vec<u8>) -> Option<String> {
    let start = received.iter().position(|&byte| byte == b'$')?;
    let length = received[start..].iter().position(|&byte| byte == b'#')?;
    // Two digits of the sum; the socket loses nothing, so it is not looked at.
    if received.len() < start + length + 3 {
        return None;
    }
    let packet = String::from_utf8_lossy(&received[start + 1..start + length]).into_owned();
    received.drain(..start + length + 3);
    Some(expanded(&packet))
}

/// Undoes the protocol's run-length encoding: `0*"` is five times `0`.
fn expanded(packet: &str) -> String {
    let mut plain = String::new();
    let mut letters = packet.chars();
    while let Some(letter) = letters.next() {
        if letter == '*'
            && let (Some(last), Some(count)) = (plain.chars().last(), letters.next())
        {
            let count = (count as u32).saturating_sub(29);
            plain.extend((0..count).map(|_| last));
        } else {
            plain.push(letter);
        }
    }
    plain
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_whole_and_in_order() {
        let mut received = b"+$T05thread:01;#".to_vec();
        assert_eq!(take_packet(&mut received), None);
        received.extend(b"07+$OK#9a");
        assert_eq!(take_packet(&mut received).as_deref(), Some("T05thread:01;"));
        assert_eq!(take_packet(&mut received).as_deref(), Some("OK"));
        assert_eq!((take_packet(&mut received), received.len()), (None, 0));
    }

    #[test]
    fn repetitions_are_expanded() {
        // The example of the manual.
        assert_eq!(expanded("0* "), "0000");
        assert_eq!(expanded("a0*\"b"), "a000000b");
    }

    #[test]
    fn bytes_are_pairs_of_digits() {
        assert_eq!(from_hex("00fF1a"), Some(vec![0, 0xff, 0x1a]));
        assert_eq!((from_hex("0"), from_hex("E01x")), (None, None));
        assert_eq!(to_hex(&[0, 0xff, 0x1a]), "00ff1a");
    }
}
