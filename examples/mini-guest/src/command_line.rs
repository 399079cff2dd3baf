//! The guest's options: words of the command line.
//!
//! ```text
//! test=quick|full|none   run the tests (full when nothing else is asked for)
//! measure                print measurements (also when nothing else is asked for)
//! seed=N                 seed of everything random
//! procs=N                processes that fill and verify memory, 1 to 48 (16)
//! spin                   run for ever
//! result=N               end with this result when all went well (0)
//! crash                  end with a panic
//! hostile=NAME           misbehave; HostileAct lists the names
//! lguest.paging=2|3      the page format, read by the kernel's first instructions
//! ```

use core::fmt;
use mini_programs::abi::{Effort, FAILED, HostileAct, RunOptions};

/// The most processes that `procs=` may ask for; the tests need some more for themselves.
const MAX_HAMMERS: u32 = 48;

/// Why a command line cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCommandLine<'a> {
    /// A word that means nothing.
    #[error("unknown option `{0}`; there are test=, measure, seed=, procs=, spin, result=, crash, hostile=")]
    Unknown(&'a str),
    /// A word that means something, with a value that does not.
    #[error("bad value in `{word}`; expected {expected}")]
    Value {
        /// The whole word.
        word: &'a str,
        /// What would be right.
        expected: &'static str,
    },
    /// No such misbehaviour.
    #[error("there is no hostile act `{0}`; there are: {names}", names = HostileNames)]
    Hostile(&'a str),
}

/// Displays the names of all hostile acts.
#[derive(Clone, Copy, Debug)]
struct HostileNames;

impl fmt::Display for HostileNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, act) in HostileAct::ALL.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { ", " } else { "" }, act.name())?;
        }
        Ok(())
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
        seed: 1,
        processes: 16,
        result: 0,
        hostile: FAILED,
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
            ("seed", Some(value)) => options.seed = number(value)?,
            ("result", Some(value)) => options.result = number(value)?,
            ("procs", Some(value)) => {
                options.processes = number(value)?;
                if !(1..=MAX_HAMMERS).contains(&options.processes) {
                    return Err(BadCommandLine::Value { word, expected: "a number from 1 to 48" });
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
    let asked = options.measure || options.spin || options.crash || options.hostile != FAILED;
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
    fn errors_name_the_word() {
        assert_eq!(parse("test=quick fast"), Err(BadCommandLine::Unknown("fast")));
        assert_eq!(parse("hostile=evil"), Err(BadCommandLine::Hostile("evil")));
        for word in ["procs=0", "procs=49", "seed=x", "test=all", "lguest.paging=4"] {
            assert!(matches!(parse(word), Err(BadCommandLine::Value { word: w, .. }) if w == word), "{word}");
        }
        let message = parse("hostile=evil").unwrap_err().to_string();
        assert!(message.contains("`evil`") && message.contains("sysenter-user"), "{message}");
    }
}
