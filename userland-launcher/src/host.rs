//! The host: what a launcher requests of the kernel module, and `/dev/lguest`, which answers.
//!
//! [`Host`] is the seam for tests, which script one. The requests' layout is
//! [`arch_i386::launcher`]'s; all their words have 32 bits, so that [`DeviceFile`] works in a
//! 32-bit launcher only (and the module exists on 32-bit kernels only).

use crate::guest_memory::GuestMemory;
use crate::opener::{Opener, RECORDINGS};
use arch_i386::addr::PAGE_SIZE;
use arch_i386::debug::{self, Operation, Registers};
use arch_i386::launcher::{Request, STRATEGY_MAX, View};
use arch_i386::paging::Paging;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use thiserror::Error;

/// What the host can do for one guest. [`Host::initialize`] and all [`Host::read`]s must come from the
/// same thread; the rest may come from any, also while a read is under way.
pub trait Host: Send + Sync {
    /// [`Request::Strategy`]: chooses the guest's paging strategy. To be done before
    /// [`Host::initialize`].
    ///
    /// # Errors
    /// [`HostError::StrategyRefused`] and others.
    fn select_strategy(&self, spec: &str) -> Result<(), HostError>;

    /// [`Request::Paging`]: passes the format of the guest's page tables, if it is not the host's own. To
    /// be done before [`Host::select_strategy`], since a strategy may not serve every format.
    ///
    /// # Errors
    /// [`HostError::PagingRefused`] and others.
    fn select_paging(&self, paging: Paging) -> Result<(), HostError>;

    /// [`Request::Initialize`]: all of `memory` is the guest's, which will start at guest-physical
    /// `entry`; from its end up to the page `device_limit` is device memory. The host keeps the memory alive as long as it might run the guest.
    ///
    /// # Errors
    /// [`HostError::TooManyGuests`], [`HostError::TooManyOfUser`], [`HostError::TooMuchOfUser`],
    /// [`HostError::NoMemory`], [`HostError::Initialize`] and others.
    fn initialize(&self, memory: Arc<GuestMemory>, entry: u32, device_limit: u32) -> Result<(), HostError>;

    /// Runs the guest until there is something to report, and stores that in `message`; returns its length.
    ///
    /// # Errors
    /// As [`arch_i386::launcher`] describes.
    fn read(&self, message: &mut [u8]) -> io::Result<usize>;

    /// [`Request::Irq`]: raises a virtual interrupt.
    ///
    /// # Errors
    /// What the module answers; `ENOENT` once the guest has ended.
    fn interrupt(&self, irq: u32) -> io::Result<()>;

    /// [`Request::SetRegister`]: sets a register of the guest's, by its [offset](arch_i386::launcher::register), between
    /// two reads.
    ///
    /// # Errors
    /// What the module answers.
    fn set_register(&self, offset: u32, value: u32) -> io::Result<()>;

