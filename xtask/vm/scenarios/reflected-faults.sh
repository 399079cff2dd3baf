# The Switcher reflects page faults of programs by itself, unless it must not or somebody must see them all. What a guest sees
# of them is the same either way, and so is their number.
faults() {
    lguest --counters=/tmp/counters --paging 2-level "$@" $GUEST test=quick; status=$?
    [ $status = 0 ] || fail "the guest ($*) ended with status" $status
    all=$(counter reflected_faults /tmp/counters) own=$(counter switcher_reflections /tmp/counters)
    echo "$*: the Switcher has reflected $own of $all faults"
    [ "$all" -gt 1000 ] || fail "there were only $all faults"
}
load seed=42
[ "$(parameter reflect)" = Y ] || fail 'reflect reads' "$(parameter reflect)"
for strategy in lguest shared; do
    faults --strategy $strategy
    [ "$own" -gt $((all / 2)) ] && [ "$own" -le "$all" ] || fail "$own of $all faults"
done
for strategy in audit:every=64 record; do
    faults --strategy $strategy
    [ "$own" = 0 ] || fail "$strategy has missed $own faults"
done
echo N >/sys/module/lg/parameters/reflect
faults --strategy lguest
[ "$own" = 0 ] || fail "the Switcher has reflected $own faults, and was not allowed to"
unload
load audit=64
faults --strategy lguest
[ "$own" = 0 ] || fail "the audit has missed $own faults"
unload
