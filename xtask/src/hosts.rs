//! The kernels that the module is tested on: Debian 12's two, those of other packages that a person can install, and those that
//! a person can build of Debian's sources.
//!
//! `cargo xtask test` takes Debian 12's two; `--host NAME` takes one of these, `--host all` all of them.

use anyhow::{Result, bail};

use crate::flavour::Flavour;
use crate::line::Line;

/// A kernel that the module is tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Which packages it comes from, or which source.
    pub line: Line,
    /// Its page-table format.
    pub flavour: Flavour,
}

/// All of them; the first two are what everything else here is tested on.
pub const HOSTS: [Host; 9] = [
    Host { name: "6.1-686", line: Line::Bookworm, flavour: Flavour::Plain },
    Host { name: "6.1-686-pae", line: Line::Bookworm, flavour: Flavour::Pae },
    Host { name: "6.1-rt-686-pae", line: Line::RealTime, flavour: Flavour::Pae },
    Host { name: "5.10-686", line: Line::Bullseye, flavour: Flavour::Plain },
    Host { name: "5.10-686-pae", line: Line::Bullseye, flavour: Flavour::Pae },
    Host { name: "6.12-686", line: Line::Source612, flavour: Flavour::Plain },
    Host { name: "6.12-686-pae", line: Line::Source612, flavour: Flavour::Pae },
    Host { name: "7.3-686", line: Line::Source73, flavour: Flavour::Plain },
    Host { name: "7.3-686-pae", line: Line::Source73, flavour: Flavour::Pae },
];

/// What stands for all of them on the command line.
const ALL: &str = "all";

/// Those that are named, in the order of [`HOSTS`].
///
/// # Errors
/// When one of the names is none of a host's.
pub fn chosen(names: &[String]) -> Result<Vec<Host>> {
    let known = |name: &String| name == ALL || HOSTS.iter().any(|host| host.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let names = HOSTS.map(|host| host.name).join(", ");
        bail!("there is no host `{unknown}`; there are {names}, and `{ALL}`");
    }
    let wanted = |host: &Host| names.iter().any(|name| name == ALL || name == host.name);
    Ok(HOSTS.into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn names_of(hosts: &[Host]) -> Vec<&str> {
        hosts.iter().map(|host| host.name).collect()
    }

    #[test]
    fn hosts_are_chosen_by_name_once_each_and_in_order() {
        let choose = |names: &[&str]| chosen(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert_eq!(names_of(&choose(&["5.10-686", "6.1-686", "5.10-686"]).unwrap()), ["6.1-686", "5.10-686"]);
        assert_eq!(choose(&["5.10-686", "all"]).unwrap(), HOSTS);
        let error = choose(&["all", "4.19-686"]).unwrap_err().to_string();
        assert!(error.contains("`4.19-686`") && error.contains("6.1-rt-686-pae"), "{error}");
    }

    #[test]
    fn every_kernel_of_a_line_is_a_host() {
        for line in Line::ALL {
            for flavour in line.flavours() {
                assert!(HOSTS.iter().any(|host| host.line == line && host.flavour == *flavour), "{line:?}");
            }
        }
        assert!(HOSTS.iter().all(|host| host.line.flavours().contains(&host.flavour)));
        assert!(HOSTS[..2].iter().all(|host| host.line == Line::Bookworm));
    }

    #[test]
    fn the_document_of_hosts_has_a_row_for_each() {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hosts.md");
        let document = fs::read_to_string(document).unwrap();
        for host in HOSTS {
            assert!(document.contains(&format!("| `{}` |", host.name)), "{}", host.name);
        }
    }

    #[test]
    fn dkms_makes_the_module_for_those_that_are_packages_and_no_others() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packages/debian/lguest-dkms.dkms");
        let text = fs::read_to_string(file).unwrap();
        let pattern = text.lines().find_map(|line| line.strip_prefix("BUILD_EXCLUSIVE_KERNEL=\"")).unwrap();
        let pattern = pattern.trim_end_matches('"');
        let made_for = |release: &str| {
            let script = "printf '%s\\n' \"$1\" | grep -qE \"$2\"";
            Command::new("sh").args(["-c", script, "sh", release, pattern]).status().unwrap().success()
        };
        for host in HOSTS.iter().filter(|host| host.line.source().is_none()) {
            let series = if host.line == Line::Bullseye { "5.10.0-32" } else { "6.1.0-50" };
            let release = format!("{series}-{}", host.line.kernel(host.flavour));
            assert!(made_for(&release), "{release}");
        }
        for other in
            ["6.12.1-686", "5.10.0-32-rt-686-pae", "6.1.0-50-amd64", "6.1.0-0.deb11.52-686", "6.1.0-50-686-x"]
        {
            assert!(!made_for(other), "{other}");
        }
    }

    #[test]
    fn one_file_of_the_module_looks_at_the_kernels_version() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kmod");
        let mut looking = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ext| ext == "c" || ext == "h" || ext == "S") {
                let text = fs::read_to_string(&path).unwrap();
                let looks = ["LINUX_VERSION_CODE", "KERNEL_VERSION", "linux/version.h"];
                if looks.iter().any(|word| text.contains(word)) {
                    looking.push(path.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
        assert_eq!(looking, ["lg_compat.h"]);
    }
}
