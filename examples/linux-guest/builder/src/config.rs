//! A kernel's configuration: fragments laid over one another, and the proof that Linux took them as they are.
//!
//! Linux's configurator drops what it does not know and what depends on something that is off, without an
//! error; a kernel that lacks a requested option would be found out much later. So every option of the
//! fragments is looked up in the configuration that came out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Options by their names without `CONFIG_`; `n` for one that is off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    /// Lays the fragments in `files` over one another: a later one goes before an earlier one.
    ///
    /// # Errors
    /// When one cannot be read or holds a line that does not concern an option.
    pub fn merged<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<Config> {
        let mut all = Config::default();
        for file in files {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let fragment = Config::parse(&text).with_context(|| file.display().to_string())?;
            all.0.extend(fragment.0);
        }
        Ok(all)
    }

    /// Parses a fragment, or a whole `.config`.
    fn parse(text: &str) -> Result<Config> {
        let mut options = BTreeMap::new();
        for line in text.lines().map(str::trim) {
            let set = line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('='));
            let off = line
                .strip_prefix("# CONFIG_")
                .and_then(|rest| rest.strip_suffix(" is not set"))
                .map(|name| (name, "n"));
            match set.or(off) {
                Some((name, value)) => {
                    options.insert(name.to_owned(), value.to_owned());
                }
                None if line.is_empty() || line.starts_with('#') => {}
                None => bail!("`{line}` is neither CONFIG_NAME=value nor `# CONFIG_NAME is not set`"),
            }
        }
        Ok(Config(options))
    }

    /// This one without what would be a module, but for those in `kept`.
    pub fn without_modules(mut self, kept: &[&str]) -> Config {
        for (name, value) in &mut self.0 {
            if value == "m" && !kept.contains(&name.as_str()) {
                *value = "n".to_owned();
            }
        }
        self
    }

    /// This one with `over` laid over it.
    pub fn overlaid(mut self, over: &Config) -> Config {
        self.0.extend(over.0.clone());
        self
    }

    /// As Linux reads it.
    pub fn text(&self) -> String {
        let line = |(name, value): (&String, &String)| match value.as_str() {
            "n" => format!("# CONFIG_{name} is not set\n"),
            value => format!("CONFIG_{name}={value}\n"),
        };
        self.0.iter().map(line).collect()
    }

    /// Whether the option is on, in the kernel or as a module.
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value != "n")
    }

    /// Compares the requested options with the result, the `.config` in `file`.
    ///
    /// # Errors
    /// When options came out otherwise; the message names them.
    pub fn check_survived(&self, file: &Path) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let came_out = Config::parse(&text).with_context(|| file.display().to_string())?;
        let lost = self.lost(&came_out);
        if !lost.is_empty() {
            bail!(
                "Linux's configurator did not take {}: see in its Kconfig files what each depends on, and add \
                 that to the fragment or leave the option out",
                lost.join(", ")
            );
        }
        Ok(())
    }

    fn lost(&self, came_out: &Config) -> Vec<String> {
        let value_of = |name: &str| came_out.0.get(name).map_or("n", String::as_str);
        self.0
            .iter()
            .filter(|(name, value)| value_of(name) != value.as_str())
            .map(|(name, value)| format!("CONFIG_{name}={value} (it is {})", value_of(name)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_fragments_go_before_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (base, more) = (folder.path().join("base"), folder.path().join("more"));
        fs::write(&base, "# a comment\nCONFIG_NET=y\nCONFIG_HZ=250\n\n").unwrap();
        fs::write(&more, "# CONFIG_NET is not set\nCONFIG_CMDLINE=\"a=b c\"\n").unwrap();
        let merged = Config::merged([base.as_path(), more.as_path()]).unwrap();
        assert_eq!(merged.text(), "CONFIG_CMDLINE=\"a=b c\"\nCONFIG_HZ=250\n# CONFIG_NET is not set\n");
        assert!(merged.has("HZ") && !merged.has("NET") && !merged.has("EXT4_FS"));
        fs::write(&more, "NET=y\n").unwrap();
        let error = format!("{:#}", Config::merged([more.as_path()]).unwrap_err());
        assert!(error.contains("more") && error.contains("`NET=y`"), "{error}");
    }

    #[test]
    fn modules_go_but_for_those_that_are_kept() {
        let config = Config::parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=m\nCONFIG_D=\"m\"\n").unwrap();
        let fragment = Config::parse("# CONFIG_A is not set\nCONFIG_E=y\n").unwrap();
        assert_eq!(
            config.without_modules(&["C"]).overlaid(&fragment).text(),
            "# CONFIG_A is not set\n# CONFIG_B is not set\nCONFIG_C=m\nCONFIG_D=\"m\"\nCONFIG_E=y\n"
        );
    }

    #[test]
    fn what_the_configurator_dropped_is_named() {
        let wanted = Config::parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=y\n# CONFIG_D is not set\n").unwrap();
        let came_out = Config::parse("CONFIG_A=y\nCONFIG_B=y\nCONFIG_EXTRA=y\n").unwrap();
        assert_eq!(wanted.lost(&came_out), ["CONFIG_B=m (it is y)", "CONFIG_C=y (it is n)"]);
        let came_out = Config::parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=y\nCONFIG_D=y\n").unwrap();
        assert_eq!(wanted.lost(&came_out), ["CONFIG_D=n (it is y)"]);
    }
}
