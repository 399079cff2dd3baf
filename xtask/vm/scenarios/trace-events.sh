# Trace events: whoever watches sees as many as the guest's counters say, by tracefs alone; nothing is left when the module goes.
tracing=/sys/kernel/tracing
events=$tracing/events/lguest
# seen PATTERN: how many events in the trace fit.
seen() {
    grep -c "$1" /tmp/trace
}
# sum EVENT FIELD: of a field over all events of a kind.
sum() {
    awk -v event="$1:" -v field="$2=" '
        index($0, event) { for (i = 1; i <= NF; i++) if (index($i, field) == 1) sum += substr($i, length(field) + 1) }
        END { print sum + 0 }' /tmp/trace
}
# same WHAT NUMBER COUNTER...: fails unless the counters add up to that number.
same() {
    what=$1 number=$2 counted=0
    shift 2
    for name in "$@"; do
        counted=$((counted + $(counter $name /tmp/counters)))
    done
    [ "$number" = "$counted" ] || fail "$strategy: $number $what, but $* is $counted"
}
# By read(2): a cat that sends the file has Linux begin at its start for each piece.
read_trace() {
    dd if=$tracing/trace of=/tmp/trace bs=64k 2>/dev/null
}
load
[ -d $events ] || fail 'the module has no trace events'
for event in exit hypercall fault load evict flush table_alloc table_free in_switcher; do
    [ -e $events/lguest_$event/format ] || fail "there is no event lguest_$event"
done
echo 48000 >$tracing/buffer_size_kb || fail 'there is no room for a trace'
echo >$tracing/trace
lguest $GUEST bench=fork scale=1 || fail 'the guest that nobody watches ended with status' $?
read_trace
[ $(seen lguest_) = 0 ] || fail 'there are events although nobody watches'
while read -r strategy bench; do
    echo >$tracing/trace
    echo 1 >$events/enable
    lguest --strategy $strategy --counters=/tmp/counters $GUEST $bench </dev/null || fail "on $strategy the guest ended with status" $?
    echo 0 >$events/enable
    read_trace
    grep -h '^overrun' $tracing/per_cpu/cpu*/stats | grep -qv 'overrun: 0$' && fail 'the trace is not complete'
    same exits $(seen lguest_exit:) world_switches
    # The first one, LGUEST_INIT, is not counted.
    calls=$(grep -c 'lguest_hypercall:.*ring=0' /tmp/trace)
    same hypercalls $((calls - 1 + $(sum lguest_in_switcher calls))) hypercalls
    ring=$(grep -c 'lguest_hypercall:.*ring=1' /tmp/trace)
    same 'calls of the ring' $((ring + $(sum lguest_in_switcher ring_calls))) ring_hypercalls
    fixed=$(seen 'lguest_fault:.*outcome=fixed')
    same 'faults that were fixed' $((fixed + $(sum lguest_in_switcher fills))) demand_faults
    reflected=$(seen 'lguest_fault:.*outcome=reflected')
    same 'faults that were reflected' $((reflected + $(sum lguest_in_switcher reflected))) reflected_faults
    same loads $(seen lguest_load:) page_directory_loads
    same hits $(seen 'lguest_load:.*hit=1') page_directory_hits
    same evictions $(seen lguest_evict:) evictions
    same 'flushes of the user half' $(seen 'lguest_flush:.*entries=user') flush_user
    [ $(seen lguest_table_alloc:) -gt 10 ] || fail 'no tables are allocated'
    [ $(seen lguest_table_alloc:) = $(seen lguest_table_free:) ] || fail 'tables are left'
    [ $(counter page_directory_loads /tmp/counters) -gt 20 ] || fail 'the guest has loaded so little'
done <<END
lguest bench=fork scale=50
lru:slots=2 bench=ctx8p4 scale=5
shared:budget=64 bench=ctx8p4 scale=5
END
[ $(seen lguest_evict:) -gt 0 ] || fail 'a small budget evicts nothing'
grep -m 1 lguest_fault: /tmp/trace
grep -m 1 lguest_evict: /tmp/trace
# While a guest runs: each kind of its own, on and off.
spin
# (Beside a guest on the same processor, a trace that goes on grows faster than it is read.)
watched() {
    echo >$tracing/trace
    echo 1 >$events/lguest_exit/enable
    usleep 200000
    echo 0 >$events/lguest_exit/enable
    read_trace
    [ $(seen lguest_exit:) -gt 2 ]
}
until_true 60 watched || fail 'nothing is seen of a guest that runs'
[ $(seen lguest_hypercall:) = 0 ] || fail 'events are seen that nobody watches'
# The module goes while somebody watches.
echo 1 >$events/enable
kill -9 $launcher
wait $launcher
until_true 60 nothing_held
unload
echo 1 >$tracing/buffer_size_kb
