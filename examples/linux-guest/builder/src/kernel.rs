//! Building Linux: as a guest, or without the port to see what the same kernel does on the bare machine.
//!
//! A build takes minutes, so its results are kept in the cache, under a key made of everything that goes into
//! it: the source's version, the port, the configuration, the compiler. The build folder is kept too, for the
//! next build to compile only what has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::audit::audit;
use super::config::Config;
use super::manifest::Manifest;
use super::overlay::{Port, lay};
use super::places::digest;
use super::source::{LinuxSource, Series};
use xtask::flavour::Flavour;
use xtask::kernels::HOST_MODULES;
use xtask::process::{Progress, output, run_logged, run_watched};
use xtask::project::{Project, write_if_changed};

/// About so many objects a kernel of our configuration has. A guess for the first progress bar; every build
/// leaves its own number for the next.
const OBJECTS: u64 = 900;

/// Which of Debian's modules a host has: [`HOST_MODULES`], and KVM's, which are not built, but by which the kernel gets the
/// memory notifier and the functions for a guest's FPU.
const KEPT_OF_DEBIANS_MODULES: [&str; 6] = ["KVM", "KVM_AMD", "KVM_INTEL", "TUN", "ZRAM", "ZSMALLOC"];

/// What to build.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Which Linux.
    pub series: Series,
    /// With three-level page tables.
    pub pae: bool,
    /// More configuration fragments: names from `config`, such as `debug`, or paths.
    pub fragments: Vec<String>,
    /// Without the port, for the bare machine.
    pub bare: bool,
    /// A host of guests, for the bare machine: nothing of the guest's configuration is in it, and modules can be built
    /// against it. Implies [`Recipe::bare`].
    pub host: bool,
    /// Debian's configuration of a host, in this file, of which the fragments say what is left out.
    pub debian: Option<PathBuf>,
    /// Request today's source from Debian.
    pub refresh: bool,
}

impl Recipe {
    /// The ordinary guest kernel.
    pub fn guest(series: Series, pae: bool) -> Recipe {
        let (bare, host, debian, refresh) = (false, false, None, false);
        Recipe { series, pae, fragments: Vec::new(), bare, host, debian, refresh }
    }

    /// A host kernel with the configuration in the file `config`.
    pub fn host(series: Series, config: &Path) -> Recipe {
        let fragments = vec![config.display().to_string()];
        Recipe { fragments, bare: true, host: true, ..Recipe::guest(series, false) }
    }

    /// A host kernel as Debian configures its own of a flavour, in the file `config`, without what no host VM needs.
    pub fn debian_host(series: Series, flavour: Flavour, config: PathBuf) -> Recipe {
        let recipe = Recipe::guest(series, flavour == Flavour::Pae).with("debian-host");
        Recipe { bare: true, host: true, debian: Some(config), ..recipe }
    }

    /// This recipe with one fragment more.
    pub fn with(mut self, fragment: &str) -> Recipe {
        self.fragments.push(fragment.to_owned());
        self
    }

    /// A short name, such as `6.1-pae-debug`, which distinguishes build folders and logs.
    pub fn name(&self) -> String {
        let mut name = self.series.name().to_owned();
        if self.pae {
            name.push_str("-pae");
        }
        for fragment in &self.fragments {
            let stem = Path::new(fragment).file_stem().unwrap_or_default().to_string_lossy();
            name.push_str(&format!("-{stem}"));
        }
        if self.bare && !self.host {
            name.push_str("-bare");
        }
        name
    }

    /// The configuration's fragments, in the order in which they are laid over one another. One that is called
    /// as another with the series behind it, such as `base-6.12.config`, holds what only that series requires.
    fn config_files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let own = ["base"].into_iter().chain(self.pae.then_some("pae")).chain(self.bare.then_some("bare"));
        let own = own.filter(|_| !self.host);
        let mut files = Vec::new();
        for name in own.chain(self.fragments.iter().map(String::as_str)) {
            let (known, given) = (folder.join(format!("{name}.config")), PathBuf::from(name));
            if known.is_file() {
                files.push(known);
                let special = folder.join(format!("{name}-{}.config", self.series));
                files.extend(special.is_file().then_some(special));
            } else if given.is_file() {
                files.push(given);
            } else {
                bail!(
                    "there is no configuration fragment {name}, neither as a file nor in {}",
                    folder.display()
                );
            }
        }
        Ok(files)
    }
}

