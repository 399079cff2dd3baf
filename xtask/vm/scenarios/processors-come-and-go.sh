# A processor is taken away from two guests again and again, and comes back: each finds all that it has stored, and what the
# Switcher has filled agrees with the books.
online=/sys/devices/system/cpu/cpu1/online
come_and_go() {
    times=0
    until [ -e /tmp/over ]; do
        echo 0 >$online && usleep 100000 && echo 1 >$online && usleep 100000 || return
        times=$((times + 1))
    done
    echo $times >/tmp/times
}
load
for strategy in lguest shared audit:every=16,switcher=on,of=lguest; do
    rm -f /tmp/over /tmp/times
    lguest --strategy $strategy $GUEST test=quick seed=1 >/tmp/one 2>&1 & one=$!
    lguest --strategy $strategy $GUEST test=quick seed=2 >/tmp/two 2>&1 & two=$!
    come_and_go & hand=$!
    wait $one; first=$?
    wait $two; second=$?
    touch /tmp/over
    wait $hand || fail 'a processor cannot be taken away, or does not come back'
    [ $first = 0 ] && [ $second = 0 ] || fail "on $strategy they ended with status $first and $second: $(cat /tmp/one /tmp/two)"
    echo "on $strategy a processor went and came $(cat /tmp/times) times"
    [ "$(cat /tmp/times)" -ge 5 ] || fail 'that was too short'
done
unload
