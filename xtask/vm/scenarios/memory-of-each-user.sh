# All guests of a user have one limit of memory. At the limit they evict; where that is not enough, the reason names the limit.
# Another user's guest goes on.
load strategy=lguest recording_kib=512
users_up; udev
as bob lguest $GUEST spin >/tmp/spin 2>&1 &
until_true 60 grep -qs 'mini: spinning' /tmp/spin || fail "bob's guest does not run:" "$(cat /tmp/spin)"
# limited KIB OPTION...: a guest of alice's under this limit; `status` is how it ended. If badly, it names the limit.
limited() {
    echo $1 >/sys/module/lg/parameters/user_kib
    shift
    as alice lguest "$@" >/tmp/out 2>&1; status=$?
    [ $status = 0 ] || grep -q user_kib /tmp/out || fail "status $status, and the reason does not name the limit:" "$(cat /tmp/out)"
}
# From one that is too small for the table of frames on: first the guest is refused, then killed, then it evicts and goes on.
kib=8 ends=
until limited $kib --counters=/tmp/alice.counters $GUEST test=quick; [ $status = 0 ]; do
    [ "${ends##* }" = $status ] || cat /tmp/out
    ends="$ends $status" kib=$((kib + 4))
    [ $kib -lt 1000 ] || fail 'no limit is enough'
done
grep '^counter shrinks' /tmp/alice.counters
echo "limits from 8 to $kib KiB: $ends 0"
case $ends in
' 125 '*' 120') ;;
*) fail 'the guests of a user at the limit end otherwise' ;;
esac
grep -q '^counter shrinks 0$' /tmp/alice.counters && fail 'the guest has never come to its limit'
# A recording is refused beside one that there is. Only root can read them.
echo 1200 >/sys/module/lg/parameters/user_kib
as alice lguest --strategy record $GUEST spin >/tmp/recorded 2>&1 &
until_true 60 grep -qs 'mini: spinning' /tmp/recorded || fail "alice's guest does not run:" "$(cat /tmp/recorded)"
limited 1200 --strategy record $GUEST test=none
cat /tmp/out
[ $status = 125 ] || fail 'a second recording is begun, with status' $status
as alice lguest --record /tmp/alice.trace $GUEST test=none >/tmp/out 2>&1 && fail 'alice reads a recording'
cat /tmp/out
grep -q 'only root' /tmp/out || fail 'the message does not say who may'
# Root has no limit, and bob what alice has not.
lguest --strategy record $GUEST test=quick || fail "root's guest ended with status" $?
as bob lguest --strategy record $GUEST test=none || fail "bob's other guest ended with status" $?
[ "$(pidof lguest | wc -w)" = 2 ] || fail 'a guest is gone that had nothing to do with it:' "$(cat /tmp/spin /tmp/recorded)"
killall -9 lguest
until_true 60 nothing_held
until_true 20 no_launcher
unload
