//! A private apt: Debian's i386 packages, and its Linux sources, on an amd64 system that is left as it is.
//!
//! Everything lies in one folder of the cache: lists, status, configuration. The system's own apt is not set up
//! for i386 (`dpkg --add-architecture` would change what every later upgrade does), and the private one
//! installs nothing: it resolves versions, downloads and checks signatures; `dpkg-deb` unpacks.
//!
//! The main suite is required; others, security updates first among them, are taken along if their index is
//! sound. Such an index has been published with a hash that does not match, and then apt refuses to work with
//! any of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt_sources::{self, Source};
use crate::process::{output, run_logged};

/// Which package lists to fetch.
pub struct Lists {
    /// The architectures; the first is the build machine's.
    pub architectures: &'static [&'static str],
    /// The suite without which nothing works.
    pub required: Source,
    /// Suites that are left out, the last first, if their lists cannot be had.
    pub optional: Vec<Source>,
}

impl Lists {
    /// Those of a release, such as `bookworm`, and its security updates, from where this system has its own packages.
    ///
    /// # Errors
    /// When the system has no source for its own release.
    pub fn of_system(architectures: &'static [&'static str], release: &str) -> Result<Lists> {
        Lists::of_release(&apt_sources::read_system(Path::new("/etc/apt")), architectures, release)
    }

    /// Debian's releases are side by side in an archive, signed by keys that every one of them has.
    fn of_release(system: &[Source], architectures: &'static [&'static str], release: &str) -> Result<Lists> {
        let of = |source: &Source, suite: String| Source { suite, ..source.clone() };
        let security = apt_sources::of_suite(system, apt_sources::SECURITY_SUITE);
        Ok(Lists {
            architectures,
            required: of(apt_sources::of_release(system)?, release.to_owned()),
            optional: security.map(|source| of(source, format!("{release}-security"))).into_iter().collect(),
        })
    }
}

/// An apt configuration of our own, with its lists up to date.
pub struct PrivateApt {
    config: PathBuf,
    /// Which suites were left out and why, if any were.
    pub left_out: Option<String>,
    /// Those that were not, as deb822 stanzas.
    pub sources: String,
}

/// What apt records of the version of a package that it would take.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// Its version, epoch and revision included.
    pub version: String,
    /// The names in its `Depends` field, alternatives and version bounds cut off.
    pub depends: Vec<String>,
}

impl PrivateApt {
    /// Writes the configuration into `folder` and fetches the package lists.
    ///
    /// # Errors
    /// When the required suite's lists cannot be had.
    pub fn update(folder: &Path, lists: &Lists, logs: &Path) -> Result<PrivateApt> {
        let config = write_config(folder, lists.architectures)?;
        let mut apt = PrivateApt { config, left_out: None, sources: String::new() };
        for taken in (0..=lists.optional.len()).rev() {
            let (with, without) = lists.optional.split_at(taken);
            let sources: Vec<_> = std::iter::once(&lists.required).chain(with).collect();
            apt.sources = write_sources(folder, lists.architectures, &sources)?;
            match apt.fetch_lists(&logs.join(format!("apt-update-{taken}.log"))) {
                Ok(()) => break,
                Err(error) if taken == 0 => {
                    return Err(error.context(format!(
                        "the package lists of {} for {} could not be fetched",
                        lists.required.suite,
                        lists.architectures.join(" and ")
                    )));
                }
                Err(error) => {
                    let gone: Vec<_> =
                        with.last().into_iter().chain(without).map(|source| source.suite.as_str()).collect();
                    apt.left_out = Some(format!("{}: {}", gone.join(" and "), reason(&format!("{error:#}"))));
                }
            }
        }
        Ok(apt)
    }

    fn fetch_lists(&self, log: &Path) -> Result<()> {
        // Without this option apt-get calls a run in which lists failed a success.
        run_logged(self.command("apt-get").args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]), log)
    }

    /// What apt would take for `package`, such as `linux-image-686:i386`.
    pub fn candidate(&self, package: &str) -> Result<Package> {
        let text = output(self.command("apt-cache").args(["show", "--no-all-versions", package]))
            .with_context(|| format!("this system's Debian mirror offers no package {package}"))?;
        parse_package(&text).with_context(|| format!("apt's record of {package} has no version"))
    }

    /// Downloads `packages` (`name:arch` or `name:arch=version`) into `folder`, signatures checked.
    pub fn download(&self, packages: &[String], folder: &Path, log: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        run_logged(self.command("apt-get").current_dir(folder).args(["-q", "download"]).args(packages), log)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config).env("LC_ALL", "C");
        command
    }
}

