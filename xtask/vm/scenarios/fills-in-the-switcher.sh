# The Switcher fills entries that a guest misses by itself, unless it must not or somebody must see every fault. What a guest sees
# is the same either way, and the frames of its memory may go meanwhile.
fills() { by_itself demand_faults switcher_fills "$@"; }
load seed=42
[ "$(parameter fill)" = Y ] || fail 'fill reads' "$(parameter fill)"
for paging in $(formats); do
    for strategy in lguest shared; do
        fills --paging $paging --strategy $strategy
        # On lguest each page directory has shadows of its own of what the Switcher reads: what it missed was mapped for it.
        case $strategy in lguest) least=$((all * 2 / 3)) ;; *) least=$((all / 20)) ;; esac
        [ "$own" -gt $least ] && [ "$own" -lt "$all" ] || fail "$own of $all faults"
    done
done
for strategy in audit:every=64 record tlb shared:prefetch-on-trial=off; do
    fills --strategy $strategy
    [ "$own" = 0 ] || fail "$strategy has missed $own faults"
done
# What it has filled agrees with the books, and leads to frames that are known.
for paging in $(formats); do
    for of in lguest shared:fault-around=0,refill-after-flush=off; do
        fills --paging $paging --strategy audit:every=16,switcher=on,of=$of
        audits=$(counter audits /tmp/counters)
        [ "$audits" -gt 100 ] || fail "there were $audits audits"
        [ "$own" -gt $((all / 20)) ] || fail "$own of $all faults"
    done
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
