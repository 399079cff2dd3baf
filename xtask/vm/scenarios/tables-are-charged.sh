# What a guest's page tables take is charged to its launcher's memory cgroup, and a guest at its limit goes on.
group_up
load paging_kib=160
in_group lguest --counters=/tmp/counters --strategy lru:slots=64 $GUEST test=full >/tmp/out & launcher=$!
# Both are read while the guest runs: the tables before, and what they are at most after.
most=0
while kill -0 $launcher 2>/dev/null; do
    tables=$(parameter tables)
    charged=$(sed -n 's/^kernel //p' $GROUP/memory.stat)
    if [ $tables -gt $most ] && [ $charged -ge $((tables * 4096)) ]; then
        most=$tables
    fi
    usleep 100000
done
wait $launcher || fail 'the guest ended with status' $?
echo "$most tables were charged; tables were given back $(counter shrinks /tmp/counters) times"
[ $most -gt 20 ] && [ $most -le 41 ] || fail 'that is not the limit of 40, and the one of the Switcher'
[ $(counter shrinks /tmp/counters) != 0 ] || fail 'the guest has never come to its limit'
unload
group_down
