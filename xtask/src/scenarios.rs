//! What the tests do in the host VM: a list of scripts, each a check of its own, run on every kernel and
//! number of processors.
//!
//! The scripts run in this order in one boot, so what one leaves behind another may stumble over; each ends by
//! taking the module out, which proves that nothing is held (`unload` in `vm/lib.sh`). `$GUEST` is the
//! example guest; its options are in `examples/mini-guest/src/command_line.rs`, the launcher's exit codes in
//! `userland-launcher/src/outcome.rs`.

mod allocations;
pub mod border;
mod launcher;

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
    Scenario {
        name: "full-test-on-lguest",
        limit: USUAL,
        script: "load strategy=lguest seed=42
            lguest $GUEST test=full || fail 'the guest ended with status' $?
            unload",
    },
    Scenario {
        name: "full-test-on-lru",
        limit: USUAL,
        script: "load strategy=lru
            lguest $GUEST test=full || fail 'the guest ended with status' $?
            unload",
    },
    Scenario {
        // What is written to the module's parameter holds for guests started from then on, and the launcher's
        // choice goes before it. With one slot page directories give way, with 1024 none does.
        name: "choice-of-strategy",
        limit: USUAL,
        script: "load strategy=lru:slots=1
            evictions() {
                lguest --counters=/tmp/counters \"$@\" $GUEST test=quick >/tmp/out 2>&1 && status=0 || status=$?
                [ $status = 0 ] || { cat /tmp/out; fail \"lguest $* ended with status $status\"; }
                sed -n 's/^counter evictions //p' /tmp/counters
            }
            [ \"$(evictions)\" -gt 0 ] || fail 'nothing gives way to another in one slot'
            echo arc:slots=1024 >/sys/module/lg/parameters/strategy || fail 'another strategy was refused'
            [ \"$(parameter strategy)\" = arc:slots=1024 ] || fail 'strategy reads' \"$(parameter strategy)\"
            [ \"$(evictions)\" = 0 ] || fail 'the strategy that was written is not used'
            [ \"$(evictions --strategy lru:slots=1)\" -gt 0 ] || fail \"the launcher's choice is not used\"
            for wrong in nosuch lru:slots=0 lru:slots; do
                echo $wrong >/sys/module/lg/parameters/strategy && fail \"$wrong was taken by the module\"
                lguest --strategy $wrong $GUEST test=quick && fail \"$wrong was taken from the launcher\"
                [ $? = 125 ] || fail 'the launcher did not say that it could not start'
            done
            [ \"$(parameter strategy)\" = arc:slots=1024 ] || fail 'what was refused has changed it'
            unload",
    },
    Scenario {
        // Under audit a mistake of the host's kills the guest, so that its success proves there is none.
        name: "audited",
        limit: 300,
        script: "load audit=64
            for strategy in lguest shared; do
                lguest --counters=/tmp/counters --strategy $strategy $GUEST test=quick; status=$?
                [ $status = 0 ] || fail \"on $strategy the guest ended with status\" $status
                audits=$(sed -n 's/^counter audits //p' /tmp/counters)
                [ \"$audits\" -gt 10 ] || fail \"on $strategy there were only $audits audits\"
                grep -q '^counter audit_defects 0$' /tmp/counters || fail 'the audit found defects'
            done
            unload",
    },
    Scenario {
        name: "full-test-on-shared",
        limit: USUAL,
        script: "load strategy=shared
            lguest $GUEST test=full || fail 'the guest ended with status' $?
            unload",
    },
    Scenario {
        // Every host runs a guest with 2-level tables, a PAE host the other kind too.
        name: "page-formats",
        limit: USUAL,
        script: "load strategy=lguest seed=42
            lguest --paging 2-level $GUEST test=quick >/tmp/out; status=$?
            cat /tmp/out
            [ $status = 0 ] || fail 'the 2-level guest ended with status' $status
            grep -q 'mini: 2-level page tables' /tmp/out || fail 'the guest is not a 2-level one'
            lguest --strategy pae $GUEST test=quick; pae=$?
            lguest --paging pae $GUEST test=quick >/tmp/out 2>&1; status=$?
            cat /tmp/out
            [ $pae = $status ] || fail 'strategy pae made it' $pae
            if [ \"$(parameter paging)\" = PAE ]; then
                [ $status = 0 ] || fail 'the PAE guest ended with status' $status
                grep -q 'mini: PAE page tables' /tmp/out || fail 'the guest is not a PAE one'
            else
                [ $status = 125 ] || fail 'the launcher did not say that it could not start'
                grep -q 686-pae /tmp/out || fail 'the launcher does not say which kernel would do'
                dmesg | grep -q 'PAE page tables cannot run' || fail 'the log does not tell the reason'
            fi
            unload",
    },
    Scenario {
        name: "result-of-the-guest",
        limit: USUAL,
        script: "load
            lguest $GUEST result=7; [ $? = 7 ] || fail 'the result 7 came out as' $?
            lguest $GUEST crash; [ $? = 121 ] || fail 'the crash came out as' $?
            unload",
    },
    Scenario {
        name: "two-guests",
        limit: USUAL,
        script: "load
            lguest $GUEST test=quick seed=1 >/tmp/one 2>&1 & one=$!
            lguest $GUEST test=quick seed=2 >/tmp/two 2>&1 & two=$!
            wait $one; first=$?
            wait $two; second=$?
            cat /tmp/one /tmp/two
            [ $first = 0 ] && [ $second = 0 ] || fail \"they ended with status $first and $second\"
            unload",
    },
    Scenario {
        name: "kill-9-of-a-launcher",
        limit: USUAL,
        script: "load
            for round in 1 2 3 4 5; do
                lguest $GUEST spin & launcher=$!
                until_true 20 spinning $launcher || fail 'the guest does not run'
                kill -9 $launcher
                wait $launcher; [ $? = 137 ] || fail 'the killed launcher ended with status' $?
                until_true 20 test \"$(parameter guests)\" = 0 || fail 'the guest outlives its launcher'
            done
            lguest $GUEST test=quick || fail 'a guest after it ended with status' $?
            unload",
    },
    Scenario {
        name: "rmmod-while-a-guest-runs",
        limit: USUAL,
        script: "load
            lguest $GUEST spin & launcher=$!
            until_true 20 spinning $launcher || fail 'the guest does not run'
            rmmod lg && fail 'the module went away under its guest'
            kill $launcher
            wait $launcher; [ $? = 143 ] || fail 'the terminated launcher ended with status' $?
            unload",
    },
    Scenario {
        name: "strategy-that-is-not-there",
        limit: USUAL,
        script: "dmesg -c >/dev/null
            insmod /lib/lg.ko strategy=nosuch 2>/tmp/error && fail 'it was taken'
            cat /tmp/error
            grep -q 'Invalid argument' /tmp/error || fail 'the error is another one than EINVAL'
            dmesg >/tmp/log
            grep -q nosuch /tmp/log || fail 'the kernel log does not name it'
            grep 'lguest' /tmp/log | grep -q 'lru' || fail 'the kernel log does not list what there is'
            [ ! -e /sys/module/lg ] || fail 'a module is left'
            load
            unload",
    },
    Scenario {
        name: "parameters",
        limit: USUAL,
        script: "load strategy=lru seed=42
            [ \"$(parameter strategy)\" = lru ] || fail 'strategy reads' \"$(parameter strategy)\"
            [ \"$(parameter seed)\" = 42 ] || fail 'seed reads' \"$(parameter seed)\"
            parameter strategies
            for name in lguest lru; do
                parameter strategies | grep -q $name || fail \"strategies does not list $name\"
            done
            # What a constructor has registered.
            parameter strategies | grep -q 'shared-lirs=shared:policy=lirs' || fail 'strategies lists no short names'
            lguest --counters=/tmp/counters --strategy shared-lirs $GUEST test=quick || fail 'the guest ended with status' $?
            grep -q '^counter policy_errors 0$' /tmp/counters || fail 'the policy named slots that do not exist'
            unload",
    },
    Scenario {
        // The policy of examples/policy-plugin in a module that was built with it.
        name: PLUG_IN,
        limit: USUAL,
        script: "mkdir -p /lib/modules/$(uname -r)
            touch /lib/modules/$(uname -r)/modules.dep # or modinfo gives up
            modinfo -F strategy /lib/lg.ko >/tmp/fields || fail 'modinfo ended with' $?
            grep -q '^lguest .*slots=4' /tmp/fields || fail 'modinfo does not list lguest'
            grep -q '^mru ' /tmp/fields && fail 'mru is no plug-in'
            modinfo -F strategy /guests/lg-with-plugin.ko >/tmp/fields
            grep -q '^mru ' /tmp/fields || fail 'modinfo does not list the plug-in'
            insmod /guests/lg-with-plugin.ko strategy=mru:slots=2 || fail 'the module was refused'
            parameter strategies | grep -q '^mru ' || fail 'strategies does not list the plug-in'
            lguest --counters=/tmp/counters $GUEST test=quick || fail 'the guest ended with status' $?
            evictions=$(sed -n 's/^counter evictions //p' /tmp/counters)
            [ \"$evictions\" -gt 0 ] || fail 'the policy was never asked'
            grep -q '^counter policy_errors 0$' /tmp/counters || fail 'the policy named slots that do not exist'
            unload",
    },
    Scenario {
        // Every misdeed of examples/rogue-plugin. A panic ends its guest with the words and the place, and no other guest;
        // whatever else is done, nothing is left of a guest, and the host is well.
        name: ROGUE_PLUGIN,
        limit: 900,
        script: "dmesg -c >/dev/null
            insmod /guests/lg-with-plugin.ko || fail 'the module was refused'
            gone() {
                [ \"$(parameter guests)$(parameter pins)$(parameter tables)\" = \"$1\" ]
            }
            rogue() {
                timeout -s KILL 15 lguest --counters=/tmp/counters --strategy \"$1\" $GUEST test=quick >/tmp/out 2>&1
                status=$?
                echo \"$1: status $status: $(tail -n 1 /tmp/out)\"
                case $status in
                0 | 1 | 120 | 121 | 125 | 137) ;;
                *) cat /tmp/out; fail \"on $1 the launcher ended with status $status\" ;;
                esac
                until_true 20 gone 000 || fail \"on $1 something is left: guests $(parameter guests), pins \\
                    $(parameter pins), tables $(parameter tables)\"
                [ \"$(parameter memory)\" = 1 ] || fail \"on $1 memory is left: $(parameter memory) pieces\"
            }
            panics() {
                rogue \"$1:does=panic,in=$2,$3\"
                grep -q \"strategy panicked: rogue in $2 at .*misdeed.rs:[0-9]\" /tmp/out ||
                    { cat /tmp/out; fail \"a panic in $2 was not the guest's end\"; }
            }
            lguest $GUEST spin >/dev/null 2>&1 & other=$!
            until_true 60 spinning $other || fail 'the other guest does not run'
            timeout -s KILL 30 lguest --strategy rogue:does=panic,in=demand-fault $GUEST test=quick
            [ $? = 120 ] || fail 'a panic ended a guest with another status'
            lguest --strategy rogue:does=panic,in=build $GUEST test=quick
            [ $? = 125 ] || fail 'a guest runs on a strategy that was not made'
            [ -d /proc/$other ] && [ \"$(parameter guests)\" = 1 ] || fail 'another guest has ended with it'
            kill $other
            wait $other; [ $? = 143 ] || fail 'the other guest ended with status' $?
            methods='demand-fault set-pte load-page-directory flush-user flush-all set-stack guest-initialised translate
                root'
            others='set-pgd set-pmd counters tear-down build set-up drop'
            for method in $methods; do
                panics rogue $method after=0
                rogue rogue:does=words,in=$method,of=shared
                rogue rogue:does=nonsense,in=$method,after=20,of=lru:slots=2
            done
            for method in $others; do
                for does in panic words nonsense; do
                    rogue rogue:does=$does,in=$method,of=shared
                done
            done
            # (The first call of `filled` is in the making of the guest.)
            for method in victim filled used; do
                panics rogue-policy $method after=1,slots=2
            done
            for method in victim filled used emptied takes-free-slots-first build drop; do
                for does in panic words nonsense leak; do
                    rogue rogue-policy:does=$does,in=$method,after=1,slots=2
                done
            done
            rogue rogue:does=leak,in=demand-fault,of=lguest
            rogue rogue:does=hoard,in=set-pte,after=9,of=lguest
            grep -q 'strategy panicked: memory allocation' /tmp/out || fail 'a hoard of memory had no end'
            rogue rogue-hoarder
            echo 256 >/sys/module/lg/parameters/paging_kib
            rogue rogue-hoarder
            grep -q 'out of memory' /tmp/out || fail 'a hoard of tables had no end'
            echo 0 >/sys/module/lg/parameters/paging_kib
            dmesg >/tmp/log
            grep -q 'lg: strategy panicked: rogue in' /tmp/log || fail 'the log does not tell of a panic'
            grep -E 'Oops|BUG|WARNING' /tmp/log && fail 'the log complains'
            lguest $GUEST test=quick || fail 'a guest after them ended with status' $?
            unload",
    },
    Scenario {
        name: "what-is-no-kernel",
        limit: USUAL,
        script: "load
            echo 'not a kernel' >/tmp/text
            for kernel in /tmp/text /lib/lg.ko /nosuch; do
                lguest $kernel 2>/tmp/error && fail \"$kernel was started\"
                [ $? = 125 ] || fail \"the launcher's status for $kernel is\" $?
                cat /tmp/error
                grep -q \"$kernel\" /tmp/error || fail \"the message does not name $kernel\"
            done
            lguest --memory 64K $GUEST 2>/tmp/error && fail 'a guest runs in 64K'
            cat /tmp/error
            unload",
    },
    Scenario {
        name: "no-module",
        limit: USUAL,
        script: "lguest $GUEST 2>/tmp/error && fail 'a guest runs without the module'
            [ $? = 125 ] || fail \"the launcher's status is\" $?
            cat /tmp/error
            grep -q /dev/lguest /tmp/error || fail 'the message does not name /dev/lguest'
            grep -q insmod /tmp/error || fail 'the message does not say what to do'",
    },
    Scenario {
        name: "load-and-unload",
        limit: USUAL,
        script: "for round in 1 2 3 4 5 6 7 8; do load; unload; done",
    },
    Scenario {
        // A recording that is read, one that nobody reads, and one whose reader outlives the guest.
        name: "recording",
        limit: USUAL,
        script: "load recording_kib=64
            lguest --record /tmp/trace --strategy lru $GUEST test=quick || fail 'the guest ended with status' $?
            size=$(wc -c </tmp/trace)
            [ $size -gt 65536 ] || fail \"the recording has $size bytes, less than its buffer\"
            lguest --strategy record $GUEST test=quick || fail 'the guest that nobody reads ended with status' $?
            lguest --strategy record:touch=all,of=lguest $GUEST spin & launcher=$!
            until_true 20 spinning $launcher || fail 'the guest does not run'
            cat /sys/kernel/debug/lguest/$launcher-* >/tmp/rest & reader=$!
            until_true 20 test -s /tmp/rest || fail 'nothing is read'
            kill -9 $launcher
            wait $launcher; [ $? = 137 ] || fail 'the killed launcher ended with status' $?
            wait $reader || fail 'the reader ended with status' $?
            left=$(ls /sys/kernel/debug/lguest)
            [ -z \"$left\" ] || fail \"recordings are left: $left\"
            unload",
    },
    allocations::LOAD,
    allocations::LIVES,
    Scenario {
        // Each of the guest's misbehaviours: it may come to nothing, the guest may be killed for it, or stop
        // and never come back. Last, as these are what may bring the host down.
        name: "hostile-guests",
        limit: 900,
        script: "load
            lguest $GUEST 'hostile=?' >/tmp/names 2>&1
            names=$(sed -n 's/.*there are: //p' /tmp/names | tr -d ',\\r' | head -n 1)
            [ -n \"$names\" ] || fail 'the guest does not list its hostile acts'
            for name in $names; do
                for strategy in lguest lru shared; do
                    echo \"hostile=$name on $strategy\"
                    timeout -s KILL 15 lguest --strategy $strategy $GUEST hostile=$name; status=$?
                    case $name-$status in
                    halt-forever-137) ;;
                    *-0 | *-1 | *-120 | *-121) ;;
                    *) fail \"the launcher ended with status $status\" ;;
                    esac
                done
            done
            lguest $GUEST test=quick || fail 'a guest after them ended with status' $?
            unload",
    },
];

/// The functions that only these scripts need.
const PRELUDE: &str = "GUEST=/guests/mini-guest
# spinning LAUNCHER: whether the guest of this process has come to execute instructions.
spinning() {
    # User mode time in clock ticks, the 14th word; a guest's time is its launcher's system time, the 15th.
    set -- $(cat /proc/$1/stat)
    [ $((${14} + ${15})) -gt 20 ]
}";

/// The names of all scenarios, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    all().map(|scenario| scenario.name)
}

/// All scenarios in order: those that may bring the host down come last.
fn all() -> impl Iterator<Item = &'static Scenario> {
    let (last, others) = SCENARIOS.split_last().expect("there are scenarios");
    others.iter().chain(launcher::SCENARIOS).chain(border::SCENARIOS).chain([last])
}

/// Minutes long, and about what a second processor has no part in.
const ON_ONE_PROCESSOR: [&str; 3] = [allocations::LOAD.name, allocations::LIVES.name, "border-one-frame"];

/// Many short guests, which take minutes where time is counted in instructions.
const ON_TWO_PROCESSORS: [&str; 1] = [ROGUE_PLUGIN];

/// Whether a scenario is run on a VM with so many processors.
pub fn runs_on(name: &str, processors: u32) -> bool {
    let elsewhere = if processors == 1 { &ON_TWO_PROCESSORS[..] } else { &ON_ONE_PROCESSOR };
    !elsewhere.contains(&name)
}

/// The steps for the scenarios that `wanted` says yes to.
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
