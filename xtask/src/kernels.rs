//! Debian's i386 kernels, their headers and a static busybox: fetched once into the cache.
//!
//! Nothing is pinned: `linux-image-686` and its like name today's kernel, and everything else follows from
//! that one version: both flavours, their headers, the headers they share, and `linux-kbuild` for the build
//! machine, whose newest version may be another one.
//!
//! The headers of a flavour name those that they share by an absolute path of a real installation; that is
//! the one line which unpacking elsewhere has to fix.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::apt::{Lists, PrivateApt, unpack};
use crate::flavour::Flavour;
use crate::process::Progress;
use crate::project::Project;

/// Counts up when what is kept in the cache changes, so that an older cache is fetched anew.
const LAYOUT: u32 = 2;

/// What of a kernel's 300 MB is used: itself, and [`MODULES`].
const OF_THE_IMAGE: [&str; 4] = [
    "./boot",
    "./lib/modules/*/kernel/drivers/net/tun.ko",
    "./lib/modules/*/kernel/drivers/block/zram/zram.ko",
    "./lib/modules/*/kernel/mm/zsmalloc.ko",
];

/// The modules that the host VM has beside the project's own: what connects a guest's network card, and memory to swap to.
const MODULES: [&str; 3] = ["drivers/net/tun.ko", "drivers/block/zram/zram.ko", "mm/zsmalloc.ko"];

/// The unpacked packages in the cache; also the stamp that marks them as whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kernels {
    layout: u32,
    root: PathBuf,
    /// The kernel's release without its flavour, such as `6.1.0-50`.
    pub release: String,
    /// The version of the packages, such as `6.1.176-1`.
    pub version: String,
}

impl Kernels {
    /// What the cache holds, if it holds all of it.
    pub fn cached(project: &Project) -> Option<Kernels> {
        let stamp = fs::read(stamp_path(project)).ok()?;
        let kernels: Kernels = serde_json::from_slice(&stamp).ok()?;
        let whole = kernels.layout == LAYOUT
            && kernels.root.starts_with(project.cache())
            && kernels.busybox().is_file()
            && Flavour::ALL.into_iter().all(|flavour| {
                kernels.vmlinuz(flavour).is_file()
                    && kernels.modules(flavour).all(|file| file.is_file())
                    && kernels.headers(flavour).is_dir()
            });
        whole.then_some(kernels)
    }

