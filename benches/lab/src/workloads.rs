//! The workloads that there are, by their names in the guests, and short names for several.

use anyhow::{Result, bail};
use xtask::flavour::Flavour;

/// What runs as the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Guest {
    /// The small kernel of examples/mini-guest
    Mini,
    /// Debian's Linux with our port
    Linux,
}

impl Guest {
    /// As it is named in options and results.
    pub fn name(self) -> &'static str {
        match self {
            Guest::Mini => "mini",
            Guest::Linux => "linux",
        }
    }

    /// All its workloads.
    fn workloads(self) -> &'static [&'static str] {
        match self {
            Guest::Mini => MINI,
            Guest::Linux => LINUX,
        }
    }
}

/// Not a program's workload: Linux's way from its first instruction to its first process.
pub const BOOT: &str = "boot";

/// The same with all of the guest's memory taken from the host before: what finding pages for it costs is not in it.
pub const BOOT_PREALLOC: &str = "boot-prealloc";

/// Whether a workload is one of the boots, which no program in the guest runs.
pub fn is_boot(workload: &str) -> bool {
    [BOOT, BOOT_PREALLOC].contains(&workload)
}

/// Workloads of the Linux guest (`examples/linux-guest/programs/src/bin/guest-bench/workloads.rs`), and the boots.
const LINUX: &[&str] =
    &[BOOT, BOOT_PREALLOC, "getpid", "ctx2", "ctx4", "ctx6", "ctx16", "fork", "cow256", "mmap1000", "exec"];

/// Workloads of the example guest (`examples/mini-guest/programs/src/workloads.rs`).
const MINI: &[&str] = &[
    "null",
    "hypercall",
    "ctx2",
    "ctx4",
    "ctx6",
    "ctx8",
    "ctx16",
    "ctx32",
    "ctx64",
    "ctx2p16",
    "ctx4p16",
    "ctx6p16",
    "ctx8p16",
    "ctx16p16",
    "ctx32p16",
    "ctx64p16",
    "ctx2p64",
    "ctx4p64",
    "ctx6p64",
    "ctx8p64",
    "ctx16p64",
    "ctx32p64",
    "ctx64p64",
    "zipf32",
    "fork",
    "exec",
    "cow256",
    "mmap1000",
    "fault",
    "kmap",
    "vmalloc",
    "compile",
];

/// The guest's memory in MiB: enough for 64 processes with 64 pages each.
pub const MEMORY: u32 = 64;

/// The words for the Linux guest's kernel under which it prints its programs' marks, which are messages of its, on the console, too.
pub const LINUX_PRINTS_MARKS: &str = "loglevel=1 keep_bootcon printk.time=0";

/// The words for a guest's kernel on the bare machine that has it do `percent` of a workload's usual operations.
pub fn on_the_bare_machine(
    guest: Guest,
    workload: &str,
    seed: u32,
    percent: u32,
    flavour: Flavour,
) -> String {
    let levels = if flavour == Flavour::Pae { 3 } else { 2 };
    match guest {
        Guest::Mini => format!("lguest.paging={levels} bench={workload} seed={seed} scale={percent}"),
        Guest::Linux if is_boot(workload) => "printk.time=1 -- true".to_owned(),
        Guest::Linux => format!("printk.time=0 -- span {workload} {percent}"),
    }
}

/// The workloads of `guest` that `words` name: each a workload, `all`, `ctx` (context switches among all numbers of
/// processes), `ctxp16` and `ctxp64` (the same with working sets of so many pages).
///
/// # Errors
/// Names what is no workload, and all that are.
pub fn named(guest: Guest, words: &[String]) -> Result<Vec<&'static str>> {
    let mut chosen = Vec::new();
    for word in words {
        let group = |name: &&&str| match word.as_str() {
            "all" => true,
            "ctx" => processes(name).is_some_and(|(_, pages)| pages == 0),
            "ctxp16" => processes(name).is_some_and(|(_, pages)| pages == 16),
            "ctxp64" => processes(name).is_some_and(|(_, pages)| pages == 64),
            word => **name == word,
        };
        let before = chosen.len();
        chosen.extend(guest.workloads().iter().filter(group));
        if chosen.len() == before {
            let all = guest.workloads().join(", ");
            bail!("this guest has no workload `{word}`; it has all, ctx, {all}");
        }
    }
    let mut seen = Vec::new();
    chosen.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    Ok(chosen)
}

/// Processes of a context-switch workload, and the pages of each one's working set.
pub fn processes(name: &str) -> Option<(u32, u32)> {
    let numbers = name.strip_prefix("ctx")?;
    let (processes, pages) = numbers.split_once('p').unwrap_or((numbers, "0"));
    Some((processes.parse().ok()?, pages.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Vec<&'static str> {
        named(Guest::Mini, &words.iter().map(|word| word.to_string()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn groups_are_taken_apart_and_nothing_comes_twice() {
        assert_eq!(
            of(&["ctx4", "ctx", "null"]),
            ["ctx4", "ctx2", "ctx6", "ctx8", "ctx16", "ctx32", "ctx64", "null"]
        );
        assert_eq!(of(&["ctxp64"]).len(), 7);
        assert_eq!(of(&["all"]), MINI);
    }

    #[test]
    fn an_unknown_one_is_named() {
        for (guest, word) in [(Guest::Mini, "ctx3"), (Guest::Linux, "ctxp16"), (Guest::Linux, "vmalloc")] {
            let error = named(guest, &[word.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(&format!("`{word}`")) && error.contains("mmap1000"), "{error}");
        }
    }
}
