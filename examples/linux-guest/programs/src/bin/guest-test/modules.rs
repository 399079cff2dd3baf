//! Kernel modules: loaded and unloaded.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

use crate::Settings;
use crate::runner::Lacking;

/// Modules that need no other and no device, best first.
const USUAL: [&str; 6] = ["dummy", "loop", "zram", "crc16", "crc7", "libcrc32c"];

/// Loads a module, sees it in the kernel's list, unloads it; several times, as each is laid out anew.
pub fn load_and_unload(settings: &Settings) -> Result<()> {
    let path = match &settings.module {
        Some(path) => path.clone(),
        None => usual().ok_or_else(|| {
            Lacking("a module: /lib/modules/.../{dummy,loop,crc16,...}.ko, or one given by --module".into())
        })?,
    };
    let name = name(&path);
    if loaded(&name)? {
        return Err(Lacking(format!("a module that is not loaded yet: {name} is")).into());
    }
    for round in 0..10 {
        load(&path)?;
        ensure!(loaded(&name)?, "{name} is not in /proc/modules after it was loaded");
        let again = load(&path).err().and_then(|error| error.downcast::<Errno>().ok());
        ensure!(again == Some(Errno::EEXIST), "loading {name} twice came to {again:?}");
        unload(&name).with_context(|| format!("in round {round}"))?;
        ensure!(!loaded(&name)?, "{name} is in /proc/modules after it was unloaded");
    }
    Ok(())
}

/// Loads the module in the file `path`.
pub fn load(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    finit_module(&file, c"", ModuleInitFlags::empty())
        .with_context(|| format!("{} cannot be loaded; the kernel's log says why", path.display()))
}

/// Unloads the module `name`.
pub fn unload(name: &str) -> Result<()> {
    let name = CString::new(name)?;
    delete_module(&name, DeleteModuleFlags::O_NONBLOCK)
        .with_context(|| format!("{} cannot be unloaded", name.to_string_lossy()))
}

/// Loads the module `name`, if it is to be found and not there already.
pub fn load_by_name(name: &str) -> Result<()> {
    match find(&[name]) {
        Some(path) if !loaded(&name.replace('-', "_"))? => load(&path),
        _ => Ok(()),
    }
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_")
}

fn loaded(name: &str) -> Result<bool> {
    let modules = fs::read_to_string("/proc/modules")
        .map_err(|error| Lacking(format!("modules (CONFIG_MODULES): /proc/modules: {error}")))?;
    Ok(modules.lines().any(|line| line.split(' ').next() == Some(name)))
}

fn usual() -> Option<PathBuf> {
    find(&USUAL)
}

/// The file of the first of `names` below the running kernel's folder of modules.
fn find(names: &[&str]) -> Option<PathBuf> {
    let release = nix::sys::utsname::uname().ok()?.release().to_string_lossy().into_owned();
    let mut files = Vec::new();
    collect(&Path::new("/lib/modules").join(release), &mut files);
    names.iter().find_map(|name| {
        files
            .iter()
            .find(|path| path.file_name().is_some_and(|file| file == format!("{name}.ko").as_str()))
            .cloned()
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}
