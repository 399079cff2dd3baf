//! Debian's i386 kernels, their headers and a static busybox: fetched once into the cache, line by line; or built of its source
//! by another program, one by one.
//!
//! Nothing is pinned: `linux-image-686` and its like name today's kernel, and everything else follows from
//! that one version: all flavours of the line, their headers, the headers they share, and `linux-kbuild` for the build
//! machine, whose newest version may be another one.
//!
//! The headers of a flavour name those that they share by an absolute path of a real installation, which unpacking
//! elsewhere has to fix; and those of another release name a compiler that this system does not have.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::apt::{Lists, PrivateApt, unpack};
use crate::flavour::Flavour;
use crate::hosts::Host;
use crate::line::Line;
use crate::passed_on::Package;
use crate::process::{Progress, output};
use crate::project::Project;

/// Counts up when what is kept in the cache changes, so that an older cache is fetched anew.
const LAYOUT: u32 = 2;

/// What of a kernel's 300 MB is used: itself, and [`HOST_MODULES`].
const OF_THE_IMAGE: [&str; 4] = [
    "./boot",
    "./lib/modules/*/kernel/drivers/net/tun.ko",
    "./lib/modules/*/kernel/drivers/block/zram/zram.ko",
    "./lib/modules/*/kernel/mm/zsmalloc.ko",
];

/// The modules that the host VM has beside the project's own: what connects a guest's network card, and memory to swap to. By
/// the folders of Linux's source.
pub const HOST_MODULES: [&str; 3] = ["drivers/net/tun.ko", "drivers/block/zram/zram.ko", "mm/zsmalloc.ko"];

/// The unpacked packages in the cache; also the stamp that marks them as whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kernels {
    layout: u32,
    /// Which line they are of; Debian 12's own where nothing is recorded.
    #[serde(default)]
    line: Line,
    root: PathBuf,
    /// The kernel's release without its flavour, such as `6.1.0-50`.
    pub release: String,
    /// The version of the packages, such as `6.1.176-1`.
    pub version: String,
}

/// A kernel that another program has built for a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuiltKernel {
    /// The version of its source package.
    pub version: String,
    /// What QEMU boots.
    pub image: PathBuf,
    /// What `make -C` expects, to build a module for it.
    pub headers: PathBuf,
    /// [`HOST_MODULES`], in their order.
    pub modules: Vec<PathBuf>,
}

impl Kernels {
    /// What the cache holds of a line, if it holds all of it.
    pub fn cached(project: &Project, line: Line) -> Option<Kernels> {
        let stamp = fs::read(stamp_path(project, line)).ok()?;
        let kernels: Kernels = serde_json::from_slice(&stamp).ok()?;
        let whole = kernels.layout == LAYOUT
            && kernels.line == line
            && kernels.root.starts_with(project.cache())
            && kernels.busybox().is_file()
            && line.flavours().iter().all(|&flavour| {
                kernels.vmlinuz(flavour).is_file()
                    && kernels.modules(flavour).all(|file| file.is_file())
                    && kernels.headers(flavour).is_dir()
            });
        whole.then_some(kernels)
    }

    /// The kernel of a host, with this one's busybox, and others of its line where those are packages: what the cache holds, or
    /// else what Debian has today, or what is built of it.
    ///
    /// # Errors
    /// When its packages cannot be had, or it does not build.
    pub fn of_host(&self, project: &Project, host: &Host) -> Result<Kernels> {
        let line = host.line;
        if line == self.line {
            return Ok(self.clone());
        }
        if let Some(source) = line.source() {
            return self.built(project, host, source);
        }
        let _lock = project.lock_cache()?;
        if let Some(kernels) = Kernels::cached(project, line) {
            return Ok(kernels);
        }
        Kernels::fetch(project, line, Some(&self.busybox()))
    }

    /// A kernel that is built of Debian's source, laid out as its packages would be.
    fn built(&self, project: &Project, host: &Host, source: &str) -> Result<Kernels> {
        let mut command = Package::LinuxGuestBuilder.command(project, "host-kernel");
        command.args(["--source", source]).args((host.flavour == Flavour::Pae).then_some("--pae"));
        // Its progress is shown as it comes.
        let built = output(command.stderr(Stdio::inherit()))?;
        let built: BuiltKernel =
            serde_json::from_str(&built).context("the builder of kernels printed no kernel")?;
        let _lock = project.lock_cache()?;
        let root = project.cache().join(format!("linux-{}-{}", built.version, host.name));
        Kernels::laid_out(root, host, source, built, &self.busybox())
    }

