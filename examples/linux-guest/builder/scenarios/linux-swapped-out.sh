# A guest with 64 MiB passes the checked memory test in a cgroup of 16 MiB, while more of it is taken, and moved. What has a
# guest's pages held for as long as they are mapped is killed for lack of memory here.
load
swap_up 128M
group_up 16M
out=$(vmstat pswpout) in=$(vmstat pswpin) moved=$(vmstat pgmigrate_success) retried=$(parameter frames_retried)
press 512K 200000 & pressing=$!
in_group in_linux --counters=/tmp/counters -- guest-test --strict --limit 1500 --operations 1000 memory || exit 1
kill $pressing
out=$(($(vmstat pswpout) - out)) in=$(($(vmstat pswpin) - in)) moved=$(($(vmstat pgmigrate_success) - moved))
retried=$(($(parameter frames_retried) - retried)) dropped=$(counter dropped_entries /tmp/counters)
echo "$out pages were swapped out, $in in, $moved moved; $dropped entries were dropped, $retried frames looked for again"
[ $out -gt 2000 ] && [ $in -gt 2000 ] && [ $moved -gt 0 ] || fail 'that is not enough'
[ "$dropped" -gt 2000 ] || fail 'the guest has not noticed'
grep -q '^oom_kill 0' $GROUP/memory.events || fail 'somebody was killed'
unload
group_down
swap_down
