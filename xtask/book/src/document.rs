//! One document: its links, and the anchors that others may link.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A document in Markdown.
#[derive(Debug, Default)]
pub struct Document {
    /// Targets of links and pictures as they are written, with where in the text the whole link is.
    pub links: Vec<(String, Range<usize>)>,
    /// What may stand behind a `#` in a link to it.
    pub anchors: BTreeSet<String>,
}

impl Document {
    /// Reads a document.
    pub fn parse(text: &str) -> Document {
        let mut document = Document::default();
        let mut seen = BTreeMap::new();
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push((dest_url.into_string(), range));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(words) | Event::Code(words) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&words);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let name = anchor(&heading.take().unwrap_or_default());
                    let before: &mut u32 = seen.entry(name.clone()).or_default();
                    document.anchors.insert(match *before {
                        0 => name,
                        more => format!("{name}-{more}"),
                    });
                    *before += 1;
                }
                _ => {}
            }
        }
        document
    }
}

/// The anchor of a heading, as forges and mdBook make it: in lower case, spaces as `-`, no other punctuation than `-` and `_`.
fn anchor(heading: &str) -> String {
    let letter = |c: char| match c {
        c if c.is_whitespace() => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    heading.trim().to_lowercase().chars().filter_map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_anchors_are_found() {
        let text = "# `lguest`, in Rust\n\n[a](b.md#c) ![p](p.svg)\n\n## Where lguest is slow\n## A\n## A\n\n`[no](link)`\n\n```\n[no](link)\n```\n";
        let document = Document::parse(text);
        let links: Vec<_> =
            document.links.iter().map(|(target, at)| (target.as_str(), &text[at.clone()])).collect();
        assert_eq!(links, [("b.md#c", "[a](b.md#c)"), ("p.svg", "![p](p.svg)")]);
        let anchors: Vec<_> = document.anchors.iter().map(String::as_str).collect();
        assert_eq!(anchors, ["a", "a-1", "lguest-in-rust", "where-lguest-is-slow"]);
    }
}
