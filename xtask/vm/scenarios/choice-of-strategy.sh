# What is written to the module's parameter holds for guests started from then on, and the launcher's
# choice goes before it. With one slot page directories are evicted, with 1024 none is.
load strategy=lru:slots=1
evictions() {
    lguest --counters=/tmp/counters "$@" $GUEST test=quick >/tmp/out 2>&1 && status=0 || status=$?
    [ $status = 0 ] || { cat /tmp/out; fail "lguest $* ended with status $status"; }
    counter evictions /tmp/counters
}
[ "$(evictions)" -gt 0 ] || fail 'nothing is evicted from one slot'
echo arc:slots=1024 >/sys/module/lg/parameters/strategy || fail 'another strategy was refused'
[ "$(parameter strategy)" = arc:slots=1024 ] || fail 'strategy reads' "$(parameter strategy)"
[ "$(evictions)" = 0 ] || fail 'the strategy that was written is not used'
[ "$(evictions --strategy lru:slots=1)" -gt 0 ] || fail "the launcher's choice is not used"
for wrong in nosuch lru:slots=0 lru:slots; do
    echo $wrong >/sys/module/lg/parameters/strategy && fail "$wrong was taken by the module"
    lguest --strategy $wrong $GUEST test=quick && fail "$wrong was taken from the launcher"
    [ $? = 125 ] || fail 'the launcher did not say that it could not start'
done
[ "$(parameter strategy)" = arc:slots=1024 ] || fail 'what was refused has changed it'
unload
