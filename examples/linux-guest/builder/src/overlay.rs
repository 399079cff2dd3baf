//! Laying the port over a Linux source.
//!
//! The source in the cache stays as Debian ships it. What is built is a copy whose files are hard links into the
//! source, with the port's files added and the port's lines in Linux's makefiles: an edited makefile is a file
//! of its own. Files are only written when they change, so that `make` builds what has to be built and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::manifest::MakefileLine;
use super::source::LinuxSource;
use xtask::process::{Progress, run_logged};

/// The port's files: path below Linux's folder, and contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port(pub BTreeMap<PathBuf, Vec<u8>>);

impl Port {
    /// Reads all files below `folder`.
    pub fn read(folder: &Path) -> Result<Port> {
        let mut port = Port::default();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(current) = folders.pop() {
            let entries =
                fs::read_dir(&current).with_context(|| format!("cannot read {}", current.display()))?;
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let contents = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                port.0.insert(path.strip_prefix(folder).unwrap_or(&path).to_path_buf(), contents);
            }
        }
        ensure!(!port.0.is_empty(), "{} holds no files; is this a whole work tree?", folder.display());
        Ok(port)
    }

    /// The headers. When this set changes, everything has to be built anew: to the build system a header is
    /// what a file includes, and one that appears in front of another of the same name goes unnoticed.
    pub fn headers(&self) -> BTreeSet<&Path> {
        self.0
            .keys()
            .map(PathBuf::as_path)
            .filter(|path| path.extension().is_some_and(|e| e == "h"))
            .collect()
    }
}

/// Makes or updates `tree`, the copy of `source` with `port` and `lines` in it.
pub fn lay(
    source: &LinuxSource,
    port: &Port,
    lines: &[MakefileLine],
    tree: &Path,
    logs: &Path,
) -> Result<()> {
    let files: BTreeSet<&str> = lines.iter().map(|line| line.file.as_str()).collect();
    let made_of = format!("{} {files:?}", source.version);
    let stamp = beside(tree, "source");
    if fs::read_to_string(&stamp).is_ok_and(|old| old == made_of) {
        remove_old_files(source, port, tree)?;
    } else {
        copy(source, tree, logs)?;
    }
    for (file, contents) in &port.0 {
        ensure!(
            !source.folder.join(file).exists(),
            "the port's {} is a file of Linux {} too; the port adds files and replaces none",
            file.display(),
            source.version
        );
        let target = tree.join(file);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        replace(&target, contents)?;
    }
    fs::write(port_list(tree), list(port)).context("cannot write the list of the port's files")?;
    for file in files {
        let mut text = source.read(file)?;
        for line in lines.iter().filter(|line| line.file == file) {
            text = edited(&text, line)?;
        }
        replace(&tree.join(file), text.as_bytes())?;
    }
    fs::write(&stamp, made_of).with_context(|| format!("cannot write {}", stamp.display()))
}

