//! The guest's options: words of the command line.
//!
//! ```text
//! test=quick|full|none   run the tests (full when nothing else is requested)
//! measure                measure some workloads (also when nothing else is requested)
//! bench=NAME             measure one; Workload lists the names, ctx16p64 is ctx with 16 processes of 64 pages
//! scale=N                percent of the workloads' usual operations, 1 to 1000000 (100)
//! seed=N                 seed of everything random
//! procs=N                processes that fill and verify memory, 1 to 48 (16)
//! spin                   run for ever
//! result=N               end with this result when all went well (0)
//! crash                  end with a panic
//! restart                request a restart instead of running
//! hostile=NAME           misbehave; HostileAct lists the names
//! lguest.paging=2|3      the page format, read by the kernel's first instructions
//! ```

use core::fmt;
use mini_programs::abi::{Effort, FAILED, HostileAct, RunOptions, SEMAPHORES, Workload};

/// The most processes that `procs=` may request; the tests need some more for themselves.
const MAX_HAMMERS: u32 = 48;

/// The most pages of a process's working set that `bench=ctxNpN` may request.
const MAX_PAGES: u32 = 64;

/// Why a command line cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCommandLine<'a> {
    /// A word that means nothing.
    #[error(
        "unknown option `{0}`; there are test=, measure, bench=, scale=, seed=, procs=, spin, result=, crash, restart, hostile="
    )]
    Unknown(&'a str),
    /// A word that means something, with a value that does not.
    #[error("bad value in `{word}`; expected {expected}")]
    Value {
        /// The whole word.
        word: &'a str,
        /// What would be right.
        expected: &'static str,
    },
    /// No such workload.
    #[error(
        "there is no workload `{0}`; there are: {names}, and ctx2 to ctx64, as ctx16p64 with 64 pages for each process",
        names = Names(Workload::ALL, Workload::name)
    )]
    Workload(&'a str),
    /// No such misbehaviour.
    #[error("there is no hostile act `{0}`; there are: {names}", names = Names(HostileAct::ALL, HostileAct::name))]
    Hostile(&'a str),
}

/// Displays the names of all of a kind.
struct Names<T: 'static>(&'static [T], fn(T) -> &'static str);

impl<T: Copy> fmt::Display for Names<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, &one) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { ", " } else { "" }, self.1(one))?;
        }
        Ok(())
    }
}

/// A workload by its name, with the processes and pages that `ctx` has behind it.
fn workload(name: &str) -> Option<(Workload, u32, u32)> {
    let context_switch = || {
        let numbers = name.strip_prefix(Workload::ContextSwitch.name())?;
        let (ring, pages) = numbers.split_once('p').unwrap_or((numbers, "0"));
        let (ring, pages) = (ring.parse().ok()?, pages.parse().ok()?);
        let possible = (2..=SEMAPHORES as u32).contains(&ring) && pages <= MAX_PAGES;
        possible.then_some((Workload::ContextSwitch, ring, pages))
    };
    let plain = |workload: &&Workload| workload.name() == name && **workload != Workload::ContextSwitch;
    match Workload::ALL.iter().find(plain) {
        Some(&workload) => Some((workload, 0, 0)),
        None => context_switch(),
    }
}