/// A kernel that has been built; also the stamp beside it that records so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinuxKernel {
    /// What is booted: an ELF file for a guest, a bzImage for the bare machine.
    pub image: PathBuf,
    /// Its modules.
    pub modules: Vec<PathBuf>,
    /// The source package's version.
    pub version: String,
    /// What the kernel calls itself, and the folder of its modules.
    pub release: String,
    /// What the image audit has seen, in a sentence; none for the bare machine.
    pub audit: Option<String>,
    /// Where modules for it are built, as `make -C` takes it; for a host only.
    pub headers: Option<PathBuf>,
}

impl LinuxKernel {
    /// The list of its symbols that its build has left.
    pub fn system_map(&self) -> PathBuf {
        self.image.with_file_name("System.map")
    }
}

/// The folder of the Linux guest in the work tree.
pub fn folder(project: &Project) -> PathBuf {
    project.root().join("examples/linux-guest")
}

/// The port's declarations.
pub fn manifest(project: &Project) -> Result<Manifest> {
    Manifest::read(&folder(project).join("replaced.toml"))
}

/// Builds what `recipe` describes, unless the cache has it.
///
/// # Errors
/// When the source cannot be had, a place that the port replaces has changed, the configuration was not taken,
/// Linux does not build, or the image holds what a guest cannot execute.
pub fn build(project: &Project, recipe: &Recipe) -> Result<LinuxKernel> {
    let _lock = project.lock_guest_kernels()?;
    let manifest = manifest(project)?;
    let source = LinuxSource::ensure(project, recipe.series, recipe.refresh)?;
    let files = recipe.config_files(&folder(project).join("config"))?;
    let wanted = Config::merged(files.iter().map(PathBuf::as_path))?;
    let config = match &recipe.debian {
        None => wanted.clone(),
        Some(debian) => {
            Config::merged([debian.as_path()])?.without_modules(&KEPT_OF_DEBIANS_MODULES).overlaid(&wanted)
        }
    };
    let port = if recipe.bare { Port::default() } else { Port::read(&folder(project).join("port"))? };

    let home = project.cache().join("guest-kernels");
    let key = key(recipe, &source, &config, &port, &manifest)?;
    let results = home.join(format!("{}-{key}", recipe.name()));
    if let Some(kernel) = cached(&results) {
        return Ok(kernel);
    }
    let build = Build { project, recipe, source: &source, wanted: &wanted, config: &config, home: &home };
    let tree = if recipe.bare {
        source.folder.clone()
    } else {
        manifest.check(recipe.series, &source)?;
        let tree = home.join(format!("tree-{}", recipe.series));
        lay(&source, &port, &manifest.makefile, &tree, &project.logs())?;
        tree
    };
    build.forget_after_new_headers(&port)?;
    build.configure(&tree)?;
    build.make(&tree)?;
    build.collect(&results, &manifest)?;
    cached(&results).with_context(|| format!("{} is not whole", results.display()))
}

/// The kernel in `results`, if it is whole.
fn cached(results: &Path) -> Option<LinuxKernel> {
    let stamp = fs::read(results.join("kernel.json")).ok()?;
    let kernel: LinuxKernel = serde_json::from_slice(&stamp).ok()?;
    let headers = kernel.headers.as_ref().is_none_or(|folder| folder.join("Module.symvers").is_file());
    (kernel.image.is_file() && kernel.modules.iter().all(|module| module.is_file()) && headers)
        .then_some(kernel)
}

/// Everything that goes into a build, in 16 digits.
fn key(
    recipe: &Recipe,
    source: &LinuxSource,
    config: &Config,
    port: &Port,
    manifest: &Manifest,
) -> Result<String> {
    let mut all = format!("{} {}\n", recipe.bare, source.version);
    all.push_str(&config.text());
    all.push_str(output(Command::new("gcc").arg("--version"))?.lines().next().unwrap_or_default());
    if !recipe.bare {
        // Its places and allowances too: their contents are checked in a build.
        all.push_str(&format!("{manifest:?}"));
        for (file, contents) in &port.0 {
            all.push_str(&format!("\n{} {}\n", file.display(), String::from_utf8_lossy(contents)));
        }
    }
    Ok(digest(&all))
}

/// A build on its way.
struct Build<'a> {
    project: &'a Project,
    recipe: &'a Recipe,
    source: &'a LinuxSource,
    /// What the configuration must have in the end.
    wanted: &'a Config,
    config: &'a Config,
    home: &'a Path,
}

