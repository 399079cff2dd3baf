//! Debian's source packages of Linux: fetched through apt, unpacked once into the cache, never written to.
//!
//! Nothing is pinned to a version: a *series*, such as 6.1, names a package (`linux-source-6.1`), and apt gives
//! what Debian has today. The packages are the same for all architectures, so only the build machine's lists
//! are requested, which stay usable when those of i386 are not.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use xtask::apt::{Lists, PrivateApt, unpack};
use xtask::apt_sources;
use xtask::process::{Progress, run_logged};
use xtask::project::Project;

/// A line of Linux releases that the port is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Series {
    /// Debian 12's own kernel
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, packaged for Debian 12 too
    #[value(name = "6.12")]
    V6_12,
    /// Debian's newest, packaged for Debian 13
    #[value(name = "7.3")]
    V7_3,
}

impl Series {
    /// As Debian's package names have it.
    pub fn name(self) -> &'static str {
        match self {
            Series::V6_1 => "6.1",
            Series::V6_12 => "6.12",
            Series::V7_3 => "7.3",
        }
    }

    fn package(self) -> String {
        format!("linux-source-{self}")
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Parts of the source, below its folder, that no x86 kernel of ours can need and that are a quarter of it.
const LEFT_OUT: [&str; 2] = ["drivers/gpu/drm/amd/include/asic_reg", "Documentation/devicetree"];

/// An unpacked source; also the stamp in the cache that marks it as whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinuxSource {
    /// The package's version, such as `6.1.176-1`.
    pub version: String,
    /// The unpacked tree. Not to be written to.
    pub folder: PathBuf,
}

impl LinuxSource {
    /// The source of `series`: what the cache holds, or else, and with `refresh`, what Debian has today. The
    /// caller holds the cache's lock.
    ///
    /// # Errors
    /// When no suite that this machine's mirror offers has the package, or it cannot be fetched.
    pub fn ensure(project: &Project, series: Series, refresh: bool) -> Result<LinuxSource> {
        match LinuxSource::cached(project, series) {
            Some(source) if !refresh => Ok(source),
            _ => LinuxSource::fetch(project, series),
        }
    }

    fn cached(project: &Project, series: Series) -> Option<LinuxSource> {
        let stamp = fs::read(stamp_path(project, series)).ok()?;
        let source: LinuxSource = serde_json::from_slice(&stamp).ok()?;
        let whole = source.folder.starts_with(project.cache()) && source.folder.join("Kbuild").is_file();
        whole.then_some(source)
    }

    fn fetch(project: &Project, series: Series) -> Result<LinuxSource> {
        let progress = Progress::start("package lists of Debian's Linux sources");
        let lists = lists(&apt_sources::read_system(Path::new("/etc/apt")))?;
        let apt = PrivateApt::update(&project.cache().join("apt-source"), &lists, &project.logs())?;
        progress.done();
        let package = series.package();
        let version = apt.candidate(&package).with_context(|| {
            let left_out = apt.left_out.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
            format!("{package} is in none of the suites that could be read{left_out}")
        })?;
        let version = version.version;
        let folder = project.cache().join(format!("{package}_{version}"));
        let source = LinuxSource { version, folder };
        if !source.folder.join("Kbuild").is_file() {
            source.unpack(project, &apt, &package)?;
        }
        fs::write(stamp_path(project, series), serde_json::to_vec_pretty(&source)?)?;
        Ok(source)
    }

    fn unpack(&self, project: &Project, apt: &PrivateApt, package: &str) -> Result<()> {
        let staging = project.cache().join("unpacking-source");
        for leftover in [&staging, &self.folder] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)
                    .with_context(|| format!("cannot remove {}", leftover.display()))?;
            }
        }
        let progress = Progress::start(format!("Linux source {} (up to 170 MB)", self.version));
        let wanted = format!("{package}={}", self.version);
        apt.download(&[wanted], &staging, &project.logs().join("apt-download-source.log"))?;
        let deb = only_file(&staging, "deb")?;
        unpack(&deb, &staging, &[])?;
        fs::remove_file(&deb)?;
        progress.done();

        let progress = Progress::start(format!("unpacking Linux {} (up to 1.6 GB)", self.version));
        let archive = only_file(&staging.join("usr/src"), "xz")?;
        let mut tar = Command::new("tar");
        tar.arg("-xJf").arg(&archive).arg("-C").arg(&staging);
        tar.args(LEFT_OUT.map(|path| format!("--exclude={package}/{path}")));
        run_logged(&mut tar, &project.logs().join("unpack-source.log"))?;
        let tree = staging.join(package);
        ensure!(
            tree.join("Kbuild").is_file(),
            "{package} {} holds no kernel tree `{package}`: has Debian changed its package? Look at {}",
            self.version,
            archive.display()
        );
        // The last step, so that a folder of this name is a whole one.
        fs::rename(&tree, &self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        fs::remove_dir_all(&staging)?;
        progress.done();
        Ok(())
    }

    /// A file of the source as text.
    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        // Some of Linux's comments are in older encodings.
        let bytes = fs::read(&path).with_context(|| format!("Linux {} has no {file}", self.version))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn stamp_path(project: &Project, series: Series) -> PathBuf {
    project.cache().join(format!("{}.json", series.package()))
}

/// Where Linux sources come from: the release, its security updates, and backports to it and to the next release, which are
/// in the release's own archive even if the system does not use them.
fn lists(system: &[apt_sources::Source]) -> Result<Lists> {
    let release = apt_sources::of_release(system)?;
    let security = apt_sources::of_suite(system, apt_sources::SECURITY_SUITE).cloned();
    let backports = [apt_sources::BACKPORTS_SUITE, apt_sources::NEXT_BACKPORTS_SUITE].map(|suite| {
        apt_sources::of_suite(system, suite)
            .cloned()
            .unwrap_or_else(|| apt_sources::Source { suite: suite.to_owned(), ..release.clone() })
    });
    Ok(Lists {
        architectures: &["amd64"],
        required: release.clone(),
        optional: security.into_iter().chain(backports).collect(),
    })
}

/// The one file in `folder` with this extension.
fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .ok_or_else(|| anyhow!("{} holds no .{extension} file", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_come_from_the_releases_archive_and_are_the_first_to_be_left_out() {
        let text = "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm bookworm-updates\n\
            Components: main\nSigned-By: /k.gpg\n\n\
            Types: deb\nURIs: http://a.example/security\nSuites: bookworm-security\nComponents: main\n";
        let lists = lists(&apt_sources::parse_deb822(text)).unwrap();
        assert_eq!(lists.required.suite, "bookworm");
        let optional: Vec<_> = lists.optional.iter().map(|s| (s.uri.as_str(), s.suite.as_str())).collect();
        assert_eq!(
            optional,
            [
                ("http://a.example/security", "bookworm-security"),
                ("http://a.example/debian", "bookworm-backports"),
                ("http://a.example/debian", "trixie-backports"),
            ]
        );
        assert_eq!(lists.optional[1].trust, lists.required.trust, "signed by the same keys");
    }

    #[test]
    fn a_system_without_the_release_is_told_what_to_add() {
        let error = lists(&[]).err().expect("nothing to fetch from").to_string();
        assert!(error.contains("/etc/apt/sources.list"), "{error}");
    }
}