fn copy(source: &LinuxSource, tree: &Path, logs: &Path) -> Result<()> {
    let progress = Progress::start(format!("a copy of Linux {} for the port", source.version));
    if tree.exists() {
        fs::remove_dir_all(tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    }
    if let Some(folder) = tree.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    run_logged(
        Command::new("cp").args(["-a", "-l", "-T"]).arg(&source.folder).arg(tree),
        &logs.join("linux-copy.log"),
    )?;
    progress.done();
    Ok(())
}

/// Removes what an older port has put there and this one has not.
fn remove_old_files(source: &LinuxSource, port: &Port, tree: &Path) -> Result<()> {
    for file in fs::read_to_string(port_list(tree)).unwrap_or_default().lines().map(Path::new) {
        let old = tree.join(file);
        if !port.0.contains_key(file) && !source.folder.join(file).exists() && old.exists() {
            fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    Ok(())
}

fn port_list(tree: &Path) -> PathBuf {
    beside(tree, "files")
}

/// A file beside the tree. The tree's name may hold a dot, which is no extension's.
fn beside(tree: &Path, what: &str) -> PathBuf {
    let mut path = tree.as_os_str().to_owned();
    path.push(format!(".{what}"));
    path.into()
}

fn list(port: &Port) -> String {
    port.0.keys().map(|file| format!("{}\n", file.display())).collect()
}

/// Writes a file unless it holds just that. What is there may be a link to the source, so it is not written
/// to: a new file takes its place.
fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    if path.exists() {
        fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
    }
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}

/// A makefile with one line more.
fn edited(text: &str, line: &MakefileLine) -> Result<String> {
    let Some(after) = &line.after else {
        return Ok(format!("{}\n{}\n", text.trim_end(), line.line));
    };
    let mut lines: Vec<&str> = text.lines().collect();
    let places: Vec<_> = lines.iter().enumerate().filter(|(_, old)| old.trim() == after.trim()).collect();
    let &[(place, _)] = places.as_slice() else {
        bail!(
            "Linux's {} has the line `{after}` {} times, after which the port's line `{}` goes; once would be \
             right",
            line.file,
            places.len(),
            line.line
        );
    };
    lines.insert(place + 1, &line.line);
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn line(after: Option<&str>) -> MakefileLine {
        MakefileLine { file: "Kbuild".into(), line: "obj-y += new/".into(), after: after.map(str::to_owned) }
    }

    fn port(files: &[(&str, &str)]) -> Port {
        Port(files.iter().map(|(name, text)| (name.into(), text.as_bytes().to_vec())).collect())
    }

    /// A source of one makefile and one C file, in a folder of its own.
    fn source() -> (tempfile::TempDir, LinuxSource) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("source");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("Kbuild"), "obj-y += old/\n").unwrap();
        fs::write(root.join("main.c"), "int main;\n").unwrap();
        (folder, LinuxSource { version: "1-1".into(), folder: root })
    }

    #[test]
    fn lines_go_where_they_are_told() {
        assert_eq!(edited("a\nb\n\n", &line(None)).unwrap(), "a\nb\nobj-y += new/\n");
        assert_eq!(edited("a\n\tb \nc\n", &line(Some("b"))).unwrap(), "a\n\tb \nobj-y += new/\nc\n");
        let error = edited("a\nb\nb\n", &line(Some("b"))).unwrap_err().to_string();
        assert!(error.contains("Kbuild") && error.contains("2 times"), "{error}");
        assert!(edited("a\n", &line(Some("b"))).is_err());
    }

    #[test]
    fn the_source_stays_as_it_is_and_the_copy_follows_the_port() {
        let (folder, source) = source();
        let (tree, logs) = (folder.path().join("trees/tree-6.1"), folder.path().join("logs"));
        let lines = [line(None)];
        lay(&source, &port(&[("new/a.c", "1"), ("new/b.h", "2")]), &lines, &tree, &logs).unwrap();
        assert_eq!(fs::read_to_string(source.folder.join("Kbuild")).unwrap(), "obj-y += old/\n");
        assert_eq!(fs::read_to_string(tree.join("Kbuild")).unwrap(), "obj-y += old/\nobj-y += new/\n");
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&tree.join("main.c")), inode(&source.folder.join("main.c")), "no copy is made");

        let unchanged = [tree.join("new/a.c"), tree.join("Kbuild")];
        for file in &unchanged {
            fs::File::options().write(true).open(file).unwrap().set_modified(UNIX_EPOCH).unwrap();
        }
        lay(&source, &port(&[("new/a.c", "1")]), &lines, &tree, &logs).unwrap();
        assert!(!tree.join("new/b.h").exists(), "what the port no longer has goes");
        assert!(tree.join("main.c").exists());
        let other = folder.path().join("trees/tree-6.12");
        lay(&source, &port(&[("new/b.h", "2")]), &lines, &other, &logs).unwrap();
        lay(&source, &port(&[("new/a.c", "1")]), &lines, &tree, &logs).unwrap();
        assert!(tree.join("new/a.c").exists() && other.join("new/b.h").exists(), "trees are told apart");
        for file in &unchanged {
            let modified = fs::metadata(file).unwrap().modified().unwrap();
            assert_eq!(modified, UNIX_EPOCH, "what has not changed is not written: {}", file.display());
        }
    }

    #[test]
    fn a_file_of_linux_is_not_replaced() {
        let (folder, source) = source();
        let tree = folder.path().join("tree");
        let error = lay(&source, &port(&[("main.c", "1")]), &[], &tree, &tree).unwrap_err().to_string();
        assert!(error.contains("main.c"), "{error}");
    }

    #[test]
    fn headers_are_told_from_the_rest() {
        let port = port(&[("a/x.h", ""), ("a/x.c", ""), ("a/Makefile", "")]);
        assert_eq!(port.headers().into_iter().collect::<Vec<_>>(), [Path::new("a/x.h")]);
    }
}
