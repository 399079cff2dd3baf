//! What the host VM has to do, and how it answers.
//!
//! A step is a shell script. All steps go into the VM's initial file system; its `init` (`vm/init.sh`) runs
//! them in order and frames the output of each with marker lines on the second serial line:
//!
//! ```text
//! @@ begin 03-two-guests
//! ... whatever the step prints ...
//! @@ end 03-two-guests rc=0
//! @@ done
//! ```
//!
//! The kernel's own messages take the first serial line, so that no message can fall into a marker. A step
//! whose end is missing did not end: the VM broke down in it. QEMU's exit status shows nothing.

use std::time::Duration;

/// One thing for the host VM to do.
#[derive(Debug, Clone)]
pub struct Step {
    /// A short name, such as `two-guests`; unique within a boot.
    pub name: String,
    /// A script for busybox's shell, which has the functions of `vm/lib.sh`.
    pub script: String,
    /// After this long in the VM's own time the script is killed.
    pub limit: Duration,
    /// Whether the kernel of a Linux guest may complain, as one that panics on demand does.
    pub guest_complains: bool,
}

impl Step {
    /// A step with the usual time limit.
    pub fn new(name: impl Into<String>, script: impl Into<String>) -> Step {
        Step {
            name: name.into(),
            script: script.into(),
            limit: Duration::from_secs(120),
            guest_complains: false,
        }
    }
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The script's exit status; none if the VM broke down before its end.
    pub status: Option<i32>,
    /// The lines that it printed.
    pub output: Vec<String>,
}

impl Outcome {
    /// Whether the script ran to its end and succeeded.
    pub fn passed(&self) -> bool {
        self.status == Some(0)
    }
}

/// What a line from the VM's second serial line means.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A step begins.
    Begin(&'a str),
    /// A step printed this.
    Output(&'a str),
    /// A step ended. Its last output may lack a line break and come before the marker.
    End {
        /// What the step printed on this line.
        output: &'a str,
        /// The script's exit status.
        status: i32,
    },
    /// All steps have run.
    Done,
}

/// Interprets one line.
pub fn parse(line: &str) -> Event<'_> {
    let line = line.trim_end_matches('\r');
    if line == "@@ done" {
        return Event::Done;
    }
    if let Some(name) = line.strip_prefix("@@ begin ") {
        return Event::Begin(name);
    }
    if let Some((output, marker)) = line.split_once("@@ end ")
        && let Some((_, status)) = marker.split_once(" rc=")
        && let Ok(status) = status.parse()
    {
        return Event::End { output, status };
    }
    Event::Output(line)
}

/// Takes a boot's console apart. Returns one outcome for each of the steps that began, in order, and whether
/// the VM came to the end of its list.
pub fn collect(console: &str) -> (Vec<Outcome>, bool) {
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut running = false;
    let mut done = false;
    for line in console.lines() {
        match parse(line) {
            Event::Begin(_) => {
                outcomes.push(Outcome { status: None, output: Vec::new() });
                running = true;
            }
            Event::Output(text) => {
                if let Some(outcome) = outcomes.last_mut().filter(|_| running) {
                    outcome.output.push(text.to_owned());
                }
            }
            Event::End { output, status } => {
                if let Some(outcome) = outcomes.last_mut().filter(|_| running) {
                    if !output.is_empty() {
                        outcome.output.push(output.to_owned());
                    }
                    outcome.status = Some(status);
                }
                running = false;
            }
            Event::Done => done = true,
        }
    }
    (outcomes, done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_boot() {
        let console = "early noise\r\n@@ begin 00-a\r\none\r\ntwo\r\n@@ end 00-a rc=0\r\n\
            @@ begin 01-b\r\nno line break@@ end 01-b rc=137\r\n@@ done\r\n";
        let (outcomes, done) = collect(console);
        assert!(done);
        assert_eq!(
            outcomes,
            [
                Outcome { status: Some(0), output: vec!["one".into(), "two".into()] },
                Outcome { status: Some(137), output: vec!["no line break".into()] },
            ]
        );
        assert!(outcomes[0].passed() && !outcomes[1].passed());
    }

    #[test]
    fn a_step_in_which_the_machine_broke_down_has_no_status() {
        let (outcomes, done) = collect("@@ begin 00-a\nhalf a li");
        assert!(!done);
        assert_eq!(outcomes, [Outcome { status: None, output: vec!["half a li".into()] }]);
        assert!(!outcomes[0].passed());
    }

    #[test]
    fn what_only_looks_like_a_marker_is_output() {
        assert_eq!(parse("@@ end x rc=abc"), Event::Output("@@ end x rc=abc"));
        assert_eq!(parse("echo @@ done"), Event::Output("echo @@ done"));
    }
}
