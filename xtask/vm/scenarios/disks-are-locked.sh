load
truncate -s 1M /tmp/disk /tmp/other; ln -sf /tmp/disk /tmp/link
spin --block /tmp/disk
for disk in /tmp/disk /tmp/link; do
    lguest --block /tmp/other --block $disk $GUEST test=none 2>/tmp/error && fail "$disk was taken"
    [ $? = 125 ] || fail "the launcher's status is" $?
    cat /tmp/error
    grep -q "disk $disk is in use" /tmp/error || fail 'the message does not name the disk'
done
lguest --block /tmp/other $GUEST test=none || fail 'another disk was refused:' $?
kill -9 $launcher; wait $launcher
lguest --block /tmp/disk --block /tmp/link $GUEST test=none 2>/tmp/error && fail 'a disk was taken twice'
grep -q 'disk /tmp/link is in use' /tmp/error || fail 'the message does not name the disk'
lguest --block /tmp/disk $GUEST test=none || fail 'the disk is still locked:' $?
unload
