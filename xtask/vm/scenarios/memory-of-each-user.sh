# All guests of a user have one limit of memory. Where it is reached, the reason names it, and the other user's guest goes on.
load strategy=lguest recording_kib=512
users_up; udev
as bob lguest $GUEST spin >/tmp/spin 2>&1 &
until_true 60 grep -qs 'mini: spinning' /tmp/spin || fail "bob's guest does not run:" "$(cat /tmp/spin)"
# limited KIB STATUS OPTION...: a guest of alice's ends with this status, and names the limit.
limited() {
    echo $1 >/sys/module/lg/parameters/user_kib
    wanted=$2
    shift 2
    as alice lguest "$@" >/tmp/out 2>&1; status=$?
    cat /tmp/out
    [ $status = $wanted ] || fail "the guest of a user at the limit ended with status $status, not $wanted"
    grep -q user_kib /tmp/out || fail 'the reason does not name the limit'
}
limited 8 125 $GUEST test=full
limited 128 120 $GUEST test=full
# A recording is refused beside one that there is. Only root can read them.
echo 1200 >/sys/module/lg/parameters/user_kib
as alice lguest --strategy record $GUEST spin >/tmp/recorded 2>&1 &
until_true 60 grep -qs 'mini: spinning' /tmp/recorded || fail "alice's guest does not run:" "$(cat /tmp/recorded)"
limited 1200 125 --strategy record $GUEST test=none
as alice lguest --record /tmp/trace $GUEST test=none >/tmp/out 2>&1 && fail 'alice reads a recording'
cat /tmp/out
# Root has no limit, and bob what alice has not.
lguest --strategy record $GUEST test=quick || fail "root's guest ended with status" $?
as bob lguest --strategy record $GUEST test=none || fail "bob's other guest ended with status" $?
[ "$(pidof lguest | wc -w)" = 2 ] || fail 'a guest is gone that had nothing to do with it:' "$(cat /tmp/spin /tmp/recorded)"
killall -9 lguest
until_true 60 nothing_held
until_true 20 no_launcher
unload
