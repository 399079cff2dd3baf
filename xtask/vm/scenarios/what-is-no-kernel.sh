load
echo 'not a kernel' >/tmp/text
for kernel in /tmp/text /lib/lg.ko /nosuch; do
    lguest $kernel 2>/tmp/error && fail "$kernel was started"
    [ $? = 125 ] || fail "the launcher's status for $kernel is" $?
    cat /tmp/error
    grep -q "$kernel" /tmp/error || fail "the message does not name $kernel"
done
mkfifo /tmp/pipe
cat $GUEST >/tmp/pipe &
lguest /tmp/pipe test=none || fail 'a kernel from a pipe was not started:' $?
rm /tmp/pipe
lguest --memory 64K $GUEST 2>/tmp/error && fail 'a guest runs in 64K'
cat /tmp/error
unload
