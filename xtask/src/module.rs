//! Building the kernel module, `lg.ko`, for one or both flavours.
//!
//! The steps: cargo builds the crate in `kmod` as a static library; `module_link::prelink` makes one relocatable object
//! of it; the kernel's own build system links that with the C shim. The Rust object is the same for both
//! flavours, as the page format is chosen at run time; only the C side sees the kernel's headers.
//!
//! # What `kmod` must provide
//!
//! | file | what it is |
//! | --- | --- |
//! | `Cargo.toml` | package `lgmod`, `crate-type = ["staticlib"]`, `#![no_std]`, left out of the workspace (its only targets are kernels), with `lto = "fat"` and `panic = "abort"` in its profile, and its own `Cargo.lock` |
//! | `*.c`, `*.h`, `*.S` | the C side; all of them are copied beside the Rust object, subfolders are not |
//! | `Kbuild` | `obj-m := lg.o` and `lg-y := … lg_rust.o`: the C and assembly objects, and the Rust object, which is copied from `lg_rust.o_shipped` |
//!
//! # The border between C and Rust
//!
//! - Every function that C calls is `#[unsafe(no_mangle)] extern "C"` and its name begins with `lg_rust_`.
//!   These are found by name: each is kept and stays visible to C, all else becomes local or goes.
//! - Every function that crosses the border, in either direction, is declared `asmlinkage` in `lg_shim.h`: the kernel
//!   is compiled with `-mregparm=3`, Rust is not. Only integers and pointers are passed or returned. What Rust declares
//!   or defines otherwise is refused (`module_link::interface`).
//! - Numbers that both sides must know are Rust's: words of the section `.lg_shared`, each of which becomes a
//!   `#define` of `lg_shared.h`.
//! - The C side defines `lg_shim_memcpy`, `lg_shim_memmove`, `lg_shim_memset` and `lg_shim_memcmp`
//!   (`asmlinkage`): calls that the Rust compiler makes to the C library's names are redirected there.
//! - Indirect calls go through the kernel's retpolines. There are no constructors: registries are `linkme`
//!   slices, which work as they are. The FPU is not used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::flavour::Flavour;
use crate::plugin::{self, Plugin};
use crate::process::{Progress, run_logged};
use crate::project::{Project, write_if_changed};
use crate::setup::Machine;
use crate::toolchain::Target;
use module_link::interface;
use module_link::prelink::{self, ENTRY_PREFIX, Library};

/// Names that the Rust compiler itself calls, which the kernel has in another calling convention.
const MEMORY_FUNCTIONS: [&str; 4] = ["memcpy", "memmove", "memset", "memcmp"];

/// What is built of a module's Rust.
struct RustSide {
    /// The prelinked object.
    object: Vec<u8>,
    /// The numbers that C has from it, as a header.
    header: String,
}

/// A module's sources; `kmod` is the one of the project.
#[derive(Debug, Clone)]
pub struct ModuleSource {
    folder: PathBuf,
    /// Where the results go, below the flavour's folder.
    results: &'static str,
    /// A feature of the crate that is on.
    feature: Option<&'static str>,
}

impl ModuleSource {
    /// The project's own module.
    pub fn of(project: &Project) -> ModuleSource {
        ModuleSource { folder: project.root().join("kmod"), results: "", feature: None }
    }

    /// The project's module with plug-ins from outside, if there are any.
    pub fn with_plugins(project: &Project, plugins: &[Plugin]) -> Result<ModuleSource> {
        match plugins {
            [] => Ok(ModuleSource::of(project)),
            _ => Ok(ModuleSource {
                folder: plugin::module_with(project, plugins)?,
                results: "with-plugins",
                feature: None,
            }),
        }
    }

    /// The project's own module with a fault in it, a feature of the crate's.
    pub fn planted(project: &Project, feature: &'static str) -> ModuleSource {
        ModuleSource { results: feature, feature: Some(feature), ..ModuleSource::of(project) }
    }

