//! Commands that are passed on to the programs of other crates, which are built on this one.
//!
//! `cargo xtask bench …` becomes `cargo run -p lab -- bench …` in the place of this process, so that signals and the
//! exit status are the program's own. No lock of cargo's is held meanwhile: `cargo run` has released its locks when
//! the program begins that it runs.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{cargo, describe};
use crate::project::Project;

/// The crates whose programs take commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// `benches/lab`: what measures.
    Lab,
    /// `benches/attack`: what attacks.
    Attack,
    /// `examples/linux-guest/builder`: what builds Linux as a guest.
    LinuxGuestBuilder,
    /// `book`: what makes the book of all documents.
    Book,
    /// `manual`: what writes manual pages and completions.
    Manual,
    /// `packages`: what makes Debian packages and the disk image.
    Packages,
}

impl Package {
    fn name(self) -> &'static str {
        match self {
            Package::Lab => "lab",
            Package::Attack => "attack",
            Package::LinuxGuestBuilder => "linux-guest-builder",
            Package::Book => "book",
            Package::Manual => "manual",
            Package::Packages => "packages",
        }
    }

    /// Builds the program and runs it with the subcommand `name`, in the folder in which this process runs.
    pub fn command(self, project: &Project, name: &str) -> Command {
        let mut command = Command::new(cargo());
        command.args(["run", "--quiet", "--package", self.name(), "--manifest-path"]);
        command.arg(project.root().join("Cargo.toml")).arg("--").arg(name);
        command.env("CARGO_TARGET_DIR", project.target());
        command
    }
}

/// All that follows a command that is passed on, its `--help` included.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    _all: Vec<OsString>,
}

/// Becomes the program of `package`, which does the command `name` with the arguments of this process that follow it.
/// (They are not taken from [`Arguments`], as clap drops a `--` in front.)
///
/// # Errors
/// When cargo cannot be started.
pub fn pass_on(project: &Project, package: Package, name: &str) -> Result<()> {
    let mut command = package.command(project, name);
    command.args(env::args_os().skip(2));
    let line = describe(&command);
    Err(command.exec()).with_context(|| format!("cannot start `{line}`"))
}