    /// [`Request::Eventfd`]: from now on a notification of `address` signals `fd` instead of ending
    /// [`Host::read`].
    ///
    /// # Errors
    /// What the module answers.
    fn attach_eventfd(&self, address: u32, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// [`Request::Counters`]: the guest's counters, a `name value` pair a line, once it has ended.
    ///
    /// # Errors
    /// What the module answers; `EBUSY` while the guest runs.
    fn counters(&self) -> io::Result<String>;

    /// [`Request::View`]: a view of the guest as text, while it does not run.
    ///
    /// # Errors
    /// What the module answers; `EBUSY` while the guest runs.
    fn view(&self, view: View) -> io::Result<String>;

    /// The guest's registers, while it does not run ([`debug::Operation::Registers`]).
    ///
    /// # Errors
    /// What the module answers; `EBUSY` while the guest runs.
    fn registers(&self) -> io::Result<Registers>;

    /// [`debug::Operation::SetRegisters`].
    ///
    /// # Errors
    /// As [`Host::registers`].
    fn set_registers(&self, registers: &Registers) -> io::Result<()>;

    /// [`debug::Operation::Intercept`]: which traps end a read, a bit for each vector.
    ///
    /// # Errors
    /// As [`Host::registers`].
    fn intercept(&self, vectors: u32) -> io::Result<()>;

    /// [`debug::Operation::PassOn`]: the trap that ended the last read is the guest's.
    ///
    /// # Errors
    /// As [`Host::registers`].
    fn pass_trap_on(&self) -> io::Result<()>;

    /// The guest's memory, once it was [initialised](Host::initialize).
    fn memory(&self) -> Option<Arc<GuestMemory>>;

    /// The recording of this guest, from its begin: to be read while the guest runs. It ends when the host
    /// is dropped.
    ///
    /// # Errors
    /// [`HostError::NoRecording`] and others.
    fn recording(&self) -> Result<Box<dyn Read + Send>, HostError>;
}

/// Why the host does not take a guest.
#[derive(Debug, Error)]
pub enum HostError {
    /// The device node is missing, or nobody answers behind it.
    #[error("no {0}: the hypervisor's module is not loaded; as root: insmod lg.ko")]
    NoModule(PathBuf),
    /// The device node is not for this user, who is not in its group.
    #[error(
        "no permission to open {0}: root and the members of its group may start guests; as root: usermod -aG \
         {GROUP} NAME, with this user's name; then log in again"
    )]
    NotInGroup(PathBuf),
    /// The device node is root's alone.
    #[error(
        "no permission to open {0}, which is root's: guests are for root, and for the members of the group {GROUP} \
         where udev has the rule of kmod/udev/60-lguest.rules, which explains how to install it"
    )]
    OfRoot(PathBuf),
    /// Something else than the hypervisor's device.
    #[error("{0} is not the lguest device: give --device /dev/lguest, or leave it out")]
    NotTheDevice(PathBuf),
    /// Another failure to open the device.
    #[error("cannot open {path}")]
    Open {
        /// The device.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `EINVAL`: the module does not have the strategy, or not with these parameters.
    #[error(
        "the host refuses strategy `{0}`: dmesg says why, and /sys/module/lg/parameters/strategies lists \
         what there is"
    )]
    StrategyRefused(String),
    /// Longer than the module reads.
    #[error("the strategy is described in {0} bytes, but the host takes at most {STRATEGY_MAX}")]
    StrategyTooLong(usize),
    /// Another failure to select the strategy.
    #[error("cannot select strategy `{spec}`")]
    Strategy {
        /// The strategy.
        spec: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `EINVAL`: the module does not serve such guests.
    #[error(
        "the host cannot run a guest with {0} page tables; dmesg says why. A host with PAE (a 686-pae \
         kernel) runs both kinds; --paging chooses, where the guest's kernel can do either"
    )]
    PagingRefused(Paging),
    /// Another failure to pass the format.
    #[error("cannot tell the host that the guest has {paging} page tables")]
    Paging {
        /// The format.
        paging: Paging,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no recording of this process.
    #[error(
        "the host has no recording of this guest in {RECORDINGS}; if there is no such folder, as root: mount -t \
         debugfs debugfs /sys/kernel/debug"
    )]
    NoRecording,
    /// The recordings are not for this user.
    #[error(
        "only root may read the recordings of guests, in {RECORDINGS}: start lguest as root, perhaps with --user"
    )]
    RecordingOfRoot,
    /// The recording cannot be read or written.
    #[error("cannot record the guest to {path}")]
    Recording {
        /// The recording, or where it goes.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `ENOSPC`: there are as many guests as there can be, whosever they are.
    #[error(
        "no room for another guest: there are as many as {PARAMETERS}/max_guests is; end one, or as root load the \
         module with a larger max_guests"
    )]
    TooManyGuests,
    /// `EMFILE`: this user has as many guests as one user may have.
    #[error(
        "this user has as many guests as one user may have: end one, or as root write a larger number to \
         {PARAMETERS}/guests_per_user (0 is for a quarter of max_guests)"
    )]
    TooManyOfUser,
    /// `EDQUOT`: the guests of this user may take no more memory of the host's.
    #[error(
        "this user's guests may take no more of the host's memory: end one, choose another strategy, or as root write a \
         larger number of KiB to {PARAMETERS}/user_kib (0 is for an eighth of low memory)"
    )]
    TooMuchOfUser,
    /// `ENOMEM`.
    #[error(
        "the host has no memory for the guest, or the guest needs more than {PARAMETERS}/paging_kib allows it"
    )]
    NoMemory(#[source] io::Error),
    /// [`Request::Initialize`] failed.
    #[error("the host does not take the guest; dmesg may say more")]
    Initialize(#[source] io::Error),
    /// This is a 64-bit build of the launcher.
    #[error("this lguest is a 64-bit program, which the 32-bit host cannot serve: use the i686 build")]
    SixtyFourBit,
}

/// The group whose members may start guests, as `kmod/udev/60-lguest.rules` has it.
const GROUP: &str = "lguest";

/// The module's parameters.
const PARAMETERS: &str = "/sys/module/lg/parameters";

/// Linux's major number of the devices that share one, as lguest's and this module's do (`MISC_MAJOR`).
const MISC_MAJOR: u32 = 10;

/// Whether `file` may be the hypervisor's device. Others than that would take requests without an answer, and a file would
/// be overwritten by them.
fn is_misc_device(file: &File) -> bool {
    file.metadata().is_ok_and(|found| {
        found.file_type().is_char_device() && rustix::fs::major(found.rdev()) == MISC_MAJOR
    })
}

/// Who may open a device that this user may not.
fn forbidden(path: PathBuf) -> HostError {
    match std::fs::metadata(&path) {
        Ok(node) if node.gid() == 0 => HostError::OfRoot(path),
        _ => HostError::NotInGroup(path),
    }
}

/// Why [`Request::Initialize`] was refused.
fn refused(source: io::Error) -> HostError {
    match source.raw_os_error() {
        Some(libc::ENOSPC) => HostError::TooManyGuests,
        Some(libc::EMFILE) => HostError::TooManyOfUser,
        Some(libc::EDQUOT) => HostError::TooMuchOfUser,
        Some(libc::ENOMEM) => HostError::NoMemory(source),
        _ => HostError::Initialize(source),
    }
}

/// `/dev/lguest`, opened for one guest, which dies with it.
#[derive(Debug)]
pub struct DeviceFile {
    // Declared first, so closed first: closing ends the guest, and only then may its memory go.
    file: File,
    memory: OnceLock<Arc<GuestMemory>>,
    opener: Arc<Opener>,
}

/// Bytes of counter text requested: hundreds of counters.
const COUNTERS_MAX: usize = 16384;
/// Bytes of the text of a view that are tried first, and at last, which is more than the module has.
const VIEW_USUAL: usize = 64 << 10;
const VIEW_MAX: usize = 64 << 20;
/// How often, and after how long, a request is repeated while somebody else looks at the guest.
const BUSY_TIMES: u32 = 2000;
const BUSY_PAUSE: Duration = Duration::from_millis(1);

impl DeviceFile {
    /// Opens the device.
    ///
    /// # Errors
    /// [`HostError::NoModule`], [`HostError::NotInGroup`], [`HostError::OfRoot`], [`HostError::Open`].
    pub fn open(opener: &Arc<Opener>) -> Result<Self, HostError> {
        let file = opener.open_device().map_err(|source| {
            let path = opener.device().to_owned();
            match source.raw_os_error() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => HostError::NoModule(path),
                Some(libc::EACCES | libc::EPERM) => forbidden(path),
                _ => HostError::Open { path, source },
            }
        })?;
        if !is_misc_device(&file) {
            return Err(HostError::NotTheDevice(opener.device().to_owned()));
        }
        Ok(Self::of(file, opener))
    }

    fn of(file: File, opener: &Arc<Opener>) -> Self {
        Self { file, memory: OnceLock::new(), opener: opener.clone() }
    }

    /// Writes one request. lguest's module answers 0 or a part of the length, ours the length, so
    /// that nothing can be read from it but success.
    fn request(&self, request: &[u8]) -> io::Result<usize> {
        loop {
            match (&self.file).write(request) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    /// The same while the guest does not run, but root may be looking at it.
    fn patient_request(&self, request: &[u8]) -> io::Result<usize> {
        for _ in 0..BUSY_TIMES {
            match self.request(request) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(BUSY_PAUSE),
                answer => return answer,
            }
        }
        self.request(request)
    }

    /// An operation of a debugger.
    fn debug(&self, operation: Operation, arguments: &[u32]) -> io::Result<()> {
        let words = [&[operation as u32], arguments].concat();
        self.patient_request(&encode(Request::Debug, &words)).map(drop)
    }
}

/// The address of a buffer that the kernel reads or writes behind the compiler's back, so that it is exposed.
fn address_of<T>(buffer: *mut T) -> io::Result<u32> {
    u32::try_from(buffer.expose_provenance()).map_err(io::Error::other)
}

/// The request word and its arguments, as the module reads them.
fn encode(request: Request, arguments: &[u32]) -> Vec<u8> {
    std::iter::once(&(request as u32)).chain(arguments).flat_map(|word| word.to_ne_bytes()).collect()
}

impl Host for DeviceFile {
    fn select_strategy(&self, spec: &str) -> Result<(), HostError> {
        if spec.len() > STRATEGY_MAX {
            return Err(HostError::StrategyTooLong(spec.len()));
        }
        let mut request = encode(Request::Strategy, &[spec.len() as u32]);
        request.extend_from_slice(spec.as_bytes());
        self.request(&request).map(drop).map_err(|source| match source.raw_os_error() {
            Some(libc::EINVAL) => HostError::StrategyRefused(spec.to_owned()),
            _ => HostError::Strategy { spec: spec.to_owned(), source },
        })
    }

    fn select_paging(&self, paging: Paging) -> Result<(), HostError> {
        let request = encode(Request::Paging, &[paging.levels()]);
        self.request(&request).map(drop).map_err(|source| match source.raw_os_error() {
            Some(libc::EINVAL) => HostError::PagingRefused(paging),
            _ => HostError::Paging { paging, source },
        })
    }

    fn initialize(&self, memory: Arc<GuestMemory>, entry: u32, device_limit: u32) -> Result<(), HostError> {
        let base = u32::try_from(memory.base_address()).map_err(|_| HostError::SixtyFourBit)?;
        let pages = (memory.len() / PAGE_SIZE as usize) as u32;
        // Kept from before the host knows of it; a second call fails in the module.
        self.memory.get_or_init(|| memory);
        let request = encode(Request::Initialize, &[base, pages, entry, device_limit]);
        self.request(&request).map(drop).map_err(refused)
    }

    fn read(&self, message: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(message)
    }

    fn interrupt(&self, irq: u32) -> io::Result<()> {
        self.request(&encode(Request::Irq, &[irq])).map(drop)
    }

    fn set_register(&self, offset: u32, value: u32) -> io::Result<()> {
        self.request(&encode(Request::SetRegister, &[offset, value])).map(drop)
    }

    fn attach_eventfd(&self, address: u32, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fd = fd.as_raw_fd().cast_unsigned();
        self.request(&encode(Request::Eventfd, &[address, fd])).map(drop)
    }

    fn view(&self, view: View) -> io::Result<String> {
        let mut len = VIEW_USUAL;
        loop {
            let mut text = vec![0u8; len];
            let address = address_of(text.as_mut_ptr())?;
            match self.patient_request(&encode(Request::View, &[view as u32, address, len as u32])) {
                Err(error) if error.raw_os_error() == Some(libc::ERANGE) && len < VIEW_MAX => len *= 2,
                stored => {
                    text.truncate(stored?);
                    return Ok(String::from_utf8_lossy(&text).into_owned());
                }
            }
        }
    }

    fn registers(&self) -> io::Result<Registers> {
        let mut words = [0; debug::WORDS];
        self.debug(Operation::Registers, &[address_of(words.as_mut_ptr())?])?;
        Ok(Registers::from_words(words))
    }

    fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        let mut words = registers.to_words();
        self.debug(Operation::SetRegisters, &[address_of(words.as_mut_ptr())?])
    }

    fn intercept(&self, vectors: u32) -> io::Result<()> {
        self.debug(Operation::Intercept, &[vectors])
    }

    fn pass_trap_on(&self) -> io::Result<()> {
        self.debug(Operation::PassOn, &[])
    }

    fn memory(&self) -> Option<Arc<GuestMemory>> {
        self.memory.get().cloned()
    }

    fn counters(&self) -> io::Result<String> {
        let mut text = vec![0u8; COUNTERS_MAX];
        let address = address_of(text.as_mut_ptr())?;
        let stored = self.request(&encode(Request::Counters, &[address, COUNTERS_MAX as u32]))?;
        text.truncate(stored);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn recording(&self) -> Result<Box<dyn Read + Send>, HostError> {
        match self.opener.open_recording() {
            Ok(file) => Ok(Box::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(HostError::NoRecording),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(HostError::RecordingOfRoot),
            Err(source) => Err(HostError::Recording { path: RECORDINGS.into(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn open(path: &Path) -> Result<DeviceFile, HostError> {
        DeviceFile::open(&Arc::new(Opener::direct(path)))
    }

    #[test]
    fn requests_are_words_in_the_order_of_the_protocol() {
        assert_eq!(
            encode(Request::Initialize, &[0xb000_0000, 8200, 0x10_0000]),
            [0, 0, 0, 0, 0, 0, 0, 0xb0, 0x08, 0x20, 0, 0, 0, 0, 0x10, 0]
        );
        assert_eq!(encode(Request::Irq, &[3]), [2, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(encode(Request::Strategy, &[]), [0, 1, 0, 0]);
    }

    /// A request as the module would receive it, from a file that takes its place.
    fn written(act: impl FnOnce(&DeviceFile)) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let opener = Arc::new(Opener::direct(file.path()));
        act(&DeviceFile::of(opener.open_device().unwrap(), &opener));
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn a_strategy_is_sent_with_its_length() {
        let sent = written(|device| device.select_strategy("lru:slots=8").unwrap());
        assert_eq!(sent, b"\x00\x01\0\0\x0b\0\0\0lru:slots=8");
        let sent = written(|device| {
            let refused = device.select_strategy(&"x".repeat(257)).unwrap_err();
            assert!(matches!(refused, HostError::StrategyTooLong(257)));
        });
        assert_eq!(sent, b"");
    }

    #[test]
    fn a_page_format_is_sent_by_its_levels() {
        let sent = written(|device| device.select_paging(Paging::Pae).unwrap());
        assert_eq!(sent, b"\x02\x01\0\0\x03\0\0\0");
    }

    #[test]
    fn a_missing_device_says_insmod() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&folder.path().join("lguest")).unwrap_err();
        assert!(matches!(error, HostError::NoModule(_)));
        assert!(error.to_string().contains("insmod lg.ko"), "{error}");
    }

    #[test]
    fn another_device_is_refused_and_a_file_is_left_as_it_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "vmlinux").unwrap();
        for path in [Path::new("/dev/null"), file.path()] {
            let error = open(path).unwrap_err();
            assert!(matches!(&error, HostError::NotTheDevice(named) if named == path), "{error}");
        }
        assert_eq!(std::fs::read(file.path()).unwrap(), b"vmlinux");
    }

    #[test]
    fn a_forbidden_device_says_who_may() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
        match open(file.path()) {
            // Root opens anything.
            Err(HostError::NotTheDevice(_)) => assert!(rustix::process::geteuid().is_root()),
            Err(error) => assert!(error.to_string().contains("no permission"), "{error}"),
            Ok(_) => panic!("a file is no device"),
        }
        // What is root's here, and what is not: only root can make it so.
        let node = |gid| {
            std::os::unix::fs::chown(file.path(), None, Some(gid)).map(|()| forbidden(file.path().to_owned()))
        };
        if rustix::process::geteuid().is_root() {
            let message = node(997).unwrap().to_string();
            assert!(message.contains("usermod -aG lguest") && message.contains("log in again"), "{message}");
            let message = node(0).unwrap().to_string();
            assert!(message.contains("60-lguest.rules"), "{message}");
        }
    }

    #[test]
    fn a_refused_guest_says_whose_limit_it_is() {
        for (errno, word) in [
            (libc::ENOSPC, "max_guests"),
            (libc::EMFILE, "guests_per_user"),
            (libc::EDQUOT, "user_kib"),
            (libc::ENOMEM, "no memory"),
            (libc::EINVAL, "dmesg"),
        ] {
            let message = refused(io::Error::from_raw_os_error(errno)).to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn the_group_is_that_of_udevs_rule() {
        let rules = include_str!("../../kmod/udev/60-lguest.rules");
        let rule = rules.lines().find(|line| line.starts_with("KERNEL==\"lguest\"")).unwrap();
        assert!(rule.contains(&format!("GROUP=\"{GROUP}\"")) && rule.contains("MODE=\"0660\""), "{rule}");
    }
}
