# A processor is taken away from two guests again and again, and comes back: each goes on, and finds all that it has stored (it would
# end otherwise); and what the Switcher has filled agrees with the books.
online=/sys/devices/system/cpu/cpu1/online
load
for strategy in lguest shared audit:every=16,switcher=on,of=lguest; do
    lguest --strategy $strategy $GUEST spin seed=1 >/tmp/one 2>&1 & one=$!
    lguest --strategy $strategy $GUEST spin seed=2 >/tmp/two 2>&1 & two=$!
    for guest in one two; do
        until_true 60 grep -qs 'mini: spinning' /tmp/$guest || fail "a guest does not run: $(cat /tmp/$guest)"
    done
    for time in 1 2 3 4 5 6 7 8 9 10; do
        before=$(($(ticks $one) + 5)) other=$(($(ticks $two) + 5))
        echo 0 >$online || fail 'the processor cannot be taken away'
        until_true 20 has_more $one $before && until_true 20 has_more $two $other || fail "a guest has stopped: $(cat /tmp/one /tmp/two)"
        echo 1 >$online || fail 'the processor does not come back'
        until_true 20 has_more $one $((before + 5)) || fail "a guest has stopped: $(cat /tmp/one)"
    done
    kill $one $two
    wait $one; first=$?
    wait $two; second=$?
    [ $first = 143 ] && [ $second = 143 ] || fail "on $strategy they ended with status $first and $second: $(cat /tmp/one /tmp/two)"
    until_true 20 nothing_held || fail 'a guest outlives its launcher'
done
# The module goes while a processor is away, and finds nothing of its own there when both are back.
echo 0 >$online || fail 'the processor cannot be taken away'
unload
echo 1 >$online || fail 'the processor does not come back'
load
lguest $GUEST result=7; [ $? = 7 ] || fail "the guest's result was" $?
unload
