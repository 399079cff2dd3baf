//! What the tests do in the host VM: a list of scripts (`vm/scenarios`), each a check of its own, run on every kernel and
//! number of processors.
//!
//! The scripts run in this order in one boot, so what one leaves behind another may stumble over; each ends by
//! taking the module out, which proves that nothing is held (`unload` in `vm/lib.sh`). `$GUEST` is the
//! example guest; its options are in `examples/mini-guest/src/command_line.rs`, the launcher's exit codes in
//! `userland-launcher/src/outcome.rs`.

pub mod border;

use std::time::Duration;

use crate::steps::Step;

/// One check in the host VM.
pub struct Scenario {
    /// Its name, unique among all.
    pub name: &'static str,
    /// Seconds of the VM's own time after which it has failed.
    pub limit: u64,
    /// What is done, in lines for a shell that has the functions of `vm/lib.sh`.
    pub script: &'static str,
}

impl Scenario {
    /// As a step, after the lines of `prelude`.
    pub fn step(&self, prelude: &str) -> Step {
        let lines = self.script.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
        let step = Step::new(self.name, format!("{prelude}\n{lines}"));
        Step { limit: Duration::from_secs(self.limit), ..step }
    }
}

/// The scenario of this name, whose script is in the file of that name, and its limit.
macro_rules! scenario {
    ($name:literal, $limit:expr) => {
        $crate::scenarios::Scenario {
            name: $name,
            limit: $limit,
            script: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/vm/scenarios/", $name, ".sh")),
        }
    };
}
use scenario;

/// Enough for anything but a long list of guests.
pub const USUAL: u64 = 120;

/// The scenarios that want [`MODULE_WITH_PLUGIN`].
pub const WITH_PLUGIN: [&str; 2] = [PLUG_IN, ROGUE_PLUGIN];
const PLUG_IN: &str = "plug-in";
const ROGUE_PLUGIN: &str = "rogue-plugin";

/// The name, among the guests, of a module that was built with the plug-ins of [`PLUGINS`].
pub const MODULE_WITH_PLUGIN: &str = "lg-with-plugin.ko";

/// The crates whose plug-ins are tried in the host VM.
pub const PLUGINS: [&str; 2] = ["examples/policy-plugin", "examples/rogue-plugin"];

const SCENARIOS: &[Scenario] = &[
    scenario!("full-test-on-lguest", USUAL),
    scenario!("swapped-out", 300),
    scenario!("tables-are-charged", USUAL),
    scenario!("full-test-on-lru", USUAL),
    scenario!("choice-of-strategy", USUAL),
    scenario!("audited", 300),
    scenario!("full-test-on-shared", USUAL),
    scenario!("page-formats", USUAL),
    scenario!("reflected-faults", 300),
    scenario!("switches-in-the-switcher", 300),
    scenario!("fills-in-the-switcher", 600),
    scenario!("learnt-ahead", USUAL),
    scenario!("devices-on-pci", USUAL),
    scenario!("result-of-the-guest", USUAL),
    scenario!("two-guests", USUAL),
    scenario!("processors-come-and-go", 300),
    scenario!("kill-9-of-a-launcher", USUAL),
    scenario!("rmmod-while-a-guest-runs", USUAL),
    scenario!("strategy-that-is-not-there", USUAL),
    scenario!("parameters", USUAL),
    scenario!("plug-in", USUAL),
    scenario!("rogue-plugin", 900),
    scenario!("what-is-no-kernel", USUAL),
    scenario!("no-module", USUAL),
    scenario!("load-and-unload", USUAL),
    scenario!("recording", USUAL),
    scenario!("trace-events", 600),
    scenario!("live-views", 600),
    scenario!("allocations-fail-on-load", 600),
    scenario!("allocations-fail-in-a-life", 1200),
    // What the launcher gives up and what it keeps from others.
    scenario!("user-of-the-launcher", USUAL),
    scenario!("user-and-restarts", USUAL),
    scenario!("users-that-are-none", USUAL),
    scenario!("confinement-of-the-launcher", USUAL),
    scenario!("disks-are-locked", USUAL),
    scenario!("monitor-of-a-guest", USUAL),
    scenario!("cpu-time", USUAL),
    scenario!("debugger-on-a-guest", USUAL),
    scenario!("last-word-without-escapes", USUAL),
    // Users who are not root.
    scenario!("users-of-the-group", 300),
    scenario!("guests-of-each-user", 300),
    scenario!("memory-of-each-user", 300),
    scenario!("hostile-guests", 900),
];

