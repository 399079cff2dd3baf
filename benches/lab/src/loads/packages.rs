//! The packages of Debian that the loads run: from which set each comes, and how they get to this machine.
//!
//! Every package is named here, as what they depend on in a whole system (a resolver, a package manager) is more than a load
//! needs. Versions are today's, as of everything else that comes from Debian.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use xtask::apt::{Lists, PrivateApt};
use xtask::apt_sources::SUITE;
use xtask::process::Progress;
use xtask::project::Project;

/// The shell, the usual programs and their libraries: in every system.
pub const BASE: &[&str] = &[
    "bash",
    "bzip2",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "libacl1",
    "libattr1",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libgcc-s1",
    "libgmp10",
    "liblzma5",
    "libpcre2-8-0",
    "libselinux1",
    "libtinfo6",
    "libzstd1",
    "mawk",
    "sed",
    "xz-utils",
    "zlib1g",
];

/// `make`, the headers of C, and libraries with source in their headers.
pub const MAKE: &[&str] = &["libc6-dev", "libstb-dev", "linux-libc-dev", "make"];

/// A compiler that takes milliseconds.
pub const TCC: &[&str] = &["tcc"];

/// GCC's compiler proper, without its driver, and the GNU assembler and linker.
pub const GCC: &[&str] = &[
    "binutils-i686-linux-gnu",
    "cpp-12",
    "libbinutils",
    "libctf0",
    "libgcc-12-dev",
    "libisl23",
    "libjansson4",
    "libmpc3",
    "libmpfr6",
];

/// The shell of SQLite.
pub const SQLITE: &[&str] = &["libreadline8", "libsqlite3-0", "sqlite3"];

/// Perl without its library.
pub const PERL: &[&str] = &["perl-base"];

/// Python with its own tests.
pub const PYTHON: &[&str] = &[
    "libexpat1",
    "libffi8",
    "libncursesw6",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libpython3.11-testsuite",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libuuid1",
    "python3.11-minimal",
];

/// Apache, and the client that measures it.
pub const WEB: &[&str] =
    &["apache2-bin", "apache2-utils", "libapr1", "libaprutil1", "libexpat1", "libssl3", "libuuid1"];

/// A session's services, a terminal multiplexer, and what runs in its windows.
pub const DESKTOP: &[&str] = &[
    "dbus-bin",
    "dbus-daemon",
    "dbus-session-bus-common",
    "dconf-gsettings-backend",
    "dconf-service",
    "less",
    "libapparmor1",
    "libaudit1",
    "libblkid1",
    "libc-bin",
    "libcap-ng0",
    "libcap2",
    "libdbus-1-3",
    "libdconf1",
    "libelf1",
    "libevent-core-2.1-7",
    "libexpat1",
    "libffi8",
    "libgcrypt20",
    "libglib2.0-0",
    "libglib2.0-bin",
    "libgpg-error0",
    "liblz4-1",
    "libmount1",
    "libncursesw6",
    "libproc2-0",
    "libsystemd0",
    "libutempter0",
    "ncurses-base",
    "procps",
    "tmux",
    "vim-tiny",
];

/// Packages that are for all architectures.
const OF_ALL: [&str; 3] = ["dbus-session-bus-common", "libpython3.11-testsuite", "ncurses-base"];

/// Brings the packages of these sets into the cache, as far as they are not there, and returns their files by name. The caller
/// holds the cache's lock.
///
/// # Errors
/// When they cannot be fetched.
pub fn ensure(project: &Project, sets: &[&[&str]]) -> Result<Vec<PathBuf>> {
    let mut names: Vec<&str> = sets.iter().flat_map(|set| set.iter().copied()).collect();
    names.sort_unstable();
    names.dedup();
    let folder = project.cache().join("debs-of-loads");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let missing: Vec<_> =
        names.iter().filter(|name| !matches!(find(&folder, name), Ok(Some(_)))).copied().collect();
    if !missing.is_empty() {
        fetch(project, &missing, &folder)?;
    }
    let found =
        |name: &&str| find(&folder, name)?.with_context(|| format!("apt-get did not download {name}"));
    names.iter().map(found).collect()
}

fn fetch(project: &Project, names: &[&str], folder: &Path) -> Result<()> {
    let progress = Progress::start(format!("{} packages for the loads", names.len()));
    let lists = Lists::of_system(&["amd64", "i386"], SUITE)?;
    let apt = PrivateApt::update(&project.cache().join("apt"), &lists, &project.logs())?;
    let of = |name: &&str| if OF_ALL.contains(name) { (*name).to_owned() } else { format!("{name}:i386") };
    let packages: Vec<_> = names.iter().map(of).collect();
    apt.download(&packages, folder, &project.logs().join("apt-download-loads.log"))?;
    progress.done();
    Ok(())
}

/// The file of a package, which begins with the name and an underscore.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let begin = format!("{name}_");
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if file.starts_with(&begin) && file.ends_with(".deb") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_not_taken_for_one_whose_name_is_longer() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sed-doc_1_all.deb"), "").unwrap();
        fs::write(folder.path().join("sed_4.9-1_i386.deb.partial"), "").unwrap();
        assert_eq!(find(folder.path(), "sed").unwrap(), None);
        let file = folder.path().join("sed_4.9-1_i386.deb");
        fs::write(&file, "").unwrap();
        assert_eq!(find(folder.path(), "sed").unwrap(), Some(file));
    }
}
