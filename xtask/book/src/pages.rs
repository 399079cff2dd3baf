//! The links of the book that mdBook made, as a browser follows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use html5gum::{Token, Tokenizer};

use crate::links::{Target, join, target};

/// One page: what it links, and what may be linked in it.
#[derive(Default)]
struct Page {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

impl Page {
    fn parse(html: &str) -> Page {
        let mut page = Page::default();
        for token in Tokenizer::new(html) {
            let Ok(Token::StartTag(tag)) = token else { continue };
            for (name, value) in &tag.attributes {
                let value = String::from_utf8_lossy(value).into_owned();
                match &***name {
                    b"href" | b"src" => page.links.push(value),
                    b"id" => drop(page.anchors.insert(value)),
                    _ => {}
                }
            }
        }
        page
    }
}

/// The links of all pages that lead nowhere, each described in a line.
///
/// # Errors
/// When a page cannot be read.
pub fn broken(book: &Path) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    gather(book, Path::new(""), &mut pages)?;
    let mut broken = Vec::new();
    for (path, page) in &pages {
        for link in &page.links {
            let why = match target(link) {
                Err(why) => Some(why),
                Ok(Target::Outside) => None,
                Ok(Target::Inside(to, anchor)) => {
                    let folder = path.parent().unwrap_or(Path::new(""));
                    let to = if to.is_empty() { Some(path.clone()) } else { join(folder, to) };
                    match to.filter(|to| book.join(to).is_file()) {
                        None => Some("there is no such file"),
                        Some(to) => anchor
                            .filter(|anchor| {
                                pages.get(&to).is_none_or(|page| !page.anchors.contains(*anchor))
                            })
                            .map(|_| "there is no such place in it"),
                    }
                }
            };
            broken.extend(why.map(|why| format!("{}: `{link}`: {why}", path.display())));
        }
    }
    Ok(broken)
}

/// Reads all pages below a folder of the book.
fn gather(book: &Path, folder: &Path, pages: &mut BTreeMap<PathBuf, Page>) -> Result<()> {
    let at = book.join(folder);
    for entry in fs::read_dir(&at).with_context(|| format!("cannot read {}", at.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            gather(book, &path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let html = fs::read_to_string(entry.path());
            let html = html.with_context(|| format!("cannot read {}", path.display()))?;
            pages.insert(path, Page::parse(&html));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_nowhere_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let book = folder.path();
        fs::create_dir(book.join("docs")).unwrap();
        fs::write(
            book.join("index.html"),
            r##"<h1 id="one"><a href="#one">x</a></h1><a href="docs/a.html#two">"##,
        )
        .unwrap();
        fs::write(
            book.join("docs/a.html"),
            r##"<p id="two"><img src="p.svg"><a href="../index.html#two"><a href="https://a.org/"><a href="../index.html#one">"##,
        )
        .unwrap();
        assert_eq!(
            broken(book).unwrap(),
            [
                "docs/a.html: `p.svg`: there is no such file",
                "docs/a.html: `../index.html#two`: there is no such place in it",
            ]
        );
    }
}
