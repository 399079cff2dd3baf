load
lguest $GUEST test=quick seed=1 >/tmp/one 2>&1 & one=$!
lguest $GUEST test=quick seed=2 >/tmp/two 2>&1 & two=$!
wait $one; first=$?
wait $two; second=$?
cat /tmp/one /tmp/two
[ $first = 0 ] && [ $second = 0 ] || fail "they ended with status $first and $second"
unload
