//! What mdBook reads, laid out as in the repository, so that links between documents hold as they are written.
//!
//! Pages are copied to the same places, but a `README.md` is the `index.md` of its folder: mdBook makes it that, and leaves the links
//! to it as they were. What pages link is copied as well, with `.txt` behind the name of a source: no browser shows a `.rs`. Of a
//! folder there is a list of its files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::document::Document;
use crate::links::{Target, join, target};

/// The list of pages and mdBook's configuration, in the repository.
const SUMMARY: &str = "docs/SUMMARY.md";
const CONFIGURATION: &str = "docs/book.toml";

/// What browsers show by its name.
const SHOWN: [&str; 4] = ["svg", "png", "json", "html"];

/// The list of a folder's files.
const LISTING: &str = "files.txt";

/// Lays everything out in `staged`, of which nothing is kept.
///
/// # Errors
/// When a file cannot be read or written, or a document of the repository is not in the list of pages.
pub fn lay_out(root: &Path, staged: &Path) -> Result<()> {
    if staged.exists() {
        fs::remove_dir_all(staged).with_context(|| format!("cannot remove {}", staged.display()))?;
    }
    let summary = read(root, Path::new(SUMMARY))?;
    let pages = pages(&summary);
    let left_out: Vec<String> = crate::links::documents(root)?
        .into_iter()
        .filter(|path| !pages.contains(path) && path != Path::new(SUMMARY))
        .map(|path| path.display().to_string())
        .collect();
    ensure!(left_out.is_empty(), "{SUMMARY} does not list {}", left_out.join(", "));
    let shown_as = |path: &Path| shown_as(root, &pages, path);
    write(staged, Path::new("SUMMARY.md"), &rewritten(&summary, Path::new("docs"), shown_as).0)?;
    write(staged, Path::new("book.toml"), &read(root, Path::new(CONFIGURATION))?)?;
    for page in &pages {
        let folder = page.parent().unwrap_or(Path::new(""));
        // From the page's folder, as it was written.
        let up: PathBuf = folder.components().map(|_| "..").collect();
        let (text, linked) = rewritten(&read(root, page)?, folder, |path| up.join(shown_as(path)));
        write(staged, &shown_as(page), &text)?;
        for path in linked.iter().filter(|path| !pages.contains(*path)) {
            copy(root, staged, path, &shown_as(path))?;
        }
    }
    Ok(())
}

/// The pages that the list names, relative to the repository's root.
fn pages(summary: &str) -> BTreeSet<PathBuf> {
    let links = Document::parse(summary).links;
    links.iter().filter_map(|(link, _)| inside(Path::new("docs"), link)).collect()
}

/// What a link in a folder's document leads to, if it is another file.
fn inside(folder: &Path, link: &str) -> Option<PathBuf> {
    match target(link) {
        Ok(Target::Inside(path, _)) if !path.is_empty() => join(folder, path),
        _ => None,
    }
}

/// Where the book has a file or folder of the repository.
fn shown_as(root: &Path, pages: &BTreeSet<PathBuf>, path: &Path) -> PathBuf {
    let is_shown = path.extension().is_some_and(|extension| SHOWN.iter().any(|shown| extension == *shown));
    if root.join(path).is_dir() {
        path.join(LISTING)
    } else if pages.contains(path) && path.file_name().is_some_and(|name| name == "README.md") {
        path.with_file_name("index.md")
    } else if pages.contains(path) || is_shown {
        path.to_owned()
    } else {
        let mut name = path.as_os_str().to_owned();
        name.push(".txt");
        name.into()
    }
}

/// A document with its links to other files put where `place` has them; and those files.
fn rewritten(text: &str, folder: &Path, place: impl Fn(&Path) -> PathBuf) -> (String, BTreeSet<PathBuf>) {
    let (mut new, mut linked) = (text.to_owned(), BTreeSet::new());
    // From behind, so that what is before stays where it is.
    for (link, at) in Document::parse(text).links.into_iter().rev() {
        let Some(path) = inside(folder, &link) else { continue };
        let anchor = link.find('#').map_or("", |from| &link[from..]);
        // What is written otherwise than `[…](…)` stays, and the check of the book names it.
        if let Some(from) = text[at.clone()].rfind(&format!("]({link}")) {
            let from = at.start + from;
            let target = format!("]({}{anchor}", place(&path).display());
            new.replace_range(from..from + "](".len() + link.len(), &target);
        }
        linked.insert(path);
    }
    (new, linked)
}

fn copy(root: &Path, staged: &Path, from: &Path, to: &Path) -> Result<()> {
    let source = root.join(from);
    if !source.is_dir() {
        let bytes = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        return write(staged, to, &bytes);
    }
    let entries = fs::read_dir(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    write(staged, to, &format!("{}:\n{}\n", from.display(), names.join("\n")))
}

fn read(root: &Path, path: &Path) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {}", path.display()))
}

fn write(folder: &Path, path: &Path, contents: &(impl AsRef<[u8]> + ?Sized)) -> Result<()> {
    let path = folder.join(path);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_where_they_are_and_sources_become_text() {
        let folder = tempfile::tempdir().unwrap();
        let (root, staged) = (folder.path().join("root"), folder.path().join("staged"));
        let put = |path: &str, text: &str| write(&root, Path::new(path), text).unwrap();
        put("docs/SUMMARY.md", "# S\n\n* [Read me](../README.md)\n* [A](a.md)\n");
        put("docs/book.toml", "[book]\n");
        put("README.md", "[a](docs/a.md#x) ![p](docs/p.svg) [s](src/lib.rs)\n");
        put(
            "docs/a.md",
            "[r](../README.md) [s](../src/lib.rs), [d](../src) [o](https://a.org/b.rs) [x](#x)\n",
        );
        put("docs/p.svg", "<svg/>");
        put("src/lib.rs", "// source\n");
        lay_out(&root, &staged).unwrap();
        let got = |path: &str| fs::read_to_string(staged.join(path)).unwrap();
        assert_eq!(got("SUMMARY.md"), "# S\n\n* [Read me](index.md)\n* [A](docs/a.md)\n");
        assert_eq!(got("index.md"), "[a](docs/a.md#x) ![p](docs/p.svg) [s](src/lib.rs.txt)\n");
        assert_eq!(
            got("docs/a.md"),
            "[r](../index.md) [s](../src/lib.rs.txt), [d](../src/files.txt) [o](https://a.org/b.rs) [x](#x)\n"
        );
        assert_eq!(got("src/lib.rs.txt"), "// source\n");
        assert_eq!(got("src/files.txt"), "src:\nlib.rs\n");
        assert_eq!(got("docs/p.svg"), "<svg/>");
        put("docs/b.md", "# forgotten\n");
        assert!(lay_out(&root, &staged).unwrap_err().to_string().contains("docs/b.md"));
    }
}
