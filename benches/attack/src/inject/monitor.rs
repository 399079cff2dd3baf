//! A client of QEMU's monitor: what a debugger cannot do, such as raising an NMI or a machine check.
//!
//! Source: QEMU's documentation, "QEMU Machine Protocol" and "QEMU Monitor".

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long a command may take. Those that save and load the machine take longest.
const ANSWER: Duration = Duration::from_secs(120);

/// A connection to the monitor.
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

/// A processor's descriptor-table registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    /// Linear address of the GDT.
    pub gdt: u32,
    /// Linear address of the IDT.
    pub idt: u32,
}

impl Monitor {
    /// Connects.
    pub fn connect(socket: &Path) -> Result<Monitor> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut monitor = Monitor { stream: BufReader::new(stream) };
        monitor.message()?;
        monitor.execute(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(monitor)
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).context("QEMU's monitor is silent")? == 0 {
            bail!("QEMU has ended");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor says `{line}`"))
    }

    fn execute(&mut self, command: &Value) -> Result<Value> {
        self.stream.get_mut().write_all(format!("{command}\n").as_bytes()).context("QEMU has gone")?;
        loop {
            // Between command and answer there may be news of other things.
            let mut message = self.message()?;
            if let Some(error) = message.get("error") {
                bail!("QEMU's monitor answers {command} with {error}");
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    /// Executes one of the commands for people; returns what it prints.
    fn command(&mut self, line: &str) -> Result<String> {
        let command = json!({ "execute": "human-monitor-command", "arguments": { "command-line": line } });
        let answer = self.execute(&command)?;
        Ok(answer.as_str().unwrap_or_default().trim().to_owned())
    }

    /// As [`Monitor::command`], for one that prints nothing when all went well.
    fn silent_command(&mut self, line: &str) -> Result<()> {
        match self.command(line)?.as_str() {
            "" => Ok(()),
            complaint => bail!("QEMU's monitor answers `{line}` with `{complaint}`"),
        }
    }

    /// Raises an NMI, which the processor takes when it next may.
    pub fn nmi(&mut self) -> Result<()> {
        self.silent_command("nmi")
    }

    /// Raises a machine check that software survives: "action optional", as for an error that scrubbing found in
    /// memory nobody uses at present (SDM vol. 3B, 15.6.3; `VAL UC EN S`, and of the MCA codes 0xc0). The status of
    /// the processor reports that there is an instruction to return to.
    pub fn machine_check(&mut self) -> Result<()> {
        self.silent_command("mce 0 4 0xb1000000000000c0 0x5 0 0")
    }

    /// Where the processor's descriptor tables are.
    pub fn tables(&mut self) -> Result<Tables> {
        let text = self.command("info registers")?;
        Tables::parse(&text).with_context(|| format!("QEMU's monitor does not name the tables:\n{text}"))
    }

    /// The physical address of one that the present page tables map.
    pub fn physical(&mut self, address: u32) -> Result<u32> {
        let answer = self.command(&format!("gva2gpa {address:#x}"))?;
        let found = answer.strip_prefix("gpa: 0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        found.with_context(|| format!("QEMU's monitor does not find {address:#x}: {answer}"))
    }

    /// Keeps the whole machine under this name.
    pub fn save(&mut self, name: &str) -> Result<()> {
        self.silent_command(&format!("savevm {name}"))
    }

    /// Goes back to where the machine was when it was kept.
    pub fn load(&mut self, name: &str) -> Result<()> {
        self.silent_command(&format!("loadvm {name}"))
    }

    /// Ends QEMU.
    pub fn quit(&mut self) -> Result<()> {
        self.execute(&json!({ "execute": "quit" })).map(drop)
    }
}

impl Tables {
    fn parse(text: &str) -> Option<Tables> {
        let base = |name: &str| {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
            u32::from_str_radix(line.split_whitespace().next()?, 16).ok()
        };
        Some(Tables { gdt: base("GDT=")?, idt: base("IDT=")? })
    }
}

/// An empty disk in QEMU's own format, in which a machine can be kept.
///
/// One cluster each: the header, the table of reference counts, one block of those, the table of what there is.
/// (QEMU's documentation, "Qcow2 Image File Format", version 2.)
pub fn empty_disk() -> Vec<u8> {
    const CLUSTER_BITS: u32 = 16;
    const CLUSTER: usize = 1 << CLUSTER_BITS;
    let mut disk = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    let cluster = |number: u64| (number << CLUSTER_BITS).to_be_bytes();
    put(0, b"QFI\xfb");
    put(4, &2u32.to_be_bytes());
    put(20, &CLUSTER_BITS.to_be_bytes());
    // A size for which one entry is enough.
    put(24, &(1u64 << 20).to_be_bytes());
    put(36, &1u32.to_be_bytes());
    put(40, &cluster(3));
    put(48, &cluster(1));
    put(56, &1u32.to_be_bytes());
    put(CLUSTER, &cluster(2));
    for number in 0..4 {
        put(2 * CLUSTER + 2 * number, &1u16.to_be_bytes());
    }
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_among_the_registers() {
        let text = "CPU#0\nEAX=00000000 EBX=00000000\nLDT=0000 00000000 00000000 00008200\n\
            TR =0080 ff401900 00000067 00008b00\nGDT=     ff401800 000000ff\nIDT=     ff401000 000007ff\n\
            CR0=80050033 CR2=bffff000 CR3=01c2e000 CR4=00000690";
        assert_eq!(Tables::parse(text), Some(Tables { gdt: 0xff40_1800, idt: 0xff40_1000 }));
        assert_eq!(Tables::parse("no such thing"), None);
    }
}