    /// Writes into `folder` all that a kernel's own build system makes the module of: the C side, and the Rust side as one
    /// object, which is the same for every kernel.
    pub fn write_kernel_side(&self, project: &Project, machine: &Machine, folder: &Path) -> Result<()> {
        let rust = self.build_rust(project, machine)?;
        self.write_sources(folder, &rust)
    }

    /// Builds for `flavours`; returns where each `lg.ko` is, in the same order.
    pub fn build(&self, project: &Project, machine: &Machine, flavours: &[Flavour]) -> Result<Vec<PathBuf>> {
        let rust = self.build_rust(project, machine)?;
        flavours.iter().map(|flavour| self.build_flavour(project, machine, *flavour, &rust)).collect()
    }

    /// Builds for a kernel that is none of Debian's, against the tree in `headers`; `name` distinguishes its results.
    pub fn build_against(
        &self,
        project: &Project,
        machine: &Machine,
        name: &str,
        headers: &Path,
    ) -> Result<PathBuf> {
        let rust = self.build_rust(project, machine)?;
        let out = project.out().join(name).join(self.results);
        self.build_kernel_side(project, name, headers, &out, &rust)
    }

    fn build_rust(&self, project: &Project, machine: &Machine) -> Result<RustSide> {
        if !self.folder.join("Cargo.toml").exists() {
            bail!("{} holds no crate; is this a whole work tree?", self.folder.display());
        }
        interface::check(&self.folder)?;
        let _lock = project.lock_build()?;
        let progress = Progress::start("kernel module, Rust side");
        run_logged(
            machine
                .toolchain
                .cargo("build", &self.folder, Target::Kernel)
                .arg("--release")
                .args(self.feature.map(|feature| format!("--features={feature}"))),
            &project.logs().join("module-cargo.log"),
        )?;
        let library = machine.toolchain.results(Target::Kernel).join("liblgmod.a");
        let rust = prelink(&library, &project.out().join("prelink"), &project.logs())?;
        progress.done();
        Ok(rust)
    }

    fn build_flavour(
        &self,
        project: &Project,
        machine: &Machine,
        flavour: Flavour,
        rust: &RustSide,
    ) -> Result<PathBuf> {
        let out = project.out_for(flavour).join(self.results);
        self.build_kernel_side(project, flavour.name(), &machine.kernels.headers(flavour), &out, rust)
    }

    fn write_sources(&self, folder: &Path, rust: &RustSide) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        copy_sources(&self.folder, folder)?;
        write_if_changed(&folder.join("lg_shared.h"), rust.header.as_bytes())?;
        write_if_changed(&folder.join("lg_rust.o_shipped"), &rust.object)
    }

    /// What the kernel's own build system does, for the kernel called `name`; leaves all in `out`.
    fn build_kernel_side(
        &self,
        project: &Project,
        name: &str,
        headers: &Path,
        out: &Path,
        rust: &RustSide,
    ) -> Result<PathBuf> {
        let _lock = project.lock_build()?;
        let progress = Progress::start(format!("kernel module for {name}"));
        let build = out.join("kbuild");
        self.write_sources(&build, rust)?;

        let log = project.logs().join(format!("module-kbuild-{name}.log"));
        let mut make = Command::new("make");
        make.arg("-C").arg(headers).arg(format!("M={}", build.display()));
        make.args(["ARCH=i386", "modules"]);
        if let Some(feature) = self.feature {
            make.arg(format!("KCFLAGS=-D{}", feature.to_uppercase().replace('-', "_")));
        }
        // Options of a `make` further up are not for this one.
        make.env_remove("MAKEFLAGS").env_remove("MFLAGS");
        run_logged(&mut make, &log)?;
        refuse_warnings(&log)?;

        let module = out.join("lg.ko");
        run_logged(
            Command::new("objcopy").arg("--strip-debug").arg(build.join("lg.ko")).arg(&module),
            &project.logs().join(format!("module-strip-{name}.log")),
        )?;
        progress.done();
        Ok(module)
    }
}

