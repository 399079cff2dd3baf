//! mdBook: installed by cargo, at one version, beside what cargo builds.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use xtask::process::{self, cargo};
use xtask::project::Project;

/// The version. Another one may lay out another book.
const VERSION: &str = "0.5.4";

/// Turns what is staged into a book.
///
/// # Errors
/// When mdBook cannot be installed, or refuses what it reads.
pub fn build(project: &Project, staged: &Path, book: &Path) -> Result<()> {
    let root = project.target().join(format!("mdbook-{VERSION}"));
    let program = root.join("bin/mdbook");
    if !program.exists() {
        eprintln!("  installing mdBook {VERSION}, once: a minute or two");
        let built = root.join("build");
        let mut command = Command::new(cargo());
        command.args(["install", "mdbook", "--quiet", "--locked", "--version", VERSION]);
        // Without its server, and what watches files for it.
        command.args(["--no-default-features", "--features", "search"]);
        // Unoptimized it makes this book in seconds, and is built in a third of the time.
        command.arg("--debug").env("CARGO_PROFILE_DEV_DEBUG", "0");
        command.arg("--root").arg(&root).arg("--target-dir").arg(&built);
        process::output(&mut command)?;
        fs::remove_dir_all(&built).with_context(|| format!("cannot remove {}", built.display()))?;
    }
    let mut command = Command::new(program);
    command.arg("build").arg(staged).arg("--dest-dir").arg(book);
    process::output(&mut command).map(drop)
}
