# The Switcher reflects page faults by itself, unless it must not or somebody must see them all. What a guest sees
# of them is the same either way, and so is their number.
faults() { by_itself reflected_faults switcher_reflections "$@"; }
load seed=42
[ "$(parameter reflect)" = Y ] || fail 'reflect reads' "$(parameter reflect)"
for paging in $(formats); do
    for strategy in lguest shared; do
        faults --paging $paging --strategy $strategy
        [ "$own" -gt $((all / 2)) ] && [ "$own" -le "$all" ] || fail "$own of $all faults"
    done
done
# Two of three of those that a kernel's handler has itself, until that ends the guest at the 126th; at least, as it begins like another.
of_act() {
    lguest --counters=/tmp/counters $GUEST hostile=$1
    own=$(counter switcher_reflections /tmp/counters)
}
of_act hypercall-number
before=$own
of_act faulting-handler
[ $((own - before)) -ge 80 ] && [ $((own - before)) -le 90 ] || fail "$own reflected, $before before the kernel's handler faults"
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
