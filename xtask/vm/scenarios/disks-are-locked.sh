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
# Guests share what they only read, also where the file system itself is read-only.
spin --block /tmp/disk,readonly
lguest --block /tmp/link,readonly --block /tmp/disk,readonly $GUEST test=none || fail 'a disk is not shared:' $?
lguest --block /tmp/disk $GUEST test=none 2>/tmp/error && fail 'a disk was taken that another guest reads'
grep -q 'disk /tmp/disk is in use' /tmp/error || fail 'the message does not name the disk'
kill -9 $launcher; wait $launcher
mkdir /tmp/media && mount -t tmpfs none /tmp/media && cp /tmp/disk /tmp/media && mount -o remount,ro /tmp/media
lguest --block /tmp/media/disk $GUEST test=none 2>/tmp/error && fail 'a disk that cannot be written was taken'
grep -q -- '--block /tmp/media/disk,readonly' /tmp/error || fail 'the message names no remedy'
lguest --block /tmp/media/disk,readonly $GUEST test=none || fail 'a disk was not taken to be read:' $?
umount /tmp/media; rmdir /tmp/media
echo part of a sector >>/tmp/disk
lguest --block /tmp/disk $GUEST test=none 2>/tmp/error && fail 'a part of a sector was taken'
grep -q 'truncate -s %512 /tmp/disk' /tmp/error || fail 'the message names no remedy'
unload