impl Build<'_> {
    /// Where Linux's build system works; a file beside it has the same name and an extension.
    fn folder(&self) -> PathBuf {
        // The dot of the series would be taken for an extension's.
        self.home.join("build").join(self.recipe.name().replace('.', "_"))
    }

    fn log(&self, what: &str) -> PathBuf {
        self.project.logs().join(format!("linux-{}-{what}.log", self.recipe.name()))
    }

    fn make_command(&self, tree: &Path) -> Command {
        let mut make = Command::new("make");
        make.arg("-C").arg(tree).arg(format!("O={}", self.folder().display())).arg("ARCH=i386");
        // Options of a `make` further up are not for this one.
        make.env_remove("MAKEFLAGS").env_remove("MFLAGS").env("LC_ALL", "C");
        // The same bytes from the same sources, whoever builds them.
        make.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01").env("KBUILD_BUILD_VERSION", "1");
        make.env("KBUILD_BUILD_USER", "lguest").env("KBUILD_BUILD_HOST", "lguest");
        make
    }

    /// Throws the build folder away if the port's set of headers, or the source, is another one: see
    /// [`Port::headers`].
    fn forget_after_new_headers(&self, port: &Port) -> Result<()> {
        let folder = self.folder();
        fs::create_dir_all(self.home.join("build"))?;
        let now = format!("{}\n{:?}\n", self.source.version, port.headers());
        let stamp = folder.with_extension("headers");
        if folder.exists() && fs::read_to_string(&stamp).ok().as_deref() != Some(&now) {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        write_if_changed(&stamp, now.as_bytes())
    }

    fn configure(&self, tree: &Path) -> Result<()> {
        let folder = self.folder();
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let wanted = folder.with_extension("config");
        fs::write(&wanted, self.config.text())?;
        // Linux's build takes a new `.config` for a change even if its content is the same.
        let before = fs::read(folder.join(".config")).ok();
        let modified = fs::metadata(folder.join(".config")).and_then(|meta| meta.modified()).ok();
        // What the file does not name is off; where the file is Debian's for an older Linux, it is as Linux would have it.
        let others = if self.recipe.debian.is_some() { "alldefconfig" } else { "allnoconfig" };
        run_logged(
            self.make_command(tree).env("KCONFIG_ALLCONFIG", &wanted).arg(others),
            &self.log("config"),
        )?;
        if let (Some(before), Some(modified)) = (before, modified)
            && fs::read(folder.join(".config")).is_ok_and(|now| now == before)
        {
            fs::File::options().write(true).open(folder.join(".config"))?.set_modified(modified)?;
        }
        self.wanted.check_survived(&folder.join(".config"))
    }

    fn make(&self, tree: &Path) -> Result<()> {
        let known = self.folder().with_extension("objects");
        let expected = fs::read_to_string(&known).ok().and_then(|text| text.trim().parse().ok());
        let what = format!("Linux {} {}", self.source.version, self.kind());
        let mut progress = Progress::start_counted(what, expected.unwrap_or(OBJECTS));
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut make = self.make_command(tree);
        make.arg(format!("-j{jobs}")).arg(if self.recipe.bare { "bzImage" } else { "vmlinux" });
        if self.config.has("MODULES") && !self.recipe.bare {
            make.arg("modules");
        }
        if self.recipe.host {
            make.arg("modules_prepare");
        }
        let mut objects = 0;
        run_watched(&mut make, &self.log("build"), |line| {
            if is_object(line) {
                objects += 1;
                progress.reached(objects);
            }
        })?;
        if expected.is_none_or(|expected| objects > expected) {
            fs::write(&known, objects.to_string())?;
        }
        progress.done();
        if self.recipe.host {
            // What the kernel itself exports; modules for it are built against that.
            let folder = self.folder();
            fs::copy(folder.join("vmlinux.symvers"), folder.join("Module.symvers"))
                .context("Linux left no vmlinux.symvers")?;
        }
        if self.recipe.debian.is_some() {
            run_logged(self.make_command(tree).args(HOST_MODULES), &self.log("modules"))?;
        }
        Ok(())
    }

    fn kind(&self) -> String {
        let more = self.recipe.name().replacen(self.recipe.series.name(), "", 1);
        let role = if self.recipe.debian.is_some() {
            "as Debian configures its hosts"
        } else if self.recipe.host {
            return "as a host that checks itself".to_owned();
        } else if self.recipe.bare {
            "for the bare machine"
        } else {
            "as a guest"
        };
        if more.is_empty() { role.to_owned() } else { format!("{role} ({})", more.trim_start_matches('-')) }
    }

    /// Moves what was built into `results`, after the audit.
    fn collect(&self, results: &Path, manifest: &Manifest) -> Result<()> {
        let folder = self.folder();
        if results.exists() {
            fs::remove_dir_all(results).with_context(|| format!("cannot remove {}", results.display()))?;
        }
        fs::create_dir_all(results.join("modules"))?;
        fs::copy(folder.join(".config"), results.join("config"))?;
        fs::copy(folder.join("System.map"), results.join("System.map"))?;

        let mut modules = Vec::new();
        let (image, summary);
        if self.recipe.bare {
            image = results.join("bzImage");
            summary = None;
            fs::copy(folder.join("arch/x86/boot/bzImage"), &image).context("Linux left no bzImage")?;
        } else {
            image = results.join("vmlinux");
            let built = folder.join("vmlinux");
            let (mut decoded, mut allowed) = self.audited(&built, manifest)?;
            self.strip("--strip-all", &built, &image)?;
            // Kernel modules are listed by the object that they are made of.
            let order = fs::read_to_string(folder.join("modules.order")).unwrap_or_default();
            for module in order.lines().map(|line| folder.join(line).with_extension("ko")) {
                let seen = self.audited(&module, manifest)?;
                (decoded, allowed) = (decoded + seen.0, allowed + seen.1);
                let target = results.join("modules").join(module.file_name().unwrap_or_default());
                self.strip("--strip-debug", &module, &target)?;
                modules.push(target);
            }
            summary = Some(format!(
                "{decoded} instructions decoded, none that a guest cannot execute outside the {} allowed \
                 places ({allowed} there)",
                manifest.allowed.len()
            ));
        }
        if self.recipe.debian.is_some() {
            for module in HOST_MODULES {
                let target = results.join("modules").join(module);
                fs::create_dir_all(target.parent().unwrap_or(results))?;
                self.strip("--strip-debug", &folder.join(module), &target)?;
                modules.push(target);
            }
        }
        let headers = self.recipe.host.then(|| folder.clone());
        let version = self.source.version.clone();
        let release = fs::read_to_string(folder.join("include/config/kernel.release"))?.trim().to_owned();
        let kernel = LinuxKernel { image, modules, version, release, audit: summary, headers };
        fs::write(results.join("kernel.json"), serde_json::to_vec_pretty(&kernel)?)?;
        Ok(())
    }

    /// Audits an image; returns how many instructions it has, and how many sensitive ones in allowed places.
    fn audited(&self, image: &Path, manifest: &Manifest) -> Result<(u64, u64)> {
        let bytes = fs::read(image).with_context(|| format!("Linux left no {}", image.display()))?;
        let report = audit(&bytes, &manifest.allowed).with_context(|| image.display().to_string())?;
        report.passed().with_context(|| image.display().to_string())?;
        Ok((report.instructions, report.allowed))
    }

    fn strip(&self, how: &str, from: &Path, to: &Path) -> Result<()> {
        output(Command::new("objcopy").arg(how).arg(from).arg(to)).map(drop)
    }
}