/// Unpacks `package` under `root`: all of it, or only what fits the patterns `only`.
pub fn unpack(package: &Path, root: &Path, only: &[&str]) -> Result<()> {
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    if only.is_empty() {
        return output(Command::new("dpkg-deb").arg("-x").arg(package).arg(root)).map(drop);
    }
    // A pipe with a status of its own for each end, which `sh` cannot give.
    let mut unpacking = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let tar = unpacking.stdout.take().expect("piped");
    let status = Command::new("tar")
        .arg("-x")
        .arg("-C")
        .arg(root)
        .arg("--wildcards")
        .args(only)
        .stdin(tar)
        .status()?;
    let read = unpacking.wait()?;
    if !status.success() || !read.success() {
        bail!("{} cannot be unpacked: delete it and run `cargo xtask setup` again", package.display());
    }
    Ok(())
}

fn write_config(folder: &Path, architectures: &[&str]) -> Result<PathBuf> {
    for sub in ["sources", "state/lists/partial", "cache/archives/partial"] {
        let path = folder.join(sub);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    fs::write(folder.join("status"), "")?;
    let path = folder.join("apt.conf");
    fs::write(&path, config_text(folder, architectures))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Read after the system's configuration, so proxies and the like stay as the system has them.
fn config_text(folder: &Path, architectures: &[&str]) -> String {
    let folder = folder.display();
    let own = architectures.first().copied().unwrap_or_default();
    let architectures: String = architectures.iter().map(|arch| format!("\"{arch}\"; ")).collect();
    format!(
        r#"Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
APT::Architecture "{own}";
#clear APT::Architectures;
APT::Architectures {{ {architectures}}};
// The system's hooks are about the system's lists.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
// The cache may lie in a home folder that apt's own user may not enter.
APT::Sandbox::User "";
"#
    )
}

fn write_sources(folder: &Path, architectures: &[&str], sources: &[&Source]) -> Result<String> {
    let stanzas: Vec<_> = sources.iter().map(|source| source.stanza(architectures)).collect();
    let text = stanzas.join("\n");
    let path = folder.join("sources/debian.sources");
    fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(text)
}

/// The one line of apt's complaint that states what was wrong.
fn reason(complaint: &str) -> String {
    let line = complaint
        .lines()
        .map(str::trim)
        .find(|line| line.contains("unexpected size") || line.contains("Hash Sum mismatch"))
        .or_else(|| complaint.lines().map(str::trim).find(|line| line.starts_with("E:")));
    line.unwrap_or("apt-get update failed").to_owned()
}

fn parse_package(text: &str) -> Option<Package> {
    let first = text.split("\n\n").next()?;
    let field = |name: &str| first.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let depends = field("Depends").unwrap_or_default();
    let names = depends.split(',').filter_map(|one| one.split_whitespace().next());
    Some(Package { version: field("Version")?.trim().into(), depends: names.map(String::from).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_release_is_beside_the_systems_own() {
        let system = apt_sources::parse_one_line(
            "deb [signed-by=/k.gpg] http://a.example/debian bookworm main\n\
             deb [signed-by=/k.gpg] http://a.example/security bookworm-security main\n",
        );
        let suites = |release| {
            let lists = Lists::of_release(&system, &["amd64"], release).unwrap();
            let all: Vec<_> = std::iter::once(lists.required).chain(lists.optional).collect();
            assert!(all.iter().zip(&system).all(|(new, own)| new.uri == own.uri && new.trust == own.trust));
            all.into_iter().map(|source| source.suite).collect::<Vec<_>>()
        };
        assert_eq!(suites("bookworm"), ["bookworm", "bookworm-security"]);
        assert_eq!(suites("bullseye"), ["bullseye", "bullseye-security"]);
    }

    #[test]
    fn package_record() {
        let text = "Package: linux-headers-6.1.0-9-686\nArchitecture: i386\nVersion: 6.1.9-1\n\
            Depends: linux-headers-6.1.0-9-common (= 6.1.9-1), linux-kbuild-6.1 (>= 6.1.9-1), gcc | cc\n\
            Description: x\n\nPackage: older\nVersion: 1\n";
        let package = parse_package(text).unwrap();
        assert_eq!(package.version, "6.1.9-1");
        assert_eq!(package.depends, ["linux-headers-6.1.0-9-common", "linux-kbuild-6.1", "gcc"]);
        assert_eq!(parse_package("N: no such package\n"), None);
    }

    #[test]
    fn the_reason_is_the_line_about_the_hash() {
        let complaint = "`apt-get` failed. Its last lines:\n    Err:5 http://m.example i386 Packages\n    \
            File has unexpected size (346968 != 365336). Mirror sync in progress?\n    E: Some index files failed";
        assert_eq!(
            reason(complaint),
            "File has unexpected size (346968 != 365336). Mirror sync in progress?"
        );
        assert_eq!(reason("a\n  E: no network\nb"), "E: no network");
    }

    #[test]
    fn private_configuration_points_at_its_own_folder_only() {
        let text = config_text(Path::new("/c"), &["amd64", "i386"]);
        let paths: Vec<&str> =
            text.lines().filter(|l| l.starts_with("Dir::")).map(|l| l.split('"').nth(1).unwrap()).collect();
        assert_eq!(paths.len(), 7);
        assert!(paths.iter().all(|path| *path == "/dev/null" || path.starts_with("/c/")), "{paths:?}");
    }
}
