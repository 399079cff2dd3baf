# Guests pass their tests while their pages are swapped out and moved under them.
insmod /lib/zsmalloc.ko && insmod /lib/zram.ko || fail 'zram.ko was refused'
echo 64M >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null && swapon /dev/zram0 || fail 'there is no swap'
mount -t cgroup2 none /sys/fs/cgroup && echo +memory >/sys/fs/cgroup/cgroup.subtree_control || fail 'there are no cgroups'
mkdir /sys/fs/cgroup/guest
# Pages of the group that were not used for longest go to swap, five times a second.
reclaim() {
    while true; do
        echo 512K >/sys/fs/cgroup/guest/memory.reclaim 2>/dev/null
        echo 1 >/proc/sys/vm/compact_memory
        usleep 200000
    done
}
count() {
    sed -n "s/^$1 //p" /proc/vmstat
}
load
reclaim & reclaiming=$!
# (`shared` fills ahead, which must never bring a page back.)
for run in 'lguest quick' 'shared full'; do
    sh -c 'echo 0 >/sys/fs/cgroup/guest/cgroup.procs && exec lguest "$@"' - --counters=/tmp/counters \
        --strategy ${run% *} $GUEST test=${run#* } || fail "on ${run% *} the guest ended with status" $?
    # Each page that went to swap was a frame of the guest's.
    gone=$(sed -n 's/^counter frames_gone //p' /tmp/counters)
    [ "$gone" -gt 500 ] || fail "the guest lost ${gone:-no} frames"
done
kill $reclaiming
echo "$(count pswpout) pages were swapped out, $(count pswpin) in, $(count pgmigrate_success) moved;" \
    "$(parameter frames_retried) frames were looked for again"
[ "$(count pswpout)" -gt 1000 ] && [ "$(count pswpin)" -gt 1000 ] || fail 'that is not enough'
unload
rmdir /sys/fs/cgroup/guest && umount /sys/fs/cgroup
swapoff /dev/zram0 && rmmod zram && rmmod zsmalloc || fail 'the swap is still in use'
