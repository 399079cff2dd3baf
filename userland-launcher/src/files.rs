//! The files that the command line names, opened once, before the launcher gives up what it may do.
//!
//! A guest that is restarted gets the same ones: what replaces a file meanwhile does not concern it, and its disks
//! stay locked in between.

use crate::cli::Cli;
use crate::devices::block::Block;
use crate::devices::entropy::Entropy;
use crate::devices::network::Network;
use crate::gdb::wire::Listener;
use crate::launch_error::LaunchError;
use crate::memory_size::MemorySize;
use crate::paging;
use crate::sockets::Sockets;
use crate::unpack::memory_file;
use arch_i386::paging::Paging;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;

/// Everything that lives of one guest need of the host's file system.
#[derive(Debug)]
pub struct Files {
    kernel: File,
    initrd: Option<File>,
    /// The guest's disks, in their order.
    pub disks: Vec<Block>,
    /// Its source of random numbers.
    pub entropy: Option<Entropy>,
    /// Its network card.
    pub network: Option<Network>,
    /// Where programs connect that see to the guest.
    pub monitor: Option<UnixListener>,
    /// Where a debugger connects.
    pub gdb: Option<Listener>,
    spans: Option<File>,
    record: Option<File>,
    /// The host's page format, if the module is there to report it.
    pub host_paging: Option<Paging>,
}

impl Files {
    /// Opens, and makes, what `cli` names; `sockets` makes the sockets.
    ///
    /// # Errors
    /// The first that cannot be opened; see [`LaunchError`].
    pub fn open(cli: &Cli, sockets: &Sockets) -> Result<Self, LaunchError> {
        let kernel = File::open(cli.kernel())
            .and_then(whole)
            .map_err(|source| LaunchError::OpenKernel { path: cli.kernel().to_owned(), source })?;
        let initrd = cli.initrd.as_ref().map(|path| {
            File::open(path)
                .and_then(whole)
                .map_err(|source| LaunchError::ReadInitrd { path: path.clone(), source })
        });
        let disks = cli.block.iter().map(Block::open).collect::<Result<_, _>>()?;
        let entropy = cli.rng.then(Entropy::open).transpose().map_err(LaunchError::Entropy)?;
        let network = cli.tunnet.as_deref().map(Network::open).transpose()?;
        let monitor = cli.monitor.as_ref().map(|path| {
            sockets.listen(path).map_err(|source| LaunchError::Monitor { path: path.clone(), source })
        });
        let gdb = cli.gdb.as_ref().map(|address| {
            Listener::new(address, sockets)
                .map_err(|source| LaunchError::Gdb { address: address.clone(), source })
        });
        let spans = cli.spans.as_ref().map(|path| {
            File::create(path).map_err(|source| LaunchError::Spans { path: path.clone(), source })
        });
        let record = cli.record.as_ref().map(|path| {
            File::create(path).map_err(|source| LaunchError::Record { path: path.clone(), source })
        });
        // Missing when the module is; opening its device reports that.
        let host_paging = std::fs::read_to_string(paging::host_parameter()).ok();
        Ok(Self {
            kernel,
            initrd: initrd.transpose()?,
            disks,
            entropy,
            network,
            monitor: monitor.transpose()?,
            gdb: gdb.transpose()?,
            spans: spans.transpose()?,
            record: record.transpose()?,
            host_paging: host_paging.as_deref().and_then(paging::of_host),
        })
    }

    /// The kernel, from its begin.
    ///
    /// # Errors
    /// No more file descriptors.
    pub fn kernel(&self) -> io::Result<File> {
        again(&self.kernel)
    }

    /// The initial RAM disk, from its begin.
    ///
    /// # Errors
    /// No more file descriptors.
    pub fn initrd(&self) -> io::Result<Option<File>> {
        self.initrd.as_ref().map(again).transpose()
    }

    /// Where this life's spans go: what an earlier one has left there is gone.
    ///
    /// # Errors
    /// When the file cannot be emptied.
    pub fn spans(&self) -> io::Result<Option<File>> {
        self.spans.as_ref().map(anew).transpose()
    }

    /// Where this life is recorded: what an earlier one has left there is gone.
    ///
    /// # Errors
    /// When the file cannot be emptied.
    pub fn record(&self) -> io::Result<Option<File>> {
        self.record.as_ref().map(anew).transpose()
    }
}

/// A file that can be read again and again, and whose length is known: what comes from a pipe is kept in memory.
fn whole(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    if !kind.is_fifo() && !kind.is_socket() && !kind.is_block_device() {
        return Err(io::Error::other("it is neither a file nor a pipe"));
    }
    let mut kept = memory_file()?;
    // One byte more than any guest has room for is too much, as all of it would be.
    io::copy(&mut file.take(u64::from(MemorySize::MAX.bytes()) + 1), &mut kept)?;
    Ok(kept)
}

/// The same file, at its begin. What has none, such as a pipe, goes on where it is.
fn again(file: &File) -> io::Result<File> {
    let mut same = file.try_clone()?;
    if same.metadata()?.is_file() {
        same.rewind()?;
    }
    Ok(same)
}

/// The same file, empty.
fn anew(file: &File) -> io::Result<File> {
    let same = again(file)?;
    if same.metadata()?.is_file() {
        same.set_len(0)?;
    }
    Ok(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    #[test]
    fn what_comes_from_a_pipe_is_read_whole_and_again() {
        let (read, mut write) = io::pipe().unwrap();
        // More than a pipe holds at once.
        let sent: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let expected = sent.clone();
        let writer = std::thread::spawn(move || write.write_all(&sent).unwrap());
        let file = whole(OwnedFd::from(read).into()).unwrap();
        writer.join().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 300_000);
        for _ in 0..2 {
            let mut bytes = Vec::new();
            again(&file).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes == expected);
        }
    }

    #[test]
    fn what_has_no_end_is_refused() {
        for path in ["/dev/zero", "/"] {
            let error = whole(File::open(path).unwrap()).unwrap_err();
            assert!(error.to_string().contains("neither a file nor a pipe"), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_from_its_begin_again() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"kernel").unwrap();
        for _ in 0..2 {
            let mut text = String::new();
            again(&file).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "kernel");
        }
    }

    #[test]
    fn what_an_earlier_life_has_written_is_gone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let target = file.reopen().unwrap();
        for text in ["a long first life", "second"] {
            anew(&target).unwrap().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read(file.path()).unwrap(), b"second");
    }

    #[test]
    fn a_pipe_serves_as_well() {
        let (mut read, write) = io::pipe().unwrap();
        let write = File::from(OwnedFd::from(write));
        anew(&write).unwrap().write_all(b"spans").unwrap();
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "spans");
    }
}
