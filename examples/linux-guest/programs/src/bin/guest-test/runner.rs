//! Runs one test after the other, each in a process of its own, and reports how they went.
//!
//! The process of a test leads a process group, which is killed when the test is over, so that no test leaves
//! processes to the next. It sends its verdict through a pipe; a test that crashes or hangs sends none.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2, setpgid};
use thiserror::Error;

use crate::Settings;
use crate::registry::{TESTS, Test};

/// Milliseconds after which the runner looks whether a silent test has crashed.
const LOOK_MS: u8 = 100;

/// What a test returns when something that it needs is not there.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Lacking(pub String);

/// What the command line requests.
pub enum Selection {
    /// A list of what there is.
    List,
    /// Tests.
    Tests {
        /// Those, in order.
        tests: Vec<&'static Test>,
        /// Whether the quick form was requested.
        short: bool,
    },
}

/// A name on the command line that is no test's.
#[derive(Debug, Error)]
#[error("there is no test `{0}`; `guest-test list` prints all, and `all` and `short` stand for many")]
pub struct UnknownTest(String);

impl Selection {
    /// Interprets the names on the command line.
    pub fn parse(names: &[String]) -> Result<Selection, UnknownTest> {
        let mut selected = Vec::new();
        let mut short = false;
        for name in names {
            match name.as_str() {
                "list" => return Ok(Selection::List),
                "all" => selected.extend(TESTS.iter().filter(|test| !test.alone)),
                "short" => {
                    short = true;
                    selected.extend(TESTS.iter().filter(|test| test.short && !test.alone));
                }
                _ => selected.push(
                    TESTS.iter().find(|test| test.name == name).ok_or_else(|| UnknownTest(name.clone()))?,
                ),
            }
        }
        Ok(Selection::Tests { tests: selected, short })
    }
}

/// How a test went.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Runs `tests`; returns whether none failed. With `may_lack`, only tests of these names may be skipped.
pub fn run(tests: &[&Test], settings: &Settings, limit: Duration, may_lack: Option<&[String]>) -> bool {
    println!("guest: seed {}", settings.seed);
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for test in tests {
        let verdict = run_one(test, settings, limit)
            .unwrap_or_else(|error| Verdict::Failed(format!("it cannot be run: {error:#}")));
        match verdict {
            Verdict::Passed => {
                passed += 1;
                println!("guest: ok {}", test.name);
            }
            Verdict::Skipped(why)
                if may_lack.is_none_or(|names| names.iter().any(|name| name == test.name)) =>
            {
                skipped += 1;
                println!("guest: skipped {}: {why}", test.name);
            }
            Verdict::Skipped(why) | Verdict::Failed(why) => {
                failed += 1;
                println!("guest: FAILED {}: {why}", test.name);
            }
        }
    }
    println!("guest: {passed} passed, {failed} failed, {skipped} skipped");
    failed == 0
}

fn run_one(test: &Test, settings: &Settings, limit: Duration) -> Result<Verdict> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("no pipe")?;
    // SAFETY: there is one thread.
    let child = match unsafe { fork() }.context("no process")? {
        ForkResult::Child => {
            drop(reader);
            // It can only fail if it was done already.
            let _ = setpgid(Pid::this(), Pid::this());
            let verdict = match (test.run)(settings) {
                Ok(()) => "ok".to_owned(),
                Err(error) if error.is::<Lacking>() => format!("skipped {error:#}"),
                Err(error) => format!("failed {error:#}"),
            };
            // Without a reader the verdict is lost.
            let _ = File::from(writer).write_all(verdict.as_bytes());
            process::exit(0);
        }
        ForkResult::Parent { child } => child,
    };
    drop(writer);
    // As in the child; whichever comes first.
    let _ = setpgid(child, child);

    let mut reader = File::from(reader);
    let begun = Instant::now();
    let mut ended = None;
    let told = loop {
        let ready = poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK_MS))
            .unwrap_or(0)
            > 0;
        if ready || ended.is_some() {
            break ready;
        }
        if begun.elapsed() > limit {
            break false;
        }
        ended = match waitpid(child, Some(WaitPidFlag::WNOHANG)).context("no news of the test")? {
            WaitStatus::StillAlive => None,
            status => Some(status),
        };
    };
    let mut text = [0; 2000];
    let len = if told { reader.read(&mut text).context("no verdict")? } else { 0 };
    if ended.is_none() && len == 0 && begun.elapsed() <= limit {
        ended = Some(waitpid(child, None).context("no news of the test")?);
    }
    // The group is gone if all of its processes have been reaped.
    let _ = killpg(child, Signal::SIGKILL);
    let timed_out = ended.is_none() && len == 0;
    if ended.is_none() {
        waitpid(child, None).context("no news of the test")?;
    }
    Ok(if timed_out {
        Verdict::Failed(format!("not done after {} s", limit.as_secs()))
    } else {
        verdict(&String::from_utf8_lossy(&text[..len]), ended)
    })
}

/// Interprets what a test's process sent, or how it ended if it sent nothing.
fn verdict(text: &str, ended: Option<WaitStatus>) -> Verdict {
    match text.split_once(' ').unwrap_or((text, "")) {
        ("ok", _) => Verdict::Passed,
        ("skipped", why) => Verdict::Skipped(why.to_owned()),
        ("failed", why) => Verdict::Failed(why.to_owned()),
        _ => Verdict::Failed(match ended {
            Some(WaitStatus::Signaled(_, signal, _)) => format!("its process was killed by {signal}"),
            other => format!("its process ended without a verdict ({other:?})"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        use clap::Parser;
        Settings::new(crate::Options::parse_from(["guest-test", "all"]), false)
    }

    fn verdict_of(run: fn(&Settings) -> Result<()>) -> Verdict {
        let test = Test { name: "t", help: "", short: false, alone: false, run };
        run_one(&test, &settings(), Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn every_way_to_end_has_its_verdict() {
        assert_eq!(verdict_of(|_| Ok(())), Verdict::Passed);
        assert_eq!(verdict_of(|_| Err(Lacking("a disk".into()).into())), Verdict::Skipped("a disk".into()));
        assert_eq!(verdict_of(|_| anyhow::bail!("this")), Verdict::Failed("this".into()));
        assert_eq!(
            verdict_of(|_| loop {
                std::thread::park();
            }),
            Verdict::Failed("not done after 1 s".into())
        );
        assert_eq!(
            verdict_of(|_| std::process::abort()),
            Verdict::Failed("its process was killed by SIGABRT".into())
        );
        let Verdict::Failed(why) = verdict_of(|_| process::exit(0)) else {
            panic!("no verdict is no success")
        };
        assert!(why.contains("without a verdict"), "{why}");
    }

    #[test]
    fn unknown_names_are_refused_and_alone_is_never_among_many() {
        assert!(Selection::parse(&["nosuch".to_owned()]).is_err());
        for many in ["all", "short"] {
            let Ok(Selection::Tests { tests, .. }) = Selection::parse(&[many.to_owned()]) else {
                panic!("{many}")
            };
            assert!(!tests.is_empty() && tests.iter().all(|test| !test.alone));
        }
    }
}
