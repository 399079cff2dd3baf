lguest $GUEST 2>/tmp/error && fail 'a guest runs without the module'
[ $? = 125 ] || fail "the launcher's status is" $?
cat /tmp/error
grep -q /dev/lguest /tmp/error || fail 'the message does not name /dev/lguest'
grep -q insmod /tmp/error || fail 'the message does not say what to do'
lguest --device /dev/null $GUEST 2>/tmp/error && fail 'a guest runs on /dev/null'
grep -q '/dev/null is not the lguest device' /tmp/error || fail 'the message does not say what is wrong:' "$(cat /tmp/error)"