/// Whether a line of Linux's build reports that something is being compiled.
fn is_object(line: &str) -> bool {
    let mut words = line.split_whitespace();
    line.starts_with("  ") && matches!(words.next(), Some("CC" | "AS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_recipes_apart() {
        let plain = Recipe::guest(Series::V6_1, false);
        assert_eq!(plain.name(), "6.1");
        assert_eq!(plain.clone().with("debug").with("/x/my.config").name(), "6.1-debug-my");
        assert_eq!(Recipe { bare: true, ..Recipe::guest(Series::V6_12, true) }.name(), "6.12-pae-bare");
        let host = Recipe::debian_host(Series::V6_12, Flavour::Pae, "/boot/config".into());
        assert_eq!(host.name(), "6.12-pae-debian-host");
    }

    #[test]
    fn fragments_come_in_order_with_those_of_the_series() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["base", "base-6.12", "pae", "debug"] {
            fs::write(folder.path().join(format!("{name}.config")), "").unwrap();
        }
        let names = |recipe: Recipe| -> Vec<String> {
            let files = recipe.config_files(folder.path()).unwrap();
            files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(Recipe::guest(Series::V6_1, false)), ["base.config"]);
        assert_eq!(
            names(Recipe::guest(Series::V6_12, true).with("debug")),
            ["base.config", "base-6.12.config", "pae.config", "debug.config"]
        );
        let unknown = Recipe::guest(Series::V6_1, false).with("nosuch").config_files(folder.path());
        assert!(unknown.unwrap_err().to_string().contains("nosuch"));
    }

    #[test]
    fn compiled_objects_are_counted_and_nothing_else() {
        assert!(is_object("  CC      kernel/fork.o") && is_object("  CC [M]  fs/ext4/super.o"));
        assert!(is_object("  AS      arch/x86/entry/entry_32.o"));
        assert!(
            !is_object("  AR      kernel/built-in.a")
                && !is_object("make[1]: Entering")
                && !is_object("CC x")
        );
    }
}
