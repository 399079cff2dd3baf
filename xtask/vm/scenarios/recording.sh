# A recording that is read, one that nobody reads, and one whose reader outlives the guest.
load recording_kib=64
lguest --record /tmp/trace --strategy lru $GUEST test=quick || fail 'the guest ended with status' $?
size=$(wc -c </tmp/trace)
[ $size -gt 65536 ] || fail "the recording has $size bytes, less than its buffer"
lguest --strategy record $GUEST test=quick || fail 'the guest that nobody reads ended with status' $?
lguest --strategy record:touch=all,of=lguest $GUEST spin & launcher=$!
until_true 20 spinning $launcher || fail 'the guest does not run'
recorded() {
    ls /sys/kernel/debug/lguest/recordings/$launcher-* >/dev/null 2>&1
}
until_true 20 recorded || fail 'the guest is not recorded'
cat /sys/kernel/debug/lguest/recordings/$launcher-* >/tmp/rest & reader=$!
until_true 20 test -s /tmp/rest || fail 'nothing is read'
kill -9 $launcher
wait $launcher; [ $? = 137 ] || fail 'the killed launcher ended with status' $?
wait $reader || fail 'the reader ended with status' $?
left=$(ls /sys/kernel/debug/lguest/recordings)
[ -z "$left" ] || fail "recordings are left: $left"
unload
