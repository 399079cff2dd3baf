# Functions for the steps that run in the host VM (xtask/vm/scenarios, xtask/src/demo.rs).

# fail TEXT...: ends the step, printing why.
fail() {
    echo "failed: $*"
    exit 1
}

# parameter NAME: the module's own answer.
parameter() {
    cat "/sys/module/lg/parameters/$1"
}

# load [PARAMETER=VALUE...]: puts the module in. What a failed step has left behind is not the next one's failure.
load() {
    if [ -e /sys/module/lg ]; then
        killall -9 lguest
        until_true 20 rmmod lg
    fi
    insmod /lib/lg.ko "$@" || fail "insmod lg.ko $* was refused"
}

# has_landlock: whether the host's kernel has it, as kernels since 5.13 do. Without it the launcher says that it is confined in part.
has_landlock() {
    grep -q ' landlock_' /proc/kallsyms
}

# nothing_held: whether the module holds nothing for any guest.
nothing_held() {
    [ "$(parameter guests) $(parameter frames) $(parameter tables)" = '0 0 0' ]
}

# unload: takes the module out, after proving that it holds nothing for anyone any more.
unload() {
    for holding in guests frames tables; do
        held=$(parameter $holding) || fail "the module has no parameter $holding"
        [ "$held" = 0 ] || fail "$held $holding are left after the last guest"
    done
    rmmod lg || fail "rmmod lg was refused"
    [ ! -e /sys/module/lg ] || fail "/sys/module/lg is still there after rmmod"
    [ ! -e /dev/lguest ] || fail "/dev/lguest is still there after rmmod"
}

# in_linux [OPTION...] -- WORD...: runs a command in the Linux guest (see linux-guest), live; fails unless the guest
# reports that the command ended with 0 and is then switched off in good order. $AS, as in `as alice`, is who runs it.
in_linux() {
    { $AS linux-guest "$@"; echo "$?" >/tmp/linux.status; } 2>&1 | tee /tmp/linux.out
    [ "$(cat /tmp/linux.status)" = 0 ] || fail "the launcher ended with status $(cat /tmp/linux.status)"
    grep -q '^guest: status 0' /tmp/linux.out || fail "the command in the guest did not end with 0"
}

# peer_up: a TAP interface tap0 for a guest's network card, and behind it the peer that guest-test's tests of
# network and clock want, at their default address.
peer_up() {
    insmod /lib/tun.ko || fail "insmod tun.ko was refused"
    tunctl -t tap0 && ip addr add 192.168.19.1/24 dev tap0 && ip link set tap0 up || fail "tap0 cannot be set up"
    /guests/guest-test --serve 192.168.19.1:7019 &
    peer=$!
}

# peer_down: takes both away.
peer_down() {
    kill $peer
    wait $peer
    tunctl -d tap0 && rmmod tun || fail "tap0 is still in use"
}

# scratch_disk: makes a disk that guest-test may overwrite; prints its name.
scratch_disk() {
    truncate -s 16M /tmp/scratch
    echo 'guest-test scratch disk' | dd of=/tmp/scratch conv=notrunc 2>/dev/null
    echo /tmp/scratch
}

# users_up: makes users, as adduser and usermod would: alice and bob, who are in the group lguest, and mallory, who is not.
users_up() {
    mkdir -p /etc
    echo root:x:0:0::/:/bin/sh >/etc/passwd
    echo root:x:0: >/etc/group
    echo lguest:x:997:alice,bob >>/etc/group
    for user in alice:1001 bob:1002 mallory:1003; do
        echo "${user%:*}:x:${user#*:}:${user#*:}::/:/bin/sh" >>/etc/passwd
        echo "${user%:*}:x:${user#*:}:" >>/etc/group
    done
}

