//! Where things are: the work tree, the build results, and the cache that outlives both.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::flavour::Flavour;

/// The folders that every command works with.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
    target: PathBuf,
    cache: PathBuf,
}

impl Project {
    /// Finds the work tree from where this program was compiled, and the other folders from the environment:
    /// `CARGO_TARGET_DIR` for build results; `LGUEST_CACHE`, else `XDG_CACHE_HOME`, else `HOME` for the cache.
    pub fn locate() -> Result<Project> {
        let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().expect("xtask lies in the workspace").to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Project { root, target, cache: cache_folder()? })
    }

    /// Whether the kernel's build system can work in these folders: `make` takes each path apart at its spaces and
    /// has other uses for some characters.
    ///
    /// # Errors
    /// When it cannot, with the folder, the character and what to do.
    pub fn check_paths(&self) -> Result<()> {
        let folders = [
            (&self.root, "move the work tree"),
            (&self.target, "set CARGO_TARGET_DIR"),
            (&self.cache, "set LGUEST_CACHE"),
        ];
        for (folder, remedy) in folders {
            if let Some(character) = folder.to_string_lossy().chars().find(|c| !suits_make(*c)) {
                bail!(
                    "{} has the character {character:?} in its path, which the kernel's build system cannot \
                     handle; {remedy} to a folder without it",
                    folder.display()
                );
            }
        }
        Ok(())
    }

    /// The root of the work tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target folder for the developer's machine.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// What is fetched once and kept: kernels, headers, apt's private lists.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Everything that this program builds, apart from cargo's own results for the developer's machine.
    pub fn out(&self) -> PathBuf {
        self.target.join("lguest")
    }

    /// The results for one kernel flavour.
    pub fn out_for(&self, flavour: Flavour) -> PathBuf {
        self.out().join(flavour.name())
    }

    /// The logs of external programs.
    pub fn logs(&self) -> PathBuf {
        self.out().join("logs")
    }

    /// Takes the cache's lock until the returned file is dropped; waits when another run holds it.
    pub fn lock_cache(&self) -> Result<File> {
        lock(&self.cache, "lock")
    }

    /// As [`Project::lock_cache`], for the part of the cache in which kernels for guests are built: that takes
    /// minutes, in which other runs need not wait.
    pub fn lock_guest_kernels(&self) -> Result<File> {
        lock(&self.cache, "guest-kernels.lock")
    }

    /// As [`Project::lock_cache`], for the part of the cache that holds systems on disks.
    pub fn lock_systems(&self) -> Result<File> {
        lock(&self.cache, "systems.lock")
    }

    /// As [`Project::lock_cache`], for the folder in which the module is built.
    ///
    /// # Errors
    /// When the folder cannot be made, or the lock not be taken.
    pub fn lock_build(&self) -> Result<File> {
        lock(&self.out(), "lock")
    }
}

/// Waits until no other run uses a folder, such as that of a VM's logs, and keeps the others out until the result is dropped.
///
/// # Errors
/// When the folder cannot be made, or the lock not be taken.
pub fn lock(folder: &Path, name: &str) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another run of cargo xtask to leave {} ...", folder.display());
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Whether a character means nothing else in a makefile or a shell.
fn suits_make(character: char) -> bool {
    character.is_alphanumeric() || "/._-+,@~=".contains(character)
}

fn cache_folder() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("LGUEST_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("lguest-rs")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/lguest-rs")))
        .filter(|dir| dir.is_absolute())
        .ok_or_else(|| {
            anyhow!(
                "no place for the cache: set LGUEST_CACHE to the absolute path of a folder with 1 GB of room"
            )
        })
}

/// Writes `contents` to `path` unless it holds just that, so that `make` sees no change where there is none.
pub fn write_if_changed(path: &Path, contents: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_make_cannot_handle_are_refused_with_a_remedy() {
        let at = |root: &str, cache: &str| Project {
            root: root.into(),
            target: Path::new(root).join("target"),
            cache: cache.into(),
        };
        at("/home/me/lguest-rs_2.0", "/home/me/.cache/lguest-rs").check_paths().unwrap();
        let refused = |project: Project| project.check_paths().unwrap_err().to_string();
        let message = refused(at("/home/me/my project", "/c"));
        assert!(message.starts_with("/home/me/my project has the character ' '"), "{message}");
        assert!(message.contains("move the work tree"), "{message}");
        assert!(refused(at("/a", "/b:c")).contains("set LGUEST_CACHE"));
        for character in ["#", "$", "%", "'", "\"", "\\", "\t", ";"] {
            refused(at(&format!("/a{character}b"), "/c"));
        }
    }
}
