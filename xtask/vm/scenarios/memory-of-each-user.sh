# All guests of a user have one limit of memory. At the limit they evict; where that is not enough, the reason names the limit.
# Another user's guest goes on.
load strategy=lguest recording_kib=512
users_up; udev
AS='as bob'
spin
# limited KIB OPTION...: a guest of alice's under this limit; `status` is how it ended. If badly, it names the limit.
limited() {
    echo $1 >/sys/module/lg/parameters/user_kib
    shift
    as alice lguest "$@" >/tmp/out 2>&1; status=$?
    [ $status = 0 ] || grep -q user_kib /tmp/out || fail "status $status, and the reason does not name the limit:" "$(cat /tmp/out)"
}
# With less than the table of frames takes, the guest is refused; with little more, it is killed.
limited 8 $GUEST test=quick
cat /tmp/out
[ $status = 125 ] || fail 'a guest is made without memory, with status' $status
kib=32
until limited $kib $GUEST test=quick; [ $status != 125 ]; do
    kib=$((kib + 4))
    [ $kib -lt 200 ] || fail 'a guest is refused until the end'
done
cat /tmp/out
[ $status = 120 ] || fail 'the first guest that is made ended with status' $status
# With what its tables do not fit in, but those of a process do, it evicts and goes on.
limited 208 --strategy lru:slots=64 --counters=/tmp/alice.counters $GUEST test=quick
cat /tmp/out
[ $status = 0 ] || fail 'the guest at the limit ended with status' $status
shrinks=$(counter shrinks /tmp/alice.counters)
echo "tables were given back $shrinks times"
[ "$shrinks" -gt 0 ] || fail 'the guest has never come to the limit'
# Only root can read a recording.
echo 0 >/sys/module/lg/parameters/user_kib
as alice lguest --record /tmp/alice.trace $GUEST test=none >/tmp/out 2>&1 && fail 'alice reads a recording'
cat /tmp/out
grep -q 'only root' /tmp/out || fail 'the message does not say who may'
# A recording is refused beside one that there is.
echo 1200 >/sys/module/lg/parameters/user_kib
AS='as alice'
spin --strategy record
limited 1200 --strategy record $GUEST test=none
cat /tmp/out
[ $status = 125 ] || fail 'a second recording is begun, with status' $status
# Root has no limit, and bob what alice has not.
lguest --strategy record $GUEST test=quick || fail "root's guest ended with status" $?
as bob lguest --strategy record $GUEST test=none || fail "bob's other guest ended with status" $?
[ "$(pidof lguest | wc -w)" = 2 ] || fail 'a guest is gone that had nothing to do with it'
killall -9 lguest
until_true 60 nothing_held
until_true 20 no_launcher
unload
