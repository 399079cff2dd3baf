# Functions for the steps that run in the host VM (xtask/src/scenarios.rs, xtask/src/demo.rs).

# fail TEXT...: ends the step, saying why.
fail() {
    echo "failed: $*"
    exit 1
}

# parameter NAME: the module's own answer.
parameter() {
    cat "/sys/module/lg/parameters/$1"
}

# load [PARAMETER=VALUE...]: puts the module in.
load() {
    insmod /lib/lg.ko "$@" || fail "insmod lg.ko $* was refused"
}

# unload: takes the module out, after proving that it holds nothing for anyone any more.
unload() {
    for holding in guests pins tables; do
        held=$(parameter $holding) || fail "the module has no parameter $holding"
        [ "$held" = 0 ] || fail "$held $holding are left after the last guest"
    done
    rmmod lg || fail "rmmod lg was refused"
    [ ! -e /sys/module/lg ] || fail "/sys/module/lg is still there after rmmod"
    [ ! -e /dev/lguest ] || fail "/dev/lguest is still there after rmmod"
}

# until_true SECONDS COMMAND...: waits for the command to succeed.
until_true() {
    left=$(($1 * 10))
    shift
    until "$@"; do
        [ $left -gt 0 ] || return 1
        left=$((left - 1))
        usleep 100000
    done
}
