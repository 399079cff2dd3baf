//! What the launcher gives up once everything is open, before it looks at a guest.
//!
//! From then on it is, with `--user`, another user than root; it has no capability and no supplementary
//! group, cannot get any by starting a program, and by Landlock opens no file but those that a restarted guest
//! needs, starts no program, and traces no process outside. Landlock is the kernel's own means for that and works
//! by system calls that all architectures have in common, so that it serves 32-bit programs as well.
//!
//! All of this holds for one thread and those that it starts: it has to be done while there is no other.

use crate::user::User;
use clap::ValueEnum;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use std::error::Error;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// How much the launcher has to be confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Confine {
    /// As far as the kernel can; what it cannot is reported
    #[default]
    Auto,
    /// Completely, or no guest is started
    Required,
    /// Not at all
    Off,
}

/// A path that may still be opened, with all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The path.
    pub path: PathBuf,
    /// Whether it is a folder that is to be read, or else a file to be read and written.
    pub folder: bool,
}

/// Why the launcher could not be confined.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// Only root can become somebody else.
    #[error("only root can become the user of --user: start lguest as root")]
    NotRoot,
    /// The kernel refuses.
    #[error("cannot {doing}")]
    System {
        /// What was refused.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Landlock fails.
    #[error("cannot confine lguest by Landlock")]
    Landlock(#[source] Box<dyn Error + Send + Sync>),
    /// There is no Landlock.
    #[error(
        "this kernel has no Landlock, or it is not switched on (CONFIG_SECURITY_LANDLOCK, `lsm=landlock,...` on \
         the kernel's command line), so that lguest can be confined only in part"
    )]
    NoLandlock,
}

impl From<RulesetError> for ConfineError {
    fn from(error: RulesetError) -> Self {
        Self::Landlock(Box::new(error))
    }
}

