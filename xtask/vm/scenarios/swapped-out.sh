# Guests pass their tests while their pages are swapped out and moved under them.
# enough: whether enough has been swapped; sets out and in to how many pages.
enough() {
    out=$(($(vmstat pswpout) - out_before)) in=$(($(vmstat pswpin) - in_before))
    [ $out -gt 1000 ] && [ $in -gt 1000 ]
}
load
swap_up 64M
group_up
out_before=$(vmstat pswpout) in_before=$(vmstat pswpin)
# Pages that were not used for longest, five times a second.
press 512K 200000 0 & pressing=$!
# (`shared` fills ahead, which must never bring a page back.) How much is swapped is the host's choice: it has some runs for it.
runs=0
for run in 'lguest quick' 'shared full' 'lguest full' 'shared full'; do
    [ $runs -ge 2 ] && enough && break
    runs=$((runs + 1))
    in_group lguest --counters=/tmp/counters --strategy ${run% *} $GUEST test=${run#* } ||
        fail "on ${run% *} the guest ended with status" $?
    gone=$((${gone:-0} + $(counter frames_gone /tmp/counters)))
done
kill $pressing
enough || fail "$out pages were swapped out and $in in, which is not enough"
echo "$out pages were swapped out, $in in, $(vmstat pgmigrate_success) moved;" \
    "$(parameter frames_retried) frames were looked for again"
# What is swapped in was swapped out under a guest, and nearly all of it was known.
[ $gone -gt $((in / 2)) ] || fail "the guests lost $gone frames"
unload
group_down
swap_down
