//! What is checked of the Linux guest in the host VM, besides what `guest-test` checks inside it
//! (`examples/linux-guest/programs`).
//!
//! As in [`xtask::scenarios`], each is a script and ends by taking the module out.

use xtask::flavour::Flavour;
use xtask::qemu::{Clock, Processor};
use xtask::scenarios::{Scenario, USUAL};
use xtask::steps::Step;
use xtask::vm::Vm;

/// How much of the checks a VM does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    /// On one processor, whose time is counted in instructions.
    Counted,
    /// On two processors that really run at once.
    Parallel,
    /// On one processor, and too long for each change of the sources: see [`is_long`].
    Long,
}

/// The scenario of this name, whose script is in the file of that name, and its limit.
macro_rules! scenario {
    ($name:literal, $limit:expr) => {
        Scenario {
            name: $name,
            limit: $limit,
            script: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/", $name, ".sh")),
        }
    };
}

const SCENARIOS: &[(Share, Scenario)] = &[
    (
        Share::Counted,
        Scenario {
            name: "linux-full-test-on-lguest",
            limit: 1800,
            script: "load strategy=lguest seed=42
            peer_up
            in_linux --tunnet tap0 --block $(scratch_disk) -- guest-test --strict --may-lack $MAY_LACK \
                --operations 3000 all
            peer_down
            unload",
        },
    ),
    (
        // A strategy that does not serve the host's page format is refused with a message. An audit of everything at
        // every operation is more than the guest's clock leaves time for.
        Share::Long,
        Scenario {
            name: "linux-on-every-strategy",
            limit: 1800,
            script: "load strategy=lguest seed=42
            names=$(parameter strategies | sed -n 's/^\\([a-z0-9][a-z0-9-]*\\)  .*/\\1/p')
            echo $names | grep -q lguest || fail 'the module does not list its strategies:' $names
            for name in $names; do
                [ $name != audit ] || name=audit:every=512
                echo \"strategy $name\"
                dmesg -c >/dev/null
                linux-guest --strategy $name -- true >/tmp/first 2>&1
                if [ $? = 125 ] && dmesg | cat - /tmp/first | grep 'cannot serve'; then
                    continue
                fi
                in_linux --strategy $name -- guest-test --operations 400 short
            done
            unload",
        },
    ),
    (
        Share::Parallel,
        Scenario {
            name: "linux-short-test-with-devices",
            limit: 600,
            script: "load
            peer_up
            in_linux --user 1234:5678 --tunnet tap0 --block $(scratch_disk) -- guest-test --strict \
                --may-lack $MAY_LACK short
            peer_down
            unload",
        },
    ),
    (
        // Without a capability, and without a right to lock memory.
        Share::Counted,
        Scenario {
            name: "linux-memory-of-a-user",
            limit: 600,
            script: "load
            users_up; udev
            AS='as alice'
            in_linux -- guest-test --operations 1500 memory
            unload",
        },
    ),
    (
        Share::Parallel,
        Scenario {
            name: "linux-two-guests",
            limit: 600,
            script: "load
            linux-guest -- guest-test short >/tmp/one 2>&1 & one=$!
            linux-guest --strategy lru -- guest-test short >/tmp/two 2>&1 & two=$!
            wait $one; first=$?
            wait $two; second=$?
            cat /tmp/one /tmp/two
            [ $first = 0 ] && [ $second = 0 ] || fail \"they ended with status $first and $second\"
            [ \"$(cat /tmp/one /tmp/two | grep -c '^guest: status 0')\" = 2 ] || fail 'not both passed'
            unload",
        },
    ),
    (
        // What the guest has written when it is switched off is in the host's file.
        Share::Counted,
        Scenario {
            name: "linux-disk-to-disk",
            limit: USUAL,
            script: "load
            seq 1 1000000 | head -c 4194304 >/tmp/first; truncate -s 4M /tmp/second
            sum=$(md5sum </tmp/first)
            in_linux --block /tmp/first,readonly --block /tmp/second -- cp /dev/vda /dev/vdb
            [ \"$(md5sum </tmp/first)\" = \"$sum\" ] || fail 'a disk changed that was only read'
            cmp /tmp/first /tmp/second || fail 'what the guest wrote is not what came to the disk'
            in_linux --block /tmp/first,readonly -- grep -Hx -e 1 -e first /sys/block/vda/ro /sys/block/vda/serial
            grep -q '/vda/ro:1' /tmp/linux.out || fail 'the guest takes the disk for one that can be written'
            grep -q '/vda/serial:first' /tmp/linux.out || fail 'the guest does not know the disk by its name'
            rm /tmp/first /tmp/second
            unload",
        },
    ),
    (
        // A line of the host's takes the place of a terminal. Its size is what stty says it is.
        Share::Counted,
        scenario!("linux-console-size", USUAL),
    ),
    (
        Share::Counted,
        Scenario {
            name: "linux-status-of-a-command",
            limit: USUAL,
            script: "load
            in_linux -- true
            (in_linux -- false) && fail 'a command that failed in the guest passed'
            grep -q '^guest: status 1' /tmp/linux.out || fail 'the guest does not tell its status'
            # As a Linux before 3.15 starts it, which hands on the word -- itself.
            APPEND=rdinit=/bin/sh in_linux -- -c '\"exec /init -- true\"'
            unload",
        },
    ),
    (
        Share::Counted,
        Scenario {
            name: "linux-reboot",
            limit: USUAL,
            script: "load
            linux-guest --user 1234:5678 --restart-limit 1 -- guest-test reboot >/tmp/out 2>&1; status=$?
            cat /tmp/out
            [ $status = 122 ] || fail \"the launcher ended with status $status\"
            [ \"$(grep -c '^guest: Linux' /tmp/out)\" = 2 ] || fail 'it did not boot just twice'
            unload",
        },
    ),
    (
        Share::Counted,
        Scenario {
            name: PANIC,
            limit: USUAL,
            script: "load
            linux-guest -- guest-test panic >/tmp/out 2>&1; status=$?
            cat /tmp/out
            [ $status = 121 ] || fail \"the launcher ended with status $status\"
            grep -q 'the guest crashed: .' /tmp/out || fail 'the launcher does not say why'
            unload",
        },
    ),
    (Share::Parallel, scenario!("linux-swapped-out", 1800)),
    (Share::Parallel, scenario!("linux-merged", 1200)),
    (Share::Parallel, scenario!("linux-huge-pages", 1800)),
    (Share::Parallel, scenario!("linux-out-of-memory", 300)),
    (
        Share::Long,
        Scenario {
            name: DEBUG,
            limit: 1800,
            script: "load strategy=lguest seed=42
            export KERNEL=linux-debug MEMORY=128M
            in_linux -- guest-test short
            unload",
        },
    ),
];

/// What a guest of ours has not, and `guest-test` therefore leaves out: a local descriptor table, debug registers.
const PRELUDE: &str = "MAY_LACK=local-table,local-table-switches,small-stack,trace-watchpoint";

/// The one in which the guest's kernel is to complain.
const PANIC: &str = "linux-panic";

/// The one for which the kernel with Linux's own checks is built.
pub const DEBUG: &str = "linux-debug-kernel";

/// Whether a scenario is left out unless `cargo xtask test --long` selects it, or its name does.
pub fn is_long(name: &str) -> bool {
    SCENARIOS.iter().any(|(share, scenario)| scenario.name == name && *share == Share::Long)
}

/// The names of all scenarios, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCENARIOS.iter().map(|(_, scenario)| scenario.name)
}

/// The VMs, and in each the steps for the scenarios that `wanted` accepts.
pub fn boots(wanted: impl Fn(&str) -> bool) -> Vec<(Vm, Vec<Step>)> {
    let mut all = Vec::new();
    for flavour in Flavour::ALL {
        for (processors, clock) in [(1, Clock::Instructions(1)), (2, Clock::Real)] {
            let vm = Vm {
                name: format!("linux-{flavour}-{processors}cpu"),
                flavour,
                processors,
                processor: Processor::default(),
                clock,
            };
            let steps: Vec<_> = SCENARIOS
                .iter()
                .filter(|(share, scenario)| {
                    // Linux's own checks are the same in both formats, and that kernel takes long to build.
                    let here = scenario.name != DEBUG || flavour == Flavour::Plain;
                    let share = match share {
                        Share::Counted | Share::Long => processors == 1,
                        Share::Parallel => processors == 2,
                    };
                    here && share && wanted(scenario.name)
                })
                .map(|(_, scenario)| Step {
                    guest_complains: scenario.name == PANIC,
                    ..scenario.step(PRELUDE)
                })
                .collect();
            if !steps.is_empty() {
                all.push((vm, steps));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use xtask::process::output;

    #[test]
    fn every_script_is_accepted_by_a_shell() {
        let boots = boots(|_| true);
        assert_eq!(boots.len(), 4);
        for step in boots.iter().flat_map(|(_, steps)| steps) {
            output(Command::new("sh").args(["-n", "-c", &step.script])).unwrap();
        }
        let starter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../xtask/vm/linux-guest.sh");
        output(Command::new("sh").args(["-n", starter])).unwrap();
    }

    #[test]
    fn every_script_is_of_a_scenario() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            assert!(names().any(|name| path.ends_with(format!("{name}.sh"))), "{}", path.display());
        }
    }

    #[test]
    fn names_are_told_from_those_without_linux() {
        assert!(names().all(|name| name.starts_with(xtask::test::OF_LINUX)));
        assert!(xtask::scenarios::names().all(|name| !name.starts_with(xtask::test::OF_LINUX)));
        assert!(names().any(|name| name == PANIC));
        assert!(is_long(DEBUG) && !is_long(PANIC));
    }

    #[test]
    fn two_processors_do_what_needs_them() {
        let chosen = boots(|name| name == "linux-reboot" || name == "linux-two-guests");
        let counts: Vec<_> = chosen.iter().map(|(vm, steps)| (vm.processors, steps.len())).collect();
        assert_eq!(counts, [(1, 1), (2, 1), (1, 1), (2, 1)]);
    }
}
