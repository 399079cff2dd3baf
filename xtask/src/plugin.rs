//! Plug-ins from outside: crates with policies or strategies that are built into the module.
//!
//! The module's crate refers to every crate whose registrations it needs, or the linker would leave them out. For a
//! plug-in, a copy of `kmod` is made that depends on it and refers to it; the copy is then built as `kmod` is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{cargo, output};
use crate::project::{Project, write_if_changed};

/// The files of `kmod` that refer to the crates with registrations.
const REFERRING: [&str; 2] = ["src/lib.rs", "build.rs"];

/// A crate with registrations in it.
#[derive(Debug, Clone)]
pub struct Plugin {
    folder: PathBuf,
    package: String,
}

impl Plugin {
    /// The plug-in in a folder, or of a `Cargo.toml`.
    ///
    /// # Errors
    /// When there is no library crate, or it registers with another `framework` than this work tree's.
    pub fn locate(project: &Project, path: &Path) -> Result<Plugin> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            bail!("there is no {}; --with-plugin wants the folder of a crate", manifest.display());
        }
        let manifest = manifest.canonicalize().with_context(|| manifest.display().to_string())?;
        let mut metadata = Command::new(cargo());
        metadata.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(&manifest);
        let metadata: Value = serde_json::from_str(&output(&mut metadata)?)
            .with_context(|| format!("cargo's metadata of {}", manifest.display()))?;
        let package = library_at(&metadata, &manifest)
            .with_context(|| format!("{} describes no package with a library", manifest.display()))?;
        let ours = project.root().join("framework/Cargo.toml");
        if !frameworks(&metadata).any(|framework| framework == ours) {
            bail!(
                "plug-in `{package}` registers nothing here: it does not depend on this work tree's `framework`. \
                 In its Cargo.toml, write framework = {{ path = \"{}\" }}",
                project.root().join("framework").display()
            );
        }
        let folder = manifest.parent().unwrap_or(&manifest).to_path_buf();
        Ok(Plugin { folder, package })
    }
}

/// The packages of cargo's metadata: name, manifest, and whether there is a library.
fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &Path, bool)> {
    metadata["packages"].as_array().into_iter().flatten().filter_map(|package| {
        let name = package["name"].as_str()?;
        let manifest = Path::new(package["manifest_path"].as_str()?);
        let is_library =
            |target: &Value| target["kind"].as_array().is_some_and(|kinds| kinds.contains(&"lib".into()));
        Some((
            name,
            manifest,
            package["targets"].as_array().is_some_and(|targets| targets.iter().any(is_library)),
        ))
    })
}

fn library_at(metadata: &Value, manifest: &Path) -> Option<String> {
    let mut libraries = packages(metadata).filter(|(_, at, library)| *library && *at == manifest);
    libraries.next().map(|(name, ..)| name.to_owned())
}

fn frameworks(metadata: &Value) -> impl Iterator<Item = &Path> {
    packages(metadata).filter(|(name, ..)| *name == "framework").map(|(_, manifest, _)| manifest)
}

/// Makes a copy of the module's crate with plug-ins in it; returns its folder.
///
/// # Errors
/// When it cannot be written.
pub fn module_with(project: &Project, plugins: &[Plugin]) -> Result<PathBuf> {
    let (from, to) = (project.root().join("kmod"), project.out().join("module-with-plugins"));
    copy_tree(&from, &to)?;
    let manifest = fs::read_to_string(from.join("Cargo.toml"))?;
    write_if_changed(&to.join("Cargo.toml"), manifest_with(&manifest, project.root(), plugins)?.as_bytes())?;
    let references: String =
        (0..plugins.len()).map(|number| format!("\nuse plugin_{number} as _;\n")).collect();
    for file in REFERRING {
        let source = fs::read_to_string(from.join(file))?;
        write_if_changed(&to.join(file), (source + &references).as_bytes())?;
    }
    Ok(to)
}

fn manifest_with(manifest: &str, root: &Path, plugins: &[Plugin]) -> Result<String> {
    let mut manifest = manifest.replace("path = \"../", &format!("path = \"{}/", root.display()));
    for section in ["[dependencies]\n", "[build-dependencies]\n"] {
        if !manifest.contains(section) {
            bail!("kmod/Cargo.toml has no {}", section.trim_end());
        }
        let mut dependencies = String::from(section);
        for (number, Plugin { folder, package }) in plugins.iter().enumerate() {
            dependencies += &format!("plugin_{number} = {{ package = {package:?}, path = {folder:?} }}\n");
        }
        manifest = manifest.replacen(section, &dependencies, 1);
    }
    Ok(manifest)
}

/// Copies what has changed of a folder's files, save those that [`module_with`] writes itself.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        if path.is_dir() {
            if name != "target" {
                copy_tree(&path, &target)?;
            }
        } else if name != "Cargo.toml" && !REFERRING.iter().any(|file| path.ends_with(file)) {
            let contents = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            write_if_changed(&target, &contents)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_found_and_a_stranger_is_refused() {
        let project = Project::locate().unwrap();
        let plugin = Plugin::locate(&project, &project.root().join("examples/policy-plugin")).unwrap();
        assert_eq!(plugin.package, "policy-plugin");

        let folder = tempfile::tempdir().unwrap();
        let message = Plugin::locate(&project, folder.path()).unwrap_err().to_string();
        assert!(message.contains("--with-plugin wants the folder of a crate"), "{message}");
        fs::write(folder.path().join("Cargo.toml"), "[package]\nname = \"alone\"\nedition = \"2024\"\n")
            .unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/lib.rs"), "").unwrap();
        let message = Plugin::locate(&project, folder.path()).unwrap_err().to_string();
        assert!(message.contains("does not depend on this work tree's `framework`"), "{message}");
    }

    #[test]
    fn the_copy_depends_on_the_plugin_and_finds_the_rest() {
        let plugin = Plugin { folder: "/there/mine".into(), package: "mine".into() };
        let manifest = "[lib]\n\n[dependencies]\nframework = { path = \"../framework\" }\n\
                        \n[build-dependencies]\nframework = { path = \"../framework\" }\n";
        let mine = "plugin_0 = { package = \"mine\", path = \"/there/mine\" }";
        let framework = "framework = { path = \"/here/framework\" }";
        assert_eq!(
            manifest_with(manifest, Path::new("/here"), &[plugin]).unwrap(),
            format!(
                "[lib]\n\n[dependencies]\n{mine}\n{framework}\n\n[build-dependencies]\n{mine}\n{framework}\n"
            )
        );
    }
}