/// Reads the options.
///
/// # Errors
/// Names the first word that is wrong, and what would be right.
pub fn parse(line: &str) -> Result<RunOptions, BadCommandLine<'_>> {
    let mut effort = None;
    let mut options = RunOptions {
        effort: Effort::None,
        measure: false,
        spin: false,
        crash: false,
        restart: false,
        seed: 1,
        processes: 16,
        result: 0,
        hostile: FAILED,
        workload: FAILED,
        ring: 0,
        pages: 0,
        scale: 100,
    };
    for word in line.split_ascii_whitespace() {
        let number = |value: &str| {
            value.parse().map_err(|_| BadCommandLine::Value { word, expected: "a number below 2^32" })
        };
        match word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value))) {
            ("test", Some("quick")) => effort = Some(Effort::Quick),
            ("test", Some("full")) => effort = Some(Effort::Full),
            ("test", Some("none")) => effort = Some(Effort::None),
            ("test", _) => return Err(BadCommandLine::Value { word, expected: "test=quick, full or none" }),
            ("measure", None) => options.measure = true,
            ("spin", None) => options.spin = true,
            ("crash", None) => options.crash = true,
            ("restart", None) => options.restart = true,
            ("seed", Some(value)) => options.seed = number(value)?,
            ("result", Some(value)) => options.result = number(value)?,
            ("procs", Some(value)) => {
                options.processes = number(value)?;
                if !(1..=MAX_HAMMERS).contains(&options.processes) {
                    return Err(BadCommandLine::Value { word, expected: "a number from 1 to 48" });
                }
            }
            ("bench", Some(name)) => {
                let (workload, ring, pages) = workload(name).ok_or(BadCommandLine::Workload(name))?;
                (options.workload, options.ring, options.pages) = (workload as u32, ring, pages);
            }
            ("scale", Some(value)) => {
                options.scale = number(value)?;
                if !(1..=1_000_000).contains(&options.scale) {
                    return Err(BadCommandLine::Value { word, expected: "a number from 1 to 1000000" });
                }
            }
            ("hostile", Some(name)) => {
                let act = HostileAct::ALL.iter().find(|act| act.name() == name);
                options.hostile = *act.ok_or(BadCommandLine::Hostile(name))? as u32;
            }
            ("lguest.paging", Some("2" | "3")) => {}
            ("lguest.paging", _) => return Err(BadCommandLine::Value { word, expected: "2 or 3" }),
            _ => return Err(BadCommandLine::Unknown(word)),
        }
    }
    let asked = options.measure
        || options.spin
        || options.crash
        || options.restart
        || options.hostile != FAILED
        || options.workload != FAILED;
    match effort {
        Some(effort) => options.effort = effort,
        None if asked || options.result != 0 => {}
        None => (options.effort, options.measure) = (Effort::Full, true),
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_asked_means_everything() {
        let options = parse(" lguest.paging=3  seed=7").unwrap();
        assert_eq!((options.effort, options.measure, options.seed), (Effort::Full, true, 7));
    }

    #[test]
    fn what_is_asked_is_all_there_is() {
        let options = parse("spin procs=3").unwrap();
        assert_eq!((options.effort, options.measure, options.spin), (Effort::None, false, true));
        assert_eq!(options.processes, 3);
        let options = parse("restart").unwrap();
        assert_eq!((options.effort, options.restart, options.crash), (Effort::None, true, false));
        let options = parse("test=quick result=9").unwrap();
        assert_eq!((options.effort, options.measure, options.result), (Effort::Quick, false, 9));
    }

    #[test]
    fn every_hostile_act_has_a_name_of_its_own() {
        for &act in HostileAct::ALL {
            let line = format!("hostile={}", act.name());
            assert_eq!(parse(&line).unwrap().hostile, act as u32);
        }
    }

    #[test]
    fn workloads_have_their_numbers_behind_the_name() {
        let options = parse("bench=ctx16p64 scale=25").unwrap();
        assert_eq!(options.workload, Workload::ContextSwitch as u32);
        assert_eq!((options.ring, options.pages, options.scale), (16, 64, 25));
        assert_eq!((options.effort, options.measure), (Effort::None, false));
        assert_eq!(parse("bench=ctx2").map(|o| (o.ring, o.pages)), Ok((2, 0)));
        for &workload in Workload::ALL.iter().filter(|&&w| w != Workload::ContextSwitch) {
            let line = format!("bench={}", workload.name());
            assert_eq!(parse(&line).unwrap().workload, workload as u32);
        }
        for name in ["ctx", "ctx1", "ctx65", "ctx2p65", "ctx2p", "cpu", ""] {
            let line = format!("bench={name}");
            assert_eq!(parse(&line), Err(BadCommandLine::Workload(name)));
        }
        assert!(parse("bench=cpu").unwrap_err().to_string().contains("mmap1000, fault"));
    }

    #[test]
    fn errors_name_the_word() {
        assert_eq!(parse("test=quick fast"), Err(BadCommandLine::Unknown("fast")));
        assert_eq!(parse("hostile=evil"), Err(BadCommandLine::Hostile("evil")));
        for word in ["procs=0", "procs=49", "seed=x", "test=all", "scale=0", "lguest.paging=4"] {
            assert!(matches!(parse(word), Err(BadCommandLine::Value { word: w, .. }) if w == word), "{word}");
        }
        let message = parse("hostile=evil").unwrap_err().to_string();
        assert!(message.contains("`evil`") && message.contains("sysenter-user"), "{message}");
    }
}
