# A guest in a memory cgroup that is too small for it passes its whole test, while its pages are swapped out and in.
insmod /lib/zsmalloc.ko && insmod /lib/zram.ko || fail 'zram.ko was refused'
echo 64M >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null && swapon /dev/zram0 || fail 'there is no swap'
mount -t cgroup2 none /sys/fs/cgroup && echo +memory >/sys/fs/cgroup/cgroup.subtree_control || fail 'there are no cgroups'
mkdir /sys/fs/cgroup/small
echo "8M" >/sys/fs/cgroup/small/memory.max
load
for strategy in lguest shared; do
    sh -c 'echo 0 >/sys/fs/cgroup/small/cgroup.procs && exec lguest "$@"' - --strategy $strategy $GUEST test=full ||
        fail "on $strategy the guest ended with status" $?
done
echo "$(grep -E '^pswp|pgmigrate_success' /proc/vmstat | tr '\n' ' ') retried $(parameter frames_retried)"
out=$(sed -n 's/^pswpout //p' /proc/vmstat)
in=$(sed -n 's/^pswpin //p' /proc/vmstat)
[ $in -gt 1000 ] && [ $out -gt 1000 ] || fail "only $in pages were swapped in, $out out"
unload
rmdir /sys/fs/cgroup/small && umount /sys/fs/cgroup
swapoff /dev/zram0 && rmmod zram && rmmod zsmalloc || fail 'the swap is still in use'
