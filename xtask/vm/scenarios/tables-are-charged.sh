# What a guest's page tables take is charged to its launcher's memory cgroup, and a guest at its limit goes on.
# What is charged of the kernel's memory. Linux before 5.18 has no line for that: it is what is no process's and no file's.
charged_kernel() {
    awk -v all="$(cat $GROUP/memory.current)" '$1 == "kernel" { kernel = $2 } $1 == "anon" || $1 == "file" { all -= $2 }
        END { print kernel == "" ? all : kernel }' $GROUP/memory.stat
}
group_up
load paging_kib=160
in_group lguest --counters=/tmp/counters --strategy lru:slots=64 $GUEST test=full >/tmp/out & launcher=$!
# Both are read while the guest runs: the tables before, and what they are at most after.
most=0
while kill -0 $launcher 2>/dev/null; do
    tables=$(parameter tables)
    charged=$(charged_kernel)
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