    fn laid_out(
        root: PathBuf,
        host: &Host,
        source: &str,
        built: BuiltKernel,
        busybox: &Path,
    ) -> Result<Kernels> {
        let (line, release, version) = (host.line, source.to_owned(), built.version);
        let kernels = Kernels { layout: LAYOUT, line, root, release, version };
        link(&kernels.vmlinuz(host.flavour), &built.image)?;
        link(&kernels.headers(host.flavour), &built.headers)?;
        link(&kernels.busybox(), busybox)?;
        for (module, built) in kernels.modules(host.flavour).zip(&built.modules) {
            link(&module, built)?;
        }
        Ok(kernels)
    }

    /// Fetches all packages of a line, and busybox if there is none, and unpacks them into the cache; the caller holds its
    /// lock.
    ///
    /// # Errors
    /// When the packages cannot be had, neither with the security updates nor without.
    pub fn fetch(project: &Project, line: Line, busybox: Option<&Path>) -> Result<Kernels> {
        let lists = Lists::of_system(&["amd64", "i386"], line.suite())?;
        match Kernels::fetch_from(project, line, busybox, &lists) {
            // An old release's updates have been seen in the lists of an archive that had none of the packages.
            Err(error) if !lists.optional.is_empty() => {
                eprintln!("  once more without the security updates: {error:#}");
                Kernels::fetch_from(project, line, busybox, &Lists { optional: Vec::new(), ..lists })
            }
            result => result,
        }
    }

    fn fetch_from(project: &Project, line: Line, busybox: Option<&Path>, lists: &Lists) -> Result<Kernels> {
        let progress = Progress::start("package lists of Debian's i386 architecture");
        let apt_folder = project.cache().join(format!("apt{}", line.suffix()));
        let apt = PrivateApt::update(&apt_folder, lists, &project.logs())?;
        progress.done();
        if let Some(why) = &apt.left_out {
            eprintln!("  left out, the main suite is enough: {why}");
        }

        let (release, version) = newest(&apt, line)?;
        let progress = Progress::start(format!("kernels and headers {release} ({version})"));
        let debs = project.cache().join("debs");
        let root = project.cache().join(format!("linux-{version}{}", line.suffix()));
        let staging = project.cache().join("unpacking");
        for leftover in [&debs, &root, &staging] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)
                    .with_context(|| format!("cannot remove {}", leftover.display()))?;
            }
        }
        let mut wanted = packages(line, &release, &version);
        if busybox.is_none() {
            wanted.push("busybox-static:i386".to_owned());
        }
        apt.download(&wanted, &debs, &project.logs().join("apt-download.log"))?;
        for entry in fs::read_dir(&debs)? {
            let deb = entry?.path();
            let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let only: &[&str] = if name.starts_with("linux-image-") { &OF_THE_IMAGE } else { &[] };
            unpack(&deb, &staging, only)?;
        }
        if let Some(busybox) = busybox {
            fs::create_dir_all(staging.join("bin"))?;
            fs::copy(busybox, staging.join("bin/busybox"))
                .with_context(|| format!("cannot copy {}", busybox.display()))?;
        }
        fs::rename(&staging, &root).with_context(|| format!("cannot make {}", root.display()))?;
        fs::remove_dir_all(&debs)?;

        let kernels = Kernels { layout: LAYOUT, line, root, release, version };
        for &flavour in line.flavours() {
            kernels.fix_include(flavour)?;
            if !line.has_systems_compiler() {
                kernels.fix_compiler(flavour)?;
            }
        }
        fs::write(stamp_path(project, line), serde_json::to_vec_pretty(&kernels)?)?;
        progress.done();
        Kernels::cached(project, line).ok_or_else(|| {
            anyhow!(
                "the packages do not hold what they should under {}: \
                 has Debian moved its files? Look there, then run `cargo xtask setup --refresh`",
                kernels.root.display()
            )
        })
    }

    /// The kernel image that QEMU boots.
    pub fn vmlinuz(&self, flavour: Flavour) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.name(flavour)))
    }

    /// How Debian has configured a kernel that is a package.
    pub fn config(&self, flavour: Flavour) -> PathBuf {
        self.root.join(format!("boot/config-{}", self.name(flavour)))
    }

    /// The folder that `make -C` expects, to build a module for `flavour`.
    pub fn headers(&self, flavour: Flavour) -> PathBuf {
        self.root.join(format!("usr/src/linux-headers-{}", self.name(flavour)))
    }

    /// Modules of what Debian's kernel has not built in.
    pub fn modules(&self, flavour: Flavour) -> impl Iterator<Item = PathBuf> {
        let folder = self.root.join(format!("lib/modules/{}/kernel", self.name(flavour)));
        HOST_MODULES.into_iter().map(move |module| folder.join(module))
    }

    /// A static i386 busybox.
    pub fn busybox(&self) -> PathBuf {
        self.root.join("bin/busybox")
    }

    /// What a kernel calls itself, such as `6.1.0-50-686`.
    fn name(&self, flavour: Flavour) -> String {
        format!("{}-{}", self.release, self.line.kernel(flavour))
    }

    /// Headers of another release name a compiler that this system does not have.
    fn fix_compiler(&self, flavour: Flavour) -> Result<()> {
        let path = self.headers(flavour).join(".kernelvariables");
        rewrite(&path, "names no compiler gcc-N", without_compilers_version)
    }

    fn fix_include(&self, flavour: Flavour) -> Result<()> {
        let path = self.headers(flavour).join("Makefile");
        rewrite(&path, "includes nothing under /usr/src", |text| with_include_below(text, &self.root))
    }
}

