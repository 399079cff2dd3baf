//! The links of all documents, as a forge follows them: to a file or folder of the repository, or to a heading in it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use crate::document::Document;

/// Where a link leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Out of the project.
    Outside,
    /// To a path relative to the document's folder, empty for the document itself; and to an anchor in it.
    Inside(&'a str, Option<&'a str>),
}

/// Takes a link apart.
///
/// # Errors
/// What is wrong with its form.
pub fn target(link: &str) -> Result<Target<'_>, &'static str> {
    if link.chars().any(char::is_whitespace) {
        return Err("it has a space in it");
    }
    if let Some((scheme, rest)) = link.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let is_host = host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && !rest.is_empty());
        return match scheme {
            "http" | "https" if is_host => Ok(Target::Outside),
            "http" | "https" => Err("it names no host"),
            _ => Err("it is neither http nor https"),
        };
    }
    if link.starts_with('/') {
        return Err("it is absolute; a path relative to the document would hold in a clone as well");
    }
    Ok(match link.split_once('#') {
        Some((path, anchor)) => Target::Inside(path, Some(anchor)),
        None => Target::Inside(link, None),
    })
}

/// Joins a link's path to the folder of its document, both relative to the repository's root. `None` when it leads out of it.
pub fn join(folder: &Path, path: &str) -> Option<PathBuf> {
    let mut joined = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::Normal(name) => joined.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !joined.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(joined)
}

/// Files in folders that are no part of the repository: those that cargo and Python's venv make.
const MADE: [&str; 2] = ["CACHEDIR.TAG", "pyvenv.cfg"];

/// All documents of the repository, as paths relative to its root.
pub fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        let at = root.join(&folder);
        for entry in fs::read_dir(&at).with_context(|| format!("cannot read {}", at.display()))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            let made = name.starts_with('.') || MADE.iter().any(|mark| entry.path().join(mark).exists());
            if entry.file_type()?.is_dir() && !made {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The links that lead nowhere, each described in a line.
///
/// # Errors
/// When a document cannot be read.
pub fn broken(root: &Path) -> Result<Vec<String>> {
    let read = |path: &Path| {
        let text = fs::read_to_string(root.join(path));
        text.with_context(|| format!("cannot read {}", path.display())).map(|text| Document::parse(&text))
    };
    let mut broken = Vec::new();
    for path in documents(root)? {
        let document = read(&path)?;
        for (link, _) in &document.links {
            let why = match target(link) {
                Err(why) => Some(why),
                Ok(Target::Outside) => None,
                Ok(Target::Inside("", anchor)) => unknown(&document, anchor),
                Ok(Target::Inside(to, anchor)) => {
                    match join(path.parent().unwrap_or(Path::new("")), to).filter(|to| root.join(to).exists())
                    {
                        None => Some("there is no such file"),
                        Some(to) if to.extension().is_some_and(|extension| extension == "md") => {
                            unknown(&read(&to)?, anchor)
                        }
                        Some(_) if anchor.is_some() => Some("only documents have anchors that stay"),
                        Some(_) => None,
                    }
                }
            };
            broken.extend(why.map(|why| format!("{}: `{link}`: {why}", path.display())));
        }
    }
    Ok(broken)
}

fn unknown(document: &Document, anchor: Option<&str>) -> Option<&'static str> {
    let known = anchor.is_none_or(|anchor| document.anchors.contains(anchor));
    (!known).then_some("there is no such heading")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_taken_apart() {
        assert_eq!(target("https://doc.rust-lang.org/std/"), Ok(Target::Outside));
        assert_eq!(target("a/b.md#c"), Ok(Target::Inside("a/b.md", Some("c"))));
        assert_eq!(target("#c"), Ok(Target::Inside("", Some("c"))));
        for wrong in
            ["https://", "https:///a", "https://host", "ftp://a.b/c", "/etc/passwd", "https://a.b/c d"]
        {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_joined_within_the_repository() {
        assert_eq!(join(Path::new("docs"), "../a/./b.md"), Some("a/b.md".into()));
        assert_eq!(join(Path::new("docs"), "../../a"), None);
    }

    #[test]
    fn what_leads_nowhere_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("docs")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join("target/CACHEDIR.TAG"), "").unwrap();
        fs::write(root.join("target/a.md"), "[x](nowhere)").unwrap();
        fs::write(root.join("lib.rs"), "").unwrap();
        fs::write(
            root.join("README.md"),
            "# One\n[a](docs/a.md#two) [b](lib.rs) [c](#one) [d](docs) [e](https://a.org)",
        )
        .unwrap();
        fs::write(
            root.join("docs/a.md"),
            "# Two\n[a](../README.md#one) [b](b.md) [c](#one) [d](../lib.rs#L3) [e](../../x)",
        )
        .unwrap();
        assert_eq!(
            broken(root).unwrap(),
            [
                "docs/a.md: `b.md`: there is no such file",
                "docs/a.md: `#one`: there is no such heading",
                "docs/a.md: `../lib.rs#L3`: only documents have anchors that stay",
                "docs/a.md: `../../x`: there is no such file",
            ]
        );
    }
}
