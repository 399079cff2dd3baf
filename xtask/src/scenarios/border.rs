//! What the tests do at the border: acts of a hostile launcher, its guest and other processes against the host, each a
//! scenario of its own. The acts are those of `examples/hostile-launcher`, which says whether the host has stood them.

use super::Scenario;

/// Whether a step is one of these, which want the hostile launcher.
pub fn is_one(name: &str) -> bool {
    SCENARIOS.iter().any(|scenario| scenario.name == name)
}

macro_rules! act {
    ($name:literal, $limit:literal, $act:literal) => {
        Scenario {
            name: $name,
            limit: $limit,
            script: concat!(
                "load\n/guests/hostile-launcher ",
                $act,
                " || fail 'the host has not stood it'\n",
                "until_true 60 test \"$(parameter pins)\" = 0\nunload"
            ),
        }
    };
}

/// The scenarios, those that are most likely to bring the host down at the end.
pub const SCENARIOS: &[Scenario] = &[
    act!("border-ring-refill", 300, "ring-refill"),
    act!("border-counters-hold", 300, "counters-hold"),
    act!("border-eventfd-flood", 300, "eventfd-flood"),
    Scenario {
        // Launchers cannot fill the log, and what the administrator asks for is in it all the same.
        name: "border-log-flood",
        limit: 300,
        script: "load
            dmesg -c >/dev/null
            /guests/hostile-launcher log-flood || fail 'the host has not stood it'
            echo administrators >/sys/module/lg/parameters/strategy && fail 'a strategy was taken that is not there'
            dmesg >/tmp/log
            lines=$(grep -c flood /tmp/log)
            echo \"$lines lines for 10000 strategies that are not there\"
            [ $lines -ge 1 ] || fail 'the log says nothing of it'
            [ $lines -le 100 ] || fail 'a launcher can fill the log'
            grep -q administrators /tmp/log || fail \"the administrator's mistake is lost\"
            unload",
    },
    act!("border-remap-under-audit", 300, "remap"),
    act!("border-one-frame", 600, "one-frame"),
    act!("border-giant-flush", 900, "giant-flush"),
    act!("border-giant-kill", 900, "giant-kill"),
    Scenario {
        // To remove a tracer of one instance of ftrace takes RCU-tasks, which wait for every process to be quiescent.
        // Beside a guest that spins that takes as long as beside a process that does. (Only where guest and tracer run at
        // the same time: one processor would be the tracer's first.)
        name: "border-rcu-tasks",
        limit: 900,
        script: "[ $(nproc) -gt 1 ] || exit 0
            load
            traces=/sys/kernel/debug/tracing/instances
            removal() {
                /guests/hostile-launcher $1 & spinner=$!
                until_true 60 spinning $spinner || fail \"$1 does not run\"
                mkdir $traces/border || fail 'there is no ftrace'
                echo do_sys_open >$traces/border/set_ftrace_filter
                echo function >$traces/border/current_tracer || fail 'there is no function tracer'
                begun=$(cut -d. -f1 /proc/uptime)
                echo nop >$traces/border/current_tracer
                took=$(($(cut -d. -f1 /proc/uptime) - begun))
                rmdir $traces/border
                kill -9 $spinner
                wait $spinner
                echo \"beside $1 the tracer was removed within $took s\"
            }
            removal spin-natively
            native=$took
            removal spin
            [ $took -le $((2 * native + 10)) ] || fail 'a guest that spins holds RCU-tasks up'
            unload",
    },
    act!("border-debug-registers", 300, "debug-registers"),
    act!("border-ldt", 300, "ldt"),
];
