//! Why a guest could not be started.

use crate::boot_params::CommandLineTooLong;
use crate::devices::bus::TooManyDevices;
use crate::disk_file::DiskError;
use crate::gdb::wire::Address;
use crate::host::HostError;
use crate::kernel::KernelError;
use crate::memory_size::{MemorySize, in_mebibytes};
use crate::sockets::SocketError;
use crate::tap::TapError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a guest could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The kernel's file cannot be opened.
    #[error("cannot open kernel {path}")]
    OpenKernel {
        /// The kernel.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's file is no kernel for this guest.
    #[error("cannot start kernel {path}")]
    Kernel {
        /// The kernel.
        path: PathBuf,
        /// Why.
        #[source]
        source: KernelError,
    },
    /// The initial RAM disk cannot be read.
    #[error("cannot read initrd {path}")]
    ReadInitrd {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The initial RAM disk does not fit above the kernel.
    #[error(
        "initrd {path} has {len} bytes, which does not fit above the kernel; give the guest at least \
         --memory {enough}",
        enough = in_mebibytes(*needed)
    )]
    InitrdTooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        len: u64,
        /// Bytes of memory that would hold kernel and initrd.
        needed: u64,
    },
    /// The command line is too long.
    #[error(transparent)]
    CommandLine(#[from] CommandLineTooLong),
    /// `mmap` failed.
    #[error("cannot map {0} of guest memory: give --memory less")]
    MapMemory(MemorySize, #[source] io::Error),
    /// The kernel has no such memory.
    #[error("this host's kernel refuses {option}")]
    Advice {
        /// The option that requests it.
        option: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A disk's file cannot be used.
    #[error(transparent)]
    Block(#[from] DiskError),
    /// There is no random source.
    #[error("cannot open /dev/urandom for --rng")]
    Entropy(#[source] io::Error),
    /// The TAP interface cannot be used.
    #[error(transparent)]
    Network(#[from] TapError),
    /// More devices than the bus takes.
    #[error(transparent)]
    Devices(#[from] TooManyDevices),
    /// Where the counters shall go cannot be written to.
    #[error("cannot write the counters to {path}")]
    Counters {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Where the spans shall go cannot be written to.
    #[error("cannot write the spans to {path}")]
    Spans {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A debugger cannot connect.
    #[error("cannot wait for a debugger at {address}")]
    Gdb {
        /// Where.
        address: Address,
        /// Why.
        #[source]
        source: SocketError,
    },
    /// The monitor's socket cannot be made.
    #[error("cannot make the monitor's socket {path}")]
    Monitor {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: SocketError,
    },
    /// Where the guest shall be recorded cannot be written to.
    #[error("cannot record the guest to {path}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No more processes.
    #[error("cannot start the process that stays root for --user")]
    Helper(#[source] io::Error),
    /// No more processes.
    #[error("cannot start the process that removes the sockets of --monitor and --gdb at the end")]
    Remover(#[source] io::Error),
    /// The host does not want the guest.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The recording of a life is not whole.
    #[error("cannot record the guest")]
    Recording(#[source] io::Error),
    /// No more threads.
    #[error("cannot start the guest's thread")]
    Thread(#[source] io::Error),
}
