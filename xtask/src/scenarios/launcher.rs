//! What the launcher gives up and what it keeps from others, on the host's own kernel.

use super::{Scenario, USUAL};

/// The scenarios, in order.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        // The guest runs on as before, its files having been opened by root: a file that only root can write gets
        // the counters, one that only root can read is the disk.
        name: "user-of-the-launcher",
        limit: USUAL,
        script: "load strategy=lguest seed=42
            truncate -s 1M /tmp/disk; chmod 600 /tmp/disk
            insmod /lib/tun.ko || fail 'insmod tun.ko was refused'
            spin --user 1234:5678 --rng --tunnet tap0 --block /tmp/disk
            [ -e /sys/class/net/tap0 ] || fail 'there is no interface for the guest'
            only $launcher Uid '1234 1234 1234 1234'
            only $launcher Gid '5678 5678 5678 5678'
            only $launcher Groups ''
            for set in CapInh CapPrm CapEff CapBnd CapAmb; do only $launcher $set 0000000000000000; done
            only $launcher NoNewPrivs 1
            kill $launcher
            wait $launcher; [ $? = 143 ] || fail 'the terminated launcher ended with status' $?
            [ ! -e /sys/class/net/tap0 ] || fail 'the interface is left'
            rmmod tun
            (umask 077; lguest --user 1234:5678 --counters=/tmp/counters $GUEST test=quick)
            [ $? = 0 ] || fail 'the guest of another user ended with status' $?
            grep -q '^counter world_switches' /tmp/counters || fail 'there are no counters'
            unload",
    },
    Scenario {
        // Each life wants the device anew, and its recording, which only root can open.
        name: "user-and-restarts",
        limit: USUAL,
        script: "load strategy=lguest seed=42
            for user in '' '--user 1234:5678'; do
                lguest $user --restart-limit 3 --record /tmp/trace $GUEST restart >/tmp/out 2>&1; status=$?
                cat /tmp/out
                [ $status = 122 ] || fail \"the launcher ended with status $status\"
                [ \"$(grep -c 'mini: restarting' /tmp/out)\" = 4 ] || fail 'the guest had not just 4 lives'
                [ -s /tmp/trace ] || fail 'there is no recording'
                grep -q 'no Landlock' /tmp/out && fail 'the launcher is not confined'
            done
            until_true 20 no_launcher || fail 'a process is left'
            unload",
    },
    Scenario {
        name: "users-that-are-none",
        limit: USUAL,
        script: "load
            mkdir -p /etc; echo 'guest:x:1234:5678::/:/bin/sh' >/etc/passwd
            for user in nosuch 77 guest:wheel; do
                lguest --user $user $GUEST test=none 2>/tmp/error && fail \"--user $user was taken\"
                [ $? = 125 ] || fail \"the launcher's status is\" $?
                cat /tmp/error
                grep -q -e --user /tmp/error || fail 'the message does not name the option'
            done
            spin --user guest
            only $launcher Uid '1234 1234 1234 1234'
            only $launcher Gid '5678 5678 5678 5678'
            kill -9 $launcher
            wait $launcher
            until_true 20 no_launcher || fail 'the helper outlives the launcher'
            rm /etc/passwd
            unload",
    },
    Scenario {
        // By default root stays root, but for what makes it that; --confine=off leaves all as it was.
        name: "confinement-of-the-launcher",
        limit: USUAL,
        script: "load
            spin
            only $launcher Uid '0 0 0 0'
            for set in CapPrm CapEff CapBnd; do only $launcher $set 0000000000000000; done
            only $launcher NoNewPrivs 1
            kill -9 $launcher; wait $launcher
            lguest --confine required $GUEST test=none || fail 'the guest ended with status' $?
            spin --confine off
            only $launcher NoNewPrivs 0
            only $launcher CapEff \"$(of $$ CapEff)\"
            kill -9 $launcher; wait $launcher
            unload",
    },
    Scenario {
        name: "disks-are-locked",
        limit: USUAL,
        script: "load
            truncate -s 1M /tmp/disk /tmp/other; ln -sf /tmp/disk /tmp/link
            spin --block /tmp/disk
            for disk in /tmp/disk /tmp/link; do
                lguest --block /tmp/other --block $disk $GUEST test=none 2>/tmp/error && fail \"$disk was taken\"
                [ $? = 125 ] || fail \"the launcher's status is\" $?
                cat /tmp/error
                grep -q \"disk $disk is in use\" /tmp/error || fail 'the message does not name the disk'
            done
            lguest --block /tmp/other $GUEST test=none || fail 'another disk was refused:' $?
            kill -9 $launcher; wait $launcher
            lguest --block /tmp/disk --block /tmp/link $GUEST test=none 2>/tmp/error && fail 'a disk was taken twice'
            grep -q 'disk /tmp/link is in use' /tmp/error || fail 'the message does not name the disk'
            lguest --block /tmp/disk $GUEST test=none || fail 'the disk is still locked:' $?
            unload",
    },
    Scenario {
        name: "last-word-without-escapes",
        limit: USUAL,
        script: "load
            lguest $GUEST hostile=escapes-as-last-word >/tmp/out 2>/tmp/error
            [ $? = 121 ] || fail 'the crash came out as' $?
            cat -v /tmp/error
            [ \"$(wc -l </tmp/error)\" = 1 ] || fail 'the last word has made more than one line'
            grep -q '^lguest: the guest crashed: \\\\u{1b}\\[2J' /tmp/error || fail 'the last word is not shown'
            grep -q '[^ -~]' /tmp/error && fail 'control characters come through'
            unload",
    },
];
