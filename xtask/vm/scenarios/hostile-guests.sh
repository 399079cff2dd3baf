# Each of the guest's misbehaviours: it may come to nothing, the guest may be killed for it, or stop
# and never come back. Last, as these are what may bring the host down.
load
lguest $GUEST 'hostile=?' >/tmp/names 2>&1
names=$(sed -n 's/.*there are: //p' /tmp/names | tr -d ',\r' | head -n 1)
[ -n "$names" ] || fail 'the guest does not list its hostile acts'
for name in $names; do
    for strategy in lguest lru shared; do
        echo "hostile=$name on $strategy"
        timeout -s KILL 15 lguest --strategy $strategy $GUEST hostile=$name; status=$?
        case $name-$status in
        halt-forever-137) ;;
        *-0 | *-1 | *-120 | *-121) ;;
        *) fail "the launcher ended with status $status" ;;
        esac
    done
done
# A kernel whose handler only faults ends by that, before it has filled its memory with frames.
for act in wild-handler faulting-handler; do
    lguest $GUEST hostile=$act 2>&1 | grep 'trap 14 .* the guest makes no progress' || fail "$act: the reason is another"
done
lguest $GUEST test=quick || fail 'a guest after them ended with status' $?
unload
