load
lguest $GUEST spin & launcher=$!
until_true 20 spinning $launcher || fail 'the guest does not run'
rmmod lg && fail 'the module went away under its guest'
kill $launcher
wait $launcher; [ $? = 143 ] || fail 'the terminated launcher ended with status' $?
unload