/// Puts what `change` makes of a file's text in its place; where it makes nothing of it, the file is not what it used to be.
fn rewrite(path: &Path, otherwise: &str, change: impl FnOnce(&str) -> Option<String>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let changed = change(&text).ok_or_else(|| anyhow!("{} {otherwise}, as it used to", path.display()))?;
    fs::write(path, changed).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the path `link` lead to `target`.
fn link(link: &Path, target: &Path) -> Result<()> {
    let context = || format!("cannot make {}", link.display());
    fs::create_dir_all(link.parent().unwrap_or(link)).with_context(context)?;
    if link.is_symlink() {
        fs::remove_file(link).with_context(context)?;
    }
    symlink(target, link).with_context(context)
}

fn stamp_path(project: &Project, line: Line) -> PathBuf {
    project.cache().join(format!("kernels{}.json", line.suffix()))
}

/// Makes the compiler of a fixed version the system's own.
fn without_compilers_version(variables: &str) -> Option<String> {
    let (before, after) = variables.split_once("$(CROSS_COMPILE)gcc-")?;
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    Some(format!("{before}$(CROSS_COMPILE)gcc{after}"))
}

/// Makes the first absolute include point below `root`.
fn with_include_below(makefile: &str, root: &Path) -> Option<String> {
    let absolute = "include /usr/src/";
    makefile
        .contains(absolute)
        .then(|| makefile.replacen(absolute, &format!("include {}/usr/src/", root.display()), 1))
}

/// Release and version of the kernel that the meta packages name; all flavours must name the same.
fn newest(apt: &PrivateApt, line: Line) -> Result<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for &flavour in line.flavours() {
        let kernel = line.kernel(flavour);
        let meta = apt.candidate(&format!("linux-image-{kernel}:i386"))?;
        let release = release_of(&meta.depends, &kernel).ok_or_else(|| {
            anyhow!("linux-image-{kernel} depends on no kernel image, but on {:?}", meta.depends)
        })?;
        // The meta package may carry a version of its own.
        let version = apt.candidate(&format!("linux-headers-{release}-{kernel}:i386"))?.version;
        found.push((release, version));
    }
    if found.windows(2).any(|pair| pair[0] != pair[1]) {
        bail!(
            "Debian's two i386 flavours are at different versions today: {found:?}; \
             this passes in hours, when the mirror is in step again"
        );
    }
    Ok(found.swap_remove(0))
}

fn release_of(depends: &[String], kernel: &str) -> Option<String> {
    depends.iter().find_map(|name| {
        let release = name.strip_prefix("linux-image-")?.strip_suffix(&format!("-{kernel}"))?;
        Some(release.to_owned())
    })
}

