# Linux merges the equal pages of two guests. Neither notices, also when they write to such pages, and when all are
# taken apart again. The check sums are computed here from files that are made here.
sum() {
    echo "$(cat /tmp/1 /tmp/2 /tmp/3 | md5sum)"
}
# request ONE TWO: sends each guest its line.
request() {
    echo "$1" >&3
    echo "$2" >&4
}
# answered WORD ONE TWO [WORD]: fails unless the guests print these sums with that word, the second perhaps with another.
answered() {
    echo "waiting for $1"
    until_true 300 grep -qs "^merge-test: $1 $2" /tmp/one && until_true 300 grep -qs "^merge-test: ${4:-$1} $3" /tmp/two && return
    tail -n 5 /tmp/one /tmp/two
    fail "after $1 the sums are not $2 and $3"
}
merged() {
    [ "$(cat /sys/kernel/mm/ksm/pages_sharing)" -gt "$1" ]
}
unmerged() {
    ! merged 0
}
for file in 1 2 3; do
    seq ${file}00000 999999 | head -c 4194304 >/tmp/$file
    cp /tmp/$file /tmp/$file.made
done
load
mkfifo /tmp/one.in /tmp/two.in
exec 3<>/tmp/one.in 4<>/tmp/two.in
linux-guest --mergeable --counters=/tmp/one.counters -- merge-test </tmp/one.in >/tmp/one 2>&1 & one=$!
linux-guest --mergeable --counters=/tmp/two.counters --strategy shared -- merge-test </tmp/two.in >/tmp/two 2>&1 & two=$!
made=$(sum)
answered made "$made" "$made"
merged 0 && fail 'pages are merged before that was requested'
echo 2000 >/sys/kernel/mm/ksm/pages_to_scan
echo 20 >/sys/kernel/mm/ksm/sleep_millisecs
echo 1 >/sys/kernel/mm/ksm/run
echo 'waiting for pages to be merged'
until_true 300 merged 5000 || fail "only $(cat /sys/kernel/mm/ksm/pages_sharing) pages are merged"
request 'sum merged' 'sum merged'
answered merged "$made" "$made"
echo "$(cat /sys/kernel/mm/ksm/pages_sharing) pages of the guests share $(cat /sys/kernel/mm/ksm/pages_shared)"
request 'write a1' 'write b2'
for value in a1 b2; do
    for file in 1 2 3; do
        cp /tmp/$file.made /tmp/$file
        for at in $(seq 777 131072 4194303); do
            printf "\x$value" | dd of=/tmp/$file bs=1 seek="$at" conv=notrunc 2>/dev/null
        done
    done
    eval "$value=\$(sum)"
done
[ "$a1" != "$made" ] && [ "$a1" != "$b2" ] || fail 'the sums do not show what was written'
answered a1 "$a1" "$b2" b2
request 'test passed' 'test passed'
answered passed "$a1" "$b2"
echo 2 >/sys/kernel/mm/ksm/run
until_true 60 unmerged || fail 'pages are still merged'
request 'sum apart' 'sum apart'
answered apart "$a1" "$b2"
request end end
wait $one; first=$?
wait $two; second=$?
[ $first = 0 ] && [ $second = 0 ] || fail "they ended with status $first and $second"
[ "$(cat /tmp/one /tmp/two | grep -c '^guest: status 0')" = 2 ] || fail 'not both passed'
echo "$(counter dropped_entries /tmp/one.counters) and $(counter dropped_entries /tmp/two.counters) entries were dropped"
exec 3>&- 4>&-
rm /tmp/one* /tmp/two* /tmp/1* /tmp/2* /tmp/3*
unload
