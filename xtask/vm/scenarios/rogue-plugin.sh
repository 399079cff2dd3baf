# Every misdeed of examples/rogue-plugin. A panic ends its guest with the words and the place, and no other guest;
# whatever else is done, nothing is left of a guest, and the host is well.
dmesg -c >/dev/null
insmod /guests/lg-with-plugin.ko || fail 'the module was refused'
rogue() {
    timeout -s KILL 15 lguest --counters=/tmp/counters --strategy "$1" $GUEST test=quick >/tmp/out 2>&1
    status=$?
    echo "$1: status $status: $(tail -n 1 /tmp/out)"
    case $status in
    0 | 1 | 120 | 121 | 125 | 137) ;;
    *) cat /tmp/out; fail "on $1 the launcher ended with status $status" ;;
    esac
    until_true 20 nothing_held || fail "on $1 something is left: guests $(parameter guests), frames \
        $(parameter frames), tables $(parameter tables)"
    [ "$(parameter memory)" = 1 ] || fail "on $1 memory is left: $(parameter memory) pieces"
}
panics() {
    rogue "$1:does=panic,in=$2,$3"
    grep -q "strategy panicked: rogue in $2 at .*misdeed.rs:[0-9]" /tmp/out ||
        { cat /tmp/out; fail "a panic in $2 was not the guest's end"; }
}
lguest $GUEST spin >/dev/null 2>&1 & other=$!
until_true 60 spinning $other || fail 'the other guest does not run'
timeout -s KILL 30 lguest --strategy rogue:does=panic,in=demand-fault $GUEST test=quick
[ $? = 120 ] || fail 'a panic ended a guest with another status'
lguest --strategy rogue:does=panic,in=build $GUEST test=quick
[ $? = 125 ] || fail 'a guest runs on a strategy that was not made'
[ -d /proc/$other ] && [ "$(parameter guests)" = 1 ] || fail 'another guest has ended with it'
kill $other
wait $other; [ $? = 143 ] || fail 'the other guest ended with status' $?
methods='demand-fault set-pte load-page-directory flush-user flush-user-of flush-all set-stack guest-initialised
    translate root'
others='keep-stack set-pgd set-pmd counters tear-down build set-up drop'
for method in $methods; do
    panics rogue $method after=0
    rogue rogue:does=words,in=$method,of=shared
    rogue rogue:does=nonsense,in=$method,after=20,of=lru:slots=2
done
for method in $others; do
    for does in panic words nonsense; do
        rogue rogue:does=$does,in=$method,of=shared
    done
done
# (The first call of `filled` is in the making of the guest.)
for method in victim filled used; do
    panics rogue-policy $method after=1,slots=2
done
for method in victim filled used emptied takes-free-slots-first build drop; do
    for does in panic words nonsense leak; do
        rogue rogue-policy:does=$does,in=$method,after=1,slots=2
    done
done
rogue rogue:does=leak,in=demand-fault,of=lguest
rogue rogue:does=hoard,in=set-pte,after=9,of=lguest
grep -q 'strategy panicked: memory allocation' /tmp/out || fail 'a hoard of memory had no end'
rogue rogue-hoarder
echo 256 >/sys/module/lg/parameters/paging_kib
rogue rogue-hoarder
grep -q '^counter shrinks [1-9]' /tmp/counters || fail 'a hoard of tables had no end'
echo 0 >/sys/module/lg/parameters/paging_kib
dmesg >/tmp/log
grep -q 'lg: strategy panicked: rogue in' /tmp/log || fail 'the log does not tell of a panic'
grep -E 'Oops|BUG|WARNING' /tmp/log && fail 'the log complains'
lguest $GUEST test=quick || fail 'a guest after them ended with status' $?
unload
