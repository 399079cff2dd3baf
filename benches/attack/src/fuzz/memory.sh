# The memory test in two Linux guests at once, again and again for $SECONDS, while their host takes their memory from them:
# there is less of it than both have, more is taken all the time, pages are moved and equal ones merged.
OPERATIONS=300 PROCESSES=6
# The most pages that were merged at a time.
merged=0
ksm() {
    cat "/sys/kernel/mm/ksm/$1"
}
# rounds: how often the guests have passed the test.
rounds() {
    cat /tmp/1 /tmp/2 | grep -c '^guest: ok memory'
}
# total COUNTER: what the launchers have stored of both guests.
total() {
    echo $(($(counter "$1" /tmp/1.counters) + $(counter "$1" /tmp/2.counters)))
}
figures() {
    [ "$(ksm pages_sharing)" -le $merged ] || merged=$(ksm pages_sharing)
    echo "figures rounds=$(rounds) operations=$(($(rounds) * OPERATIONS * PROCESSES)) out=$(vmstat pswpout) in=$(vmstat pswpin)" \
        "moved=$(vmstat pgmigrate_success) merged=$merged retried=$(parameter frames_retried) $*"
}
echo 1 >/proc/sys/kernel/panic_on_warn
load audit=4000
swap_up 160M
group_up 64M
press 512K 200000 & pressing=$!
echo 500 >/sys/kernel/mm/ksm/pages_to_scan
echo 20 >/sys/kernel/mm/ksm/sleep_millisecs
echo 1 >/sys/kernel/mm/ksm/run
for guest in 1 2; do
    strategy=lguest
    [ $guest = 1 ] || strategy=shared
    in_group linux-guest --mergeable --strategy $strategy --counters=/tmp/$guest.counters \
        -- memory-rounds $SECONDS $((SEED * 2 + guest)) $OPERATIONS >/tmp/$guest 2>&1 &
    eval "process_$guest=$!"
done
while kill -0 $process_1 2>/dev/null || kill -0 $process_2 2>/dev/null; do
    sleep 20
    figures
done
wait $process_1; first=$?
wait $process_2; second=$?
kill $pressing
echo 2 >/sys/kernel/mm/ksm/run
tail -n 30 /tmp/1 /tmp/2
figures "dropped=$(total dropped_entries) audits=$(total audits) defects=$(total audit_defects)"
[ $first = 0 ] && [ $second = 0 ] || fail "the guests ended with status $first and $second"
[ "$(cat /tmp/1 /tmp/2 | grep -c '^guest: status 0')" = 2 ] || fail 'a guest has not passed'
[ "$(vmstat pswpin)" -gt 100 ] && [ $merged -gt 1000 ] && [ "$(total dropped_entries)" -gt 1000 ] || fail 'the host has taken too little'
[ "$(total audits)" -gt 0 ] && [ "$(total audit_defects)" = 0 ] || fail 'the audit has found defects, or did not run'
unload
group_down
swap_down
