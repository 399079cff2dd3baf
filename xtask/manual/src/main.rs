//! `cargo xtask manual`: writes manual pages and completions into a folder, as they are installed below `/usr/share`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

/// Write the manual pages and shell completions.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Command {
    /// Write the manual pages and shell completions into a folder, as they are installed below /usr/share
    Manual {
        /// The folder, which is made if there is none
        folder: PathBuf,
    },
}

fn main() -> Result<()> {
    let Command::Manual { folder } = Command::parse();
    for file in manual::files()? {
        let path = folder.join(&file.path);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&path, &file.contents).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
