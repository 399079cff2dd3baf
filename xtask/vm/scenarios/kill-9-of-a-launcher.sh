load
for round in 1 2 3 4 5; do
    lguest $GUEST spin & launcher=$!
    until_true 20 spinning $launcher || fail 'the guest does not run'
    kill -9 $launcher
    wait $launcher; [ $? = 137 ] || fail 'the killed launcher ended with status' $?
    until_true 20 nothing_held || fail 'the guest outlives its launcher'
done
lguest $GUEST test=quick || fail 'a guest after it ended with status' $?
unload
