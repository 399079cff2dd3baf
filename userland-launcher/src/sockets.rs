//! The sockets by which other programs reach a guest, the monitor's and GDB's: made so that nobody else's is taken, and removed
//! at the launcher's end.
//!
//! By then the launcher has given up the file system, and perhaps its user. So a [helper process](crate::helper) waits for its end,
//! however that comes, and removes the sockets. Which names these have it knows before the launcher gets to see a guest; all
//! that it takes from the launcher is which file behind each name the launcher has made.

use crate::helper;
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use thiserror::Error;

/// How many may wait to be connected.
const BACKLOG: i32 = 16;

/// Why nobody can connect.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody has it.
    #[error(
        "a program that runs answers there, such as another guest's launcher: end it, or give another name"
    )]
    InUse,
    /// Something else has the name.
    #[error(
        "a file of that name is there that is no socket, and stays: give another name, or remove it first"
    )]
    NoSocket,
    /// The host refuses.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<Errno> for SocketError {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// Makes a socket, which only this user can connect to. One at which nobody listens, as a launcher leaves it that was killed with
/// its helper, is removed first.
///
/// # Errors
/// [`SocketError`].
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(SocketError::InUse),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error.into()),
        },
        // If the folder is not there, either, bind(2) says so.
        Err(_) => {}
    }
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    // The socket's name gets the mode that the socket has (unix(7)), so that nobody connects in between.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// What tells a file from every other one, also from a later one that has its number again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    number: u64,
    /// Nanoseconds from 1970 to when it was made; 0 where the file system does not know.
    made: u64,
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        let made = file.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        Self { device: file.dev(), number: file.ino(), made: made.map_or(0, |made| made.as_nanos() as u64) }
    }
}

/// A note to the helper: the number of a name, and the file that the launcher has made there, in words of the machine.
const NOTE: usize = 4 * 8;

/// Makes a launcher's sockets, and removes them when it is dropped. If the launcher ends without that, its helper removes them.
#[derive(Debug, Default)]
pub struct Sockets {
    paths: Vec<PathBuf>,
    helper: Option<UnixStream>,
}

impl Sockets {
    /// For a launcher that will make sockets of these names: starts the helper, if there are any.
    ///
    /// # Errors
    /// As [`helper::start`].
    pub fn named(paths: Vec<PathBuf>) -> io::Result<Self> {
        if paths.is_empty() {
            return Ok(Self::default());
        }
        let helper = helper::start(|launcher| {
            remove_at_end(launcher, &paths);
            Ok(())
        })?;
        Ok(Self { paths, helper: Some(helper) })
    }

    /// Makes one of them, as [`listen`] does. One that was not named is nobody's to remove.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn listen(&self, path: &Path) -> Result<UnixListener, SocketError> {
        let listener = listen(path)?;
        let index = self.paths.iter().position(|named| named == path);
        if let (Some(mut helper), Some(index)) = (self.helper.as_ref(), index) {
            let Identity { device, number, made } = Identity::of(&fs::symlink_metadata(path)?);
            let words = [index as u64, device, number, made].map(u64::to_ne_bytes);
            helper.write_all(words.as_flattened())?;
        }
        Ok(listener)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(helper) = &mut self.helper {
            // The helper's end, which comes when the sockets are removed, closes the other side.
            let _ = helper.shutdown(Shutdown::Write);
            let _ = helper.read(&mut [0]);
        }
    }
}

/// The helper: takes notes until the launcher's end, and then removes what of it is still there.
fn remove_at_end(mut launcher: impl Read, paths: &[PathBuf]) {
    let mut made = vec![None; paths.len()];
    let mut note = [0; NOTE];
    while launcher.read_exact(&mut note).is_ok() {
        let word = |index: usize| u64::from_ne_bytes(note.as_chunks().0[index]);
        let place = usize::try_from(word(0)).ok().and_then(|index| made.get_mut(index));
        if let Some(place) = place {
            *place = Some(Identity { device: word(1), number: word(2), made: word(3) });
        }
    }
    for (path, made) in paths.iter().zip(made) {
        let found = fs::symlink_metadata(path).ok().filter(|found| found.file_type().is_socket());
        if found.is_some_and(|found| made == Some(Identity::of(&found))) {
            // Nobody is left who could be told of an error; the next launcher replaces the socket.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Sockets of these names in a folder of their own, whose helper is a thread.
    fn sockets(folder: &Path, names: &[&str]) -> (Sockets, Vec<PathBuf>) {
        let paths: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let named = paths.clone();
        std::thread::spawn(move || remove_at_end(theirs, &named));
        (Sockets { paths: paths.clone(), helper: Some(ours) }, paths)
    }

    #[test]
    fn a_socket_goes_with_its_launcher() {
        let folder = tempfile::tempdir().unwrap();
        let (sockets, paths) = sockets(folder.path(), &["monitor", "gdb"]);
        let listeners: Vec<_> = paths.iter().map(|path| sockets.listen(path).unwrap()).collect();
        assert_eq!(fs::metadata(&paths[0]).unwrap().permissions().mode() & 0o777, 0o600);
        // Its user may let others in; it is the same socket.
        fs::set_permissions(&paths[0], PermissionsExt::from_mode(0o660)).unwrap();
        assert!(paths.iter().all(|path| UnixStream::connect(path).is_ok()));
        drop(sockets);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(listeners);
    }

    #[test]
    fn what_the_launcher_has_not_made_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (sockets, paths) = sockets(folder.path(), &["taken-over", "file", "never-made"]);
        for path in &paths[..2] {
            sockets.listen(path).unwrap();
            fs::remove_file(path).unwrap();
        }
        let _other = listen(&paths[0]).unwrap();
        fs::write(&paths[1], "x").unwrap();
        let _never_made = UnixListener::bind(&paths[2]).unwrap();
        drop(sockets);
        assert!(paths.iter().all(|path| path.exists()), "{paths:?}");
    }

    #[test]
    fn a_socket_that_nobody_listens_at_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(listen(&path).unwrap());
        assert!(path.exists(), "without a helper it is left");
        let listener = listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::InUse)));
        UnixStream::connect(&path).unwrap();
        drop(listener);

        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(listen(&file), Err(SocketError::NoSocket)));
        assert_eq!(fs::read(&file).unwrap(), b"x");
        // Not even by a link of that name.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(listen(&link), Err(SocketError::NoSocket)));
        assert!(link.is_symlink() && path.exists());
        let nowhere = listen(&folder.path().join("nosuch/socket"));
        assert!(matches!(nowhere, Err(SocketError::System(_))));
    }
}
