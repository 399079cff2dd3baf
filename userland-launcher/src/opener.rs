//! Opens what not every user may open: the hypervisor's device, again for each life of a guest, and its recordings, which
//! only root may.
//!
//! A launcher that stays who it is opens them itself. One that becomes another user cannot, and a guest may request
//! a restart at any time; so a helper process stays root in its stead. The helper serves two requests, of one
//! byte each and without a parameter, and answers each with an open file (`SCM_RIGHTS`, unix(7)) or an error. It
//! is confined to what it opens, and ends with the launcher.

use crate::confinement::{Allowed, Confine, confine};
use crate::helper;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where the module shows recordings, each named by the process that owns the guest, `-` and a number.
pub const RECORDINGS: &str = "/sys/kernel/debug/lguest/recordings";

/// The two requests.
const DEVICE: u8 = b'd';
const RECORDING: u8 = b'r';

/// Who opens files for one launcher.
#[derive(Debug)]
pub struct Opener {
    device: PathBuf,
    /// The launcher's end of the helper's socket.
    helper: Option<Mutex<UnixStream>>,
}

impl Opener {
    /// This process opens `device` itself.
    #[must_use]
    pub fn direct(device: &Path) -> Self {
        Self { device: device.to_owned(), helper: None }
    }

    /// A helper process opens them, confined unless `how` disables that. It has the rights that the launcher has now.
    ///
    /// # Errors
    /// When there is more than one thread, or no more processes.
    pub fn with_helper(device: &Path, how: Confine) -> io::Result<Self> {
        let owner = std::process::id();
        let ours = helper::start(|theirs| serve(theirs, device, owner, how))?;
        Ok(Self { device: device.to_owned(), helper: Some(Mutex::new(ours)) })
    }

    /// The hypervisor's device.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// What this process must still be allowed to open.
    #[must_use]
    pub fn needs(&self) -> Vec<Allowed> {
        if self.helper.is_some() { Vec::new() } else { needs(&self.device) }
    }

    /// Opens the device, for one more guest.
    ///
    /// # Errors
    /// As for any file.
    pub fn open_device(&self) -> io::Result<File> {
        match &self.helper {
            None => open_device(&self.device),
            Some(helper) => ask(helper, DEVICE),
        }
    }

    /// Opens the recording of the guest that this process has started.
    ///
    /// # Errors
    /// `NotFound` if there is none; else as for any file.
    pub fn open_recording(&self) -> io::Result<File> {
        match &self.helper {
            None => open_recording(std::process::id()),
            Some(helper) => ask(helper, RECORDING),
        }
    }
}

fn needs(device: &Path) -> Vec<Allowed> {
    vec![
        Allowed { path: device.to_owned(), folder: false },
        Allowed { path: RECORDINGS.into(), folder: true },
    ]
}

fn open_device(device: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(device)
}

fn open_recording(owner: u32) -> io::Result<File> {
    let prefix = format!("{owner}-");
    let mut files = std::fs::read_dir(RECORDINGS)?.flatten();
    let ours = files.find(|file| file.file_name().to_string_lossy().starts_with(&prefix));
    File::open(ours.ok_or(io::ErrorKind::NotFound)?.path())
}

/// Sends one request to the helper, and takes the answer.
fn ask(helper: &Mutex<UnixStream>, request: u8) -> io::Result<File> {
    let mut socket = helper.lock().unwrap_or_else(PoisonError::into_inner);
    socket.write_all(&[request])?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut errno = [0; 4];
    let mut data = [IoSliceMut::new(&mut errno)];
    let received = recvmsg(&*socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes != errno.len() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "lguest's helper process has ended"));
    }
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    match (i32::from_ne_bytes(errno), files.flatten().next()) {
        (0, Some(file)) => Ok(File::from(file)),
        (0, None) => Err(io::Error::other("lguest's helper process sends no file")),
        (errno, _) => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Answers the requests of the launcher `owner` until it has ended.
fn serve(mut socket: UnixStream, device: &Path, owner: u32, how: Confine) -> io::Result<()> {
    let mut confined = how == Confine::Off;
    let mut request = [0];
    while socket.read(&mut request)? == 1 {
        let opened = match request[0] {
            DEVICE => open_device(device),
            RECORDING => open_recording(owner),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        // Only now the files are there for certain that confinement has to leave. What the kernel cannot do is
        // for the launcher to report, and to refuse.
        if opened.is_ok() && !confined {
            confine(Confine::Auto, None, &needs(device)).map_err(io::Error::other)?;
            confined = true;
        }
        reply(&socket, opened.map(OwnedFd::from))?;
    }
    Ok(())
}

/// Sends 0 with a file, or the number of an error.
fn reply(socket: &UnixStream, opened: io::Result<OwnedFd>) -> io::Result<()> {
    let errno = match &opened {
        Ok(_) => 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => libc::ENOENT,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let file = opened.as_ref().ok().map(|file| [file.as_fd()]);
    if let Some(file) = &file {
        // The space is for one.
        control.push(SendAncillaryMessage::ScmRights(file));
    }
    sendmsg(socket, &[IoSlice::new(&errno.to_ne_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An opener whose helper is a thread.
    fn helped(device: &Path) -> (Opener, std::thread::JoinHandle<io::Result<()>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let path = device.to_owned();
        let thread = std::thread::spawn(move || serve(theirs, &path, std::process::id(), Confine::Auto));
        (Opener { device: device.to_owned(), helper: Some(Mutex::new(ours)) }, thread)
    }

    #[test]
    fn the_helper_opens_the_device_as_often_as_it_is_asked_and_ends_with_the_launcher() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (opener, helper) = helped(file.path());
        for life in ["first ", "second ", "third"] {
            let mut device = opener.open_device().unwrap();
            io::Seek::seek(&mut device, io::SeekFrom::End(0)).unwrap();
            device.write_all(life.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read(file.path()).unwrap(), b"first second third");
        assert_eq!(opener.open_recording().unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(opener);
        helper.join().unwrap().unwrap();
    }

    #[test]
    fn the_helpers_errors_are_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (opener, helper) = helped(&folder.path().join("device"));
        assert_eq!(opener.open_device().unwrap_err().raw_os_error(), Some(libc::ENOENT));
        // A folder cannot be written to; this time the file is there.
        std::fs::create_dir(folder.path().join("device")).unwrap();
        assert_eq!(opener.open_device().unwrap_err().raw_os_error(), Some(libc::EISDIR));
        drop(opener);
        helper.join().unwrap().unwrap();
    }

    #[test]
    fn a_helper_that_is_gone_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let opener = Opener { device: "/dev/null".into(), helper: Some(Mutex::new(ours)) };
        assert!(opener.open_device().is_err());
    }

    #[test]
    fn who_opens_for_itself_must_be_allowed_to() {
        let device = Path::new("/dev/null");
        let direct = Opener::direct(device);
        assert_eq!(direct.needs()[0], Allowed { path: device.to_owned(), folder: false });
        let (helped, _) = helped(device);
        assert_eq!(helped.needs(), []);
        assert_eq!(direct.device(), helped.device());
    }
}
