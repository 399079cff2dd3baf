//! The guests of this host as the module shows them to root: a folder of debugfs for each, named after the launcher's process and the
//! guest's number, with a file `counters` in it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where the folders are.
pub const FOLDER: &str = "/sys/kernel/debug/lguest";

/// Which guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestName {
    /// The launcher's process.
    pub pid: u32,
    /// The guest's number, which no other one has at the time.
    pub number: u32,
}

impl GuestName {
    /// Of a folder's name; `None` when it is not a guest's.
    fn of(folder: &str) -> Option<Self> {
        let (pid, number) = folder.split_once('-')?;
        Some(Self { pid: pid.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for GuestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.pid, self.number))
    }
}

/// A guest's counters, in the module's order.
pub type Counters = Vec<(String, u64)>;

/// Why guests cannot be looked at.
#[derive(Debug, Error)]
pub enum ViewError {
    /// There is no folder.
    #[error(
        "no {0}: the hypervisor's module is not loaded (as root: insmod lg.ko), or debugfs is not mounted (as root: mount -t \
         debugfs debugfs /sys/kernel/debug)"
    )]
    NoFolder(PathBuf),
    /// The folder is root's.
    #[error("only root may look at guests, in {0}")]
    OfRoot(PathBuf),
    /// Another failure.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What a guest's file holds is not understood.
    #[error("{path} has a line which is not a name and a number: {line:?}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: String,
    },
}

impl ViewError {
    fn of(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoFolder(path.to_owned()),
            io::ErrorKind::PermissionDenied => Self::OfRoot(path.to_owned()),
            _ => Self::Read { path: path.to_owned(), source },
        }
    }
}

/// The counters of the guests below `folder` that there are now: of all, or of those of one process. Each stands still for a
/// moment for it.
///
/// # Errors
/// [`ViewError`]; a guest that ends meanwhile is none.
pub fn read(folder: &Path, pid: Option<u32>) -> Result<BTreeMap<GuestName, Counters>, ViewError> {
    let entries = std::fs::read_dir(folder).map_err(|error| ViewError::of(folder, error))?;
    let mut guests = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| ViewError::of(folder, error))?;
        let Some(name) = entry.file_name().to_str().and_then(GuestName::of) else { continue };
        if pid.is_some_and(|pid| pid != name.pid) {
            continue;
        }
        let path = entry.path().join("counters");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                guests.insert(name, parse(&path, &text)?);
            }
            // It has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ViewError::of(&path, error)),
        }
    }
    Ok(guests)
}

fn parse(path: &Path, text: &str) -> Result<Counters, ViewError> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines()
        .map(|line| {
            pair(line).ok_or_else(|| ViewError::Line { path: path.to_owned(), line: line.to_owned() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(folder: &Path, name: &str, counters: &str) {
        std::fs::create_dir(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("counters"), counters).unwrap();
    }

    #[test]
    fn all_guests_are_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("recordings")).unwrap();
        // One that has just ended has no files any more.
        std::fs::create_dir(folder.path().join("7-2")).unwrap();
        guest(folder.path(), "123-0", "hits 1\nmisses 2\n");
        guest(folder.path(), "45-1", "hits 18446744073709551615\n");
        let guests = read(folder.path(), None).unwrap();
        let names: Vec<_> = guests.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["45-1", "123-0"]);
        assert_eq!(guests[&GuestName { pid: 123, number: 0 }], [("hits".into(), 1), ("misses".into(), 2)]);
        let of_one = read(folder.path(), Some(45)).unwrap();
        assert_eq!(of_one.into_values().collect::<Vec<_>>(), [[("hits".to_owned(), u64::MAX)]]);
        assert!(read(folder.path(), Some(4)).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(read(&missing, None).unwrap_err().to_string().contains("insmod lg.ko"));
        guest(folder.path(), "1-1", "hits\n");
        assert!(read(folder.path(), None).unwrap_err().to_string().contains("\"hits\""));
    }
}
