# Every allocation fails once, here when the module is loaded: it is refused, or loaded by another way that is then used.
#
# The module's parameter `fail_allocation` (kmod/lg_fail.c) makes the n-th fail, and `allocations` counts; so the
# script goes on from 1 until n is more than there were. Whatever fails, the answer is an error or a kill reason that
# names memory, and nothing is left. That the kernel has nothing to complain of is proved of the whole VM.
load; unload
refused=0 other= first_way=
# try NUMBERS: loads the module with these allocations failing. Fails when it was refused; sets `made` else.
try() {
    if insmod /lib/lg.ko max_guests=2 strategy=shared fail_allocation=$1 2>/tmp/error; then
        read made </sys/module/lg/parameters/allocations
        return 0
    fi
    grep -q 'Cannot allocate memory' /tmp/error || fail "allocation $1 failed:" "$(cat /tmp/error)"
    [ ! -e /sys/module/lg ] || fail "allocation $1 failed: a module is left"
    [ ! -e /dev/lguest ] || fail "allocation $1 failed: the device is left"
    refused=$((refused + 1))
    return 1
}
# works NUMBERS: proves that a module that was loaded all the same runs a guest.
works() {
    way=$(parameter switcher)
    echo 0 >/sys/module/lg/parameters/fail_allocation
    lguest $GUEST result=7; [ $? = 7 ] || fail "after allocation $1 failed, the guest's result was" $?
    unload
}
n=1
until try $n && [ $made -lt $n ]; do
    if [ -e /sys/module/lg ]; then
        works $n
        other="$other $n (${way#* })"
        [ "${way#* }" = fill ] && first_way=$n
    fi
    n=$((n + 1))
    [ $n -le 200 ] || fail 'there is no end'
done
works none
[ "${way#* }" = exact ] || fail 'the usual way is' $way
all=$((n - 1))
echo "load: $all allocations; $refused refused, loaded all the same:$other"
[ $refused -ge 10 ] || fail 'so few were refused'
[ -n "$first_way" ] || fail 'no failure led to the second way'
# The second way makes thousands; the third is taken when both fail at once.
n=$((first_way + 1)) step=1 tried=0
while try $first_way,$n; do
    works $first_way,$n
    [ $made -ge $n ] || break
    tried=$((tried + 1))
    [ $tried -lt 8 ] || step=$((step * 2))
    n=$((n + step))
done
[ $made -lt $n ] || fail 'the second way was refused'
echo "second way: $made allocations, $tried of them failed"
refused=0 n=$((first_way + 2))
until try $first_way,$((first_way + 1)),$n && [ $made -lt $n ]; do
    if [ -e /sys/module/lg ]; then works $n; fi
    n=$((n + 1))
    [ $n -le 200 ] || fail 'there is no end'
done
works none
[ "${way#* }" = vmap ] || fail 'the third way is' $way
echo "third way: $made allocations, $refused refused"
[ $refused -gt 0 ] || fail 'no failure of the third way was noticed'
