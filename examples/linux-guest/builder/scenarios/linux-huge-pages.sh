# A guest's memory is in huge pages, which are split under it when the host needs some of it.
huge_pages=/sys/kernel/mm/transparent_hugepage/enabled
before=$(sed 's/.*\[\(.*\)\].*/\1/' $huge_pages)
echo madvise >$huge_pages
load
swap_up 128M
group_up
out=$(vmstat pswpout) in=$(vmstat pswpin) split=$(vmstat thp_split_pmd)
in_group linux-guest --huge-pages -- guest-test --strict --limit 1500 --operations 1000 memory >/tmp/huge 2>&1 & guest=$!
until_true 120 grep -qs '^guest: Linux' /tmp/huge || fail "the guest does not boot: $(cat /tmp/huge)"
huge=$(sed -n 's/^AnonHugePages: *\([0-9]*\) kB/\1/p' "/proc/$(pidof lguest)/smaps_rollup")
echo "of the launcher's memory $huge kB are in huge pages"
[ "$huge" -ge 16384 ] || fail 'that is not enough'
echo 24M >$GROUP/memory.max
press 512K 200000 & pressing=$!
wait $guest; status=$?
kill $pressing
cat /tmp/huge
[ $status = 0 ] && grep -q '^guest: status 0' /tmp/huge || fail "the guest ended with status $status"
out=$(($(vmstat pswpout) - out)) in=$(($(vmstat pswpin) - in)) split=$(($(vmstat thp_split_pmd) - split))
echo "$split huge pages were split, $out pages swapped out, $in in"
[ $split -gt 2 ] && [ $out -gt 2000 ] && [ $in -gt 100 ] || fail 'that is not enough'
rm /tmp/huge
echo "$before" >$huge_pages
unload
group_down
swap_down
