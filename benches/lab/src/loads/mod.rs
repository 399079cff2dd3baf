//! The loads of the library of recorded traces: programs of Debian's, at work in the Linux guest.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`packages`] | the programs, by sets |
//! | [`disk`] | the guest's disk with them |
//!
//! What a load does is a script in `examples/linux-guest/loads`, which the guest runs from the disk.

use clap::builder::{PossibleValue, PossibleValuesParser};

mod disk;
mod packages;

pub use disk::make as make_disk;
use packages::{BASE, DESKTOP, GCC, MAKE, PERL, PYTHON, SQLITE, TCC, WEB};

/// The name that stands for all of them.
pub const ALL: &str = "all";

/// The names that can be given.
pub fn names() -> PossibleValuesParser {
    let all = LOADS.iter().map(|load| PossibleValue::new(load.name).help(load.what));
    all.chain([PossibleValue::new(ALL).help("all of them")]).collect::<Vec<_>>().into()
}

/// A load, and the guest in which it runs.
#[derive(Debug)]
pub struct Load {
    /// Its name, which the trace gets too.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// The script and its arguments.
    pub words: &'static str,
    /// The sets of packages on its disk.
    packages: &'static [&'static [&'static str]],
    /// The guest's memory in MiB.
    pub memory: u32,
}

/// All of them, in the order in which `--load all` records them.
pub const LOADS: [Load; 13] = [
    Load {
        name: "scripts",
        what: "a storm of shell scripts",
        words: "scripts 9",
        packages: &[BASE],
        memory: 64,
    },
    Load {
        name: "compile",
        what: "GCC's compiler proper and assembler, two files at a time",
        words: "build gcc 2 4",
        packages: &[BASE, MAKE, GCC],
        memory: 128,
    },
    Load {
        name: "make-j8",
        what: "make -j8 with a quick compiler",
        words: "build tcc 8 48",
        packages: &[BASE, MAKE, TCC],
        memory: 96,
    },
    Load {
        name: "sqlite",
        what: "SQLite, a process for each transaction of four clients",
        words: "sqlite 4 39",
        packages: &[BASE, SQLITE],
        memory: 64,
    },
    Load {
        name: "web",
        what: "Apache's prefork server with short-lived children and CGI",
        words: "web 180",
        packages: &[BASE, WEB],
        memory: 96,
    },
    Load {
        name: "python-tests",
        what: "Python's own tests, four at a time",
        words: "python-tests 4 bool textwrap string",
        packages: &[BASE, PYTHON],
        memory: 192,
    },
    Load {
        name: "pipelines",
        what: "pipelines that sort, count and compress",
        words: "pipelines 4",
        packages: &[BASE],
        memory: 96,
    },
    Load {
        name: "zipf16",
        what: "sixteen long-lived processes of Zipf popularity",
        words: "zipf 16 9000",
        packages: &[BASE, PERL],
        memory: 96,
    },
    Load {
        name: "zipf64",
        what: "sixty-four long-lived processes of Zipf popularity",
        words: "zipf 64 4200",
        packages: &[BASE, PERL],
        memory: 192,
    },
    Load {
        name: "desktop",
        what: "the start of a desktop without a display, and typing",
        words: "desktop 6",
        packages: &[BASE, DESKTOP],
        memory: 96,
    },
    Load {
        name: "mix-build-web",
        what: "a build beside a web server",
        words: "together build tcc 4 22 + web 60",
        packages: &[BASE, MAKE, TCC, WEB],
        memory: 128,
    },
    Load {
        name: "mix-zipf-scripts",
        what: "long-lived processes beside a storm of short ones",
        words: "together zipf 16 2200 + scripts 5",
        packages: &[BASE, PERL],
        memory: 96,
    },
    Load {
        name: "mix-sqlite-pipelines",
        what: "a database beside pipelines",
        words: "together sqlite 4 18 + pipelines 2",
        packages: &[BASE, SQLITE],
        memory: 128,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use xtask::process::output;

    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/linux-guest/loads")
    }

    #[test]
    fn every_load_runs_scripts_that_are_there_and_every_script_is_run() {
        let mut run = BTreeSet::new();
        for load in &LOADS {
            let words: Vec<_> = load.words.split(' ').collect();
            // Linux keeps 32 words for the first process (`CONFIG_INIT_ENV_ARG_LIMIT`), two of which are its name and `on-disk`.
            assert!(words.len() <= 30, "{} has {} words", load.name, words.len());
            let starts = words.iter().enumerate().filter(|(at, _)| *at == 0 || words[at - 1] == "+");
            run.extend(starts.map(|(_, word)| (*word).to_owned()));
            if words[0] == "together" {
                run.insert(words[1].to_owned());
            }
        }
        let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
        let scripts: BTreeSet<_> = entries.map(|name| name.into_string().unwrap()).collect();
        assert_eq!(run, scripts);
        let names: BTreeSet<_> = LOADS.iter().map(|load| load.name).collect();
        assert_eq!(names.len(), LOADS.len());
    }

    #[test]
    fn the_scripts_are_accepted_by_a_shell() {
        for entry in fs::read_dir(folder()).unwrap() {
            let path = entry.unwrap().path();
            if !fs::read_to_string(&path).unwrap().starts_with("#!/usr/bin/perl") {
                output(Command::new("bash").arg("-n").arg(&path)).unwrap();
            }
        }
    }
}