/// What to download: everything at one version.
fn packages(line: Line, release: &str, version: &str) -> Vec<String> {
    let common = ["common"].into_iter().chain(line.featureset()).collect::<Vec<_>>().join("-");
    let series = release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let mut all = vec![
        format!("linux-headers-{release}-{common}={version}"),
        format!("linux-kbuild-{series}:amd64={version}"),
    ];
    for &flavour in line.flavours() {
        let kernel = line.kernel(flavour);
        all.push(format!("linux-image-{release}-{kernel}:i386={version}"));
        all.push(format!("linux-headers-{release}-{kernel}:i386={version}"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_was_built_is_found_where_those_of_packages_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, name).unwrap();
            path
        };
        let root = folder.path().join("root");
        let host = Host { name: "6.12-686-pae", line: Line::Source612, flavour: Flavour::Pae };
        let lay_out = |image: &str| {
            let built = BuiltKernel {
                version: "6.12.9-1".to_owned(),
                image: file(image),
                headers: folder.path().to_owned(),
                modules: ["a.ko", "b.ko", "c.ko"].map(file).to_vec(),
            };
            Kernels::laid_out(root.clone(), &host, "6.12", built, &file("busybox")).unwrap()
        };
        lay_out("bzImage");
        // Another one takes its place.
        let kernels = lay_out("newer");
        let text = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(text(kernels.vmlinuz(Flavour::Pae)), "newer");
        assert_eq!(text(kernels.busybox()), "busybox");
        assert!(kernels.headers(Flavour::Pae).join("bzImage").is_file());
        let zram = root.join("lib/modules/6.12-686-pae/kernel/drivers/block/zram/zram.ko");
        assert_eq!(kernels.modules(Flavour::Pae).nth(1), Some(zram.clone()));
        assert_eq!(text(zram), "b.ko");
    }

    #[test]
    fn release_comes_from_the_meta_package() {
        let depends = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let plain = depends(&["linux-image-6.1.0-7-686"]);
        assert_eq!(release_of(&plain, "686").as_deref(), Some("6.1.0-7"));
        assert_eq!(release_of(&plain, "686-pae"), None);
        let pae = depends(&["initramfs-tools", "linux-image-6.1.0-7-686-pae"]);
        assert_eq!(release_of(&pae, "686-pae").as_deref(), Some("6.1.0-7"));
        let real_time = depends(&["linux-image-6.1.0-7-rt-686-pae"]);
        assert_eq!(release_of(&real_time, "rt-686-pae").as_deref(), Some("6.1.0-7"));
    }

    #[test]
    fn all_kernel_packages_are_of_one_version() {
        let all = packages(Line::Bookworm, "6.1.0-7", "6.1.99-1");
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|p| p.ends_with("=6.1.99-1")), "{all:?}");
        assert!(all.contains(&"linux-image-6.1.0-7-686-pae:i386=6.1.99-1".to_owned()));
        assert!(all.contains(&"linux-kbuild-6.1:amd64=6.1.99-1".to_owned()));
    }

    #[test]
    fn other_lines_have_headers_and_build_tools_of_their_own() {
        assert_eq!(
            packages(Line::RealTime, "6.1.0-7", "6.1.99-1"),
            [
                "linux-headers-6.1.0-7-common-rt=6.1.99-1",
                "linux-kbuild-6.1:amd64=6.1.99-1",
                "linux-image-6.1.0-7-rt-686-pae:i386=6.1.99-1",
                "linux-headers-6.1.0-7-rt-686-pae:i386=6.1.99-1",
            ]
        );
        let bullseye = packages(Line::Bullseye, "5.10.0-32", "5.10.223-1");
        assert!(bullseye.contains(&"linux-kbuild-5.10:amd64=5.10.223-1".to_owned()), "{bullseye:?}");
    }

    #[test]
    fn the_compiler_becomes_the_systems() {
        let text = "CC = $(if $(CCACHE_ON),$(CCACHE)) $(CROSS_COMPILE)gcc-10\nifneq (a,b)\n";
        assert_eq!(
            without_compilers_version(text).as_deref(),
            Some("CC = $(if $(CCACHE_ON),$(CCACHE)) $(CROSS_COMPILE)gcc\nifneq (a,b)\n")
        );
        assert_eq!(without_compilers_version("CC = gcc\n"), None);
    }

    #[test]
    fn an_older_stamp_is_of_debian_12s_own_line() {
        let stamp = r#"{"layout":2,"root":"/c/linux-6.1.99-1","release":"6.1.0-7","version":"6.1.99-1"}"#;
        let kernels: Kernels = serde_json::from_str(stamp).unwrap();
        assert_eq!(kernels.line, Line::Bookworm);
        assert_eq!(
            kernels.vmlinuz(Flavour::Pae),
            Path::new("/c/linux-6.1.99-1/boot/vmlinuz-6.1.0-7-686-pae")
        );
    }

    #[test]
    fn the_include_points_into_the_cache() {
        let text = "include /usr/src/linux-headers-6.1.0-7-common/Makefile\n";
        assert_eq!(
            with_include_below(text, Path::new("/c/x")).as_deref(),
            Some("include /c/x/usr/src/linux-headers-6.1.0-7-common/Makefile\n")
        );
        assert_eq!(with_include_below("include ../other/Makefile\n", Path::new("/c")), None);
    }
}
