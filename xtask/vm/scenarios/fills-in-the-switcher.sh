# The Switcher fills entries that a guest misses by itself, unless it must not or somebody must see every fault. What a guest sees
# is the same either way, and the frames of its memory may go meanwhile.
fills() { by_itself demand_faults switcher_fills "$@"; }
load seed=42
[ "$(parameter fill)" = Y ] || fail 'fill reads' "$(parameter fill)"
for strategy in lguest shared; do
    fills --strategy $strategy
    if [ "$(parameter paging)" = 2-level ]; then
        [ "$own" -gt $((all / 20)) ] && [ "$own" -lt "$all" ] || fail "$own of $all faults"
    else
        [ "$own" = 0 ] || fail "$own faults were handled in tables of three levels"
    fi
done
for strategy in audit:every=64 record tlb shared:prefetch-on-trial=off; do
    fills --strategy $strategy
    [ "$own" = 0 ] || fail "$strategy has missed $own faults"
done
# What it has filled agrees with the books, and leads to frames that are known.
for of in lguest shared:fault-around=0,refill-after-flush=off; do
    fills --strategy audit:every=16,switcher=on,of=$of
    [ "$(counter audits /tmp/counters)" -gt 100 ] || fail 'there were' "$(counter audits /tmp/counters)" 'audits'
    [ "$(parameter paging)" != 2-level ] || [ "$own" -gt $((all / 20)) ] || fail "$own of $all faults"
done
for off in fill reflect; do
    echo N >/sys/module/lg/parameters/$off
    fills --strategy lguest
    [ "$own" = 0 ] || fail "the Switcher has handled $own faults with $off=N"
    echo Y >/sys/module/lg/parameters/$off
done
unload
load audit=64
fills --strategy lguest
[ "$own" = 0 ] || fail "the audit has missed $own faults"
unload