/// The functions that only these scripts need.
const PRELUDE: &str = "GUEST=/guests/mini-guest
# ticks PID: hundredths of a second of processor time that this process has had.
ticks() {
    # User mode time in clock ticks, the 14th word; a guest's time is its launcher's system time, the 15th.
    set -- $(cat /proc/$1/stat)
    echo $((${14} + ${15}))
}
# has_more PID TICKS: whether it has had more than that.
has_more() {
    [ \"$(ticks $1)\" -gt $2 ]
}
# busy PID: whether it has had a fifth of a second.
busy() {
    has_more $1 20
}
# spinning LAUNCHER: whether the guest of this process has come to execute instructions.
spinning() {
    busy $1 && [ \"$(parameter guests)\" != 0 ]
}
# The formats of page tables that a guest may have here.
formats() {
    case $(parameter paging) in
    2-level) echo 2-level;;
    *) echo 2-level pae;;
    esac
}
# by_itself ALL OWN OPTION...: runs a guest; sets all and own to its counters of these names, which say how many events there were,
# and how many of them the Switcher has handled by itself.
by_itself() {
    what=$1 whose=$2; shift 2
    lguest --counters=/tmp/counters \"$@\" $GUEST test=quick; status=$?
    [ $status = 0 ] || fail \"the guest ($*) ended with status\" $status
    all=$(counter $what /tmp/counters) own=$(counter $whose /tmp/counters)
    echo \"$*: the Switcher has handled $own of $all $what\"
    [ \"$all\" -gt 1000 ] || fail \"there were only $all $what\"
}";

/// The names of all scenarios, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|scenario| scenario.name)
}

/// All scenarios in order: those that may bring the host down come last.
fn all() -> impl Iterator<Item = &'static Scenario> {
    let (last, others) = SCENARIOS.split_last().expect("there are scenarios");
    others.iter().chain(border::SCENARIOS).chain([last])
}

/// Minutes long, and about what a second processor has no part in.
const ON_ONE_PROCESSOR: [&str; 3] =
    ["allocations-fail-on-load", "allocations-fail-in-a-life", "border-one-frame"];

/// Many short guests, one on a host that is busy otherwise, or threads that get in each other's way: minutes, where time is
/// counted in instructions, or nothing there.
const ON_TWO_PROCESSORS: [&str; 7] = [
    ROGUE_PLUGIN,
    "swapped-out",
    "trace-events",
    "processors-come-and-go",
    "border-race",
    "border-snapshots",
    "border-interrupted-start",
];

/// Whether a scenario is run on a VM with so many processors.
pub fn runs_on(name: &str, processors: u32) -> bool {
    let elsewhere = if processors == 1 { &ON_TWO_PROCESSORS[..] } else { &ON_ONE_PROCESSOR };
    !elsewhere.contains(&name)
}

/// The steps for the scenarios that `wanted` accepts.
pub fn steps(wanted: impl Fn(&str) -> bool) -> Vec<Step> {
    all().filter(|scenario| wanted(scenario.name)).map(|scenario| scenario.step(PRELUDE)).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::output;

    #[test]
    fn every_script_is_accepted_by_a_shell() {
        for step in steps(|_| true) {
            output(Command::new("sh").args(["-n", "-c", &step.script])).unwrap();
        }
        for script in ["vm/init.sh", "vm/lib.sh"] {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/");
            output(Command::new("sh").args(["-n", &format!("{path}{script}")])).unwrap();
        }
    }

    #[test]
    fn every_script_is_of_a_scenario() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vm/scenarios");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            assert!(names().any(|name| path.ends_with(format!("{name}.sh"))), "{}", path.display());
        }
    }

    #[test]
    fn names_are_unique_and_fit_for_markers() {
        let mut all: Vec<_> = names().collect();
        assert!(all.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), super::all().count());
    }

    #[test]
    fn every_scenario_runs_somewhere() {
        let elsewhere = || ON_ONE_PROCESSOR.iter().chain(&ON_TWO_PROCESSORS);
        assert!(elsewhere().all(|name| names().any(|known| known == *name)));
        assert!(names().all(|name| runs_on(name, 1) || runs_on(name, 2)));
        assert!(!runs_on("border-one-frame", 2) && !runs_on(ROGUE_PLUGIN, 1));
    }

    #[test]
    fn a_filter_picks_scenarios() {
        let chosen = steps(|name| name == "two-guests");
        assert_eq!(chosen.len(), 1);
        assert!(chosen[0].script.contains("GUEST="));
    }
}
