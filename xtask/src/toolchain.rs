//! Debian's Rust compiler, driven by rustup's cargo.
//!
//! Code for i386 is built together with `core`, `alloc` and, for programs, `std`, because no registry of
//! compiled libraries has them for our kernel target. Compiler and library sources must then be of exactly
//! the same version; Debian packages both. The compiler is a released one: `RUSTC_BOOTSTRAP` lets it accept
//! the unstable flags that building the libraries needs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{cargo, output};
use crate::project::Project;
use crate::system_packages::{RUST_SOURCE_PACKAGE, RUSTC_PACKAGE, installed_version};

/// The oldest compiler (major, minor) that knows the target specification's spelling.
pub const MINIMUM_RUSTC: (u32, u32) = (1, 90);

const RUSTC: &str = "/usr/bin/rustc";
const RUSTDOC: &str = "/usr/bin/rustdoc";
const CLIPPY_DRIVER: &str = "/usr/bin/clippy-driver";
const CORE_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/core/src/lib.rs";

/// The compiler and its sources, found to belong together.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// The version, such as `1.96.0`.
    pub version: String,
    cargo: PathBuf,
    out: PathBuf,
    specs: PathBuf,
    /// Compiler options by which no path of this machine is in what is built; a panic names its file from the work tree's root.
    remapped: [String; 2],
}

/// What a crate is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Inside Linux: no operating system below, no FPU.
    Kernel,
    /// A guest kernel of our own, linked by the target specification's linker.
    Guest,
    /// A 32-bit Linux program.
    Program,
}

impl Toolchain {
    /// Checks what is installed.
    ///
    /// # Errors
    /// When compiler or sources are missing, too old, or of different versions.
    pub fn detect(project: &Project) -> Result<Toolchain> {
        let again = "run `cargo xtask setup`";
        if !Path::new(RUSTC).exists() {
            bail!("{RUSTC} is missing: {again}, which installs Debian's {RUSTC_PACKAGE}");
        }
        let said = output(Command::new(RUSTC).arg("--version"))?;
        let version = said.split_whitespace().nth(1).unwrap_or_default().to_owned();
        match parse_version(&version) {
            Some((major, minor, _)) if (major, minor) >= MINIMUM_RUSTC => {}
            _ => bail!(
                "{RUSTC} is version {version}; {}.{} or newer is needed. bookworm-security has it: see that \
                 `apt-get update` has no errors (a broken i386 index there hides the amd64 packages too; \
                 `Architectures: amd64` on that source helps), then `apt-get install {RUSTC_PACKAGE} \
                 {RUST_SOURCE_PACKAGE}`",
                MINIMUM_RUSTC.0,
                MINIMUM_RUSTC.1
            ),
        }
        let sources = installed_version(RUST_SOURCE_PACKAGE).unwrap_or_else(|| "missing".into());
        if parse_version(&sources) != parse_version(&version) || !Path::new(CORE_SOURCES).exists() {
            bail!(
                "{RUSTC} is version {version}, its library sources ({RUST_SOURCE_PACKAGE}) are {sources}; they \
                 must be the same: `apt-get install {RUSTC_PACKAGE} {RUST_SOURCE_PACKAGE}`"
            );
        }
        let specs = project.root().join("xtask/targets");
        let remapped = remapped(project.root(), &cargo_home());
        Ok(Toolchain { version, cargo: cargo(), out: project.out().join("rust"), specs, remapped })
    }

    /// `cargo SUBCOMMAND` with this compiler and the libraries built for `target`, run in `folder`.
    pub fn cargo(&self, subcommand: &str, folder: &Path, target: Target) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .arg(subcommand)
            .current_dir(folder)
            .env("RUSTC", RUSTC)
            .env("RUSTDOC", RUSTDOC)
            .env("RUSTC_BOOTSTRAP", "1")
            // A folder for each, so that builds for different targets do not wait for one another's locks.
            .env("CARGO_TARGET_DIR", self.out.join(target.name()))
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        // A configuration in the folder has options of its own, which the variable would put aside.
        if folder.join(".cargo/config.toml").is_file() {
            let options = self.remapped.each_ref().map(|option| format!("{option:?}")).join(", ");
            command.arg(format!("--config=target.{}.rustflags=[{options}]", target.name()));
        } else {
            command.env("RUSTFLAGS", format!("{} {}", self.remapped.join(" "), target.flags()));
        }
        match target {
            Target::Kernel | Target::Guest => command
                .arg("-Zbuild-std=core,alloc,compiler_builtins")
                .arg("-Zjson-target-spec")
                .arg("--target")
                .arg(self.specs.join(format!("{}.json", target.name()))),
            Target::Program => {
                command.arg("-Zbuild-std=std,panic_unwind,panic_abort").args(["--target", target.name()])
            }
        };
        command
    }

    /// As [`Toolchain::cargo`] with `check`, every warning of clippy an error. In release mode, so that the libraries
    /// that it compiles on the way are those of the builds.
    pub fn clippy(&self, folder: &Path, target: Target) -> Command {
        let mut command = self.cargo("check", folder, target);
        command
            .arg("--release")
            .env("RUSTC_WORKSPACE_WRAPPER", CLIPPY_DRIVER)
            .env("CLIPPY_ARGS", "-Dwarnings");
        command
    }

    /// Where cargo leaves what it has built in release mode for `target`.
    pub fn results(&self, target: Target) -> PathBuf {
        self.out.join(target.name()).join(target.name()).join("release")
    }
}

impl Target {
    /// The compiler's options, the same for all that is built for a target.
    fn flags(self) -> &'static str {
        match self {
            // Linux's own thunks, which it patches for the processor that it finds. No padding before loops: a Pentium III has
            // no long no-ops, so up to 15 of one byte would be executed on the way into each.
            Target::Kernel => "-Zretpoline-external-thunk -Cllvm-args=-align-loops=1",
            Target::Guest => "",
            Target::Program => "-Ctarget-feature=+crt-static -Cstrip=symbols",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Target::Kernel => "i686-lguest-kernel",
            Target::Guest => "i686-lguest-guest",
            Target::Program => "i586-unknown-linux-gnu",
        }
    }
}

/// Options that name the files of the work tree as they lie in it, and those of crates from a registry by the crate.
fn remapped(root: &Path, cargo_home: &Path) -> [String; 2] {
    [
        format!("--remap-path-prefix={}/=", root.display()),
        format!("--remap-path-prefix={}=crates", cargo_home.join("registry/src").display()),
    ]
}

/// Where cargo keeps the crates that it has fetched.
fn cargo_home() -> PathBuf {
    let set = |name| env::var_os(name).map(PathBuf::from);
    set("CARGO_HOME").or_else(|| set("HOME").map(|home| home.join(".cargo"))).unwrap_or_default()
}

/// The leading `major.minor.patch` of a version; what Debian appends is passed over.
pub fn parse_version(version: &str) -> Option<(u32, u32, u32)> {
    let numbers = version.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = numbers.splitn(4, '.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_compiler_and_package_compare() {
        assert_eq!(parse_version("1.96.0"), Some((1, 96, 0)));
        assert_eq!(parse_version("1.96.0+dfsg1-1~deb12u2"), Some((1, 96, 0)));
        assert_eq!(parse_version("1.85.1-nightly"), Some((1, 85, 1)));
        assert_eq!(parse_version("missing"), None);
        assert_eq!(parse_version("1.96"), None);
    }
}
