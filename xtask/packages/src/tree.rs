//! The files of each package, laid out below a folder as they lie below `/` where the package is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use linux_guest_builder::guest;
use linux_guest_builder::kernel::Recipe;
use linux_guest_builder::source::Series;
use xtask::module::ModuleSource;
use xtask::process::run_logged;
use xtask::programs::{self, Program, QUICK_RELEASE};
use xtask::project::Project;
use xtask::setup::Machine;
use xtask::toolchain::Target;

/// The packages' version, which is the workspace's.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const MODPROBE: &[u8] = include_bytes!("../files/modprobe.conf");
const STARTER: &[u8] = include_bytes!("../files/lguest-linux");
const STARTERS_PAGE: &[u8] = include_bytes!("../files/lguest-linux.1");

/// Where files of packages are laid out.
pub struct Tree<'a> {
    /// What they are built of.
    pub project: &'a Project,
    /// And by what.
    pub machine: &'a Machine,
    /// A folder below which each package has one of its own.
    pub folder: PathBuf,
}

impl Tree<'_> {
    /// The module's sources for DKMS, the Rust side as an object, and where parameters are set.
    pub fn module(&self) -> Result<()> {
        let package = "lguest-dkms";
        let sources = self.folder.join(package).join(format!("usr/src/lguest-{VERSION}"));
        ModuleSource::of(self.project).write_kernel_side(self.project, self.machine, &sources)?;
        // Of 4 MB, three quarters are for debuggers.
        let mut strip = Command::new("objcopy");
        strip.arg("--strip-debug").arg(sources.join("lg_rust.o_shipped"));
        run_logged(&mut strip, &self.project.logs().join("package-strip.log"))?;
        self.file(package, "etc/modprobe.d/lguest.conf", MODPROBE)
    }

    /// The programs for the host, their manual and completions.
    pub fn programs(&self) -> Result<()> {
        let package = "lguest";
        let launcher = programs::launcher(self.project, self.machine)?;
        let replay =
            Program { what: "replay", folder: "benches", target: Target::Program, options: &QUICK_RELEASE };
        let [replay] = replay.build(self.project, self.machine, ["replay"])?;
        self.program(package, "usr/bin/lguest", &read(&launcher)?)?;
        self.program(package, "usr/bin/replay", &read(&replay)?)?;
        for file in manual::files()? {
            self.file(package, &format!("usr/share/{}", file.path), &file.contents)?;
        }
        Ok(())
    }

    /// The Linux guest in both page-table formats, and what starts it. Returns what Debian calls the source of its kernel.
    pub fn linux_guest(&self) -> Result<String> {
        let package = "lguest-guest-linux";
        let mut source = String::new();
        for (name, pae) in [("linux", false), ("linux-pae", true)] {
            let linux = guest::prepare(self.project, self.machine, &Recipe::guest(Series::V6_1, pae))?;
            self.file(package, &format!("usr/lib/lguest/{name}"), &read(&linux.kernel.image)?)?;
            self.file(package, &format!("usr/lib/lguest/{name}.initrd"), &read(&linux.initrd)?)?;
            source = format!("linux (= {})", linux.kernel.version);
        }
        self.program(package, "usr/bin/lguest-linux", STARTER)?;
        self.file(package, "usr/share/man/man1/lguest-linux.1", STARTERS_PAGE)?;
        Ok(source)
    }

    fn file(&self, package: &str, path: &str, contents: &[u8]) -> Result<()> {
        let path = self.folder.join(package).join(path);
        let parent = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))
    }

    fn program(&self, package: &str, path: &str, contents: &[u8]) -> Result<()> {
        self.file(package, path, contents)?;
        let path = self.folder.join(package).join(path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
