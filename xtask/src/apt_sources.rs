//! Reading the system's apt sources, to find from which mirror, and trusting which keys, this machine takes
//! its Debian packages. The private configuration of [`crate::apt`] uses the same mirror, so that no host
//! name is written down in this project and a machine behind a mirror of its own works.
//!
//! Both formats of sources.list(5) are read: one line per source, and deb822 stanzas.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};

/// The release that everything here is made for.
pub const SUITE: &str = "bookworm";
/// Its security updates.
pub const SECURITY_SUITE: &str = "bookworm-security";
/// Packages of later releases made to run on it; in the same archive as the release itself.
pub const BACKPORTS_SUITE: &str = "bookworm-backports";
/// Packages of still later releases, made to run on the next one; in the same archive, too.
pub const NEXT_BACKPORTS_SUITE: &str = "trixie-backports";

/// One suite of one archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The archive's address.
    pub uri: String,
    /// The suite, such as `bookworm`.
    pub suite: String,
    /// Options that list what to trust, as deb822 fields: (`Signed-By`, value). A value may span lines.
    pub trust: Vec<(String, String)>,
}

impl Source {
    /// This source as a deb822 stanza that requests package lists of `architectures` only.
    pub fn stanza(&self, architectures: &[&str]) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nArchitectures: {}\nTargets: Packages\n",
            self.uri,
            self.suite,
            architectures.join(" ")
        );
        for (field, value) in &self.trust {
            text.push_str(&format!("{field}: {value}\n"));
        }
        text
    }
}

/// Options of a source that bear on what apt trusts; all others concern the system's own use.
const TRUST_FIELDS: [&str; 3] = ["Signed-By", "Trusted", "Check-Valid-Until"];

/// All sources for component `main` under `etc` (`/etc/apt` on a real system), in apt's own order.
pub fn read_system(etc: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    if let Ok(text) = fs::read_to_string(etc.join("sources.list")) {
        sources.extend(parse_one_line(&text));
    }
    let mut parts: Vec<_> =
        fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    parts.sort();
    for path in parts {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|ext| ext.to_str()) {
            Some("list") => sources.extend(parse_one_line(&text)),
            Some("sources") => sources.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    sources
}

/// The source for `suite` among `system`'s.
pub fn of_suite<'a>(system: &'a [Source], suite: &str) -> Option<&'a Source> {
    system.iter().find(|source| source.suite == suite)
}

/// The source for the release itself.
///
/// # Errors
/// When the system has none.
pub fn of_release(system: &[Source]) -> Result<&Source> {
    of_suite(system, SUITE).ok_or_else(|| {
        anyhow!(
            "no apt source of this system offers the suite `{SUITE}`, component `main`: \
             add Debian 12's mirror to /etc/apt/sources.list and run this again"
        )
    })
}

/// Parses the one-line format: `deb [option=value ...] URI SUITE COMPONENT...`.
pub fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut trust = Vec::new();
    if let Some(after) = rest.strip_prefix('[') {
        let (options, after) = after.split_once(']')?;
        for (name, value) in options.split_whitespace().filter_map(|option| option.split_once('=')) {
            if let Some(field) = TRUST_FIELDS.iter().find(|field| field.eq_ignore_ascii_case(name)) {
                trust.push((field.to_string(), value.replace(',', " ")));
            }
        }
        rest = after.trim_start();
    }
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let usable = !uri.starts_with("cdrom:") && words.any(|component| component == "main");
    usable.then(|| Source { uri: uri.into(), suite: suite.into(), trust })
}

/// Parses deb822 stanzas; each combination of its URIs and suites is one source.
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for stanza in stanzas(text) {
        let field = |name: &str| {
            stanza.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        let has = |name, word| field(name).is_some_and(|value| value.split_whitespace().any(|w| w == word));
        let disabled = field("Enabled").is_some_and(|value| value.trim().eq_ignore_ascii_case("no"));
        if disabled || !has("Types", "deb") || !has("Components", "main") {
            continue;
        }
        let trust: Vec<_> = TRUST_FIELDS
            .iter()
            .filter_map(|name| field(name).map(|value| (name.to_string(), value.to_owned())))
            .collect();
        for uri in field("URIs").unwrap_or_default().split_whitespace() {
            for suite in field("Suites").unwrap_or_default().split_whitespace() {
                sources.push(Source { uri: uri.into(), suite: suite.into(), trust: trust.clone() });
            }
        }
    }
    sources
}