/// Becomes `user`, and gives up everything but to open what is `allowed`. Returns what the kernel could not do, if
/// that is not an error.
///
/// # Errors
/// [`ConfineError`].
pub fn confine(
    how: Confine,
    user: Option<User>,
    allowed: &[Allowed],
) -> Result<Option<ConfineError>, ConfineError> {
    let is_root = geteuid().is_root();
    if user.is_some() && !is_root {
        return Err(ConfineError::NotRoot);
    }
    // Its paths are looked up while the launcher may.
    let ruleset = if how == Confine::Off { None } else { Some(ruleset(allowed)?) };
    if how != Confine::Off {
        empty_bounding_set();
    }
    if is_root && (user.is_some() || how != Confine::Off) {
        rustix::thread::set_thread_groups(&[]).map_err(refused("drop the supplementary groups"))?;
    }
    if let Some(user) = user {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(refused("become the group of --user"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(refused("become the user of --user"))?;
    }
    let Some(ruleset) = ruleset else { return Ok(None) };
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(refused("drop the capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(refused("refuse new privileges"))?;
    match (ruleset.restrict_self()?.ruleset, how) {
        (RulesetStatus::NotEnforced, Confine::Required) => Err(ConfineError::NoLandlock),
        (RulesetStatus::NotEnforced, _) => Ok(Some(ConfineError::NoLandlock)),
        _ => Ok(None),
    }
}

fn refused<E: Into<io::Error>>(doing: &'static str) -> impl Fn(E) -> ConfineError {
    move |error| ConfineError::System { doing, source: error.into() }
}

/// No program that is started can have a capability. Who may not empty the set has none to give away, and a
/// capability that the kernel does not support is none.
fn empty_bounding_set() {
    for capability in CapabilitySet::all().iter() {
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
}

/// What Landlock shall enforce: of the rights that the crate supports, all that the kernel supports too.
fn ruleset(allowed: &[Allowed]) -> Result<RulesetCreated, ConfineError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    for Allowed { path, folder } in allowed {
        let access: BitFlags<AccessFs> = if *folder {
            AccessFs::ReadDir | AccessFs::ReadFile
        } else {
            AccessFs::ReadFile | AccessFs::WriteFile
        };
        let opened = match PathFd::new(path) {
            Ok(opened) => opened,
            // What is not there cannot be opened.
            Err(_) if !path.exists() => continue,
            Err(error) => return Err(ConfineError::Landlock(Box::new(error))),
        };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
    }
    Ok(ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, OpenOptions};

    /// The value of `key` in the calling thread's status (proc(5)).
    fn status(text: &str, key: &str) -> String {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.expect("a line of the status").trim().to_owned()
    }

    /// Runs `act` in a thread of its own, as confinement does not end.
    fn in_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(act).join().unwrap()
    }

    #[test]
    fn a_confined_launcher_opens_nothing_but_what_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let (device, other) = (folder.path().join("device"), folder.path().join("other"));
        let recordings = folder.path().join("recordings");
        fs::create_dir(&recordings).unwrap();
        for file in [&device, &other, &recordings.join("1-1")] {
            fs::write(file, "x").unwrap();
        }
        let allowed = [
            Allowed { path: device.clone(), folder: false },
            Allowed { path: recordings.clone(), folder: true },
            Allowed { path: folder.path().join("nosuch"), folder: false },
        ];
        in_thread(move || {
            let mut open_before = File::open("/proc/thread-self/status").unwrap();
            match confine(Confine::Auto, None, &allowed).unwrap() {
                None => {}
                Some(ConfineError::NoLandlock) => {
                    eprintln!("this machine's kernel has no Landlock: the rest of this test is left out");
                    return;
                }
                Some(other) => panic!("{other}"),
            }
            OpenOptions::new().read(true).write(true).open(&device).unwrap();
            assert_eq!(fs::read_dir(&recordings).unwrap().count(), 1);
            assert_eq!(fs::read(recordings.join("1-1")).unwrap(), b"x");
            let refused = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            };
            refused(File::open(&other).map(drop));
            refused(File::open("/etc/passwd").map(drop));
            refused(File::create(device.with_file_name("new")).map(drop));
            refused(fs::write(recordings.join("1-1"), "y"));
            refused(fs::remove_file(&device));
            refused(std::process::Command::new("/bin/true").status().map(drop));
            // What was opened before stays open.
            assert!(io::read_to_string(&mut open_before).unwrap().contains("NoNewPrivs"));
        });
    }

    #[test]
    fn no_capability_is_left_and_none_can_come() {
        for confined in [true, false] {
            let text = in_thread(move || {
                let file = File::open("/proc/thread-self/status").unwrap();
                confine(if confined { Confine::Auto } else { Confine::Off }, None, &[]).unwrap();
                io::read_to_string(file).unwrap()
            });
            if confined {
                for key in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                    assert_eq!(status(&text, key), "0000000000000000", "{key}");
                }
                assert_eq!(status(&text, "NoNewPrivs"), "1");
            } else {
                let ours = fs::read_to_string("/proc/self/status").unwrap();
                for key in ["CapEff", "CapBnd", "NoNewPrivs", "Groups"] {
                    assert_eq!(status(&text, key), status(&ours, key), "{key}");
                }
            }
        }
    }

    #[test]
    fn root_becomes_the_user_for_good() {
        let user = User { uid: 4321, gid: 8765 };
        let outcome = in_thread(move || {
            let file = File::open("/proc/thread-self/status").unwrap();
            let confined = confine(Confine::Auto, Some(user), &[]);
            confined.map(|_| {
                let root = Uid::from_raw(0);
                let back = rustix::thread::set_thread_res_uid(root, root, root);
                (io::read_to_string(file).unwrap(), back.is_err())
            })
        });
        match outcome {
            Ok((text, stays)) => {
                assert_eq!(status(&text, "Uid"), "4321\t4321\t4321\t4321");
                assert_eq!(status(&text, "Gid"), "8765\t8765\t8765\t8765");
                assert_eq!(status(&text, "Groups"), "");
                assert_eq!(status(&text, "CapBnd"), "0000000000000000");
                assert!(stays);
            }
            Err(error) => {
                assert!(matches!(error, ConfineError::NotRoot), "{error}");
                assert!(!geteuid().is_root());
            }
        }
    }
}
