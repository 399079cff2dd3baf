# The Linux guest, as its package starts it.
as alice 'lguest-linux -- true' && fail 'a guest runs without the module'
modprobe lg
as alice 'lguest-linux --strategy shared -- guest-test short' >/tmp/out 2>&1; status=$?
cat /tmp/out
[ $status = 0 ] || fail "the launcher ended with status $status"
grep -q '^guest: status 0' /tmp/out || fail 'the test in the guest did not pass'
modprobe -r lg