/// Makes one relocatable object of `library`; leaves script and object in `folder`.
fn prelink(library: &Path, folder: &Path, logs: &Path) -> Result<RustSide> {
    let archive = fs::read(library).with_context(|| {
        format!("cargo left no {}: is the package called `lgmod`, a staticlib?", library.display())
    })?;
    let contents = Library::inspect(&archive).with_context(|| library.display().to_string())?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let script = folder.join("prelink.lds");
    write_if_changed(&script, contents.script().as_bytes())?;

    let (linked, object) = (folder.join("linked.o"), folder.join("lg_rust.o"));
    let mut ld = Command::new("ld");
    ld.args(["-m", "elf_i386", "-r", "--gc-sections"]);
    for entry in &contents.entry_points {
        ld.args(["-u", entry]);
    }
    ld.arg("-T").arg(&script).arg("-o").arg(&linked).arg(library);
    run_logged(&mut ld, &logs.join("module-prelink.log"))?;

    let mut objcopy = Command::new("objcopy");
    for name in MEMORY_FUNCTIONS {
        objcopy.arg(format!("--redefine-sym={name}=lg_shim_{name}"));
    }
    objcopy.arg("--wildcard").arg(format!("--keep-global-symbol={ENTRY_PREFIX}*")).arg(&linked).arg(&object);
    run_logged(&mut objcopy, &logs.join("module-objcopy.log"))?;

    let bytes = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    prelink::check_relocations(&bytes).with_context(|| object.display().to_string())?;
    Ok(RustSide { object: bytes, header: interface::header(&contents.numbers) })
}

/// Copies the C side into the build folder, touching only what has changed.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let mut kbuild = false;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        let source = path.extension().is_some_and(|ext| ext == "c" || ext == "h" || ext == "S");
        if source || name == "Kbuild" {
            kbuild |= name == "Kbuild";
            let contents = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            write_if_changed(&to.join(name), &contents)?;
        }
    }
    if !kbuild {
        bail!("{} has no Kbuild file, which names the module's objects", from.display());
    }
    Ok(())
}

/// What compiler and modpost warn of is an error here: in the kernel, warnings come true.
fn refuse_warnings(log: &Path) -> Result<()> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let warnings: Vec<&str> = text.lines().filter(|line| is_warning(line)).collect();
    if !warnings.is_empty() {
        bail!(
            "the kernel's build system warns:\n    {}\nAll of it: {}",
            warnings.join("\n    "),
            log.display()
        );
    }
    Ok(())
}

fn is_warning(line: &str) -> bool {
    line.contains("warning: ") || line.starts_with("WARNING: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_of_compiler_and_modpost_are_told_from_the_rest() {
        assert!(is_warning("shim.c:3:5: warning: unused variable 'x' [-Wunused-variable]"));
        assert!(is_warning("WARNING: modpost: missing MODULE_LICENSE() in lg.o"));
        assert!(!is_warning("  CC [M]  lg_warning.o"));
        assert!(!is_warning("Skipping BTF generation for lg.ko due to unavailability of vmlinux"));
    }

    #[test]
    fn sources_are_copied_once_and_only_sources() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["Kbuild", "shim.c", "shim.h", "entry.S", "Cargo.toml", "README.md"] {
            fs::write(from.path().join(name), name).unwrap();
        }
        copy_sources(from.path(), to.path()).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&to).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["Kbuild", "entry.S", "shim.c", "shim.h"]);

        let modified = || fs::metadata(to.path().join("shim.c")).unwrap().modified().unwrap();
        let before = modified();
        copy_sources(from.path(), to.path()).unwrap();
        assert_eq!(modified(), before, "an unchanged file is not written again, or make would compile it");
    }

    #[test]
    fn a_folder_without_kbuild_is_refused() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(copy_sources(from.path(), to.path()).unwrap_err().to_string().contains("no Kbuild"));
    }
}