/// Splits into stanzas of (field, value); continuation lines stay in the value with their line breaks, as an
/// embedded key needs them.
fn stanzas(text: &str) -> Vec<Vec<(String, String)>> {
    let mut all = vec![Vec::<(String, String)>::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let current = all.last_mut().expect("never empty");
        if line.trim().is_empty() {
            all.push(Vec::new());
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = current.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            current.push((name.trim().into(), value.trim().into()));
        }
    }
    all.retain(|stanza| !stanza.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suite: &str, trust: &[(&str, &str)]) -> Source {
        let trust = trust.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Source { uri: uri.into(), suite: suite.into(), trust }
    }

    #[test]
    fn one_line_format() {
        let text = "# a comment\n\
            deb http://mirror.example/debian bookworm main contrib # trailing\n\
            deb-src http://mirror.example/debian bookworm main\n\
            deb [ arch=amd64 signed-by=/k/a.gpg,/k/b.gpg ] https://mirror.example/sec bookworm-security main\n\
            deb cdrom:[Debian 12]/ bookworm main\n\
            deb http://mirror.example/extra bookworm non-free\n\
            debug http://mirror.example/debian bookworm main\n";
        assert_eq!(
            parse_one_line(text),
            [
                source("http://mirror.example/debian", "bookworm", &[]),
                source(
                    "https://mirror.example/sec",
                    "bookworm-security",
                    &[("Signed-By", "/k/a.gpg /k/b.gpg")]
                ),
            ]
        );
    }

    #[test]
    fn deb822_gives_every_combination() {
        let text = "Types: deb deb-src\n# note\nURIs: http://a.example/debian http://b.example/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k/debian.gpg\n\n\n\
            Types: deb-src\nURIs: http://c.example\nSuites: bookworm\nComponents: main\n\n\
            Enabled: no\nTypes: deb\nURIs: http://d.example\nSuites: bookworm\nComponents: main\n";
        let trust: &[(&str, &str)] = &[("Signed-By", "/k/debian.gpg")];
        assert_eq!(
            parse_deb822(text),
            [
                source("http://a.example/debian", "bookworm", trust),
                source("http://a.example/debian", "bookworm-updates", trust),
                source("http://b.example/debian", "bookworm", trust),
                source("http://b.example/debian", "bookworm-updates", trust),
            ]
        );
    }

    #[test]
    fn an_embedded_key_survives_the_round_trip() {
        let key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----";
        let text = format!(
            "Types: deb\nURIs: http://a.example\nSuites: bookworm\nComponents: main\nSigned-By:{key}\n"
        );
        let parsed = parse_deb822(&text);
        assert_eq!(parsed, [source("http://a.example", "bookworm", &[("Signed-By", key)])]);
        assert_eq!(parse_deb822(&parsed[0].stanza(&["amd64", "i386"])), parsed);
    }

    #[test]
    fn reads_a_system_folder_in_order_and_ignores_other_files() {
        let etc = tempfile::tempdir().unwrap();
        let parts = etc.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        fs::write(etc.path().join("sources.list"), "deb http://one.example bookworm main\n").unwrap();
        fs::write(parts.join("b.list"), "deb http://three.example bookworm main\n").unwrap();
        fs::write(
            parts.join("a.sources"),
            "Types: deb\nURIs: http://two.example\nSuites: bookworm\nComponents: main\n",
        )
        .unwrap();
        fs::write(parts.join("c.list.disabled"), "deb http://four.example bookworm main\n").unwrap();
        let uris: Vec<_> = read_system(etc.path()).into_iter().map(|s| s.uri).collect();
        assert_eq!(uris, ["http://one.example", "http://two.example", "http://three.example"]);
    }
}