    /// Fetches all packages and unpacks them into the cache; the caller holds its lock.
    pub fn fetch(project: &Project) -> Result<Kernels> {
        let progress = Progress::start("package lists of Debian's i386 architecture");
        let lists = Lists::of_system(&["amd64", "i386"])?;
        let apt = PrivateApt::update(&project.cache().join("apt"), &lists, &project.logs())?;
        progress.done();
        if let Some(why) = &apt.left_out {
            eprintln!("  left out, the main suite is enough: {why}");
        }

        let (release, version) = newest(&apt)?;
        let progress = Progress::start(format!("kernels and headers {release} ({version}), busybox"));
        let debs = project.cache().join("debs");
        let root = project.cache().join(format!("linux-{version}"));
        let staging = project.cache().join("unpacking");
        for leftover in [&debs, &root, &staging] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)
                    .with_context(|| format!("cannot remove {}", leftover.display()))?;
            }
        }
        apt.download(&packages(&release, &version), &debs, &project.logs().join("apt-download.log"))?;
        for entry in fs::read_dir(&debs)? {
            let deb = entry?.path();
            let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let only: &[&str] = if name.starts_with("linux-image-") { &OF_THE_IMAGE } else { &[] };
            unpack(&deb, &staging, only)?;
        }
        fs::rename(&staging, &root).with_context(|| format!("cannot make {}", root.display()))?;
        fs::remove_dir_all(&debs)?;

        let kernels = Kernels { layout: LAYOUT, root, release, version };
        for flavour in Flavour::ALL {
            kernels.mend_include(flavour)?;
        }
        fs::write(stamp_path(project), serde_json::to_vec_pretty(&kernels)?)?;
        progress.done();
        Kernels::cached(project).ok_or_else(|| {
            anyhow!(
                "the packages do not hold what they should under {}: \
                 has Debian moved its files? Look there, then run `cargo xtask setup --refresh`",
                kernels.root.display()
            )
        })
    }

    /// The kernel image that QEMU boots.
    pub fn vmlinuz(&self, flavour: Flavour) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}-{flavour}", self.release))
    }

    /// The folder that `make -C` expects, to build a module for `flavour`.
    pub fn headers(&self, flavour: Flavour) -> PathBuf {
        self.root.join(format!("usr/src/linux-headers-{}-{flavour}", self.release))
    }

    /// Modules of what Debian's kernel has not built in.
    pub fn modules(&self, flavour: Flavour) -> impl Iterator<Item = PathBuf> {
        let folder = self.root.join(format!("lib/modules/{}-{flavour}/kernel", self.release));
        MODULES.into_iter().map(move |module| folder.join(module))
    }

    /// A static i386 busybox.
    pub fn busybox(&self) -> PathBuf {
        self.root.join("bin/busybox")
    }

    fn mend_include(&self, flavour: Flavour) -> Result<()> {
        let path = self.headers(flavour).join("Makefile");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mended = mend(&text, &self.root)
            .ok_or_else(|| anyhow!("{} includes nothing under /usr/src, as it used to", path.display()))?;
        fs::write(&path, mended).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn stamp_path(project: &Project) -> PathBuf {
    project.cache().join("kernels.json")
}

/// Makes the first absolute include point below `root`.
fn mend(makefile: &str, root: &Path) -> Option<String> {
    let absolute = "include /usr/src/";
    makefile
        .contains(absolute)
        .then(|| makefile.replacen(absolute, &format!("include {}/usr/src/", root.display()), 1))
}

/// Release and version of the kernel that the meta packages name; both flavours must name the same.
fn newest(apt: &PrivateApt) -> Result<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for flavour in Flavour::ALL {
        let meta = apt.candidate(&format!("linux-image-{flavour}:i386"))?;
        let release = release_of(&meta.depends, flavour).ok_or_else(|| {
            anyhow!("linux-image-{flavour} depends on no kernel image, but on {:?}", meta.depends)
        })?;
        // The meta package may carry a version of its own.
        let version = apt.candidate(&format!("linux-headers-{release}-{flavour}:i386"))?.version;
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

fn release_of(depends: &[String], flavour: Flavour) -> Option<String> {
    depends.iter().find_map(|name| {
        let release = name.strip_prefix("linux-image-")?.strip_suffix(&format!("-{flavour}"))?;
        Some(release.to_owned())
    })
}

/// What to download: everything at one version.
fn packages(release: &str, version: &str) -> Vec<String> {
    let mut all = vec![
        format!("linux-headers-{release}-common={version}"),
        format!("linux-kbuild-6.1:amd64={version}"),
        "busybox-static:i386".to_owned(),
    ];
    for flavour in Flavour::ALL {
        all.push(format!("linux-image-{release}-{flavour}:i386={version}"));
        all.push(format!("linux-headers-{release}-{flavour}:i386={version}"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_comes_from_the_meta_package() {
        let depends = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let plain = depends(&["linux-image-6.1.0-7-686"]);
        assert_eq!(release_of(&plain, Flavour::Plain).as_deref(), Some("6.1.0-7"));
        assert_eq!(release_of(&plain, Flavour::Pae), None);
        let pae = depends(&["initramfs-tools", "linux-image-6.1.0-7-686-pae"]);
        assert_eq!(release_of(&pae, Flavour::Pae).as_deref(), Some("6.1.0-7"));
    }

    #[test]
    fn all_kernel_packages_are_of_one_version() {
        let all = packages("6.1.0-7", "6.1.99-1");
        assert_eq!(all.len(), 7);
        assert!(all.iter().filter(|p| p.contains("linux")).all(|p| p.ends_with("=6.1.99-1")), "{all:?}");
        assert!(all.contains(&"linux-image-6.1.0-7-686-pae:i386=6.1.99-1".to_owned()));
    }

    #[test]
    fn the_include_points_into_the_cache() {
        let text = "include /usr/src/linux-headers-6.1.0-7-common/Makefile\n";
        assert_eq!(
            mend(text, Path::new("/c/x")).as_deref(),
            Some("include /c/x/usr/src/linux-headers-6.1.0-7-common/Makefile\n")
        );
        assert_eq!(mend("include ../other/Makefile\n", Path::new("/c")), None);
    }
}
