//! `examples/linux-guest/replaced.toml`: what the port has to do with Linux's own files, in words that a
//! program can check.
//!
//! | table | what it lists |
//! | --- | --- |
//! | `[[makefile]]` | a line that is put into one of Linux's makefiles; nothing else of Linux is edited |
//! | `[[place]]` | an item of Linux whose place the port takes, or on which it leans, with its [`digest`] in each series |
//! | `[[allowed]]` | a symbol in which the [image audit](super::audit) may find sensitive instructions, and why |
//!
//! [`Manifest::check`] holds the places against a source: one that has changed fails the build with its name,
//! because what the port does in its place may no longer be right.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::places::{definition, digest, whole};
use super::source::{LinuxSource, Series};

/// The file's contents.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Edits of makefiles.
    #[serde(default)]
    pub makefile: Vec<MakefileLine>,
    /// Places of Linux that the port depends on.
    #[serde(default)]
    pub place: Vec<Place>,
    /// Where sensitive instructions may be.
    #[serde(default)]
    pub allowed: Vec<Allowed>,
}

/// A line for one of Linux's makefiles.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakefileLine {
    /// The makefile, below Linux's folder.
    pub file: String,
    /// The line.
    pub line: String,
    /// The text of the line that it follows; none if it goes to the end.
    pub after: Option<String>,
}

/// How the port depends on a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Something of the port takes its place.
    Replaced,
    /// The port uses it and needs it to stay as it is.
    Relied,
}

/// An item of Linux.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The file, below Linux's folder.
    pub file: String,
    /// The function, macro or type; none means the whole file.
    pub item: Option<String>,
    /// How the port depends on it.
    #[serde(rename = "use")]
    pub usage: Use,
    /// The file of the port that does.
    pub by: String,
    /// Why.
    pub why: String,
    /// Its digest, by series. A series in which it is missing has no such place.
    #[serde(default)]
    pub hash: BTreeMap<String, String>,
}

/// A place where sensitive instructions may be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// The symbol; `*` stands for any text.
    pub symbol: String,
    /// The mnemonics.
    pub instructions: Vec<String>,
    /// Why they do no harm there.
    pub why: String,
}

impl Place {
    /// The item's name, or the file's if all of it is meant.
    pub fn name(&self) -> &str {
        self.item.as_deref().unwrap_or(&self.file)
    }

    /// The item and where it is.
    fn described(&self) -> String {
        self.item.as_ref().map_or_else(|| self.file.clone(), |item| format!("{item} in {}", self.file))
    }
}

impl Manifest {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Manifest> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Manifest::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Manifest> {
        Ok(toml::from_str(text)?)
    }

    /// The places that there are in `series`.
    pub fn places(&self, series: Series) -> impl Iterator<Item = &Place> {
        self.place.iter().filter(move |place| place.hash.contains_key(series.name()))
    }

    /// Holds every place of `series` against `source`.
    ///
    /// # Errors
    /// When places are gone or have changed; the message names all of them.
    pub fn check(&self, series: Series, source: &LinuxSource) -> Result<()> {
        self.check_with(series, |file| source.read(file))
            .with_context(|| format!("Linux {} is not the one that the port was written for", source.version))
    }

    fn check_with(&self, series: Series, read: impl Fn(&str) -> Result<String>) -> Result<()> {
        let mut wrong = Vec::new();
        for place in self.places(series) {
            let expected = place.hash.get(series.name()).map_or("", String::as_str);
            let text = match (read(&place.file), &place.item) {
                (Err(_), _) => {
                    wrong.push(format!("{} is gone", place.described()));
                    continue;
                }
                (Ok(source), Some(item)) => definition(&source, item),
                (Ok(source), None) => Some(whole(&source)),
            };
            match text.as_deref().map(digest) {
                None => wrong.push(format!("{} is gone", place.described())),
                Some(found) if found != expected => wrong
                    .push(format!("{} has changed: digest {found}, it was {expected:?}", place.described())),
                Some(_) => {}
            }
        }
        if !wrong.is_empty() {
            bail!(
                "\n    {}\nSee what each does now, bring what the port does in its place into line, and give \
                 examples/linux-guest/replaced.toml the new digest",
                wrong.join("\n    ")
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
        [[makefile]]
        file = "arch/x86/Kbuild"
        line = "obj-y += lguest/"

        [[place]]
        file = "a.h"
        item = "native_halt"
        use = "replaced"
        by = "include/asm/irqflags.h"
        why = "hlt is the host's"
        hash = { "6.1" = "DIGEST" }

        [[allowed]]
        symbol = "stop_*"
        instructions = ["cli"]
        why = "never reached"
    "#;
    const SOURCE: &str = "static inline void native_halt(void)\n{\n\tasm(\"hlt\");\n}\n";

    fn manifest() -> Manifest {
        let digest = digest(&definition(SOURCE, "native_halt").unwrap());
        Manifest::parse(&MANIFEST.replace("DIGEST", &digest)).unwrap()
    }

    #[test]
    fn an_unchanged_source_passes() {
        let manifest = manifest();
        manifest.check_with(Series::V6_1, |_| Ok(SOURCE.replace('\t', "    /* same */ "))).unwrap();
        assert_eq!(manifest.places(Series::V6_1).count(), 1);
        assert_eq!(manifest.makefile[0].after, None);
    }

    #[test]
    fn a_changed_function_is_named() {
        let changed = SOURCE.replace("hlt", "sti; hlt");
        let error = manifest().check_with(Series::V6_1, |_| Ok(changed.clone())).unwrap_err().to_string();
        assert!(error.contains("native_halt in a.h has changed"), "{error}");
        let error = manifest().check_with(Series::V6_1, |_| Ok(String::new())).unwrap_err().to_string();
        assert!(error.contains("native_halt in a.h is gone"), "{error}");
        let error = manifest().check_with(Series::V6_1, |_| bail!("no file")).unwrap_err().to_string();
        assert!(error.contains("native_halt in a.h is gone"), "{error}");
    }

    #[test]
    fn a_place_counts_for_its_own_series_only() {
        manifest().check_with(Series::V6_12, |_| bail!("no file")).unwrap();
        assert_eq!(manifest().places(Series::V6_12).count(), 0);
    }

    #[test]
    fn misspelt_keys_are_refused() {
        assert!(Manifest::parse(&MANIFEST.replace("why", "because")).is_err());
        assert!(Manifest::parse(&MANIFEST.replace("\"replaced\"", "\"copied\"")).is_err());
    }
}
