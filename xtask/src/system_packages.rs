//! What must be installed on the build machine, and why; installing what is missing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use comfy_table::Table;

use crate::process::{Progress, find_program, output, run_logged};
use crate::project::Project;
use crate::table::STYLE;
use crate::toolchain::MINIMUM_RUSTC;

/// Debian's package with the compiler, which needs a certain age.
pub const RUSTC_PACKAGE: &str = "rustc-web";
/// Debian's package with the sources that belong to it.
pub const RUST_SOURCE_PACKAGE: &str = "rust-web-src";

/// A package and what it is for.
pub type Needed = (&'static str, &'static str);

/// What every command needs.
pub const NEEDED: [Needed; 16] = [
    (RUSTC_PACKAGE, "a Rust compiler whose matching library sources are also packaged"),
    (RUST_SOURCE_PACKAGE, "those sources: core, alloc and std are built for i386 from them"),
    ("rust-web-clippy", "lints for the crates that only this compiler can build"),
    ("gcc", "the C side of the kernel module; linking host programs"),
    ("gcc-multilib", "linking 32-bit programs: the launcher, the tests for i386"),
    ("make", "the kernel's build system"),
    ("flex", "the same, for the Linux guest: its configurator's words"),
    ("bison", "the same: their grammar"),
    ("bc", "the same: constants of its clocks"),
    ("xz-utils", "Debian's Linux source is packed with it"),
    ("binutils", "ld and objcopy make one kernel object of the Rust code"),
    ("libelf1", "the kernel's build tools are linked with it"),
    ("libssl3", "the kernel's build tools are linked with it"),
    ("e2fsprogs", "a file system for the Linux guest to try"),
    ("valgrind", "counts the instructions of the pager's hot paths"),
    ("qemu-system-x86", "the machine in which Debian's i386 kernel runs"),
];

/// Refuses systems for which none of this can work.
pub fn check_system() -> Result<()> {
    let os = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        os.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|v| v.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    let debian = field("ID") == "debian" || field("ID_LIKE").split_whitespace().any(|id| id == "debian");
    let name = field("PRETTY_NAME");
    if !debian || find_program("apt-get").is_none() {
        bail!("this is `{name}`; set-up needs Debian 12 with apt, as all packages come from there");
    }
    if field("VERSION_CODENAME") != crate::apt_sources::SUITE {
        bail!(
            "this is `{name}`; set-up needs Debian 12 (bookworm), whose compiler, headers and kernels belong \
             together. A container or chroot made with `debootstrap bookworm` will do"
        );
    }
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    if architecture.trim() != "amd64" {
        bail!("this machine's architecture is {}; set-up needs amd64", architecture.trim());
    }
    Ok(())
}

/// Installs by apt-get what is missing of `needed`, after printing what and why.
pub fn install_missing(project: &Project, needed: &[Needed]) -> Result<()> {
    let missing: Vec<_> = needed.iter().filter(|(name, _)| installed_version(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(["to be installed by apt-get", "why"]);
    for (name, why) in &missing {
        table.add_row([name, why]);
    }
    eprintln!("{table}");

    let root = as_root()?;
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    bring_lists_up_to_date(project, &root, &names)?;
    let progress = Progress::start(format!("installing {} packages", names.len()));
    run_logged(
        root.command("apt-get")
            .args(["-q", "-y", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends", "install"])
            .args(&names),
        &project.logs().join("apt-install.log"),
    )
    .context("apt-get could not install what is missing; when it works by hand, run this again")?;
    progress.done();
    Ok(())
}

/// Runs `apt-get update` if a package is unknown, or only known in a version that is too old.
///
/// The second happens where i386 is a foreign architecture of the system: if that index of the security
/// suite is broken, apt drops the suite for amd64 too, and an old compiler is all that is left. Lists for
/// amd64 alone get round it.
fn bring_lists_up_to_date(project: &Project, root: &Root, names: &[&str]) -> Result<()> {
    if satisfied(names) {
        return Ok(());
    }
    let progress = Progress::start("apt-get update");
    let plain = run_logged(
        root.command("apt-get").args(["-q", "update"]),
        &project.logs().join("apt-update-system.log"),
    );
    if satisfied(names) {
        progress.done();
        return Ok(());
    }
    let config = project.cache().join("amd64-only.conf");
    std::fs::write(
        &config,
        "#clear APT::Architectures;\nAPT::Architectures { \"amd64\"; };\nAPT::Get::List-Cleanup \"false\";\n",
    )?;
    run_logged(
        root.command("apt-get").arg("-c").arg(&config).args(["-q", "update"]),
        &project.logs().join("apt-update-amd64.log"),
    )?;
    progress.done();
    if !satisfied(names) {
        plain?;
        bail!(
            "apt offers {RUSTC_PACKAGE} {} here; {}.{} or newer is needed, with sources of the same version. It \
             is in bookworm-security: see that /etc/apt names that suite and that `apt-get update` has no errors",
            candidate(RUSTC_PACKAGE).unwrap_or_else(|| "in no version".into()),
            MINIMUM_RUSTC.0,
            MINIMUM_RUSTC.1
        );
    }
    Ok(())
}

/// Whether apt could install all of `names`, the compiler in a version that will do.
fn satisfied(names: &[&str]) -> bool {
    names.iter().all(|name| {
        let new_enough = |version: &str| {
            crate::toolchain::parse_version(version).is_some_and(|(a, b, _)| (a, b) >= MINIMUM_RUSTC)
        };
        candidate(name).is_some_and(|version| *name != RUSTC_PACKAGE || new_enough(&version))
    })
}

/// The version that apt would install.
fn candidate(package: &str) -> Option<String> {
    let text = output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C")).ok()?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// The installed version of a package, if it is installed.
pub fn installed_version(package: &str) -> Option<String> {
    let query = ["-W", "-f", "${db:Status-Status} ${Version}", package];
    let text = output(Command::new("dpkg-query").args(query)).ok()?;
    text.strip_prefix("installed ").map(str::to_owned)
}

/// How commands become root's.
pub enum Root {
    /// This process is root's.
    Already,
    /// By sudo.
    Sudo,
}

impl Root {
    /// A command that root runs, in a fixed language and without questions.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match self {
            Root::Already => Command::new(program),
            Root::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["env", "DEBIAN_FRONTEND=noninteractive", program]);
                sudo
            }
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    }
}

/// How this process can have commands run by root; sudo asks for the password now.
///
/// # Errors
/// When it cannot.
pub fn as_root() -> Result<Root> {
    // A process owns its own entry in /proc.
    if Path::new("/proc/self").metadata().is_ok_and(|meta| meta.uid() == 0) {
        return Ok(Root::Already);
    }
    if find_program("sudo").is_none() {
        return Err(anyhow!("this needs root, and there is no sudo: run it once as root"));
    }
    // While the terminal is still the user's.
    let status = Command::new("sudo").arg("-v").stdin(Stdio::inherit()).status()?;
    if !status.success() {
        bail!("this needs root, and sudo refused: run it once as root");
    }
    Ok(Root::Sudo)
}
