# Every allocation fails once, here in a guest's start, life and end.
#
# The module's parameter `fail_allocation` (kmod/lg_fail.c) makes the n-th fail, and `allocations` counts; so the
# script goes on from 1 until n is more than there were. Whatever fails, the answer is an error or a kill reason that
# names memory, and nothing is left. That the kernel has nothing to complain of is proved of the whole VM.
load seed=42 recording_kib=16
fail_at() { echo $1 >/sys/module/lg/parameters/fail_allocation; }
# stopped LAUNCHER: whether all of its threads have been stopped.
stopped() {
    for thread in /proc/$1/task/*/stat; do
        read -r pid name state rest <$thread
        [ $state = T ] || return 1
    done
}
# live N STRATEGY: a guest's life in which the N-th allocation fails; counts what became of it.
live() {
    fail_at $1
    lguest --strategy $2 $GUEST result=7 >/tmp/out 2>&1; status=$?
    read made </sys/module/lg/parameters/allocations
    fail_at 0
    case $status in
    7) lived=$((lived + 1)) ;;
    120)
        grep -q 'the host killed the guest: .*\(memory\|page\)' /tmp/out || fail "$2, $1: $(cat /tmp/out)"
        killed=$((killed + 1)) ;;
    125)
        grep -q 'Cannot allocate memory\|out of memory\|no room for another guest' /tmp/out || fail "$2, $1: $(cat /tmp/out)"
        refused=$((refused + 1)) ;;
    *) cat /tmp/out; fail "on $2, allocation $1 failed, and the launcher's status is $status" ;;
    esac
    for holding in guests frames tables; do
        read held </sys/module/lg/parameters/$holding
        [ $held = 0 ] || fail "on $2, allocation $1 failed, and $held $holding are left"
    done
    read held </sys/module/lg/parameters/memory
    [ $held = 1 ] || fail "on $2, allocation $1 failed, and $held pieces of memory are left"
}
# lives STRATEGY LIMIT: goes through all, or through the first ones.
lives() {
    lived=0
    live 2147483647 $1
    [ $lived = 1 ] || fail "on $1 the guest fails by itself: $(cat /tmp/out)"
    all=$made lived=0 killed=0 refused=0 n=1
    while [ $n -le $2 ] && live $n $1 && [ $made -ge $n ]; do
        n=$((n + 1))
    done
    # Nothing failed in the last one.
    [ $made -ge $n ] || lived=$((lived - 1))
    echo "$1: $((n - 1)) of $all allocations failed: $refused refused, $killed killed, $lived lived"
    [ $refused -ge 10 ] || fail 'so few were refused'
}
# A page that is not found when it is touched is worth a life; where pages are found ahead there are fewer of those, and one that
# is not found ahead is not.
echo N >/sys/module/lg/parameters/ahead
lives lguest 2000
[ $killed -ge 100 ] || fail 'so few were killed'
echo Y >/sys/module/lg/parameters/ahead
lives lguest 2000
[ $killed -ge 10 ] && [ $lived -ge 20 ] || fail 'what is found ahead is worth a life'
lives record:touch=all,of=shared 2000
[ $lived -ge 20 ] || fail 'what is filled ahead is not worth a life'
# More is allocated at the start; the rest is as above.
echo 1000 >/sys/module/lg/parameters/audit
lives arc:slots=1024 50
lives lirs:ghosts=400 50
echo 0 >/sys/module/lg/parameters/audit
# The end allocates nothing. A launcher that is stopped has left its guest.
fail_at 2147483647
lguest --strategy record:of=shared $GUEST spin & launcher=$!
until_true 60 spinning $launcher || fail 'the guest does not run'
kill -STOP $launcher
until_true 60 stopped $launcher || fail 'the launcher does not stop'
before=$(parameter allocations)
[ $before -gt 100 ] || fail "a guest has made $before allocations"
kill -9 $launcher
wait $launcher; [ $? = 137 ] || fail 'the killed launcher ended with status' $?
until_true 60 nothing_held || fail 'the guest outlives its launcher'
after=$(parameter allocations)
[ $after = $before ] || fail "the guest's end has made $((after - before)) allocations"
unload
