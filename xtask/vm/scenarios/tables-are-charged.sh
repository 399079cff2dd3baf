# What a guest's page tables take is charged to its launcher's memory cgroup, and a guest at its limit goes on.
mount -t cgroup2 none /sys/fs/cgroup && echo +memory >/sys/fs/cgroup/cgroup.subtree_control || fail 'there are no cgroups'
mkdir /sys/fs/cgroup/guest
load paging_kib=160
sh -c 'echo 0 >/sys/fs/cgroup/guest/cgroup.procs && exec lguest "$@"' - \
    --counters=/tmp/counters --strategy lru:slots=64 $GUEST test=full >/tmp/out & launcher=$!
# Both are read while the guest runs: the tables before, and what they are at most after.
most=0
while kill -0 $launcher 2>/dev/null; do
    tables=$(parameter tables)
    charged=$(sed -n 's/^kernel //p' /sys/fs/cgroup/guest/memory.stat)
    if [ $tables -gt $most ] && [ $charged -ge $((tables * 4096)) ]; then
        most=$tables
    fi
    usleep 100000
done
wait $launcher || fail 'the guest ended with status' $?
echo "$most tables were charged; $(grep '^counter shrinks' /tmp/counters)"
[ $most -gt 20 ] && [ $most -le 41 ] || fail 'that is not the limit of 40, and the one of the Switcher'
grep -q '^counter shrinks 0$' /tmp/counters && fail 'the guest has never come to its limit'
unload
rmdir /sys/fs/cgroup/guest && umount /sys/fs/cgroup
