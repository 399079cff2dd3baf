# The Switcher does the hypercalls of a switch to another process by itself, unless it must not or somebody must see them all.
# What a guest sees of them is the same either way.
switches() {
    lguest --counters=/tmp/counters "$@" $GUEST test=quick; status=$?
    [ $status = 0 ] || fail "the guest ($*) ended with status" $status
    all=$(($(counter hypercalls /tmp/counters) + $(counter ring_hypercalls /tmp/counters)))
    loads=$(counter page_directory_loads /tmp/counters) own=$(counter switcher_hypercalls /tmp/counters)
    echo "$*: the Switcher has done $own of $all hypercalls, among which were $loads loads of page directories"
    [ "$loads" -gt 500 ] || fail "there were only $loads loads"
}
load seed=42
[ "$(parameter switch)" = Y ] || fail 'switch reads' "$(parameter switch)"
for strategy in lru:slots=32 shared; do
    switches --strategy $strategy
    # NEW_PGTABLE, SET_STACK, LOAD_TLS, FLUSH_ASYNC of nearly every switch.
    [ "$own" -gt $((loads * 2)) ] && [ "$own" -le "$all" ] || fail "$own of $all calls"
done
for strategy in audit:every=64 record tlb; do
    switches --strategy $strategy
    [ "$own" = 0 ] || fail "$strategy has missed $own calls"
done
echo N >/sys/module/lg/parameters/switch
switches --strategy shared
[ "$own" = 0 ] || fail "the Switcher has done $own calls, and was not allowed to"
unload
