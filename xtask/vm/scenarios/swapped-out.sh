# Guests pass their tests while their pages are swapped out and moved under them.
load
swap_up 64M
group_up
out=$(vmstat pswpout) in=$(vmstat pswpin)
# Pages that were not used for longest, five times a second.
press 512K 200000 0 & pressing=$!
# (`shared` fills ahead, which must never bring a page back.)
for run in 'lguest quick' 'shared full'; do
    in_group lguest --counters=/tmp/counters --strategy ${run% *} $GUEST test=${run#* } ||
        fail "on ${run% *} the guest ended with status" $?
    gone=$((${gone:-0} + $(counter frames_gone /tmp/counters)))
done
kill $pressing
out=$(($(vmstat pswpout) - out)) in=$(($(vmstat pswpin) - in))
echo "$out pages were swapped out, $in in, $(vmstat pgmigrate_success) moved;" \
    "$(parameter frames_retried) frames were looked for again"
[ $out -gt 1000 ] && [ $in -gt 1000 ] || fail 'that is not enough'
# What is swapped in was swapped out under a guest, and nearly all of it was known.
[ $gone -gt $((in / 2)) ] || fail "the guests lost $gone frames"
unload
group_down
swap_down