# udev: what udev does with the device's node by the module's rule (kmod/udev); the group is users_up's.
udev() {
    rule=$(grep '^KERNEL=="lguest"' /lib/lguest.rules)
    group=${rule#*GROUP=\"} mode=${rule#*MODE=\"}
    chgrp "${group%%\"*}" /dev/lguest && chmod "${mode%%\"*}" /dev/lguest || fail "udev's rule is no rule: $rule"
}

# as USER COMMAND...: runs a command as one of them, who may lock no memory. (`su` takes it as a script; so the words come
# as arguments.)
as() {
    user=$1
    shift
    su -s /bin/sh "$user" -c 'ulimit -l 0; exec "$@"' -- sh "$@"
}

# Where the guests are whose memory is limited.
GROUP=/sys/fs/cgroup/guest

# swap_up SIZE: swap space of that size, in compressed memory.
swap_up() {
    [ ! -e /sys/block/zram0 ] || swap_down
    insmod /lib/zsmalloc.ko && insmod /lib/zram.ko || fail 'zram.ko was refused'
    echo "$1" >/sys/block/zram0/disksize
    mkswap /dev/zram0 >/dev/null && swapon /dev/zram0 || fail 'there is no swap'
}

# swap_down: takes it away.
swap_down() {
    swapoff /dev/zram0
    rmmod zram && rmmod zsmalloc || fail 'the swap is still in use'
}

# group_up [SIZE]: a memory cgroup, with a limit if one is given.
group_up() {
    [ ! -e $GROUP ] || group_down
    mount -t cgroup2 none /sys/fs/cgroup && echo +memory >/sys/fs/cgroup/cgroup.subtree_control || fail 'there are no cgroups'
    mkdir $GROUP
    echo "${1:-max}" >$GROUP/memory.max
}

# group_down: takes it away.
group_down() {
    rmdir $GROUP && umount /sys/fs/cgroup || fail 'the cgroup is still in use'
}

# in_group COMMAND...: runs a command there.
in_group() {
    (echo 0 >$GROUP/cgroup.procs && "$@")
}

# press SIZE MICROSECONDS [TIMES]: for as long as this step runs, takes memory of that size from the group and moves the pages of
# the machine together, again and again. The pause is that long and so many times (4) as long as it took: a guest that has
# nothing but such memory gets on, on a slow machine too.
press() {
    times=${3:-4}
    while kill -0 $$ 2>/dev/null; do
        begun=$(hundredths)
        reclaim "$1"
        echo 1 >/proc/sys/vm/compact_memory
        usleep $(($2 + times * 10000 * ($(hundredths) - begun)))
    done
}

# reclaim KIBIBYTES: takes so much of the group's memory, such as 512K. Linux before 5.19 has no file for that; there, a limit below what
# the group has makes the kernel look for it at once.
reclaim() {
    if [ -e $GROUP/memory.reclaim ]; then
        echo "$1" >$GROUP/memory.reclaim 2>/dev/null
    else
        has=$(cat $GROUP/memory.current)
        [ $has -le $((${1%K} * 1024)) ] || echo $((has - ${1%K} * 1024)) >$GROUP/memory.high
        echo max >$GROUP/memory.high
    fi
}

# hundredths: of seconds since the machine was started.
hundredths() {
    sed 's/^\([0-9]*\)\.\([0-9]*\) .*/\1\2/' /proc/uptime
}

# vmstat NAME: a count of the kernel's (/proc/vmstat).
vmstat() {
    sed -n "s/^$1 //p" /proc/vmstat
}

# counter NAME FILE: a counter that the launcher has stored there (--counters).
counter() {
    sed -n "s/^counter $1 //p" "$2"
}

# of PROCESS KEY: a value of its status (proc(5)).
of() {
    sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | tr '\t' ' ' | sed 's/ *$//'
}

# only PROCESS KEY VALUE: fails unless that is the value.
only() {
    [ "$(of "$1" "$2")" = "$3" ] || fail "the launcher has $2 $(of "$1" "$2"), not $3"
}

# spin [OPTION...]: starts the example guest with these options of lguest, in the background and for ever; returns
# when it runs. Its launcher is $launcher; $AS, as in `as alice`, is who runs it.
spin() {
    rm -f /tmp/spin
    $AS lguest "$@" "$GUEST" spin >/tmp/spin 2>&1 &
    launcher=$!
    until_true 60 grep -qs 'mini: spinning' /tmp/spin || fail "the guest does not run${AS:+ $AS}: $(cat /tmp/spin)"
}

# no_launcher: whether none runs, and no helper of one.
no_launcher() {
    ! pidof lguest >/dev/null
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
