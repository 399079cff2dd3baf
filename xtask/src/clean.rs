//! `cargo xtask clean`: throws away what the other commands have made.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::project::Project;

/// Options of `cargo xtask clean`.
#[derive(clap::Args)]
pub struct Args {
    /// Also the cache with kernels and headers, which must then be fetched again
    #[arg(long)]
    cache: bool,
}

/// Removes modules, guests, logs and libraries built for i386; cargo's results for this machine stay.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    remove(&project.out())?;
    if args.cache {
        let _lock = project.lock_cache()?;
        remove(project.cache())?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    eprintln!("  removed {}", folder.display());
    Ok(())
}
